//! Latencies of one route: counters on a logarithmic scale, and quantiles over a moving window.
//!
//! Invariants: recording is one atomic addition and never allocates; a quantile is at most an eighth above the truth,
//! and never below it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Buckets per doubling: the next boundary is at most an eighth above.
const STEPS: u32 = 8;
const STEP_BITS: u32 = STEPS.ilog2();

/// Doublings from [`FIRST`] on: beyond 64 s nothing is told apart, which is longer than any limit of a request.
const DOUBLINGS: u32 = 23;

/// The upper end of the first bucket, in microseconds. The cost of a hop is above it.
const FIRST: u64 = STEPS as u64;

/// Buckets of one route: 768 bytes.
pub(super) const BUCKETS: usize = ((DOUBLINGS + 1) * STEPS) as usize;

/// Counters of one route. They only grow, and wrap: a window is the difference of two readings.
pub(super) struct Latencies([AtomicU32; BUCKETS]);

/// The counters at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reading(Box<[u32]>);

/// The bucket of a latency.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if micros < FIRST {
        return usize::try_from(micros).unwrap_or(0);
    }
    let exponent = micros.ilog2();
    let within = (micros >> (exponent - STEP_BITS)) & u64::from(STEPS - 1);
    let row = exponent - STEP_BITS + 1;
    let index = u64::from(row * STEPS) + within;
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// The upper end of a bucket.
fn upper(index: usize) -> Duration {
    let index = index as u64;
    let steps = u64::from(STEPS);
    let (row, within) = (index / steps, index % steps);
    if row == 0 {
        return Duration::from_micros(within + 1);
    }
    Duration::from_micros((steps + within + 1) << (row - 1))
}

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; BUCKETS])
    }
}

impl Latencies {
    /// Counts one.
    pub(super) fn record(&self, took: Duration) {
        if let Some(counter) = self.0.get(bucket(took)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters now.
    pub(super) fn read(&self) -> Reading {
        Reading(self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect())
    }
}

impl Reading {
    /// Before anything was counted.
    pub(super) fn zero() -> Self {
        Self(vec![0; BUCKETS].into())
    }

    /// The latencies under which the shares `wanted` of those counted since `before` lie; `None` when there were none.
    pub(super) fn quantiles<const N: usize>(&self, before: &Self, wanted: [f64; N]) -> Option<[Duration; N]> {
        let counts: Vec<u64> =
            self.0.iter().zip(&before.0).map(|(now, then)| u64::from(now.wrapping_sub(*then))).collect();
        let all: u64 = counts.iter().sum();
        (all > 0).then(|| wanted.map(|share| quantile(&counts, all, share)))
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among counted requests: positive, and exact up to 2^53"
)]
fn quantile(counts: &[u64], all: u64, share: f64) -> Duration {
    let rank = ((all as f64 * share).ceil() as u64).clamp(1, all);
    let mut seen = 0;
    let found = counts.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    upper(found.unwrap_or(BUCKETS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_under_its_end_and_not_much_less() {
        let mut before = 0;
        for micros in (0..2_000_u64).chain((2_000..60_000_000).step_by(9_973)) {
            let took = Duration::from_micros(micros);
            let index = bucket(took);
            assert!(index >= before, "{micros}");
            before = index;
            assert!(took < upper(index), "{micros} {:?}", upper(index));
            assert!(upper(index).as_micros() <= u128::from(micros + 1 + micros / 8), "{micros} {:?}", upper(index));
        }
        assert_eq!(bucket(Duration::from_hours(1)), BUCKETS - 1);
        assert!(upper(BUCKETS - 1) >= Duration::from_mins(1));
    }

    #[test]
    fn quantiles_are_those_of_the_window() {
        let latencies = Latencies::default();
        let wanted = [0.5, 0.99];
        assert_eq!(latencies.read().quantiles(&Reading::zero(), wanted), None);
        for _ in 0..98 {
            latencies.record(Duration::from_micros(100));
        }
        for _ in 0..2 {
            latencies.record(Duration::from_millis(10));
        }
        let first = latencies.read();
        let [median, high] = first.quantiles(&Reading::zero(), wanted).unwrap();
        assert!((100..=113).contains(&median.as_micros()), "{median:?}");
        assert!((10_000..=11_300).contains(&high.as_micros()), "{high:?}");
        assert_eq!(latencies.read().quantiles(&first, wanted), None, "nothing since");
        latencies.record(Duration::from_secs(1));
        let [median, high] = latencies.read().quantiles(&first, wanted).unwrap();
        assert_eq!(median, high);
        assert!((1_000..=1_130).contains(&median.as_millis()), "{median:?}");
    }
}
