//! Discovery documents, cached for a bounded time: fresh for an hour, usable for a day while the issuer cannot be
//! reached. Age is measured by the monotonic clock.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

/// How long a document is used without asking again: platforms move tenants rarely and announce it.
pub(crate) const FRESH: Duration = Duration::from_hours(1);

/// How long a document is used while it cannot be renewed.
pub(crate) const STALE_MAX: Duration = Duration::from_hours(24);

/// One cached document with the key it was fetched for.
pub(crate) struct Fresh<K, T>(Mutex<Option<(K, Duration, Arc<T>)>>);

impl<K: PartialEq, T> Fresh<K, T> {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    /// The document of `key` if it is younger than `max_age` at `mono`.
    pub(crate) fn younger_than(&self, key: &K, mono: Duration, max_age: Duration) -> Option<Arc<T>> {
        let slot = self.0.lock();
        let (cached, at, document) = slot.as_ref()?;
        (cached == key && mono.saturating_sub(*at) < max_age).then(|| Arc::clone(document))
    }

    /// Keeps `document`, fetched at `mono`.
    pub(crate) fn keep(&self, key: K, mono: Duration, document: T) -> Arc<T> {
        let document = Arc::new(document);
        *self.0.lock() = Some((key, mono, Arc::clone(&document)));
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_and_key_are_bound() {
        let cache = Fresh::empty();
        let at = |hours: u64| Duration::from_secs(hours * 3600);
        assert!(cache.younger_than(&"t1", at(0), FRESH).is_none());
        cache.keep("t1", at(1), 7);
        assert_eq!(cache.younger_than(&"t1", at(1), FRESH).as_deref(), Some(&7));
        assert!(cache.younger_than(&"t2", at(1), FRESH).is_none());
        assert!(cache.younger_than(&"t1", at(2), FRESH).is_none());
        assert!(cache.younger_than(&"t1", at(2), STALE_MAX).is_some());
        assert!(cache.younger_than(&"t1", at(25), STALE_MAX).is_none());
    }
}
