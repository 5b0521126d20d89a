//! One request to the collector, tried again where OTLP says that it may help.
//!
//! Invariant: a batch is given up after a few tries; the collector's answer is bounded, and nothing of it but the number
//! of rejected items is used.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kh_core::Entropy;
use kh_resilience::Backoff;
use prost::Message;
use url::Url;

use super::{OtlpSettings, SignalCounters};

/// Tries of one batch, the first included: two pauses of a few seconds ride out a restart of the collector.
const TRIES: u32 = 3;

/// Pauses between tries.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_secs(5) };

/// Longest `Retry-After` that is waited out: the queue behind it is bounded.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Largest answer read: a partial success has some hundred bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
#[error("the client for the OpenTelemetry collector cannot be set up")]
pub struct ExportError(#[source] reqwest::Error);

/// An answer of the collector.
pub(super) trait Accepted: Message + Default {
    /// Items that it did not take.
    fn rejected(&self) -> u64;
}

/// The client of one collector.
pub(crate) struct Client {
    http: reqwest::Client,
    headers: HeaderMap,
    entropy: Arc<dyn Entropy>,
}

/// How a try ended.
enum Tried {
    Accepted {
        rejected: u64,
    },
    /// It may work later, perhaps after this time.
    Later {
        wait: Option<Duration>,
        why: String,
    },
    Refused {
        why: String,
    },
}

impl Client {
    pub(crate) fn new(
        settings: &OtlpSettings,
        tls: rustls::ClientConfig,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ExportError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .pool_max_idle_per_host(1)
            .timeout(settings.timeout)
            .user_agent(concat!("keyholder/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ExportError)?;
        let mut headers = settings.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(Self { http, headers, entropy })
    }

    /// Sends `body` with its `count` items, and counts what became of them.
    pub(super) async fn export<A: Accepted>(&self, url: &Url, body: Bytes, count: u64, counters: &SignalCounters) {
        for attempt in 0..TRIES {
            let (wait, why) = match self.send::<A>(url, body.clone()).await {
                Tried::Accepted { rejected } => {
                    counters.ok.inc();
                    counters.rejected.inc_by(rejected.min(count));
                    counters.sent.inc_by(count.saturating_sub(rejected));
                    return;
                }
                Tried::Refused { why } => (None, why),
                Tried::Later { wait, why } => {
                    let pause = wait.unwrap_or_else(|| BACKOFF.delay(attempt, &*self.entropy));
                    (Some(pause.min(RETRY_AFTER_MAX)), why)
                }
            };
            counters.error.inc();
            let Some(wait) = wait.filter(|_| attempt + 1 < TRIES) else {
                counters.failed.inc_by(count);
                tracing::warn!(otlp.items = count, reason = why, "the OpenTelemetry collector did not take an export");
                return;
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn send<A: Accepted>(&self, url: &Url, body: Bytes) -> Tried {
        let request = self.http.post(url.clone()).headers(self.headers.clone()).body(body);
        let mut response = match request.send().await {
            Ok(response) => response,
            // no address in the reason: it may hold a path that is a secret
            Err(error) => return Tried::Later { wait: None, why: error.without_url().to_string() },
        };
        let status = response.status();
        let why = format!("it answered {}", status.as_u16());
        if status == StatusCode::OK {
            let mut answer = Vec::new();
            while let Ok(Some(chunk)) = response.chunk().await {
                if answer.len() + chunk.len() > ANSWER_MAX {
                    break;
                }
                answer.extend_from_slice(&chunk);
            }
            return Tried::Accepted { rejected: A::decode(answer.as_slice()).map_or(0, |answer| answer.rejected()) };
        }
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        // OTLP specification, "OTLP/HTTP Response": these four may be tried again
        match status.as_u16() {
            429 | 502..=504 => Tried::Later { wait: wait.map(Duration::from_secs), why },
            _ => Tried::Refused { why },
        }
    }
}
