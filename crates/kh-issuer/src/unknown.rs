//! What is remembered about tokens that nobody knows, so that guessing costs the guesser more than the database:
//! a small table of firm answers, and a budget for the questions.
//!
//! Remembering a "no" is safe: a token carries 238 random bits and is durable before anyone is told of it, so a token
//! that the store does not know now was never issued, or was revoked for good.

use std::time::Duration;

use kh_core::{Now, Sha256};
use parking_lot::Mutex;

/// Answers remembered. Direct-mapped: a newer one takes its place. 4,096 entries are about 200 KB.
const PLACES: usize = 4096;

/// How long a "no" holds; a state restored from a backup is seen after this.
const HOLDS: Duration = Duration::from_mins(1);

/// Questions to the store in one second, beyond what was remembered. One costs about 50 us of one reading thread.
const QUESTIONS_PER_SECOND: u32 = 500;

#[derive(Clone, Copy)]
struct No {
    digest: Sha256,
    until: Duration,
}

struct Budget {
    left: u32,
    filled: Duration,
}

/// Firm answers and the budget for questions.
pub(crate) struct Unknown {
    places: Mutex<Vec<Option<No>>>,
    budget: Mutex<Budget>,
}

fn place(digest: &Sha256) -> usize {
    let [high, low, ..] = digest.0;
    usize::from(u16::from_be_bytes([high, low])) % PLACES
}

impl Unknown {
    pub(crate) fn new(now: Now) -> Self {
        let budget = Budget { left: QUESTIONS_PER_SECOND, filled: now.mono };
        Self { places: Mutex::new(vec![None; PLACES]), budget: Mutex::new(budget) }
    }

    /// Whether the store said lately that there is no such token.
    pub(crate) fn holds(&self, digest: &Sha256, now: Now) -> bool {
        let places = self.places.lock();
        places.get(place(digest)).copied().flatten().is_some_and(|no| no.digest == *digest && now.mono < no.until)
    }

    /// Remembers that the store knows no such token.
    pub(crate) fn remember(&self, digest: Sha256, now: Now) {
        let until = now.mono.saturating_add(HOLDS);
        if let Some(at) = self.places.lock().get_mut(place(&digest)) {
            *at = Some(No { digest, until });
        }
    }

    /// Takes one question from the budget, which fills up once a second.
    pub(crate) fn may_ask(&self, now: Now) -> bool {
        let mut budget = self.budget.lock();
        if now.mono.saturating_sub(budget.filled) >= Duration::from_secs(1) {
            *budget = Budget { left: QUESTIONS_PER_SECOND, filled: now.mono };
        }
        let may = budget.left > 0;
        budget.left = budget.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_holds_for_its_time_and_the_budget_fills_up_again() {
        let start = Now::default();
        let unknown = Unknown::new(start);
        let digest = Sha256::of(b"one");
        assert!(!unknown.holds(&digest, start));
        unknown.remember(digest, start);
        assert!(unknown.holds(&digest, start.plus(HOLDS.saturating_sub(Duration::from_millis(1)))));
        assert!(!unknown.holds(&digest, start.plus(HOLDS)));
        let mut same_place = digest;
        same_place.0[31] ^= 1;
        assert!(!unknown.holds(&same_place, start), "another digest of the same place is not answered for");

        let granted = (0..QUESTIONS_PER_SECOND * 2).filter(|_| unknown.may_ask(start)).count();
        assert_eq!(granted, QUESTIONS_PER_SECOND as usize);
        assert!(unknown.may_ask(start.plus(Duration::from_secs(1))));
    }
}
