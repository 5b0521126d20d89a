//! What the data plane counts. Every handle is made once at start: counting is one atomic addition, never a lookup.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

type Labels = [(&'static str, &'static str); 1];
type Labels2 = [(&'static str, &'static str); 2];

const REQUESTS: &str = "keyholder_gateway_requests";
const DURATION: &str = "keyholder_gateway_request_duration_seconds";
const IN_FLIGHT: &str = "keyholder_gateway_in_flight_requests";
const CONNECTIONS: &str = "keyholder_gateway_connections";
const UPSTREAM_ERRORS: &str = "keyholder_gateway_upstream_errors";
const UPSTREAM_CONNECTIONS: &str = "keyholder_gateway_upstream_connections";
const HEALS: &str = "keyholder_gateway_token_heals";
const WAITS: &str = "keyholder_gateway_rate_limit_waits";

/// Every metric: name, kind, labels, meaning. The reference is generated from this table. Counters appear with the
/// suffix `_total` (`OpenMetrics`).
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    (REQUESTS, "counter", "outcome, status", "Requests by outcome (proxied, own, refused, failed) and status class"),
    (DURATION, "histogram", "", "Seconds from the request head to the answer's head"),
    (IN_FLIGHT, "gauge", "", "Requests whose answer is not complete"),
    (CONNECTIONS, "gauge", "", "Open connections of callers"),
    (UPSTREAM_ERRORS, "counter", "kind", "Failed attempts to reach a platform (connect, tls, timeout, protocol)"),
    (UPSTREAM_CONNECTIONS, "counter", "how", "Upstream connections opened and reused"),
    (HEALS, "counter", "result", "Platform 401s that a fresh token healed, and those it did not"),
    (WAITS, "counter", "", "Waits for a platform's Retry-After on behalf of a caller"),
];

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The platform's answer.
    Proxied,
    /// Answered by one of keyholder's own endpoints.
    Own,
    /// Refused: ambiguous, unauthenticated or not allowed.
    Refused,
    /// The platform or its token could not be had.
    Failed,
}

impl Outcome {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Proxied, "proxied"), (Self::Own, "own"), (Self::Refused, "refused"), (Self::Failed, "failed")];
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counters of one gateway, shared by its workers.
#[derive(Debug)]
pub struct Metrics {
    requests: [[Counter; 5]; 4],
    pub(crate) duration: Histogram,
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connect_errors: Counter,
    pub(crate) tls_errors: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) protocol_errors: Counter,
    pub(crate) opened: Counter,
    pub(crate) reused: Counter,
    pub(crate) healed: Counter,
    pub(crate) unhealed: Counter,
    pub(crate) waits: Counter,
}

fn help(name: &str) -> &'static str {
    METRICS.iter().find(|row| row.0 == name).map_or("", |row| row.3)
}

fn labelled<const N: usize>(
    registry: &mut Registry,
    name: &'static str,
    label: &'static str,
    values: [&'static str; N],
) -> [Counter; N] {
    let family = Family::<Labels, Counter<u64, AtomicU64>>::default();
    registry.register(name, help(name), family.clone());
    values.map(|value| family.get_or_create_owned(&[(label, value)]))
}

impl Metrics {
    /// Makes and registers every metric.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let requests = Family::<Labels2, Counter<u64, AtomicU64>>::default();
        registry.register(REQUESTS, help(REQUESTS), requests.clone());
        let requests = Outcome::ALL.map(|(_, outcome)| {
            CLASSES.map(|class| requests.get_or_create_owned(&[("outcome", outcome), ("status", class)]))
        });
        // From a tenth of a millisecond, the cost of a hop, to the platforms' own 60 s timeouts.
        let duration = Histogram::new([
            0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            30.0, 60.0,
        ]);
        registry.register(DURATION, help(DURATION), duration.clone());
        let (in_flight, connections) = (Gauge::default(), Gauge::default());
        registry.register(IN_FLIGHT, help(IN_FLIGHT), in_flight.clone());
        registry.register(CONNECTIONS, help(CONNECTIONS), connections.clone());
        let [connect_errors, tls_errors, timeouts, protocol_errors] =
            labelled(registry, UPSTREAM_ERRORS, "kind", ["connect", "tls", "timeout", "protocol"]);
        let [opened, reused] = labelled(registry, UPSTREAM_CONNECTIONS, "how", ["opened", "reused"]);
        let [healed, unhealed] = labelled(registry, HEALS, "result", ["healed", "failed"]);
        let waits = Counter::default();
        registry.register(WAITS, help(WAITS), waits.clone());
        Arc::new(Self {
            requests,
            duration,
            in_flight,
            connections,
            connect_errors,
            tls_errors,
            timeouts,
            protocol_errors,
            opened,
            reused,
            healed,
            unhealed,
            waits,
        })
    }

    pub(crate) fn answered(&self, outcome: Outcome, status: http::StatusCode) {
        let row = Outcome::ALL.iter().zip(&self.requests).find(|((known, _), _)| *known == outcome);
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = row.and_then(|(_, row)| row.get(class)) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_exposed_and_no_other() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.answered(Outcome::Own, http::StatusCode::OK);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let exposed: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let table: Vec<&str> = METRICS.iter().map(|row| row.0).collect();
        let sorted = |mut names: Vec<&'static str>| {
            names.sort_unstable();
            names
        };
        let exposed: Vec<&'static str> =
            exposed.iter().filter_map(|name| table.iter().find(|row| *row == name).copied()).collect();
        assert_eq!(text.matches("# TYPE ").count(), METRICS.len());
        assert_eq!(sorted(exposed), sorted(table));
        assert!(text.contains(r#"keyholder_gateway_requests_total{outcome="own",status="2xx"} 1"#), "{text}");
    }
}
