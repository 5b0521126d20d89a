//! The time that a fake lives in: the machine's, moved or stopped by a test.
//!
//! Invariant: it moves only forward by itself; a test may set it anywhere.

use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// A clock of a fake. Milliseconds since 1970.
#[derive(Debug, Default)]
pub struct FakeClock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    shift_ms: i64,
    frozen_at_ms: Option<u64>,
}

impl FakeClock {
    /// What the clock says.
    pub fn now_ms(&self) -> u64 {
        let state = self.0.lock();
        state.frozen_at_ms.unwrap_or_else(machine_ms).saturating_add_signed(state.shift_ms)
    }

    /// Moves it by seconds, also back.
    pub fn shift(&self, seconds: i64) {
        let mut state = self.0.lock();
        state.shift_ms = state.shift_ms.saturating_add(seconds.saturating_mul(1000));
    }

    /// Stops it; only [`FakeClock::shift`] moves it then.
    pub fn freeze(&self) {
        self.0.lock().frozen_at_ms.get_or_insert_with(machine_ms);
    }
}

#[allow(clippy::disallowed_methods, reason = "a fake has no one above it to take time from")]
fn machine_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_it_is_moved() {
        let clock = FakeClock::default();
        clock.freeze();
        let start = clock.now_ms();
        clock.shift(-5);
        assert_eq!(clock.now_ms(), start - 5_000);
        clock.shift(65);
        assert_eq!(clock.now_ms(), start + 60_000);
    }
}
