//! The life of a token by two clocks. The wall clock jumps (NTP, an operator, a restored snapshot) and the monotonic
//! clock stands still while a machine is suspended, so each alone would keep a dead token alive.
//!
//! Invariant: a token whose life has passed by either clock is dead.

use std::time::Duration;

use kh_core::{Now, UnixMillis};

/// How long after `start` it is now, by the clock that says more. A wall clock that went back says zero, and then the
/// monotonic clock counts.
pub fn elapsed(start: Now, now: Now) -> Duration {
    let wall = now.wall.since(start.wall);
    let mono = now.mono.saturating_sub(start.mono);
    wall.max(mono)
}

/// A span that began at one reading of the clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime {
    /// Before the token was issued: the moment its request was sent, so that latency shortens the life.
    pub began: Now,
    /// Life from `began`.
    pub life: Duration,
}

impl Lifetime {
    /// What has passed, by the clock that says more.
    pub fn elapsed(&self, now: Now) -> Duration {
        elapsed(self.began, now)
    }

    /// What is left; zero when dead.
    pub fn remaining(&self, now: Now) -> Duration {
        self.life.saturating_sub(self.elapsed(now))
    }

    /// Whether nothing is left.
    pub fn is_dead(&self, now: Now) -> bool {
        self.remaining(now).is_zero()
    }

    /// When it ends, by the wall clock of the moment it began.
    pub fn expires_at(&self) -> UnixMillis {
        self.began.wall.plus(self.life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(wall: u64, mono: u64) -> Now {
        Now { wall: UnixMillis(wall * 1000), mono: Duration::from_secs(mono) }
    }

    fn check(now: Now, remaining: u64) {
        let token = Lifetime { began: at(1000, 50), life: Duration::from_secs(100) };
        assert_eq!(token.remaining(now), Duration::from_secs(remaining), "{now:?}");
        assert_eq!(token.is_dead(now), remaining == 0, "{now:?}");
    }

    #[test]
    fn the_clock_that_says_more_counts() {
        check(at(1000, 50), 100);
        check(at(1040, 90), 60);
        check(at(1100, 150), 0);
        check(at(1099, 60), 1); // frozen: only the wall clock moved
        check(at(1100, 50), 0);
        check(at(1, 90), 60); // the wall clock went back
        check(at(1, 150), 0);
        check(at(9999, 51), 0); // the wall clock went far ahead
    }
}
