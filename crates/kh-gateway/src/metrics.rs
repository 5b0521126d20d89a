//! What the data plane counts. Every handle is made once at start: counting is one atomic addition, never a lookup.

use std::sync::{Arc, atomic::AtomicU64};

use kh_core::metric::help;
use kh_issuer::Bound;
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
const CERTIFICATE: &str = "keyholder_gateway_certificate_not_after_seconds";
const UPSTREAM_ERRORS: &str = "keyholder_gateway_upstream_errors";
const UPSTREAM_CONNECTIONS: &str = "keyholder_gateway_upstream_connections";
const HEALS: &str = "keyholder_gateway_token_heals";
const LOGINS: &str = "keyholder_issuer_logins";
const LOCKOUTS: &str = "keyholder_issuer_lockouts";
const WAITS: &str = "keyholder_gateway_rate_limit_waits";

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
    /// Its name in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Proxied => "proxied",
            Self::Own => "own",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    const ALL: [Self; 4] = [Self::Proxied, Self::Own, Self::Refused, Self::Failed];
}

/// How a login may end.
const LOGIN_RESULTS: [&str; 8] = [
    "ok",
    "invalid_client",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
    "throttled",
    "temporarily_unavailable",
];

const BOUNDS: [Bound; 3] = [Bound::Pair, Bound::Address, Bound::Client];

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
    logins: [Counter; 8],
    lockouts: [Counter; 3],
    certificate: Family<[(&'static str, String); 1], Gauge>,
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
        let requests = Outcome::ALL.map(|outcome| {
            CLASSES.map(|class| requests.get_or_create_owned(&[("outcome", outcome.as_str()), ("status", class)]))
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
        let logins = labelled(registry, LOGINS, "result", LOGIN_RESULTS);
        let lockouts = labelled(registry, LOCKOUTS, "bound", BOUNDS.map(Bound::as_str));
        let certificate = Family::<[(&'static str, String); 1], Gauge>::default();
        registry.register(CERTIFICATE, help(CERTIFICATE), certificate.clone());
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
            logins,
            lockouts,
            certificate,
        })
    }

    /// Wrong logins made somebody wait.
    pub(crate) fn locked_out(&self, bound: Bound) {
        let row = BOUNDS.iter().zip(&self.lockouts).find(|(known, _)| **known == bound);
        if let Some((_, counter)) = row {
            counter.inc();
        }
    }

    /// A login ended: `ok`, `throttled`, or with an error code of RFC 6749 section 5.2.
    pub(crate) fn logged_in(&self, result: &str) {
        let row = LOGIN_RESULTS.iter().zip(&self.logins).find(|(known, _)| **known == result);
        if let Some((_, counter)) = row {
            counter.inc();
        }
    }

    /// Requests whose answer is not complete.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// The certificate of the TLS listeners that `name` tells ends at `not_after`, in seconds since 1970.
    pub fn certificate(&self, name: &str, not_after: i64) {
        self.certificate.get_or_create(&[("certificate", name.to_owned())]).set(not_after);
    }

    pub(crate) fn answered(&self, outcome: Outcome, status: http::StatusCode) {
        let row = Outcome::ALL.iter().zip(&self.requests).find(|(known, _)| **known == outcome);
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = row.and_then(|(_, row)| row.get(class)) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use kh_core::metric::METRICS;

    use super::*;

    #[test]
    fn every_metric_of_the_gateway_is_exposed_and_no_other() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.answered(Outcome::Own, http::StatusCode::OK);
        metrics.logged_in("invalid_client");
        metrics.certificate("gateway", 2_000_000_000);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let mut exposed: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        exposed.sort_unstable();
        let of_gateway = |name: &&str| name.starts_with("keyholder_gateway_") || [LOGINS, LOCKOUTS].contains(name);
        let mut table: Vec<&str> = METRICS.iter().map(|row| row.name).filter(of_gateway).collect();
        table.sort_unstable();
        assert_eq!(exposed, table);
        assert!(text.contains(r#"keyholder_gateway_requests_total{outcome="own",status="2xx"} 1"#), "{text}");
        let certificate = r#"keyholder_gateway_certificate_not_after_seconds{certificate="gateway"} 2000000000"#;
        assert!(text.contains(certificate), "{text}");
        assert!(text.contains(r#"keyholder_issuer_logins_total{result="invalid_client"} 1"#), "{text}");
    }
}
