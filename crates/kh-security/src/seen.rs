//! Which successes are news: a small table of what was seen within the hour.
//!
//! A success that was seen is answered by one read of memory, so that the path of a cached token can ask for each request.
//! Two subjects may share a place in the table; then each is news again when the other was there, which costs an event and
//! hides nothing.
//!
//! Invariants: memory is fixed; who has not been news for an hour is.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Places; a power of two. 128 KiB.
const PLACES: usize = 16_384;

/// How long something is no news.
const HOUR: Duration = Duration::from_hours(1);

/// The table.
pub(crate) struct Seen {
    hasher: RandomState,
    places: Box<[AtomicU64]>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self { hasher: RandomState::new(), places: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether this was not seen within the hour; from now on it was.
    pub(crate) fn is_news(&self, issuer: &str, subject: &str, address: Option<IpAddr>, mono: Duration) -> bool {
        let hash = self.hasher.hash_one((issuer, subject, address.map(network)));
        let at = usize::try_from(hash).unwrap_or(0) % PLACES;
        let hour = mono.as_secs() / HOUR.as_secs();
        // the upper bits tell subjects apart, and the hour ends what they know
        let mark = (hash >> 16 << 16) | ((hour + 1) & 0xffff);
        let Some(place) = self.places.get(at) else { return true };
        // what is usual is only read: writing would make every core fetch the line again
        place.load(Ordering::Relaxed) != mark && place.swap(mark, Ordering::Relaxed) != mark
    }
}

/// The network that one place on earth has: a /24 of IPv4, a /48 of IPv6 (RFC 6177), which location databases do not cut
/// finer as a rule.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & 0xffff_ff00).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !(u128::MAX >> 48)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn news_is_a_subject_a_network_or_an_hour() {
        let seen = Seen::new();
        let minute = |minutes| Duration::from_mins(minutes);
        for (subject, address, at, news) in [
            ("a", "192.0.2.1", 0, true),
            ("a", "192.0.2.1", 1, false),
            ("a", "192.0.2.200", 1, false),
            ("a", "::ffff:192.0.2.9", 1, false),
            ("a", "192.0.3.1", 1, true),
            ("a", "2001:db8:1:2::1", 1, true),
            ("a", "2001:db8:1:3::1", 59, false),
            ("a", "192.0.2.1", 59, false),
            ("a", "192.0.2.1", 60, true),
            ("a", "192.0.2.1", 61, false),
        ] {
            assert_eq!(seen.is_news("issuer", subject, ip(address), minute(at)), news, "{subject} {address} {at}");
        }
        assert!(seen.is_news("issuer", "b", None, minute(61)));
        assert!(seen.is_news("other", "a", ip("192.0.2.1"), minute(61)));
    }

    #[test]
    fn many_subjects_hide_nobody() {
        let seen = Seen::new();
        // four times as many as there are places: some are news twice, none is passed over
        for subject in 0..4 * PLACES {
            assert!(seen.is_news("issuer", &subject.to_string(), None, HOUR));
        }
    }
}
