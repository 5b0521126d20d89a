//! Negative cache of documents that the platform refused, so that a wrong secret cannot lock an account out.
//!
//! Invariant: a document on the list is not sent again before its pause has passed, whatever else happened meanwhile.
//! Pauses run on the monotonic clock: a wall clock that jumps must not shorten them.

use std::time::Duration;

use kh_core::Sha256;

use crate::policy::{REJECTED_BASE, REJECTED_MAX, REJECTIONS_KEPT};

#[derive(Clone, PartialEq, Eq, Debug)]
struct Rejection {
    digest: Sha256,
    strikes: u32,
    until: Duration,
}

/// The refused documents, oldest first, and whether the newest document of the store is one of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rejections {
    list: Vec<Rejection>,
    blocked_until: Option<Duration>,
}

impl Rejections {
    /// The platform refused `digest` at `mono`. The list does not block yet: the store is read once more first.
    pub fn strike(&mut self, digest: Sha256, mono: Duration) {
        let known = self.list.iter().position(|rejection| rejection.digest == digest);
        let strikes = known.map_or(0, |index| self.list.remove(index).strikes);
        let pause = REJECTED_BASE.saturating_mul(1_u32.checked_shl(strikes).unwrap_or(u32::MAX)).min(REJECTED_MAX);
        if self.list.len() >= REJECTIONS_KEPT {
            self.list.remove(0);
        }
        self.list.push(Rejection { digest, strikes: strikes.saturating_add(1), until: mono.saturating_add(pause) });
        self.blocked_until = None;
    }

    /// The same for a document that may only be too new: it is left alone for `pause`, and that does not count.
    pub fn leave_alone(&mut self, digest: Sha256, mono: Duration, pause: Duration) {
        self.strike(digest, mono);
        if let Some(newest) = self.list.last_mut() {
            newest.strikes = newest.strikes.saturating_sub(1);
            newest.until = mono.saturating_add(pause);
        }
    }

    /// A document on the list is tried once more, by one alone: nobody else sends it for `pause`. That does not count.
    pub fn try_alone(&mut self, digest: Sha256, mono: Duration, pause: Duration) {
        if let Some(rejection) = self.list.iter_mut().find(|rejection| rejection.digest == digest) {
            rejection.until = mono.saturating_add(pause);
        }
    }

    /// Until when `digest` may not be sent, if it may not at `mono`.
    pub fn refused_until(&self, digest: Sha256, mono: Duration) -> Option<Duration> {
        let rejection = self.list.iter().find(|rejection| rejection.digest == digest)?;
        (mono < rejection.until).then_some(rejection.until)
    }

    /// The newest document of the store is refused until then: no fetch needs to begin.
    pub fn block(&mut self, until: Duration) {
        self.blocked_until = Some(until);
    }

    /// The store may have another document: the next fetch may read it.
    pub fn unblock(&mut self) {
        self.blocked_until = None;
    }

    /// The rest of the block at `mono`.
    pub fn blocked_for(&self, mono: Duration) -> Option<Duration> {
        let rest = self.blocked_until?.saturating_sub(mono);
        (!rest.is_zero()).then_some(rest)
    }

    /// The platform took `digest`.
    pub fn forgive(&mut self, digest: Sha256) {
        self.list.retain(|rejection| rejection.digest != digest);
        self.blocked_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(number: u8) -> Sha256 {
        Sha256([number; 32])
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut rejections = Rejections::default();
        let mut mono = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            rejections.strike(document(1), mono);
            let until = rejections.refused_until(document(1), mono).unwrap();
            pauses.push(until.saturating_sub(mono).as_secs() / 60);
            mono = until;
            assert_eq!(rejections.refused_until(document(1), mono), None);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]);
    }

    #[test]
    fn one_that_is_tried_alone_stays_with_its_count_and_another_one_is_not_held_back() {
        let mut rejections = Rejections::default();
        let (minute, later) = (Duration::from_mins(1), Duration::from_mins(10));
        rejections.strike(document(1), Duration::ZERO);
        for number in 1..=2 {
            rejections.try_alone(document(number), later, minute);
        }
        assert_eq!(rejections.refused_until(document(1), later), Some(later + minute));
        assert_eq!(rejections.refused_until(document(2), later), None);
        rejections.strike(document(1), later);
        assert_eq!(rejections.refused_until(document(1), later), Some(later + 2 * REJECTED_BASE));
    }

    #[test]
    fn several_documents_are_remembered_up_to_a_limit() {
        let mut rejections = Rejections::default();
        for number in 0..=8 {
            rejections.strike(document(number), Duration::ZERO);
        }
        assert_eq!(rejections.refused_until(document(0), Duration::ZERO), None, "the oldest was dropped");
        for number in 1..=8 {
            assert!(rejections.refused_until(document(number), Duration::ZERO).is_some());
        }
        rejections.forgive(document(3));
        assert_eq!(rejections.refused_until(document(3), Duration::ZERO), None);
        assert!(rejections.refused_until(document(4), Duration::ZERO).is_some());
    }
}
