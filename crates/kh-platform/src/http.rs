//! The HTTP client of token requests and discovery.
//!
//! Invariant: one call is at most one request on a fresh connection, opened by the platform's own
//! [`kh_net::Egress`]: token requests are rare, and a kept connection would usually be dead by the next one. No
//! redirect, cookie, compression or retry; the answer is bounded in size and time. Errors never tell the address, which
//! may hold a path secret, and never the request.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use kh_core::{Clock, Code, SecretString, UnixMillis, port::FetchError};
use kh_net::{ConnectError, Egress, Target};
use rustls_pki_types::ServerName;
use url::{Position, Url};
use zeroize::{Zeroize, Zeroizing};

use crate::Address;

/// Largest accepted answer: a token answer with three JWTs has about 8 KiB, discovery documents less than 16 KiB.
pub const ANSWER_MAX: usize = 256 * 1024;

/// Largest head of an answer, in bytes; hyper's buffer for the body has the same size.
const HEAD_MAX: usize = 64 * 1024;

/// Longest reason told of a failed connection, in characters.
const REASON_MAX: usize = 300;

/// Longest correlation id or status text passed on, in characters.
const HEADER_TEXT_MAX: usize = 128;

/// Where platforms put their correlation id, best first (Genesys Cloud: `ININ-Correlation-Id`).
const CORRELATION_HEADERS: [&str; 3] = ["inin-correlation-id", "x-correlation-id", "x-request-id"];

/// Limits in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// For the connection including TLS.
    pub connect: Duration,
    /// For the whole exchange including the body.
    pub total: Duration,
}

impl Default for Timeouts {
    /// 5 s to connect, 15 s in all: a login usually takes under one second, and callers wait for it.
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(15) }
    }
}

/// Why there is no answer at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be connected to.
    #[error("the address holds no name that a certificate can have")]
    Address,
    /// Name resolution, proxy, TCP or TLS failed; the platform has seen no request.
    #[error("{reason}")]
    Connect {
        /// The stable code.
        code: Code,
        /// What happened, printable and bounded.
        reason: String,
    },
    /// Nothing (more) came in time.
    #[error("no complete answer came in time")]
    Timeout,
    /// The answer broke off or is not HTTP.
    #[error("the answer broke off or is not HTTP")]
    Broken,
    /// The answer is larger than [`ANSWER_MAX`].
    #[error("the answer is larger than {ANSWER_MAX} bytes")]
    TooLarge,
}

impl HttpError {
    /// The same as the port's error; `what` names the request, such as "the token request".
    pub fn into_fetch_error(self, what: &str) -> FetchError {
        let unreachable = match &self {
            Self::Address => Some(Code::UPSTREAM_UNREACHABLE),
            Self::Connect { code, .. } => Some(*code),
            Self::Timeout => Some(Code::UPSTREAM_TIMEOUT),
            Self::Broken | Self::TooLarge => None,
        };
        let reason = format!("{what}: {self}");
        FetchError::Transient { reason, retry_after: None, unreachable, correlation_id: None }
    }
}

/// What the body claims to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// JSON, or a type that does not contradict JSON (`text/plain`, `application/octet-stream`, none).
    MaybeJson,
    /// Something else, such as the HTML page of a captive portal.
    Other,
}

/// Status and headers of an answer, as far as they matter here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnswerHead {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, in either form of RFC 9110 section 10.2.3.
    pub retry_after: Option<Duration>,
    /// The platform's correlation id, printable and bounded.
    pub correlation_id: Option<String>,
    /// CXone's `icStatusDescription`, printable and bounded.
    pub status_text: Option<String>,
    /// What the body claims to be.
    pub media: Media,
    /// `Date`, the platform's clock.
    pub date: Option<UnixMillis>,
    /// `inin-ratelimit-*` of Genesys Cloud.
    pub rate_limit: Option<RateLimit>,
}

/// Where a token stands against its rate limit; there is no header for what remains (official developer blog,
/// 2021-05-06).
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct RateLimit {
    /// Requests allowed in the window.
    pub allowed: u32,
    /// Requests counted in it, this one included.
    pub count: u32,
    /// Seconds until it ends.
    pub reset_seconds: u32,
}

/// A complete answer; its body is wiped when dropped.
pub struct Answer {
    /// Status and headers.
    pub head: AnswerHead,
    /// The body, at most [`ANSWER_MAX`] bytes.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("head", &self.head).field("body_len", &self.body.len()).finish()
    }
}

/// A body with its media type.
pub(crate) struct OutBody {
    pub(crate) content_type: &'static str,
    pub(crate) bytes: Bytes,
}

/// The client. Clones share it.
#[derive(Clone)]
pub struct HttpClient {
    egress: Arc<Egress>,
    timeouts: Timeouts,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    /// A client that leaves by `egress`. `clock` turns a `Retry-After` date into a wait and bounds the age of cached
    /// discovery.
    pub fn new(egress: Arc<Egress>, timeouts: Timeouts, clock: Arc<dyn Clock>) -> Self {
        Self { egress, timeouts, clock }
    }

    /// The clock given at the start.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Gets a document that is not secret.
    pub(crate) async fn get(&self, url: Url) -> Result<Answer, HttpError> {
        self.send(Method::GET, url, None, None).await
    }

    /// Gets a document with `token`.
    pub(crate) async fn get_as(&self, url: Url, token: &SecretString) -> Result<Answer, HttpError> {
        let mut header = Zeroizing::new(Vec::with_capacity("Bearer ".len() + token.len()));
        header.extend_from_slice(b"Bearer ");
        header.extend_from_slice(token.expose().as_bytes());
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(header)).map_err(|_| HttpError::Address)?;
        self.send(Method::GET, url, Some(value), None).await
    }

    /// What the clock of the server behind `address` says, whatever else it answers. Sends no secret.
    pub async fn date_of(&self, address: &Address) -> Result<Option<UnixMillis>, HttpError> {
        Ok(self.get(address.join("/")).await?.head.date)
    }

    /// Posts `body`, with `authorization` where there is one.
    pub(crate) async fn post(
        &self,
        url: Url,
        authorization: Option<HeaderValue>,
        body: OutBody,
    ) -> Result<Answer, HttpError> {
        self.send(Method::POST, url, authorization, Some(body)).await
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        authorization: Option<HeaderValue>,
        body: Option<OutBody>,
    ) -> Result<Answer, HttpError> {
        let (server_name, host_header) = addressed(&url).ok_or(HttpError::Address)?;
        // CXone answers "No known way to render data" without Accept.
        let mut request = Request::builder()
            .method(method)
            .uri(&url[Position::BeforePath..Position::AfterQuery])
            .header(header::HOST, host_header)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("keyholder/", env!("CARGO_PKG_VERSION")));
        if let Some(mut value) = authorization {
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let mut bytes = Bytes::new();
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, body.content_type);
            bytes = body.bytes;
        }
        let request = request.body(Full::new(bytes)).map_err(|_| HttpError::Address)?;
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or(443);
        let target = Target { host, port, server_name: server_name.as_ref() };
        let exchange = self.exchange(target, request);
        tokio::time::timeout(self.timeouts.total, exchange).await.map_err(|_elapsed| HttpError::Timeout)?
    }

    /// One request on a connection of its own, which ends with the answer or with the caller.
    async fn exchange(&self, target: Target<'_>, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
        let stream = self.egress.connect(target, self.timeouts.connect).await.map_err(|error| not_connected(&error))?;
        let mut http = http1::Builder::new();
        http.max_buf_size(HEAD_MAX);
        let (mut sender, connection) =
            http.handshake(TokioIo::new(stream)).await.map_err(|error| http_error(&error))?;
        let answer = async move {
            let response = sender.send_request(request).await.map_err(|error| http_error(&error))?;
            read(response, self.clock.now().wall).await
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

/// The name that the certificate must have (with https), and the `Host` header.
fn addressed(url: &Url) -> Option<(Option<ServerName<'static>>, String)> {
    let host = url.host_str()?;
    let name = match url.scheme() {
        "https" => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            Some(ServerName::try_from(bare.to_owned()).ok()?)
        }
        _ => None,
    };
    let header = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Some((name, header))
}

/// The whole answer.
async fn read(response: Response<Incoming>, now: UnixMillis) -> Result<Answer, HttpError> {
    let head = parse_head(response.status().as_u16(), response.headers(), now);
    let mut incoming = response.into_body();
    let announced = incoming.size_hint().exact().unwrap_or(0);
    if announced > ANSWER_MAX as u64 {
        return Err(HttpError::TooLarge);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(usize::try_from(announced).unwrap_or(0).max(4096)));
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame.map_err(|error| http_error(&error))?.into_data() else { continue };
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(HttpError::TooLarge);
        }
        append_wiped(&mut body, &chunk);
        if let Ok(mut owned) = chunk.try_into_mut() {
            owned.as_mut().zeroize();
        }
    }
    Ok(Answer { head, body })
}

/// Appends without leaving an unwiped copy behind when the buffer has to grow.
fn append_wiped(buffer: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    let needed = buffer.len() + more.len();
    if needed > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(more);
}

/// Reads what matters from an answer's headers. Pure.
pub fn parse_head(status: u16, headers: &HeaderMap, now: UnixMillis) -> AnswerHead {
    let text = |name: &str| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.get(name).and_then(|value| value.to_str().ok()).map(|text| printable(text, HEADER_TEXT_MAX))
    };
    let media = match headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) {
        None => Media::MaybeJson,
        Some(Ok(value)) => parse_media(value),
        Some(Err(_)) => Media::Other,
    };
    AnswerHead {
        status,
        retry_after: headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| kh_resilience::retry_after::parse(value, now)),
        correlation_id: CORRELATION_HEADERS.iter().find_map(|name| text(name)).filter(|id| is_correlation_id(id)),
        status_text: text("icstatusdescription").filter(|text| !text.is_empty()),
        media,
        date: headers.get(header::DATE).and_then(|value| value.to_str().ok()).and_then(parse_date),
        rate_limit: rate_limit(headers),
    }
}

/// An IMF-fixdate (RFC 9110 section 5.6.7).
fn parse_date(text: &str) -> Option<UnixMillis> {
    let at = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(UnixMillis(u64::try_from(at.as_millis()).ok()?))
}

fn rate_limit(headers: &HeaderMap) -> Option<RateLimit> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
    Some(RateLimit {
        allowed: number("inin-ratelimit-allowed")?,
        count: number("inin-ratelimit-count")?,
        reset_seconds: number("inin-ratelimit-reset")?,
    })
}

fn parse_media(value: &str) -> Media {
    let essence = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let json = essence.is_empty()
        || ["application/json", "text/json", "text/plain", "application/octet-stream"].contains(&essence.as_str())
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json { Media::MaybeJson } else { Media::Other }
}

fn is_correlation_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:=/+".contains(&byte))
}

/// At most `max` characters of `text`, controls and non-ASCII replaced: safe in a log line.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let clean = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    text.chars().take(max).map(clean).collect()
}

fn not_connected(error: &ConnectError) -> HttpError {
    HttpError::Connect { code: error.code(), reason: printable(&error.detail(), REASON_MAX) }
}

fn http_error(error: &hyper::Error) -> HttpError {
    match kh_net::tls::cause(error) {
        // with TLS 1.3 a server refuses a client certificate, or the lack of one, only after the handshake
        Some(tls @ rustls::Error::AlertReceived(_)) => HttpError::Connect {
            code: Code::UPSTREAM_TLS,
            reason: printable(
                &format!("the TLS connection to the platform failed: {}", kh_net::tls::explain_tls(tls)),
                REASON_MAX,
            ),
        },
        _ => HttpError::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> AnswerHead {
        let map = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        parse_head(200, &map, UnixMillis(0))
    }

    #[test]
    fn heads() {
        assert_eq!(head(&[("retry-after", "7")]).retry_after, Some(Duration::from_secs(7)));
        assert_eq!(
            head(&[("retry-after", "Thu, 01 Jan 1970 00:00:30 GMT")]).retry_after,
            Some(Duration::from_secs(30))
        );
        assert_eq!(head(&[("retry-after", "soon")]).retry_after, None);
        assert_eq!(head(&[("inin-correlation-id", "a-1")]).correlation_id.as_deref(), Some("a-1"));
        assert_eq!(head(&[("inin-correlation-id", "a\tb c")]).correlation_id, None);
        assert_eq!(head(&[("x-request-id", "r"), ("inin-correlation-id", "c")]).correlation_id.as_deref(), Some("c"));
        assert_eq!(head(&[("icstatusdescription", "Bad key")]).status_text.as_deref(), Some("Bad key"));
    }

    #[test]
    fn media_types() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json", "text/plain"] {
            assert_eq!(parse_media(json), Media::MaybeJson, "{json}");
        }
        for other in ["text/html", "application/xml", "image/svg+xml", "multipart/form-data", "json"] {
            assert_eq!(parse_media(other), Media::Other, "{other}");
        }
    }

    #[test]
    fn growing_keeps_the_bytes() {
        let mut buffer = Zeroizing::new(Vec::with_capacity(2));
        append_wiped(&mut buffer, b"ab");
        append_wiped(&mut buffer, b"cdefg");
        assert_eq!(&**buffer, b"abcdefg");
    }
}
