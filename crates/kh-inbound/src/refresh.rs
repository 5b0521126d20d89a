//! When a key set is fetched: a state machine without clock, lock or I/O.
//!
//! Invariants: between two fetches that callers ask for lies at least [`Bounds::ask_every`], taken before the fetch, so
//! that tokens with invented key names cost the issuer nothing; one that was cut off gives back what it took, but for a
//! second; a set is used for at most [`Bounds::stale_max`] after the last good fetch.

use std::time::Duration;

use kh_core::{Now, UnixMillis};
use kh_resilience::backoff::Backoff;

/// How often and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Between two fetches in the background, where the source does not say how long its answer may be used.
    pub interval: Duration,
    /// The shortest interval that the source may ask for.
    pub interval_min: Duration,
    /// The longest one.
    pub interval_max: Duration,
    /// Between two fetches for tokens whose key is not in the set.
    pub ask_every: Duration,
    /// How long a set is used after the last good fetch. `None`: as long as there is no other, for files.
    pub stale_max: Option<Duration>,
}

impl Bounds {
    /// For an address: 5 min by default, from 30 s to 1 h as the issuer says, 10 s between fetches for unknown keys,
    /// and a day of failures before tokens are refused.
    pub const REMOTE: Self = Self {
        interval: Duration::from_mins(5),
        interval_min: Duration::from_secs(30),
        interval_max: Duration::from_hours(1),
        ask_every: Duration::from_secs(10),
        stale_max: Some(Duration::from_hours(24)),
    };

    /// For a file: looked at every 2 s. The file itself is the truth for as long as it can be read in no other form.
    pub const FILE: Self = Self {
        interval: Duration::from_secs(2),
        interval_min: Duration::from_secs(2),
        interval_max: Duration::from_secs(2),
        ask_every: Duration::from_secs(1),
        stale_max: None,
    };

    /// The shortest interval between fetches for unknown keys that makes sense.
    const ASK_EVERY_MIN: Duration = Duration::from_secs(1);

    /// The same with relations put right: nothing is fetched more than once a second, and no set becomes too old
    /// before its next fetch is due.
    #[must_use]
    pub(crate) fn sane(self) -> Self {
        let interval_min = self.interval_min.max(Duration::from_secs(1));
        let interval_max = self.interval_max.max(interval_min);
        Self {
            interval: self.interval.clamp(interval_min, interval_max),
            interval_min,
            interval_max,
            ask_every: self.ask_every.max(Self::ASK_EVERY_MIN),
            stale_max: self.stale_max.map(|max| max.max(interval_max)),
        }
    }
}

/// Waits after failed fetches, and after one that was cut off; the interval is the ceiling.
const RETRY_BASE: Duration = Duration::from_secs(1);

/// Longest wait that an issuer's `Retry-After` can cause.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// Until when something may be used, by both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Until {
    /// Wall time.
    pub(crate) wall: UnixMillis,
    /// Monotonic time.
    pub(crate) mono: Duration,
}

impl Until {
    /// `span` from now.
    pub(crate) fn after(now: Now, span: Duration) -> Self {
        let then = now.plus(span);
        Self { wall: then.wall, mono: then.mono }
    }

    /// Never.
    pub(crate) const NEVER: Self = Self { wall: UnixMillis(u64::MAX), mono: Duration::MAX };

    /// Whether it is over by either clock.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        now.wall >= self.wall || now.mono >= self.mono
    }
}

/// Where the fetches of one key set stand.
#[derive(Clone, Debug)]
pub(crate) struct Refresh {
    bounds: Bounds,
    /// Monotonic time of the next fetch in the background.
    next: Duration,
    /// Monotonic time from which on a caller's unknown key causes a fetch.
    ask_from: Duration,
    failures: u32,
    /// The last fetch ended before it came to anything.
    cut_off: bool,
    good_until: Option<Until>,
}

impl Refresh {
    /// Nothing fetched yet; the first fetch is due at once.
    pub(crate) fn new(bounds: Bounds, now: Now) -> Self {
        Self {
            bounds: bounds.sane(),
            next: now.mono,
            ask_from: now.mono,
            failures: 0,
            cut_off: false,
            good_until: None,
        }
    }

    /// How long until the next fetch in the background; zero when it is due.
    pub(crate) fn due_in(&self, now: Now) -> Duration {
        self.next.saturating_sub(now.mono)
    }

    /// A fetch in the background begins.
    pub(crate) fn begin(&mut self, now: Now) {
        self.take(now);
    }

    /// A caller's token has a key that the set lacks, or there is no set: whether to fetch. A yes has already taken
    /// the interval.
    pub(crate) fn ask(&mut self, now: Now) -> bool {
        if now.mono < self.ask_from {
            return false;
        }
        self.take(now);
        true
    }

    /// How long until [`Refresh::ask`] can say yes.
    pub(crate) fn ask_in(&self, now: Now) -> Duration {
        self.ask_from.saturating_sub(now.mono)
    }

    fn take(&mut self, now: Now) {
        self.ask_from = now.mono.saturating_add(self.bounds.ask_every);
        // whatever becomes of the fetch, the background does not begin another at once
        self.next = self.next.max(now.mono.saturating_add(self.bounds.interval_min));
    }

    /// A good set arrived.
    pub(crate) fn fetched(&mut self, now: Now, fresh_for: Option<Duration>) {
        let bounds = &self.bounds;
        let interval = fresh_for.unwrap_or(bounds.interval).clamp(bounds.interval_min, bounds.interval_max);
        self.next = now.mono.saturating_add(interval);
        self.failures = 0;
        self.cut_off = false;
        self.good_until = Some(bounds.stale_max.map_or(Until::NEVER, |max| Until::after(now, max)));
    }

    /// No good set arrived.
    pub(crate) fn failed(&mut self, now: Now, retry_after: Option<Duration>) {
        let waits = Backoff { base: RETRY_BASE, max: self.bounds.interval };
        let wait = waits.ceiling(self.failures).max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        self.failures = self.failures.saturating_add(1);
        self.next = now.mono.saturating_add(wait);
        if let Some(told) = retry_after {
            self.ask_from = self.ask_from.max(now.mono.saturating_add(told.min(RETRY_AFTER_MAX)));
        }
    }

    /// The fetch that is under way ended before it came to anything, by no fault of the issuer: the next one need not
    /// wait as after a failure.
    pub(crate) fn cut_off(&mut self, now: Now) {
        let soon = now.mono.saturating_add(RETRY_BASE);
        self.ask_from = self.ask_from.min(soon);
        self.next = self.next.min(soon);
        self.cut_off = true;
    }

    /// Whether the last fetch brought no good set.
    pub(crate) fn is_behind(&self) -> bool {
        self.failures > 0 || self.cut_off
    }

    /// Until when the set that is there may be used; `None` while there is none.
    pub(crate) fn good_until(&self) -> Option<Until> {
        self.good_until
    }
}

#[cfg(test)]
mod tests;
