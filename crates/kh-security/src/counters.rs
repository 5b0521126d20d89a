//! What the security log counts, as `/metrics` shows it.
//!
//! Invariant: every series is there from the start, with and without a security log, so that an alert on it never finds
//! nothing.

use kh_core::metric;
use kh_linelog::LineCounters;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{geo::Kind, guard::Scope, ocsf::FindingKind};

type Label = [(&'static str, &'static str); 1];

/// What became of the files of one database.
#[derive(Clone, Debug, Default)]
pub(crate) struct DatabaseCounters {
    pub(crate) loaded: Counter,
    pub(crate) refused: Counter,
    pub(crate) built: Gauge,
}

/// What became of lines for the collector, and of the requests to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct CollectorCounters {
    /// It took them.
    pub(crate) sent: Counter,
    /// The queue in memory was full.
    pub(crate) queue_full: Counter,
    /// The oldest, when the spool (or what stands in for it) was full.
    pub(crate) spool_full: Counter,
    /// It refused them for good.
    pub(crate) dead_letter: Counter,
    /// They could not be read back from the spool.
    pub(crate) damaged: Counter,
    /// They were still in memory when the process ended.
    pub(crate) unsent: Counter,
    pub(crate) request_ok: Counter,
    pub(crate) request_later: Counter,
    pub(crate) request_held: Counter,
    pub(crate) request_refused: Counter,
    pub(crate) backlog_bytes: Gauge,
    pub(crate) backlog_lines: Gauge,
}

/// What the brute-force guard counts, by scope in the order of [`Scope::ALL`].
#[derive(Clone, Debug, Default)]
pub(crate) struct GuardCounters {
    pub(crate) began: [Counter; 3],
    pub(crate) refused: [Counter; 3],
    pub(crate) untracked: Counter,
}

/// All of it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    successes: Counter,
    failures: Counter,
    pub(crate) lines: LineCounters,
    pub(crate) collector: CollectorCounters,
    pub(crate) guard: GuardCounters,
    /// In the order of [`Kind::ALL`].
    databases: [DatabaseCounters; 3],
    alerts: Family<Label, Counter>,
    pub(crate) subjects: Gauge,
}

impl Counters {
    /// Registers every series.
    pub fn register(registry: &mut Registry) -> Self {
        let mut family = |name: &str| {
            let family = Family::<Label, Counter>::default();
            registry.register(name, metric::help(name), family.clone());
            move |key: &'static str, value: &'static str| family.get_or_create_owned(&[(key, value)])
        };
        let events = family("keyholder_security_events");
        let lines = family("keyholder_security_log_lines");
        let collector = family("keyholder_security_collector_lines");
        let requests = family("keyholder_security_collector_requests");
        let (began, refused) = (family("keyholder_security_guard_blocks"), family("keyholder_security_guard_refusals"));
        let mut made = Self {
            successes: events("outcome", "success"),
            failures: events("outcome", "failure"),
            lines: LineCounters {
                written: lines("result", "written"),
                dropped: lines("result", "dropped"),
                failed: lines("result", "failed"),
            },
            collector: CollectorCounters {
                sent: collector("result", "sent"),
                queue_full: collector("result", "queue_full"),
                spool_full: collector("result", "spool_full"),
                dead_letter: collector("result", "dead_letter"),
                damaged: collector("result", "damaged"),
                unsent: collector("result", "unsent"),
                request_ok: requests("result", "ok"),
                request_later: requests("result", "later"),
                request_held: requests("result", "held"),
                request_refused: requests("result", "refused"),
                ..CollectorCounters::default()
            },
            guard: GuardCounters {
                began: Scope::ALL.map(|scope| began("scope", scope.as_str())),
                refused: Scope::ALL.map(|scope| refused("scope", scope.as_str())),
                untracked: Counter::default(),
            },
            ..Self::default()
        };
        made.register_others(registry);
        made
    }

    fn register_others(&mut self, registry: &mut Registry) {
        const LOADS: &str = "keyholder_security_geo_loads";
        const BUILT: &str = "keyholder_security_geo_built_timestamp_seconds";
        let loads = Family::<[(&'static str, &'static str); 2], Counter>::default();
        registry.register(LOADS, metric::help(LOADS), loads.clone());
        let built = Family::<Label, Gauge>::default();
        registry.register(BUILT, metric::help(BUILT), built.clone());
        self.databases = Kind::ALL.map(|kind| {
            let database = kind.as_str();
            let load = |result| loads.get_or_create_owned(&[("database", database), ("result", result)]);
            let built = built.get_or_create_owned(&[("database", database)]);
            DatabaseCounters { loaded: load("loaded"), refused: load("refused"), built }
        });
        for kind in FindingKind::ALL {
            drop(self.alerts.get_or_create(&[("kind", kind.as_str())]));
        }
        let mut show = |name: &str, gauge: &Gauge| registry.register(name, metric::help(name), gauge.clone());
        show("keyholder_security_backlog_bytes", &self.collector.backlog_bytes);
        show("keyholder_security_backlog_lines", &self.collector.backlog_lines);
        show("keyholder_security_subjects", &self.subjects);
        let alerts = "keyholder_security_alerts";
        registry.register(alerts, metric::help(alerts), self.alerts.clone());
        let untracked = "keyholder_security_guard_untracked";
        registry.register(untracked, metric::help(untracked), self.guard.untracked.clone());
    }

    pub(crate) fn database(&self, kind: Kind) -> DatabaseCounters {
        let [country, city, asn] = &self.databases;
        match kind {
            Kind::Country => country,
            Kind::City => city,
            Kind::Asn => asn,
        }
        .clone()
    }

    pub(crate) fn event(&self, success: bool) {
        if success { &self.successes } else { &self.failures }.inc();
    }

    pub(crate) fn alert(&self, kind: FindingKind) {
        self.alerts.get_or_create(&[("kind", kind.as_str())]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_of_the_catalogue_is_there_from_the_start_and_no_other() {
        let mut registry = Registry::default();
        let counters = Counters::register(&mut registry);
        counters.event(true);
        counters.alert(FindingKind::NewCountry);
        for (count, kind) in (1..).zip(Kind::ALL) {
            counters.database(kind).loaded.inc_by(count);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let mut shown: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let mut listed: Vec<&str> =
            metric::METRICS.iter().map(|row| row.name).filter(|name| name.starts_with("keyholder_security_")).collect();
        shown.sort_unstable();
        listed.sort_unstable();
        assert_eq!(shown, listed);
        for name in listed {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} has no series");
        }
        assert!(text.contains("keyholder_security_events_total{outcome=\"success\"} 1"), "{text}");
        assert!(text.contains("keyholder_security_alerts_total{kind=\"new_country\"} 1"), "{text}");
        for (count, name) in [(1, "country"), (2, "city"), (3, "asn")] {
            let line = format!("keyholder_security_geo_loads_total{{database=\"{name}\",result=\"loaded\"}} {count}");
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }
}
