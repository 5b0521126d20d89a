//! Exponential backoff with full jitter: the wait is uniform between zero and a ceiling that doubles, so that many
//! callers that failed together do not come back together.
//!
//! Invariant: a wait is never longer than `max`, for any attempt number.

use std::time::Duration;

use kh_core::Entropy;

use crate::Share;

/// A schedule of waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Ceiling of the first wait.
    pub base: Duration,
    /// Ceiling of every wait.
    pub max: Duration,
}

impl Backoff {
    /// The longest wait before retry number `attempt`, counted from 0: `base * 2^attempt`, at most `max`.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }

    /// The wait before retry number `attempt`, counted from 0, with full jitter.
    pub fn delay(&self, attempt: u32, entropy: &dyn Entropy) -> Duration {
        self.delay_at(attempt, Share::draw(entropy))
    }

    /// The same with a share that was drawn before.
    pub fn delay_at(&self, attempt: u32, share: Share) -> Duration {
        share.of(self.ceiling(attempt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kh_core::SeededEntropy;
    use proptest::prelude::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(10) };
        let seconds: Vec<u64> = (0..6).map(|attempt| backoff.ceiling(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.ceiling(u32::MAX), backoff.max);
    }

    #[test]
    fn jitter_spreads_over_the_whole_ceiling() {
        let backoff = Backoff { base: Duration::from_secs(8), max: Duration::from_secs(8) };
        let entropy = SeededEntropy::new(7);
        let mut eighths = [0_u32; 8];
        for _ in 0..800 {
            let eighth = usize::try_from(backoff.delay(0, &entropy).as_secs()).unwrap().min(7);
            eighths[eighth] += 1;
        }
        assert!(eighths.iter().all(|count| (50..=150).contains(count)), "{eighths:?}");
    }

    proptest! {
        #[test]
        fn never_above_the_ceiling(base in 0_u64..100_000, max in 0_u64..100_000, attempt: u32, share: u16) {
            let backoff = Backoff { base: Duration::from_millis(base), max: Duration::from_millis(max) };
            let wait = backoff.delay_at(attempt, Share(share));
            prop_assert!(wait <= backoff.ceiling(attempt));
            prop_assert!(backoff.ceiling(attempt) <= backoff.max);
            prop_assert!(backoff.ceiling(attempt) <= backoff.ceiling(attempt.saturating_add(1)));
        }
    }
}
