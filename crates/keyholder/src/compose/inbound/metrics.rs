//! What the verifier of callers' tokens has done and holds, read at each scrape.

use std::{fmt, sync::Arc};

use kh_telemetry::collect::{counter, family, float, gauge};
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
        family(encoder, "keyholder_verifier_cached_tokens", |to| gauge(to, &NO_LABELS, float(stats.cached as u64)))?;
        family(encoder, "keyholder_verifier_cached_bytes", |to| gauge(to, &NO_LABELS, float(stats.cached_bytes)))?;
        family(encoder, "keyholder_verifier_questions", |to| gauge(to, &NO_LABELS, float(stats.asking as u64)))?;
        family(encoder, "keyholder_verifier_revocations", |to| {
            gauge(to, &[("of", "token")], float(stats.revoked_tokens as u64))?;
            gauge(to, &[("of", "class")], float(stats.revoked_classes as u64))
        })
    }
}
