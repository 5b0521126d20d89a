//! What the verifier of callers' tokens has done and holds, read at each scrape.

use std::{fmt, sync::Arc};

use kh_telemetry::collect::{counter, family, gauge};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::Protection;

const NO_LABELS: [(&str, &str); 0] = [];

/// The verifier in force at each scrape. Its counters begin anew when issuers change.
pub(crate) struct VerifierMetrics(pub(crate) Arc<Protection>);

impl fmt::Debug for VerifierMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifierMetrics")
    }
}

impl Collector for VerifierMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.0.verifier().stats();
        let encoder = &mut encoder;
        family(encoder, "keyholder_verifier_lookups", |to| {
            counter(to, &[("result", "hit")], stats.hits)?;
            counter(to, &[("result", "miss")], stats.misses)
        })?;
        family(encoder, "keyholder_verifier_cached_tokens", |to| gauge(to, &NO_LABELS, count(stats.cached)))?;
        family(encoder, "keyholder_verifier_cached_bytes", |to| gauge(to, &NO_LABELS, bytes(stats.cached_bytes)))?;
        family(encoder, "keyholder_verifier_questions", |to| gauge(to, &NO_LABELS, count(stats.asking)))?;
        family(encoder, "keyholder_verifier_revocations", |to| {
            gauge(to, &[("of", "token")], count(stats.revoked_tokens))?;
            gauge(to, &[("of", "class")], count(stats.revoked_classes))
        })
    }
}

fn count(number: usize) -> f64 {
    bytes(number as u64)
}

/// Exact up to 9 PB.
#[allow(clippy::cast_precision_loss, reason = "metrics are floating point by definition")]
fn bytes(number: u64) -> f64 {
    number as f64
}
