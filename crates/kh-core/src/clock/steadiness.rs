//! Whether the wall clock can be believed, for what ends or is forgotten by it and does not come back.
//!
//! Invariant: after a jump, ahead or back, the wall clock is not believed before it has stood for a while.

use std::time::Duration;

use super::{Now, millis};

/// A wall clock that moved more than this beside the monotonic one has jumped.
const JUMP: Duration = Duration::from_mins(1);

/// How long it is not believed after that: time for whoever set it to set it right.
const PAUSE: Duration = Duration::from_mins(10);

/// Remembers how far the wall clock was from the monotonic one when it was last looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Steadiness {
    /// Wall time minus monotonic time, in milliseconds.
    apart_ms: i128,
    /// Monotonic time of the look that found the last jump.
    jumped_at: Option<Duration>,
}

impl Steadiness {
    /// The wall clock is believed at `now`.
    pub fn new(now: Now) -> Self {
        Self { apart_ms: apart_ms(now), jumped_at: None }
    }

    /// Looks at the clocks. True: the wall clock can be believed at `now`, because neither since the last look nor in the
    /// 10 minutes before did it move by more than a minute beside the monotonic clock. A machine that was suspended
    /// looks like a jump, where its monotonic clock stood still.
    pub fn holds(&mut self, now: Now) -> bool {
        let before = std::mem::replace(&mut self.apart_ms, apart_ms(now));
        if before.abs_diff(self.apart_ms) > JUMP.as_millis() {
            self.jumped_at = Some(now.mono);
        }
        self.jumped_at.is_none_or(|at| now.mono.saturating_sub(at) >= PAUSE)
    }
}

fn apart_ms(now: Now) -> i128 {
    i128::from(now.wall.0) - i128::from(millis(now.mono))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixMillis;

    /// Looks as `WALL/MONO`, both in seconds from the start, and `+` or `-` for what they find.
    fn check(looks: &str) {
        let start = Now { wall: UnixMillis(1_790_000_000_000), mono: Duration::from_hours(1) };
        let mut steadiness = Steadiness::new(start);
        for look in looks.split(' ') {
            let (at, expected) = look.split_at(look.len() - 1);
            let (wall, mono) = at.split_once('/').unwrap();
            let wall = UnixMillis(start.wall.0.saturating_add_signed(wall.parse::<i64>().unwrap() * 1000));
            let mono = start.mono + Duration::from_secs(mono.parse().unwrap());
            assert_eq!(steadiness.holds(Now { wall, mono }), expected == "+", "{look} of {looks}");
        }
    }

    #[test]
    fn a_wall_clock_is_believed_while_it_goes_with_the_monotonic_one() {
        check("0/0+ 1/1+ 60/60+ 86400/86400+");
        // drift, and steps of NTP, however much they come to
        check("110/60+ 220/120+ 330/180+ 280/190+");
        // a reading that another task took earlier
        check("60/60+ 59/59+ 61/61+");
        // a minute is not more than a minute
        check("120/60+");
    }

    #[test]
    fn after_a_jump_it_is_not_believed_before_it_has_stood_for_a_while() {
        check("60/60+ 181/120- 661/600- 780/719- 781/720+ 1000/939+");
        check("108060/60- 108659/659- 108660/660+");
        check("-3600/1- -3001/600- -3000/601+");
        // set right: again
        check("108060/60- 120/120- 719/719- 720/720+");
        check("2592000/1- 2592000/2- 2592599/600- 2592600/601+");
    }
}
