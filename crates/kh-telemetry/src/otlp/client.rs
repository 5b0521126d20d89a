//! One request to the collector, tried again where OTLP says that it may help.
//!
//! Invariant: a batch is given up after a few tries; the collector's answer is bounded, and nothing of it but the number
//! of rejected items is used.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, header};
use kh_core::{Clock, Entropy};
use kh_net::{
    Egress,
    http::{Answer, HttpClient, OutBody, Request, Timeouts},
};
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

/// The media type of requests and answers.
const PROTOBUF: &str = "application/x-protobuf";

/// An answer of the collector.
pub(super) trait Accepted: Message + Default {
    /// Items that it did not take.
    fn rejected(&self) -> u64;
}

/// The client of one collector.
pub(crate) struct Client {
    http: HttpClient,
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
        egress: Arc<Egress>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let mut headers = settings.headers.clone();
        // these are the request's own, whatever the operator wrote
        for own in [header::HOST, header::CONTENT_TYPE, header::USER_AGENT] {
            headers.remove(own);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static(PROTOBUF));
        let timeouts = Timeouts { connect: settings.timeout, total: settings.timeout };
        Self { http: HttpClient::new(egress, timeouts, clock), headers, entropy }
    }

    /// Sends `body` with its `count` items, and counts what became of them.
    pub(super) async fn export<A: Accepted>(&self, url: &Url, body: &[u8], count: u64, counters: &SignalCounters) {
        for attempt in 0..TRIES {
            let (wait, why) = match self.send::<A>(url, body).await {
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

    async fn send<A: Accepted>(&self, url: &Url, body: &[u8]) -> Tried {
        let mut request = Request::new(Method::POST, url.clone()).body(OutBody::new(PROTOBUF, body.to_vec().into()));
        for (name, value) in &self.headers {
            request = request.header(name.clone(), value.clone());
        }
        match self.http.send(request).await {
            Ok(answer) => judge::<A>(&answer),
            // it tells no address, which may hold a path that is a secret
            Err(error) => Tried::Later { wait: None, why: error.to_string() },
        }
    }
}

/// What an answer means (OTLP specification, "OTLP/HTTP Response").
fn judge<A: Accepted>(answer: &Answer) -> Tried {
    let status = answer.head.status;
    let why = format!("it answered {status}");
    match status {
        200 => {
            let told = A::decode(answer.body.as_slice());
            Tried::Accepted { rejected: told.map_or(0, |told| told.rejected()) }
        }
        429 | 502..=504 => Tried::Later { wait: answer.head.retry_after(), why },
        _ => Tried::Refused { why },
    }
}

#[cfg(test)]
mod tests {
    use kh_core::{ManualClock, SeededEntropy, UnixMillis};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::otlp::span;

    /// The base address of a collector with a certificate of its own making.
    async fn untrusted() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // the client breaks the handshake off
                acceptor.accept(stream).await.ok();
            }
        });
        base
    }

    #[tokio::test]
    async fn the_reason_tells_what_is_wrong_with_a_certificate() {
        let settings = OtlpSettings::for_collector(&untrusted().await).unwrap();
        let egress = Arc::new(Egress::trusting(&[]).unwrap());
        let clock = Arc::new(ManualClock::at(UnixMillis(0)));
        let client = Client::new(&settings, egress, clock, Arc::new(SeededEntropy::new(7)));
        let url = settings.traces_url.as_ref().unwrap();
        let Tried::Later { wait: None, why } = client.send::<span::Answer>(url, b"").await else {
            panic!("it may work later, when somebody has set the certificate right")
        };
        assert!(why.contains("TLS") && why.contains("invalid peer certificate"), "{why}");
        assert!(!why.contains("v1/traces"), "{why}");
    }
}
