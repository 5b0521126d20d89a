//! One request to the collector, tried again where OTLP says that it may help.
//!
//! Invariant: a batch is given up after a few tries; the collector's answer is bounded, and nothing of it but the number
//! of rejected items is used.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kh_core::Entropy;
use kh_net::{Egress, Target};
use kh_resilience::Backoff;
use prost::Message;
use rustls_pki_types::ServerName;
use tokio::time::timeout;
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

/// An answer of the collector.
pub(super) trait Accepted: Message + Default {
    /// Items that it did not take.
    fn rejected(&self) -> u64;
}

/// The client of one collector.
pub(crate) struct Client {
    egress: Arc<Egress>,
    headers: HeaderMap,
    timeout: Duration,
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
    pub(crate) fn new(settings: &OtlpSettings, egress: Arc<Egress>, entropy: Arc<dyn Entropy>) -> Self {
        let mut headers = settings.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("keyholder/", env!("CARGO_PKG_VERSION"))));
        Self { egress, headers, timeout: settings.timeout, entropy }
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
        match timeout(self.timeout, self.exchange::<A>(url, body)).await {
            Ok(Ok(tried)) => tried,
            // no address in the reason: it may hold a path that is a secret
            Ok(Err(why)) => Tried::Later { wait: None, why },
            Err(_elapsed) => Tried::Later { wait: None, why: "no complete answer came in time".to_owned() },
        }
    }

    /// One request on a connection of its own: exports are seconds apart, and a kept connection is often dead by then.
    async fn exchange<A: Accepted>(&self, url: &Url, body: Bytes) -> Result<Tried, String> {
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let secure = url.scheme() == "https";
        let name = secure.then(|| ServerName::try_from(host.to_owned())).transpose();
        let name = name.map_err(|_| "its host is not a name that a certificate can have".to_owned())?;
        let port = url.port_or_known_default().unwrap_or(443);
        let target = Target { host, port, server_name: name.as_ref() };
        let stream = self.egress.connect(target, self.timeout).await.map_err(|error| error.to_string())?;
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::post(url.path()).body(Full::new(body)).map_err(|error| error.to_string())?;
        *request.headers_mut() = self.headers.clone();
        let authority = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
        request.headers_mut().insert(header::HOST, authority);
        let broken = |error: hyper::Error| error.to_string();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let answer = async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            Ok(judge::<A>(response).await)
        };
        let (mut connection, mut answer) = (pin!(connection), pin!(answer));
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // what it has read is still there
            _ended = &mut connection => answer.await,
        }
    }
}

/// What an answer means (OTLP specification, "OTLP/HTTP Response").
async fn judge<A: Accepted>(response: http::Response<hyper::body::Incoming>) -> Tried {
    let status = response.status();
    let why = format!("it answered {}", status.as_u16());
    let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    if status == StatusCode::OK {
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let answer = body.ok().and_then(|body| A::decode(body.to_bytes()).ok());
        return Tried::Accepted { rejected: answer.map_or(0, |answer| answer.rejected()) };
    }
    match status.as_u16() {
        429 | 502..=504 => Tried::Later { wait: wait.map(Duration::from_secs), why },
        _ => Tried::Refused { why },
    }
}
