//! Time as an argument. A [`Now`] carries wall time and monotonic time together, because each alone lies: the wall
//! clock jumps, the monotonic clock may stand still while a machine is suspended.

mod steadiness;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

pub use self::steadiness::Steadiness;

/// Wall time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This time plus `span`, saturating.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// This time minus `span`, saturating at the epoch.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since the epoch.
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Wall time.
    pub wall: UnixMillis,
    /// Time since an arbitrary start that never goes back within one process.
    pub mono: Duration,
}

impl Now {
    /// Both clocks moved on by `span`.
    pub fn plus(self, span: Duration) -> Self {
        Self { wall: self.wall.plus(span), mono: self.mono.saturating_add(span) }
    }
}

/// Where time comes from. Services own one; pure code gets a [`Now`].
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts here.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clocks")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clocks")]
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall: UnixMillis(millis(wall)), mono: self.start.elapsed() }
    }
}

/// A clock that a test moves by hand. Clones share the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<(AtomicU64, AtomicU64)>);

impl ManualClock {
    /// Starts at `wall` with a monotonic reading of zero.
    pub fn at(wall: UnixMillis) -> Self {
        Self(Arc::new((AtomicU64::new(wall.0), AtomicU64::new(0))))
    }

    /// Moves both clocks on.
    pub fn advance(&self, span: Duration) {
        self.0.0.fetch_add(millis(span), Ordering::SeqCst);
        self.0.1.fetch_add(millis(span), Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn jump_wall(&self, to: UnixMillis) {
        self.0.0.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now {
            wall: UnixMillis(self.0.0.load(Ordering::SeqCst)),
            mono: Duration::from_millis(self.0.1.load(Ordering::SeqCst)),
        }
    }
}
