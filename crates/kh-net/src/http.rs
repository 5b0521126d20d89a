//! One HTTP request at a time: token requests, discovery, calls to secret stores and to a platform's management.
//!
//! Invariant: one call is at most one request on a fresh connection, opened by an [`Egress`]: such requests are rare,
//! and a kept connection would usually be dead by the next one. No redirect, cookie, compression or retry; the answer
//! is bounded in size and time. Errors never tell the address, which may hold a path secret, and never the request;
//! each says whether the other side may have seen the request ([`HttpError::was_sent`]).

mod answer;
mod body;

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kh_core::{Clock, Code, SecretString};
use rustls_pki_types::ServerName;
use url::{Position, Url};
use zeroize::Zeroizing;

use self::answer::Wanted;
pub use self::{
    answer::{Answer, AnswerHead, Media, printable},
    body::{Form, OutBody},
};
use crate::{ConnectError, Egress, Target, tls};

/// Largest accepted answer where a request says nothing else: a token answer with three JWTs has about 8 KiB, a list
/// of clients or a discovery document less than 64 KiB.
pub const ANSWER_MAX: usize = 256 * 1024;

/// Largest head of an answer, in bytes; hyper's buffer for the body has the same size.
const HEAD_MAX: usize = 64 * 1024;

/// Longest reason told of a failed connection, in characters.
const REASON_MAX: usize = 300;

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

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be connected to.
    #[error("the address holds no name that a certificate can have")]
    Address,
    /// The name leads to addresses alone that may not be asked ([`crate::Reach`]).
    #[error("the address is none of the public internet, and others are not allowed here")]
    NotAllowed,
    /// A header cannot carry what it should.
    #[error("a header of the request has characters that no header can carry")]
    Header,
    /// Name resolution, proxy, TCP or TLS failed; the other side has seen no request.
    #[error("{reason}")]
    Connect {
        /// The stable code.
        code: Code,
        /// What happened, printable and bounded.
        reason: String,
    },
    /// Nothing (more) came in time.
    #[error("no complete answer came in time")]
    Timeout {
        /// Whether the request had been handed to a connection.
        sent: bool,
    },
    /// The answer broke off or is not HTTP.
    #[error("the answer broke off or is not HTTP")]
    Broken,
    /// The answer is larger than the request allowed.
    #[error("the answer is larger than {max} bytes")]
    TooLarge {
        /// What the request allowed.
        max: usize,
    },
}

impl HttpError {
    /// Whether the other side may have seen the request, and so may have carried it out. False is certain, true is
    /// not: a request that was handed to a connection counts, whether or not a byte of it arrived.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Address | Self::NotAllowed | Self::Header | Self::Connect { .. } => false,
            Self::Timeout { sent } => *sent,
            Self::Broken | Self::TooLarge { .. } => true,
        }
    }

    /// The stable code where the other side could not be reached at all.
    pub fn unreachable(&self) -> Option<Code> {
        match self {
            Self::Address => Some(Code::UPSTREAM_UNREACHABLE),
            Self::Connect { code, .. } => Some(*code),
            Self::Timeout { .. } => Some(Code::UPSTREAM_TIMEOUT),
            Self::NotAllowed | Self::Header | Self::Broken | Self::TooLarge { .. } => None,
        }
    }
}

/// One request. Its `Debug` tells the method alone.
pub struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<OutBody>,
    wanted: Wanted,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.method)
    }
}

impl Request {
    /// A request without a body that takes an answer of at most [`ANSWER_MAX`] bytes.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None, wanted: Wanted::Whole { max: ANSWER_MAX } }
    }

    /// Adds a header, or replaces one of `Accept` and `User-Agent`, which have defaults. A secret one is marked with
    /// `set_sensitive(true)`, or made by [`Request::secret_header`].
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a header whose value is `before` and a secret; the buffer is wiped and marked as sensitive.
    pub fn secret_header(self, name: HeaderName, before: &str, secret: &SecretString) -> Result<Self, HttpError> {
        let mut text = Zeroizing::new(Vec::with_capacity(before.len() + secret.len()));
        text.extend_from_slice(before.as_bytes());
        text.extend_from_slice(secret.expose().as_bytes());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).map_err(|_| HttpError::Header)?;
        value.set_sensitive(true);
        Ok(self.header(name, value))
    }

    /// `Authorization: Bearer` (RFC 6750).
    pub fn bearer(self, token: &SecretString) -> Result<Self, HttpError> {
        self.secret_header(header::AUTHORIZATION, "Bearer ", token)
    }

    /// Sends `body` and its media type.
    #[must_use]
    pub fn body(self, body: OutBody) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Takes an answer of at most `bytes`.
    #[must_use]
    pub fn answer_max(self, bytes: usize) -> Self {
        Self { wanted: Wanted::Whole { max: bytes }, ..self }
    }

    /// Takes the head of any answer: its body is nobody's concern, however long it is and however it ends.
    #[must_use]
    pub fn ignore_body(self) -> Self {
        Self { wanted: Wanted::Nothing, ..self }
    }

    fn into_outgoing(self) -> Result<Outgoing, HttpError> {
        let (server_name, host_header) = addressed(&self.url).ok_or(HttpError::Address)?;
        let mut request = ::http::Request::builder()
            .method(self.method)
            .uri(&self.url[Position::BeforePath..Position::AfterQuery])
            .header(header::HOST, host_header);
        if !self.headers.contains_key(header::ACCEPT) {
            // CXone answers "No known way to render data" without it
            request = request.header(header::ACCEPT, "application/json");
        }
        if !self.headers.contains_key(header::USER_AGENT) {
            request = request.header(header::USER_AGENT, concat!("keyholder/", env!("CARGO_PKG_VERSION")));
        }
        let mut bytes = Bytes::new();
        if let Some(body) = self.body {
            request = request.header(header::CONTENT_TYPE, body.content_type());
            bytes = body.into_bytes();
        }
        let mut request = request.body(Full::new(bytes)).map_err(|_| HttpError::Address)?;
        request.headers_mut().extend(self.headers);
        Ok(Outgoing { url: self.url, server_name, request })
    }
}

/// A request as it goes out, with whom to connect to.
struct Outgoing {
    url: Url,
    server_name: Option<ServerName<'static>>,
    request: ::http::Request<Full<Bytes>>,
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
    /// A client that leaves by `egress`. `clock` turns a `Retry-After` date into a wait.
    pub fn new(egress: Arc<Egress>, timeouts: Timeouts, clock: Arc<dyn Clock>) -> Self {
        Self { egress, timeouts, clock }
    }

    /// The clock given at the start.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The limits in time given at the start.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends `request` once. Dropping the future closes the connection; the other side may have carried it out.
    pub async fn send(&self, request: Request) -> Result<Answer, HttpError> {
        let wanted = request.wanted;
        let Outgoing { url, server_name, request } = request.into_outgoing()?;
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or(443);
        let target = Target { host, port, server_name: server_name.as_ref() };
        let sent = AtomicBool::new(false);
        let exchange = self.exchange(target, request, wanted, &sent);
        match tokio::time::timeout(self.timeouts.total, exchange).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(HttpError::Timeout { sent: sent.load(Ordering::Relaxed) }),
        }
    }

    /// One request on a connection of its own, which ends with the answer or with the caller. `sent` is set before the
    /// connection gets the request.
    async fn exchange(
        &self,
        target: Target<'_>,
        request: ::http::Request<Full<Bytes>>,
        wanted: Wanted,
        sent: &AtomicBool,
    ) -> Result<Answer, HttpError> {
        let stream = self.egress.connect(target, self.timeouts.connect).await.map_err(|error| not_connected(&error))?;
        let mut http = http1::Builder::new();
        http.max_buf_size(HEAD_MAX);
        let (mut sender, connection) =
            http.handshake(TokioIo::new(stream)).await.map_err(|error| exchange_error(&error))?;
        sent.store(true, Ordering::Relaxed);
        let answer = async move {
            let response = sender.send_request(request).await.map_err(|error| exchange_error(&error))?;
            answer::read(response, self.clock.now().wall, wanted).await
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

fn not_connected(error: &ConnectError) -> HttpError {
    match error {
        ConnectError::NotAllowed => HttpError::NotAllowed,
        error => HttpError::Connect { code: error.code(), reason: printable(&error.detail(), REASON_MAX) },
    }
}

/// With TLS 1.3 a server refuses a client certificate, or the lack of one, only after the handshake: it then has read
/// no request. Any other end may have come after it was read.
fn exchange_error(error: &hyper::Error) -> HttpError {
    match tls::cause(error) {
        Some(alert @ rustls::Error::AlertReceived(kind)) if tls::is_about_us(*kind) => HttpError::Connect {
            code: Code::UPSTREAM_TLS,
            reason: printable(
                &format!("the TLS connection to the platform failed: {}", tls::explain_tls(alert)),
                REASON_MAX,
            ),
        },
        _ => HttpError::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str) -> Request {
        Request::new(Method::POST, Url::parse(url).unwrap())
    }

    #[test]
    fn heads_of_requests() {
        let out = request("https://h.example:8443/a%20b?c=d").into_outgoing().unwrap();
        assert!(out.server_name.is_some());
        let out = out.request;
        assert_eq!(out.uri(), "/a%20b?c=d");
        assert_eq!(out.headers()["host"], "h.example:8443");
        assert_eq!(out.headers()["accept"], "application/json");
        assert!(out.headers()["user-agent"].to_str().unwrap().starts_with("keyholder/"));
        assert!(!out.headers().contains_key("content-type"));
        let xml = request("http://[::1]:1/").header(header::ACCEPT, HeaderValue::from_static("application/xml"));
        let out = xml.body(OutBody::json(&["a"])).into_outgoing().unwrap();
        assert!(out.server_name.is_none());
        let out = out.request;
        assert_eq!(out.headers().get_all("accept").iter().count(), 1);
        assert_eq!(out.headers()["accept"], "application/xml");
        assert_eq!(out.headers()["content-type"], "application/json");
    }

    #[test]
    fn secrets_are_marked_and_stay_out_of_debug() {
        let secret = SecretString::copied("MARKED-SECRET");
        let request = request("https://h/").bearer(&secret).unwrap().body(OutBody::json(&"MARKED-SECRET"));
        assert!(!format!("{request:?}").contains("MARKED"));
        let out = request.into_outgoing().unwrap().request;
        assert_eq!(out.headers()["authorization"], "Bearer MARKED-SECRET");
        assert!(!format!("{:?}", out.headers()).contains("MARKED"));
        let bad = SecretString::copied("a\nb");
        assert!(matches!(self::request("https://h/").bearer(&bad), Err(HttpError::Header)));
    }

    #[test]
    fn what_may_have_been_seen() {
        let connect = HttpError::Connect { code: Code::UPSTREAM_TLS, reason: String::new() };
        let timeout = HttpError::Timeout { sent: false };
        for unsent in [HttpError::Address, HttpError::NotAllowed, HttpError::Header, connect, timeout] {
            assert!(!unsent.was_sent(), "{unsent}");
        }
        for sent in [HttpError::Broken, HttpError::TooLarge { max: 1 }, HttpError::Timeout { sent: true }] {
            assert!(sent.was_sent(), "{sent}");
        }
    }
}
