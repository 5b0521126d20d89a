//! Discovery documents, cached for a bounded time: fresh for an hour, usable for a day while the issuer cannot be
//! reached. Age is measured by the monotonic clock.
//!
//! Invariant: where a document may still be used, an issuer that does not answer costs [`RENEWAL_MAX`] once in
//! [`FAILED_REST`] and nothing else.

use std::{sync::Arc, time::Duration};

use kh_core::port::BoxFuture;
use parking_lot::Mutex;

/// How long a document is used without asking again: platforms move tenants rarely and announce it.
const FRESH: Duration = Duration::from_hours(1);

/// How long a document is used while it cannot be renewed.
const STALE_MAX: Duration = Duration::from_hours(24);

/// Longest wait for a renewal while the document may still be used: what it is read for has a deadline, and must be done
/// within that too.
const RENEWAL_MAX: Duration = Duration::from_secs(3);

/// How long no renewal is tried after one that failed, while the document may still be used.
const FAILED_REST: Duration = Duration::from_mins(1);

struct Kept<K, T> {
    key: K,
    at: Duration,
    /// When it was last tried to renew it.
    tried_at: Option<Duration>,
    document: Arc<T>,
}

/// One cached document with the key it was fetched for.
pub(crate) struct Fresh<K, T>(Mutex<Option<Kept<K, T>>>);

impl<K: Clone + PartialEq, T> Fresh<K, T> {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    /// The document of `key` at `mono`, as `renew` brings it where it is not fresh. An error is told only where there is
    /// none that may still be used.
    pub(crate) async fn or_renewed<'a, E>(
        &self,
        key: &K,
        mono: Duration,
        renew: impl FnOnce() -> BoxFuture<'a, Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        if let Some(fresh) = self.younger_than(key, mono, FRESH) {
            return Ok(fresh);
        }
        let Some(stale) = self.younger_than(key, mono, STALE_MAX) else {
            return renew().await.map(|document| self.keep(key.clone(), mono, document));
        };
        if !self.is_turn(key, mono) {
            return Ok(stale);
        }
        match tokio::time::timeout(RENEWAL_MAX, renew()).await {
            Ok(Ok(document)) => Ok(self.keep(key.clone(), mono, document)),
            Ok(Err(_)) | Err(_) => Ok(stale),
        }
    }

    /// The document of `key` if it is younger than `max_age` at `mono`.
    fn younger_than(&self, key: &K, mono: Duration, max_age: Duration) -> Option<Arc<T>> {
        let slot = self.0.lock();
        let kept = slot.as_ref().filter(|kept| kept.key == *key && mono.saturating_sub(kept.at) < max_age)?;
        Some(Arc::clone(&kept.document))
    }

    /// Whether the caller is the one who renews now. Until it brings a document that counts as failed, also when the
    /// caller goes away.
    fn is_turn(&self, key: &K, mono: Duration) -> bool {
        let mut slot = self.0.lock();
        let Some(kept) = slot.as_mut().filter(|kept| kept.key == *key) else { return true };
        let rests = kept.tried_at.is_some_and(|at| mono.saturating_sub(at) < FAILED_REST);
        if !rests {
            kept.tried_at = Some(mono);
        }
        !rests
    }

    /// Keeps `document`, asked for at `mono`.
    fn keep(&self, key: K, mono: Duration, document: T) -> Arc<T> {
        let document = Arc::new(document);
        *self.0.lock() = Some(Kept { key, at: mono, tried_at: None, document: Arc::clone(&document) });
        document
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

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

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_hangs_is_waited_for_once_in_a_while_and_for_a_short_time() {
        let (cache, start) = (Fresh::empty(), Instant::now());
        let read = async |hours: u64, seconds: u64, renewed: Option<Result<u8, ()>>| {
            let (mono, began) = (Duration::from_secs(hours * 3600 + seconds), Instant::now());
            let renew = || -> BoxFuture<'static, Result<u8, ()>> {
                match renewed {
                    Some(result) => Box::pin(std::future::ready(result)),
                    None => Box::pin(std::future::pending()),
                }
            };
            let found = cache.or_renewed(&"t1", mono, renew).await;
            (found.map(|document| *document), began.elapsed().as_secs())
        };
        let (at_once, in_vain) = (0, RENEWAL_MAX.as_secs());
        assert_eq!(read(0, 0, Some(Err(()))).await, (Err(()), at_once), "there is none");
        assert_eq!(read(1, 0, Some(Ok(7))).await, (Ok(7), at_once));
        assert_eq!(read(1, 3599, None).await, (Ok(7), at_once), "fresh");
        assert_eq!(read(2, 0, None).await, (Ok(7), in_vain), "the issuer hangs");
        assert_eq!(read(2, 59, Some(Ok(8))).await, (Ok(7), at_once), "and is left alone");
        assert_eq!(read(2, 60, Some(Err(()))).await, (Ok(7), at_once));
        assert_eq!(read(2, 119, Some(Ok(8))).await, (Ok(7), at_once), "so is one that fails at once");
        assert_eq!(read(2, 120, Some(Ok(8))).await, (Ok(8), at_once));
        assert_eq!(read(26, 120, Some(Err(()))).await, (Err(()), at_once), "a day is the end");
        assert_eq!(start.elapsed().as_secs(), in_vain);
    }
}
