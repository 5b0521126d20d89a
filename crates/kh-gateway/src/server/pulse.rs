//! Whether a worker's thread still moves.
//!
//! Invariant: a worker that ended orderly counts as beating; one whose thread stands still, or ended by a panic, does
//! not for longer than [`STALLED_AFTER`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_core::Clock;

/// How often a worker beats.
const BEAT: Duration = Duration::from_secs(1);

/// A worker that did not beat for this long stands still. No step of a data-plane task takes a hundredth of this; what
/// does is a deadlock, a blocking call or a thread that is gone.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// One worker's sign of life.
pub struct WorkerPulse {
    index: usize,
    clock: Arc<dyn Clock>,
    /// Monotonic time of the last beat, in milliseconds.
    beaten_at: AtomicU64,
    ended: AtomicBool,
}

impl WorkerPulse {
    pub(super) fn new(index: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        let beaten_at = AtomicU64::new(millis(clock.now().mono));
        Arc::new(Self { index, clock, beaten_at, ended: AtomicBool::new(false) })
    }

    /// Which of the gateway's workers, from 0.
    pub fn worker(&self) -> usize {
        self.index
    }

    /// Whether it beat lately.
    pub fn is_beating(&self) -> bool {
        let age = millis(self.clock.now().mono).saturating_sub(self.beaten_at.load(Ordering::Relaxed));
        age < millis(STALLED_AFTER) || self.ended.load(Ordering::Relaxed)
    }

    /// Beats while `work` runs.
    pub(super) async fn during(&self, work: impl Future<Output = ()>) {
        let beating = async {
            loop {
                self.beaten_at.store(millis(self.clock.now().mono), Ordering::Relaxed);
                tokio::time::sleep(BEAT).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = beating => {}
        }
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for WorkerPulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerPulse").field("worker", &self.index).finish_non_exhaustive()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use kh_core::{ManualClock, UnixMillis};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_beats_until_its_thread_stands_still_and_an_ended_one_is_no_alarm() {
        let clock = ManualClock::at(UnixMillis(1_800_000_000_000));
        let pulse = WorkerPulse::new(3, Arc::new(clock.clone()));
        let working = tokio::spawn({
            let pulse = Arc::clone(&pulse);
            async move { pulse.during(tokio::time::sleep(Duration::from_mins(1))).await }
        });
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            clock.advance(Duration::from_secs(1));
            assert!(pulse.is_beating());
        }
        // The clock goes on and the worker does not.
        clock.advance(Duration::from_secs(10));
        assert!(!pulse.is_beating());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(pulse.is_beating(), "it moves again");
        working.await.expect("no panic");
        clock.advance(Duration::from_mins(5));
        assert!(pulse.is_beating());
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_ended_by_a_panic_stands_still() {
        let clock = ManualClock::at(UnixMillis(1_800_000_000_000));
        let pulse = WorkerPulse::new(0, Arc::new(clock.clone()));
        let working = tokio::spawn({
            let pulse = Arc::clone(&pulse);
            async move { pulse.during(async { assert!(pulse.worker() > 0, "a bug") }).await }
        });
        assert!(working.await.is_err());
        clock.advance(Duration::from_secs(11));
        assert!(!pulse.is_beating());
    }
}
