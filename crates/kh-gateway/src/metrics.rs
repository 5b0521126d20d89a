//! What the data plane counts. Every handle is made once at start: counting is one atomic addition, never a lookup.

use std::sync::{Arc, atomic::AtomicU64};

use kh_core::{Code, metric::help};
use kh_issuer::Bound;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::oauth_error::OauthError;

type Labels = [(&'static str, &'static str); 1];
type Labels2 = [(&'static str, &'static str); 2];

const REQUESTS: &str = "keyholder_gateway_requests";
const REFUSALS: &str = "keyholder_gateway_refusals";
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
    Refused(Code),
    /// The platform or its token could not be had.
    Failed(Code),
}

impl Outcome {
    /// Its name in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Proxied => "proxied",
            Self::Own => "own",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    /// Why the caller did not get what it asked for.
    pub(crate) fn code(self) -> Option<Code> {
        match self {
            Self::Proxied | Self::Own => None,
            Self::Refused(code) | Self::Failed(code) => Some(code),
        }
    }
}

/// The names of the outcomes, in the order of their counters.
const OUTCOMES: [&str; 4] = ["proxied", "own", "refused", "failed"];

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginEnd {
    /// The client has its token.
    Granted,
    /// Too many wrong logins came before.
    Throttled,
    /// It was refused for any other reason.
    Refused(OauthError),
}

impl LoginEnd {
    /// A login was refused with this error, of which `code` is the reason.
    pub(crate) fn refused(error: OauthError, code: Code) -> Self {
        if code == Code::LOGIN_THROTTLED { Self::Throttled } else { Self::Refused(error) }
    }
}

/// The counters of logins.
#[derive(Debug)]
struct Logins {
    granted: Counter,
    throttled: Counter,
    refused: Box<[(OauthError, Counter)]>,
}

impl Logins {
    /// One for each error of any OAuth endpoint, though a login cannot end with all of them: a list of their own would be
    /// forgotten when an error is added.
    fn register(registry: &mut Registry) -> Self {
        let family = Family::<Labels, Counter<u64, AtomicU64>>::default();
        registry.register(LOGINS, help(LOGINS), family.clone());
        let of = |result| family.get_or_create_owned(&[("result", result)]);
        let refused = OauthError::ALL.iter().map(|error| (*error, of(error.as_str()))).collect();
        Self { granted: of("ok"), throttled: of("throttled"), refused }
    }
}

const BOUNDS: [Bound; 3] = [Bound::Pair, Bound::Address, Bound::Client];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counters of one gateway, shared by its workers.
#[derive(Debug)]
pub struct Metrics {
    requests: [[Counter; 5]; 4],
    refusals: Family<Labels2, Counter>,
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
    logins: Logins,
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
        let requests = OUTCOMES.map(|outcome| {
            CLASSES.map(|class| requests.get_or_create_owned(&[("outcome", outcome), ("status", class)]))
        });
        let refusals = Family::<Labels2, Counter<u64, AtomicU64>>::default();
        registry.register(REFUSALS, help(REFUSALS), refusals.clone());
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
        let logins = Logins::register(registry);
        let lockouts = labelled(registry, LOCKOUTS, "bound", BOUNDS.map(Bound::as_str));
        let certificate = Family::<[(&'static str, String); 1], Gauge>::default();
        registry.register(CERTIFICATE, help(CERTIFICATE), certificate.clone());
        Arc::new(Self {
            requests,
            refusals,
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

    /// A login ended.
    pub(crate) fn logged_in(&self, end: LoginEnd) {
        let Logins { granted, throttled, refused } = &self.logins;
        let counter = match end {
            LoginEnd::Granted => Some(granted),
            LoginEnd::Throttled => Some(throttled),
            LoginEnd::Refused(error) => refused.iter().find(|(known, _)| *known == error).map(|(_, counter)| counter),
        };
        if let Some(counter) = counter {
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
        let [proxied, own, refused, failed] = &self.requests;
        let row = match outcome {
            Outcome::Proxied => proxied,
            Outcome::Own => own,
            Outcome::Refused(_) => refused,
            Outcome::Failed(_) => failed,
        };
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = row.get(class) {
            counter.inc();
        }
    }

    /// A request towards the platforms, or to one of keyholder's own endpoints, was refused or failed. Both are out of
    /// tables: the route is the name of one, the reason a published code.
    pub(crate) fn refused(&self, route: &'static str, reason: &'static str) {
        self.refusals.get_or_create(&[("route", route), ("reason", reason)]).inc();
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
        let all = [Outcome::Proxied, Outcome::Own, Outcome::Refused(Code::NOT_FOUND), Outcome::Failed(Code::INTERNAL)];
        assert_eq!(all.map(Outcome::as_str), OUTCOMES);
        for outcome in all {
            metrics.answered(outcome, http::StatusCode::OK);
        }
        metrics.refused("/oauth/revoke", "invalid_client");
        metrics.logged_in(LoginEnd::Refused(OauthError::InvalidClient));
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
        for outcome in OUTCOMES {
            let line = format!(r#"keyholder_gateway_requests_total{{outcome="{outcome}",status="2xx"}} 1"#);
            assert!(text.contains(&line), "{line} in {text}");
        }
        let refused = r#"keyholder_gateway_refusals_total{route="/oauth/revoke",reason="invalid_client"} 1"#;
        assert!(text.contains(refused), "{text}");
        let certificate = r#"keyholder_gateway_certificate_not_after_seconds{certificate="gateway"} 2000000000"#;
        assert!(text.contains(certificate), "{text}");
        assert!(text.contains(r#"keyholder_issuer_logins_total{result="invalid_client"} 1"#), "{text}");
    }

    #[test]
    fn every_way_in_which_a_login_may_end_is_counted_and_shown_from_the_start() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let shown = |value: usize| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let series = text.lines().filter(|line| line.starts_with("keyholder_issuer_logins_total{"));
            let with_value = series.clone().filter(|line| line.ends_with(&format!("}} {value}"))).count();
            (series.count(), with_value)
        };
        let refused = OauthError::ALL.iter().map(|error| LoginEnd::refused(*error, Code::REQUEST_MALFORMED));
        let throttled = LoginEnd::refused(OauthError::TemporarilyUnavailable, Code::LOGIN_THROTTLED);
        let ends: Vec<LoginEnd> = [LoginEnd::Granted, throttled].into_iter().chain(refused).collect();
        assert_eq!(shown(0), (ends.len(), ends.len()));
        for end in &ends {
            metrics.logged_in(*end);
        }
        assert_eq!(shown(1), (ends.len(), ends.len()), "each end has a series of its own");
    }
}
