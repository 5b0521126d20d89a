//! Metrics that are read from other parts at each scrape: credentials, clients and sessions, and the process itself.
//!
//! Invariant: a scrape costs a look at memory and at `/proc`; it never reads a store and never waits.

mod process;

use std::{fmt, sync::Arc};

use kh_broker::{Broker, CredentialState, CredentialStatus, UserSessions};
use kh_core::{
    Clock,
    metric::{self, Kind},
};
use kh_issuer::Issuer;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder},
    metrics::{MetricType, info::Info},
    registry::Registry,
};

pub use process::ProcessMetrics;

/// Registers what tells which keyholder runs.
pub fn register_build(registry: &mut Registry, version: &'static str) {
    const BUILD: &str = "keyholder_build";
    registry.register(BUILD, metric::help(BUILD), Info::new([("version", version)]));
}

/// Encodes samples of one metric of the catalogue.
pub fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    samples: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    let kind = match metric::find(name).map(|row| row.kind) {
        Some(Kind::Counter) => MetricType::Counter,
        Some(Kind::Histogram) => MetricType::Histogram,
        Some(Kind::Info) => MetricType::Info,
        Some(Kind::Gauge) | None => MetricType::Gauge,
    };
    // the registry ends a help text with a dot, a collector does not
    let help = format!("{}.", metric::help(name));
    let mut encoder = encoder.encode_descriptor(name, &help, None, kind)?;
    samples(&mut encoder)
}

/// One sample of a gauge.
pub fn gauge(encoder: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: f64) -> fmt::Result {
    encoder.encode_family(labels)?.encode_gauge(&value)
}

/// One sample of a counter.
pub fn counter(encoder: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    encoder.encode_family(labels)?.encode_counter::<[(&str, &str); 0], _, u64>(&value, None)
}

/// The broker's credentials.
pub struct BrokerMetrics {
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
}

impl BrokerMetrics {
    /// Reads `broker` at each scrape.
    pub fn new(broker: Arc<Broker>, clock: Arc<dyn Clock>) -> Box<Self> {
        Box::new(Self { broker, clock })
    }
}

impl fmt::Debug for BrokerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerMetrics")
    }
}

/// Every state with its label.
const STATES: [(CredentialState, &str); 6] = [
    (CredentialState::Empty, "empty"),
    (CredentialState::Ready, "ready"),
    (CredentialState::Refreshing, "refreshing"),
    (CredentialState::Fetching, "fetching"),
    (CredentialState::Rejected, "rejected"),
    (CredentialState::Waiting, "waiting"),
];

/// Numbers of this size are exact as floating point for 285,000 years of milliseconds.
#[allow(clippy::cast_precision_loss, reason = "metrics are floating point by definition")]
pub fn float(number: u64) -> f64 {
    number as f64
}

impl Collector for BrokerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.broker.status();
        let now = self.clock.now().wall;
        let name = |status: &CredentialStatus| status.name.to_string();
        let encoder = &mut encoder;
        family(encoder, "keyholder_token_fetches", |to| {
            all.iter().try_for_each(|status| {
                counter(to, &[("credential", name(status)), ("result", "ok".to_owned())], status.fetches.ok)?;
                counter(to, &[("credential", name(status)), ("result", "failed".to_owned())], status.fetches.failed)
            })
        })?;
        family(encoder, "keyholder_token_waits", |to| {
            all.iter().try_for_each(|status| counter(to, &[("credential", name(status))], status.fetches.waits))
        })?;
        family(encoder, "keyholder_token_invalidations", |to| {
            all.iter().try_for_each(|status| {
                let labels = |result: &str| [("credential", name(status)), ("result", result.to_owned())];
                counter(to, &labels("removed"), status.fetches.invalidations)?;
                counter(to, &labels("stale"), status.fetches.stale_reports)
            })
        })?;
        family(encoder, "keyholder_token_age_seconds", |to| {
            let mut held = all.iter().filter_map(|status| Some((status, status.age_seconds?)));
            held.try_for_each(|(status, age)| gauge(to, &[("credential", name(status))], float(age)))
        })?;
        family(encoder, "keyholder_token_expires_in_seconds", |to| {
            let mut held = all.iter().filter_map(|status| Some((status, status.expires_at?)));
            held.try_for_each(|(status, at)| gauge(to, &[("credential", name(status))], at.since(now).as_secs_f64()))
        })?;
        family(encoder, "keyholder_credential_state", |to| {
            all.iter().try_for_each(|status| {
                STATES.iter().try_for_each(|(state, label)| {
                    let labels = [("credential", name(status)), ("state", (*label).to_owned())];
                    gauge(to, &labels, f64::from(u8::from(status.state == *state)))
                })
            })
        })?;
        family(encoder, "keyholder_credential_secret_version", |to| {
            all.iter().try_for_each(|status| gauge(to, &[("credential", name(status))], float(status.secret_version)))
        })
    }
}

/// The sessions of users at platforms.
pub struct SessionMetrics(Arc<UserSessions>);

impl SessionMetrics {
    /// Reads `sessions` at each scrape.
    pub fn new(sessions: Arc<UserSessions>) -> Box<Self> {
        Box::new(Self(sessions))
    }
}

impl fmt::Debug for SessionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionMetrics")
    }
}

impl Collector for SessionMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (counts, encoder) = (self.0.counts(), &mut encoder);
        family(encoder, "keyholder_user_sessions", |to| to.encode_gauge(&float(self.0.in_memory() as u64)))?;
        family(encoder, "keyholder_user_session_begins", |to| {
            to.encode_counter::<[(&str, &str); 0], _, u64>(&counts.begun, None)
        })?;
        family(encoder, "keyholder_user_session_renewals", |to| {
            let results =
                [("ok", counts.renewed), ("failed", counts.failed), ("lost", counts.lost), ("refused", counts.refused)];
            results.iter().try_for_each(|(result, count)| counter(to, &[("result", *result)], *count))
        })?;
        family(encoder, "keyholder_user_session_ends", |to| {
            self.0.ends().try_for_each(|(end, count)| counter(to, &[("reason", end.as_str())], count))
        })
    }
}

/// The issuer's clients and sessions.
pub struct IssuerMetrics(Arc<Issuer>);

impl IssuerMetrics {
    /// Reads `issuer` at each scrape.
    pub fn new(issuer: Arc<Issuer>) -> Box<Self> {
        Box::new(Self(issuer))
    }
}

impl fmt::Debug for IssuerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuerMetrics")
    }
}

impl Collector for IssuerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        family(encoder, "keyholder_issuer_sessions", |to| to.encode_gauge(&float(self.0.live_sessions() as u64)))?;
        let clients = self.0.clients();
        let enabled = clients.iter().filter(|client| client.record.enabled).count();
        family(encoder, "keyholder_issuer_clients", |to| {
            gauge(to, &[("state", "enabled")], float(enabled as u64))?;
            gauge(to, &[("state", "disabled")], float((clients.len() - enabled) as u64))
        })
    }
}
