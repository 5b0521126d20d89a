//! keyholder's own HTTP client under the official SDK: its egress (proxy, certificate authorities), its one TLS stack,
//! its limits, and its certainty about whether a request can have been seen.
//!
//! Invariant: one call of the SDK is at most one request; retries are decided above.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient as SdkHttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use kh_core::Clock;
use kh_net::{
    Egress,
    http::{HttpClient, HttpError, OutBody, Request, Timeouts},
};
use url::Url;
use zeroize::Zeroizing;

use crate::outage::note;

/// Largest answer: a page of 20 secrets whose every character is escaped in JSON, by six bytes. Service model,
/// `SecretListEntry`: 50 tags of 128 and 256 characters, a description and four addresses of 2,048 each, a name of 512,
/// and 20 labels of 256 with versions of 64, less than 40,000 with the names of the members. A value of 65,536 bytes is
/// far below it.
const ANSWER_MAX: usize = 20 * 6 * 40_000;

/// The way out.
#[derive(Clone)]
pub struct Transport {
    egress: Arc<Egress>,
    timeouts: Timeouts,
    clock: Arc<dyn Clock>,
}

impl Transport {
    /// Leaves by `egress` within `timeouts`.
    pub fn new(egress: Arc<Egress>, timeouts: Timeouts, clock: Arc<dyn Clock>) -> Self {
        Self { egress, timeouts, clock }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The client for single requests that this crate signs itself.
    pub(crate) fn http(&self) -> HttpClient {
        HttpClient::new(Arc::clone(&self.egress), self.timeouts, Arc::clone(&self.clock))
    }

    /// The limits of the SDK where it has stricter ones, as for the machine's metadata (1 s).
    fn within(&self, settings: &HttpConnectorSettings) -> Timeouts {
        let least = |own: Duration, theirs: Option<Duration>| theirs.map_or(own, |theirs| theirs.min(own));
        let connect = least(self.timeouts.connect, settings.connect_timeout());
        let total = settings.read_timeout().map_or(self.timeouts.total, |read| read.min(self.timeouts.total) + connect);
        Timeouts { connect, total }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl SdkHttpClient for Transport {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let http = HttpClient::new(Arc::clone(&self.egress), self.within(settings), Arc::clone(&self.clock));
        SharedHttpConnector::new(Connector(http))
    }
}

struct Connector(HttpClient);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request =
                outgoing(&request).ok_or_else(|| ConnectorError::user("the request has no form to send".into()))?;
            let answer = http.send(request).await.map_err(connector_error)?;
            let status =
                StatusCode::try_from(answer.head.status).map_err(|error| ConnectorError::other(error.into(), None))?;
            let mut response = HttpResponse::new(status, SdkBody::from(Bytes::from_owner(answer.body)));
            for (name, value) in &answer.head.headers {
                if let Ok(value) = value.to_str() {
                    let appended = response.headers_mut().try_append(name.as_str().to_owned(), value.to_owned());
                    debug_assert!(appended.is_ok(), "what came as a header is one");
                }
            }
            note(&response);
            Ok(response)
        })
    }
}

/// The SDK's request in our form. The SDK keeps its body in memory and drops it without wiping; this copy is wiped, and
/// so is the answer's, which the SDK reads from our buffer.
fn outgoing(request: &HttpRequest) -> Option<Request> {
    let method = Method::from_bytes(request.method().as_bytes()).ok()?;
    let url = Url::parse(request.uri()).ok()?;
    let body = request.body().bytes()?;
    let mut out = Request::new(method, url).answer_max(ANSWER_MAX);
    if !body.is_empty() {
        // The SDK's own header takes the place of this type.
        out = out.body(OutBody::new("application/octet-stream", Zeroizing::new(body.to_vec())));
    }
    for (name, value) in request.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        // Both are made from the address and the body when it is sent.
        if name == header::HOST || name == header::CONTENT_LENGTH {
            continue;
        }
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(name == header::AUTHORIZATION || name.as_str().contains("token"));
        out = out.header(name, value);
    }
    Some(out)
}

fn connector_error(error: HttpError) -> ConnectorError {
    match error {
        HttpError::Timeout { .. } => ConnectorError::timeout(error.into()),
        HttpError::Connect { .. } | HttpError::Broken => ConnectorError::io(error.into()),
        HttpError::Address | HttpError::NotAllowed | HttpError::Header => ConnectorError::user(error.into()),
        HttpError::TooLarge { .. } => ConnectorError::other(error.into(), None),
    }
}

/// An error and its sources.
pub(crate) fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let told = next?;
        next = told.source();
        Some(told)
    })
}

/// What our client said, anywhere below an error of the SDK.
pub(crate) fn http_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a HttpError> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// keyholder's clock as the SDK's.
pub(crate) struct SdkTime(pub(crate) Arc<dyn Clock>);

impl fmt::Debug for SdkTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SdkTime")
    }
}

impl TimeSource for SdkTime {
    fn now(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + Duration::from_millis(self.0.now().wall.0)
    }
}
