//! The sandbox's time: the machine's, shifted or frozen. Invariant: every rule about time in this crate asks this
//! clock, so that a test can let a day pass without sleeping.

use parking_lot::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Largest shift in either direction: a thousand years of 365 days, far from any overflow of milliseconds.
const SHIFT_MAX_MS: i64 = 1_000 * 365 * 86_400_000;

/// Virtual wall clock in Unix milliseconds.
#[derive(Debug, Default)]
pub(crate) struct VirtualClock {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    offset_ms: i64,
    frozen_at: Option<i64>,
}

impl VirtualClock {
    /// Now, in Unix milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        let state = self.state.lock();
        state.frozen_at.unwrap_or_else(|| machine_ms().saturating_add(state.offset_ms))
    }

    /// Now, as a point of the calendar.
    pub(crate) fn timestamp(&self) -> jiff::Timestamp {
        timestamp(self.now_ms())
    }

    /// Moves the clock, frozen or not; `false` when the shift is absurd.
    pub(crate) fn shift(&self, ms: i64) -> bool {
        let mut state = self.state.lock();
        let offset = state.offset_ms.saturating_add(ms);
        if offset.abs() > SHIFT_MAX_MS || ms.abs() > SHIFT_MAX_MS {
            return false;
        }
        state.offset_ms = offset;
        state.frozen_at = state.frozen_at.map(|at| at.saturating_add(ms));
        true
    }

    /// Stops the clock where it is, or lets it go on from there.
    pub(crate) fn freeze(&self, frozen: bool) {
        let now = self.now_ms();
        let mut state = self.state.lock();
        match (frozen, state.frozen_at) {
            (true, None) => state.frozen_at = Some(now),
            (false, Some(at)) => {
                state.frozen_at = None;
                state.offset_ms = at.saturating_sub(machine_ms());
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    pub(crate) fn frozen(&self) -> bool {
        self.state.lock().frozen_at.is_some()
    }
}

/// A point of the calendar from Unix milliseconds; the epoch when outside the calendar's years.
pub(crate) fn timestamp(ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// The platforms' date format: `2026-11-21T02:30:00.000Z`.
pub(crate) fn iso(ms: i64) -> String {
    format!("{:.3}", timestamp(ms))
}

/// The `Date` header (RFC 9110 section 5.6.7).
pub(crate) fn http_date(ms: i64) -> String {
    // The header's format ends with the year 9999.
    const LAST_SECOND: u64 = 253_402_300_799;
    let seconds = u64::try_from(ms.max(0)).unwrap_or_default() / 1_000;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND)))
}

#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the machine's clock")]
fn machine_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shift_and_freeze() {
        let clock = VirtualClock::default();
        clock.freeze(true);
        let start = clock.now_ms();
        assert!(clock.shift(86_400_000));
        assert_eq!(clock.now_ms(), start + 86_400_000);
        assert!(clock.shift(-1_000));
        assert_eq!(clock.now_ms(), start + 86_399_000);
        clock.freeze(false);
        assert!(clock.now_ms() >= start + 86_399_000, "time goes on from where it was stopped");
        assert!(!clock.shift(i64::MAX));
        assert!(!clock.shift(i64::MIN + 1));
    }

    #[test]
    fn formats() {
        assert_eq!(iso(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(iso(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
