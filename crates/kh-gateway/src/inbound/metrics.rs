//! What is counted of the protected API: each route and each reason for which a request was refused.
//!
//! Invariants: an answer costs two atomic additions and, but for its route's first one in a configuration, no look-up and no
//! lock; a refusal costs a lock and a look-up of its reason; a route that was never called costs next to nothing, and is
//! not shown.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use kh_core::{Clock, metric::help};
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder},
    metrics::MetricType,
    registry::Registry,
};

use super::latency::{Latencies, Reading};

const REQUESTS: &str = "keyholder_inbound_requests";
const REFUSALS: &str = "keyholder_inbound_refusals";
const DURATION: &str = "keyholder_inbound_request_duration_seconds";

/// Quantiles are of the last one to two of these: long enough for a route with a call a second to have a 99th
/// percentile, short enough to see what goes on.
const WINDOW: Duration = Duration::from_mins(5);

const QUANTILES: [(f64, &str); 2] = [(0.5, "50"), (0.99, "99")];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One route's counters.
#[derive(Default)]
struct Counts {
    statuses: [AtomicU64; 5],
    latencies: Latencies,
}

/// The counters of one configuration's routes, by their places.
pub(super) struct RouteCounts {
    site: Arc<SiteCounts>,
    /// Each is there once its route was called.
    of_routes: Box<[OnceLock<Arc<Counts>>]>,
}

impl RouteCounts {
    /// Counts an answer of the route with this place and name.
    pub(super) fn answered(&self, (place, name): (usize, &str), status: StatusCode, took: Duration) {
        let Some(counts) = self.of_routes.get(place) else { return };
        let counts = counts.get_or_init(|| self.site.route(name));
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = counts.statuses.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        counts.latencies.record(took);
    }
}

/// The counters of all sites in front of protected APIs.
pub struct InboundMetrics {
    clock: Arc<dyn Clock>,
    sites: Mutex<BTreeMap<Arc<str>, Arc<SiteCounts>>>,
}

/// The counters of one site. They outlive its configuration.
pub(super) struct SiteCounts {
    /// Of the routes that were ever called, by their names.
    called: Mutex<BTreeMap<Arc<str>, Arc<Counts>>>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    windows: Mutex<Windows>,
}

/// Readings at the begin of the window and of the one before it.
struct Windows {
    began: Duration,
    older: BTreeMap<Arc<str>, Reading>,
    newer: BTreeMap<Arc<str>, Reading>,
}

impl InboundMetrics {
    /// Makes and registers them.
    pub fn register(registry: &mut Registry, clock: Arc<dyn Clock>) -> Arc<Self> {
        let metrics = Arc::new(Self { clock, sites: Mutex::default() });
        registry.register_collector(Box::new(Shown(Arc::clone(&metrics))));
        metrics
    }

    /// The counters of the site `name`: the same ones each time.
    pub(super) fn site(&self, name: &Arc<str>) -> Arc<SiteCounts> {
        let made = || {
            let (older, newer) = Default::default();
            let windows = Windows { began: self.clock.now().mono, older, newer };
            let (called, refusals) = Default::default();
            Arc::new(SiteCounts { called, refusals, windows: Mutex::new(windows) })
        };
        Arc::clone(self.sites.lock().entry(Arc::clone(name)).or_insert_with(made))
    }
}

impl fmt::Debug for InboundMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InboundMetrics")
    }
}

impl SiteCounts {
    /// The counters of so many routes.
    pub(super) fn routes(self: &Arc<Self>, count: usize) -> RouteCounts {
        let of_routes = std::iter::repeat_with(OnceLock::new).take(count).collect();
        RouteCounts { site: Arc::clone(self), of_routes }
    }

    /// The counters of the route `name`: the same ones in every configuration.
    fn route(&self, name: &str) -> Arc<Counts> {
        let mut called = self.called.lock();
        match called.get(name) {
            Some(counts) => Arc::clone(counts),
            None => Arc::clone(called.entry(name.into()).or_default()),
        }
    }

    /// A request was refused. Reasons are codes from tables, so there are few.
    pub(super) fn refused(&self, reason: &'static str) {
        *self.refusals.lock().entry(reason).or_default() += 1;
    }

    fn called(&self) -> Vec<(Arc<str>, Arc<Counts>)> {
        self.called.lock().iter().map(|(name, counts)| (Arc::clone(name), Arc::clone(counts))).collect()
    }

    /// The quantiles of each route that was called lately.
    fn quantiles(&self, now: Duration) -> Vec<(Arc<str>, [Duration; 2])> {
        let mut windows = self.windows.lock();
        let called = self.called();
        let read = || -> BTreeMap<Arc<str>, Reading> {
            called.iter().map(|(name, counts)| (Arc::clone(name), counts.latencies.read())).collect()
        };
        let age = now.saturating_sub(windows.began);
        if age >= WINDOW {
            let current = read();
            // nobody asked for two windows: what was counted before the last one is as old as what came in it
            windows.older = if age >= WINDOW * 2 { current.clone() } else { std::mem::take(&mut windows.newer) };
            (windows.newer, windows.began) = (current, now);
        }
        let zero = Reading::zero();
        called
            .iter()
            .filter_map(|(name, counts)| {
                let before = windows.older.get(name).unwrap_or(&zero);
                let now = counts.latencies.read();
                Some((Arc::clone(name), now.quantiles(before, QUANTILES.map(|(share, _)| share))?))
            })
            .collect()
    }
}

/// What the registry holds.
#[derive(Debug)]
struct Shown(Arc<InboundMetrics>);

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    kind: MetricType,
    samples: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    // the registry ends a help text with a dot, a collector does not
    let help = format!("{}.", help(name));
    let mut encoder = encoder.encode_descriptor(name, &help, None, kind)?;
    samples(&mut encoder)
}

fn counter(encoder: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    encoder.encode_family(labels)?.encode_counter::<[(&str, &str); 0], _, u64>(&value, None)
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sites: Vec<(Arc<str>, Arc<SiteCounts>)> =
            self.0.sites.lock().iter().map(|(name, counts)| (Arc::clone(name), Arc::clone(counts))).collect();
        let now = self.0.clock.now().mono;
        family(&mut encoder, REQUESTS, MetricType::Counter, |to| {
            for (site, counts) in &sites {
                for (route, counts) in counts.called() {
                    for (class, counter_of) in CLASSES.iter().zip(&counts.statuses) {
                        let count = counter_of.load(Ordering::Relaxed);
                        if count > 0 {
                            let labels = [("site", &**site), ("route", &*route), ("status", *class)];
                            counter(to, &labels, count)?;
                        }
                    }
                }
            }
            Ok(())
        })?;
        family(&mut encoder, REFUSALS, MetricType::Counter, |to| {
            for (site, counts) in &sites {
                let refusals = counts.refusals.lock().clone();
                for (reason, count) in refusals {
                    counter(to, &[("site", &**site), ("reason", reason)], count)?;
                }
            }
            Ok(())
        })?;
        family(&mut encoder, DURATION, MetricType::Gauge, |to| {
            for (site, counts) in &sites {
                for (route, values) in counts.quantiles(now) {
                    for ((_, quantile), value) in QUANTILES.iter().zip(values) {
                        let labels = [("site", &**site), ("route", &*route), ("percentile", *quantile)];
                        to.encode_family(&labels)?.encode_gauge(&value.as_secs_f64())?;
                    }
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use kh_core::{Now, UnixMillis, metric::METRICS};

    use super::*;

    struct Set(Mutex<Duration>);

    impl Clock for Set {
        fn now(&self) -> Now {
            Now { wall: UnixMillis(0), mono: *self.0.lock() }
        }
    }

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn routes_and_reasons_are_shown_once_they_happen() {
        let clock = Arc::new(Set(Mutex::new(Duration::ZERO)));
        let mut registry = Registry::default();
        let metrics = InboundMetrics::register(&mut registry, Arc::<Set>::clone(&clock));
        let site = metrics.site(&"api".into());
        let routes = site.routes(2);
        let empty = text(&registry);
        assert!(!empty.contains("route="), "{empty}");
        for row in METRICS.iter().filter(|row| row.name.starts_with("keyholder_inbound_")) {
            assert!(empty.contains(&format!("# TYPE {} {}", row.name, row.kind.as_str())), "{} in {empty}", row.name);
        }
        routes.answered((0, "GET /a"), StatusCode::OK, Duration::from_millis(2));
        routes.answered((0, "GET /a"), StatusCode::FORBIDDEN, Duration::from_millis(2));
        site.refused("expired");
        site.refused("expired");
        let shown = text(&registry);
        for line in [
            r#"keyholder_inbound_requests_total{site="api",route="GET /a",status="2xx"} 1"#,
            r#"keyholder_inbound_requests_total{site="api",route="GET /a",status="4xx"} 1"#,
            r#"keyholder_inbound_refusals_total{site="api",reason="expired"} 2"#,
            r#"keyholder_inbound_request_duration_seconds{site="api",route="GET /a",percentile="99"} 0.002"#,
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
        assert!(!shown.contains("GET /b"), "{shown}");
        // a reload keeps what was counted
        let again = metrics.site(&"api".into()).routes(2);
        again.answered((1, "GET /a"), StatusCode::OK, Duration::from_millis(2));
        assert!(text(&registry).contains(r#"route="GET /a",status="2xx"} 2"#));
    }

    #[test]
    fn quantiles_forget() {
        let clock = Arc::new(Set(Mutex::new(Duration::ZERO)));
        let mut registry = Registry::default();
        let metrics = InboundMetrics::register(&mut registry, Arc::<Set>::clone(&clock));
        let site = metrics.site(&"api".into());
        let routes = site.routes(1);
        let answered = |took| routes.answered((0, "GET /a"), StatusCode::OK, took);
        let p50 = |at: Duration| {
            *clock.0.lock() = at;
            let text = text(&registry);
            let line = text.lines().find(|line| line.contains(r#"percentile="50""#))?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        for _ in 0..100 {
            answered(Duration::from_secs(1));
        }
        assert!(p50(Duration::ZERO).unwrap() >= 1.0);
        assert!(p50(WINDOW).unwrap() >= 1.0, "the window before counts");
        answered(Duration::from_millis(1));
        assert!(p50(WINDOW * 2).unwrap() < 0.01, "and is forgotten with the next");
        assert_eq!(p50(WINDOW * 10), None, "nobody called lately");
    }
}
