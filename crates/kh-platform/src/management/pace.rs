//! How fast a platform's management is asked: by what its own answers say of its limit.
//!
//! Genesys Cloud counts requests of a token in windows and tells both with every answer (`inin-ratelimit-*`). Invariant:
//! keyholder's own requests leave a tenth of every window free, so that those which overtake each other never meet the
//! limit; a request that would have to wait longer than a lease allows is not sent, and its caller is told for how long.

use std::time::Duration;

use kh_core::port::{ManageError, secret_management::Rotator};
use parking_lot::Mutex;

use crate::http::AnswerHead;

/// Longest wait for a place in the window: a rotation holds its lease meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Part of each window that is left free: answers that are under way have not been counted yet.
const ROOM: u32 = 10;

/// Least number of requests that is left free: as many as a schedule has under way at a time.
const ROOM_MIN: u32 = 8;

/// Wait after a refusal that names none, as for the platform's own clients.
const REFUSED_WAIT: Duration = Duration::from_secs(3);

/// Longest wait after a refusal, whatever it says: one wrong answer must not stop every rotation of a platform for days. A
/// platform that means it refuses again, which costs a request.
const REFUSED_MAX: Duration = Duration::from_hours(1);

/// How far apart ends may be that are told of one window, by answers that are slow and seconds that are whole. A later end
/// that is told about when this one came is the next window's.
const SAME_WINDOW: Duration = Duration::from_secs(5);

/// What is known of one identity's window.
#[derive(Clone, Copy, Default, Debug)]
struct Window {
    allowed: Option<u32>,
    used: u32,
    /// Monotonic time; none while no answer of this window came.
    ends: Option<Duration>,
    /// The platform refused until then, on the monotonic clock, whatever other answers say of the window.
    refused_until: Option<Duration>,
}

/// The windows of both identities, shared by everything that asks one platform.
#[derive(Default, Debug)]
pub(super) struct Pace(Mutex<[Window; 2]>);

fn place(by: Rotator) -> usize {
    match by {
        Rotator::First => 0,
        Rotator::Second => 1,
    }
}

impl Window {
    /// Takes a place; else how long there is none.
    fn take(&mut self, now: Duration) -> Result<(), Duration> {
        if let Some(until) = self.refused_until {
            let wait = until.saturating_sub(now);
            if !wait.is_zero() {
                return Err(wait);
            }
            // the refusal is over; the platform's next answer tells of the window
            (self.used, self.ends, self.refused_until) = (0, None, None);
        }
        if self.ends.is_some_and(|ends| ends <= now) {
            (self.used, self.ends) = (0, None);
        }
        if let (Some(allowed), Some(ends)) = (self.allowed, self.ends)
            && self.used >= allowed.saturating_sub((allowed / ROOM).max(ROOM_MIN)).max(1)
        {
            return Err(ends.saturating_sub(now));
        }
        self.used = self.used.saturating_add(1);
        Ok(())
    }

    fn hear(&mut self, now: Duration, head: &AnswerHead) {
        if let Some(limit) = head.rate_limit {
            let ends = now.saturating_add(Duration::from_secs(u64::from(limit.reset_seconds)));
            // a later end in the middle of a window is that of another one: limits differ by kind of request
            let is_next = self.ends.is_some_and(|known| {
                ends > known.saturating_add(SAME_WINDOW) && now.saturating_add(SAME_WINDOW) >= known
            });
            self.allowed = Some(limit.allowed);
            // a window that has turned earlier than it was told begins with its own count
            self.used = if is_next { limit.count } else { self.used.max(limit.count) };
            self.ends = Some(ends);
        }
    }

    /// Answers how much of what was said is waited.
    fn refuse(&mut self, now: Duration, said: Option<Duration>) -> Option<Duration> {
        let said = said.map(|wait| wait.min(REFUSED_MAX));
        let until = now.saturating_add(said.unwrap_or(REFUSED_WAIT));
        self.refused_until = self.refused_until.max(Some(until));
        said
    }
}

impl Pace {
    /// Waits for a place, or says for how long there is none.
    pub(super) async fn turn(&self, by: Rotator, now: impl Fn() -> Duration) -> Result<(), ManageError> {
        let mut waited = Duration::ZERO;
        loop {
            let taken = self.0.lock().get_mut(place(by)).map_or(Ok(()), |window| window.take(now()));
            let Err(wait) = taken else { return Ok(()) };
            waited = waited.saturating_add(wait);
            if waited > WAIT_MAX {
                return Err(ManageError::Throttled { retry_after: Some(wait) });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// What an answer says of the window.
    pub(super) fn heard(&self, by: Rotator, now: Duration, head: &AnswerHead) {
        if let Some(window) = self.0.lock().get_mut(place(by)) {
            window.hear(now, head);
        }
    }

    /// The platform refused for its limit, in whatever words; `said` is what it said of the wait. Answers how much of that
    /// is waited.
    pub(super) fn refused(&self, by: Rotator, now: Duration, said: Option<Duration>) -> Option<Duration> {
        self.0.lock().get_mut(place(by)).and_then(|window| window.refuse(now, said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Media, RateLimit};

    const SECOND: Duration = Duration::from_secs(1);

    fn head(allowed: u32, count: u32, reset_seconds: u32) -> AnswerHead {
        AnswerHead {
            status: 200,
            retry_after: None,
            correlation_id: None,
            status_text: None,
            media: Media::MaybeJson,
            date: None,
            rate_limit: Some(RateLimit { allowed, count, reset_seconds }),
        }
    }

    #[test]
    fn a_tenth_of_each_window_stays_free() {
        let mut window = Window::default();
        let mut sent = 0;
        while window.take(SECOND).is_ok() {
            sent += 1;
            window.hear(SECOND, &head(300, sent, 60));
        }
        assert_eq!(sent, 270);
        assert_eq!(window.take(21 * SECOND), Err(40 * SECOND));
        assert_eq!(window.take(61 * SECOND), Ok(()), "the next window");
        assert_eq!(window.used, 1);
    }

    #[test]
    fn requests_that_overtake_each_other_are_counted_before_their_answers() {
        let mut window = Window::default();
        window.hear(SECOND, &head(300, 268, 60));
        assert_eq!(window.take(SECOND), Ok(()));
        assert_eq!(window.take(SECOND), Ok(()));
        assert_eq!(window.take(SECOND), Err(60 * SECOND), "no answer came yet, and there is no place");
        // an older answer comes late
        window.hear(2 * SECOND, &head(300, 269, 59));
        assert!(window.take(2 * SECOND).is_err());
    }

    #[test]
    fn a_refusal_stops_everybody_for_as_long_as_it_says() {
        for (said, wait) in [
            (Some(7 * SECOND), 7 * SECOND),
            (None, REFUSED_WAIT),
            (Some(REFUSED_MAX), REFUSED_MAX),
            (Some(604_800 * SECOND), REFUSED_MAX),
            (Some(Duration::MAX), REFUSED_MAX),
        ] {
            let mut window = Window::default();
            assert_eq!(window.refuse(SECOND, said), said.map(|_| wait));
            assert_eq!(window.take(2 * SECOND), Err(wait.saturating_sub(SECOND)), "{said:?}");
            assert_eq!(window.take(SECOND + wait), Ok(()), "{said:?}");
        }
    }

    #[test]
    fn an_answer_that_comes_late_does_not_end_a_refusal() {
        let mut window = Window::default();
        assert_eq!(window.refuse(SECOND, Some(7 * SECOND)), Some(7 * SECOND));
        window.hear(2 * SECOND, &head(300, 5, 1));
        window.hear(2 * SECOND, &head(300, 300, 1));
        assert_eq!(window.refuse(2 * SECOND, Some(SECOND)), Some(SECOND));
        assert_eq!(window.take(4 * SECOND), Err(4 * SECOND));
        assert_eq!(window.take(8 * SECOND), Ok(()));
    }

    #[test]
    fn a_window_that_turns_early_is_not_waited_for_twice() {
        let mut window = Window::default();
        window.hear(SECOND, &head(300, 290, 58));
        assert!(window.take(2 * SECOND).is_err());
        window.hear(57 * SECOND, &head(300, 3, 60));
        assert_eq!((window.take(57 * SECOND), window.used), (Ok(()), 4));
        // an answer of the same window that took its time takes nothing back
        window.hear(60 * SECOND, &head(300, 2, 60));
        assert_eq!(window.used, 4);
    }

    /// Limits differ by kind of request, and one that is far from its end is not over because another one ends later.
    #[test]
    fn another_window_that_ends_later_takes_nothing_back() {
        let mut window = Window::default();
        window.hear(SECOND, &head(300, 260, 59));
        window.hear(40 * SECOND, &head(300, 1, 61));
        assert_eq!(window.used, 260);
    }

    #[test]
    fn a_small_limit_lets_one_through() {
        let mut window = Window::default();
        window.hear(SECOND, &head(3, 0, 60));
        assert_eq!(window.take(SECOND), Ok(()));
        assert!(window.take(SECOND).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_wait_is_waited_and_a_long_one_told() {
        let (pace, start) = (Pace::default(), tokio::time::Instant::now());
        let now = || start.elapsed();
        pace.heard(Rotator::First, now(), &head(20, 19, 1));
        pace.turn(Rotator::First, now).await.unwrap();
        assert!(start.elapsed() >= SECOND);
        pace.heard(Rotator::First, now(), &head(20, 19, 30));
        let told = pace.turn(Rotator::First, now).await.unwrap_err();
        assert!(matches!(told, ManageError::Throttled { retry_after: Some(wait) } if wait > 25 * SECOND), "{told:?}");
        pace.turn(Rotator::Second, now).await.unwrap();
    }
}
