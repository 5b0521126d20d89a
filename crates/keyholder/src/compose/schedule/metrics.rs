//! Rotations and notices, read at each scrape.
//!
//! Invariant: a scrape looks at memory alone; what is not known yet has no series.

use std::{fmt, sync::Arc};

use kh_core::{Clock, UnixMillis};
use kh_rotation::State;
use kh_rotator::Overview;
use kh_telemetry::collect::{counter, family, gauge};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::Schedule;

/// The metrics of one schedule.
pub(crate) struct RotationMetrics {
    schedule: Arc<Schedule>,
    clock: Arc<dyn Clock>,
}

impl RotationMetrics {
    /// Reads `schedule` at each scrape.
    pub(crate) fn new(schedule: &Arc<Schedule>, clock: &Arc<dyn Clock>) -> Self {
        Self { schedule: Arc::clone(schedule), clock: Arc::clone(clock) }
    }
}

impl fmt::Debug for RotationMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RotationMetrics")
    }
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn since_1970(time: UnixMillis) -> f64 {
    time.since(UnixMillis(0)).as_secs_f64()
}

/// A gauge and what it says of a credential, if that is known.
type Row = (&'static str, fn(&Overview, UnixMillis) -> Option<f64>);

const ROWS: [Row; 5] = [
    ("keyholder_secret_age_seconds", |seen, now| Some(now.since(seen.created_at?).as_secs_f64())),
    ("keyholder_rotation_due_timestamp_seconds", |seen, _| seen.due_at.map(since_1970)),
    ("keyholder_rotation_unfinished", |seen, _| Some(flag(seen.run.is_some()))),
    ("keyholder_rotation_needs_operator", |seen, _| {
        Some(flag(seen.run.is_some() && seen.state == Some(State::NeedsOperator)))
    }),
    ("keyholder_rotation_failures", |seen, _| Some(f64::from(seen.failures))),
];

impl Collector for RotationMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (all, now, encoder) = (self.schedule.overview(), self.clock.now().wall, &mut encoder);
        for (name, value) in ROWS {
            family(encoder, name, |to| {
                let mut known = all.iter().filter_map(|(credential, seen)| Some((credential, value(seen, now)?)));
                known.try_for_each(|(credential, value)| gauge(to, &[("credential", credential.to_string())], value))
            })?;
        }
        let ways = self.schedule.notices.counts();
        family(encoder, "keyholder_notices", |to| {
            ways.iter().try_for_each(|(way, counts)| {
                let rows = [("sent", counts.sent), ("failed", counts.failed), ("dropped", counts.dropped)];
                rows.into_iter().try_for_each(|(result, count)| {
                    counter(to, &[("channel", way.clone()), ("result", result.to_owned())], count)
                })
            })
        })?;
        family(encoder, "keyholder_notices_waiting", |to| {
            ways.iter().try_for_each(|(way, counts)| {
                let waiting = u32::try_from(counts.waiting).unwrap_or(u32::MAX);
                gauge(to, &[("channel", way.clone())], f64::from(waiting))
            })
        })
    }
}
