//! One request from its head to its answer: the guards and the canonical path, which every site has, then the site's own
//! way, and at the end the counting and telling.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use kh_core::{
    Code, Now, PlatformKind,
    port::security::{ClientAddress, TlsSession},
};
use kh_net::PeerCertificate;
use kh_policy::{CanonicalPath, PathError};
use tokio::time::{Instant, timeout};

use crate::{
    answer::{Answer, CORRELATION_ID, Refusal, correlation_id, correlation_text},
    deadline::Deadline,
    exchange::body::{InFlight, ReplyBody, Watched},
    guards::{self, Head},
    inbound::{self, Took},
    observe::Trail,
    outbound,
    server::{Secured, Slot, Sniff},
    site::Site,
    worker::Worker,
};

/// Most header fields of a request: hyper's limit for HTTP/1.1, held for HTTP/2 as well.
const HEADERS_MAX: usize = 100;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The connection that a request came over.
pub(crate) struct Caller {
    pub(crate) worker: Arc<Worker>,
    pub(crate) sniff: Arc<Sniff>,
    /// When the upstream's answer must have begun, for the one request that is being served.
    pub(crate) answer_due: Deadline,
    /// The caller's TLS connection, if it has one.
    pub(crate) tls: Option<TlsSession>,
    /// The certificate that the caller proved to have the key of, if it did.
    pub(crate) certificate: Option<PeerCertificate>,
    /// The other end of the connection; none over a unix socket.
    pub(crate) peer: Option<IpAddr>,
    /// The caller's address: what a proxy told by the PROXY protocol, else the other end.
    pub(crate) client: Option<ClientAddress>,
    /// The connection's place, which a tunnel goes on holding; none where there are no tunnels.
    pub(crate) slot: Option<Slot>,
    /// The same as a header has it: once per connection.
    forwarded_for: OnceLock<Option<HeaderValue>>,
}

impl Caller {
    pub(crate) fn new(worker: Arc<Worker>, sniff: Arc<Sniff>, secured: Option<Secured>, ends: Ends) -> Self {
        let Ends { peer, client } = ends;
        let (tls, certificate) = secured.map_or((None, None), |secured| (Some(secured.session), secured.certificate));
        let (answer_due, forwarded_for) = (Deadline::default(), OnceLock::new());
        Self { worker, sniff, answer_due, tls, certificate, peer, client, slot: None, forwarded_for }
    }

    /// The same, with the place of its connection.
    pub(crate) fn holding(self, slot: Slot) -> Self {
        Self { slot: Some(slot), ..self }
    }

    /// Whether the caller speaks TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The caller's address as `X-Forwarded-For` has it.
    pub(crate) fn forwarded_for(&self) -> Option<&HeaderValue> {
        let made = || HeaderValue::from_str(&self.client?.ip.to_canonical().to_string()).ok();
        self.forwarded_for.get_or_init(made).as_ref()
    }
}

/// Who is at the other end of a connection, and whose connection it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) peer: Option<IpAddr>,
    pub(crate) client: Option<ClientAddress>,
}

/// A caller's connection and the site that it leads to.
pub(crate) struct Door {
    pub(crate) caller: Caller,
    pub(crate) site: Site,
}

/// A request that has one reading, beside its head and its body.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) head: Head,
    pub(crate) path: CanonicalPath<'a>,
    pub(crate) began: Began,
    pub(crate) trail: Option<&'a Arc<Trail>>,
    /// The reason code that the security log was told, if the request was refused for one.
    pub(crate) reason: &'a OnceLock<&'static str>,
}

/// Answers one request. Never an error: an error would break the connection without a word.
pub(crate) async fn answer(door: Arc<Door>, request: Request<Incoming>) -> Result<Response<ReplyBody>, Infallible> {
    let caller = &door.caller;
    let worker = &caller.worker;
    let metrics = &worker.ports.metrics;
    let in_flight = InFlight::new(&metrics.in_flight);
    // all that a request needs to know of time until it has to wait: reading clocks again would add up
    let began = worker.began();
    let (parts, body) = request.into_parts();
    let address = caller.client.map(|client| client.ip);
    let trail = worker.ports.observer.as_ref().map(|it| Trail::begin(it, &parts, began, address, caller.is_secure()));
    let is_head = parts.method == Method::HEAD;
    let (answer, took) = handle(&door, parts, body, began, trail.as_ref()).await;
    caller.sniff.answered();
    Ok(conclude(worker, answer, took, began, in_flight, trail, is_head))
}

/// Counts an answer, tells whoever watches, and at the worker's end says that the connection ends with it.
pub(crate) fn conclude(
    worker: &Worker,
    (mut response, outcome): Answer,
    route: Option<Took>,
    began: Began,
    in_flight: InFlight,
    trail: Option<Arc<Trail>>,
    is_head: bool,
) -> Response<ReplyBody> {
    let metrics = &worker.ports.metrics;
    if worker.drain.is_announced() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    let took = began.at.elapsed();
    metrics.duration.observe(took.as_secs_f64());
    metrics.answered(outcome, response.status());
    if let Some(route) = route {
        route.answered(response.status(), took);
    }
    tracing::debug!(
        status = response.status().as_u16(),
        outcome = outcome.as_str(),
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        correlation_id = correlation_id(response.headers()),
        "answered a request"
    );
    let watched = trail.map(|trail| {
        trail.answered(response.status(), outcome.as_str(), correlation_id(response.headers()));
        Watched::new(trail, is_head)
    });
    response.map(|body| body.counted(in_flight, watched))
}

/// The clocks when a request came in, or when it last had to wait.
#[derive(Clone, Copy)]
pub(crate) struct Began {
    pub(crate) at: Instant,
    pub(crate) now: Now,
}

async fn handle(
    door: &Door,
    mut parts: Parts,
    mut body: Incoming,
    began: Began,
    trail: Option<&Arc<Trail>>,
) -> (Answer, Option<Took>) {
    let caller = &door.caller;
    // a copy of the handle, not of the bytes: the path must outlive the changes to the parts
    let uri = parts.uri.clone();
    // likewise, and read by a refusal alone
    let sent_id = parts.headers.get(CORRELATION_ID).cloned();
    let (mut took, reason) = (None, OnceLock::new());
    let answer = match checked(caller, &parts, &uri, &mut body, trail).await {
        Ok((head, path)) => {
            let asked = Asked { caller, head, path, began, trail, reason: &reason };
            match &door.site {
                Site::Outbound(site) => outbound::serve(site, asked, &mut parts, body).await,
                Site::Inbound(site) => {
                    let (answer, route) = inbound::serve(site, asked, &mut parts, &uri, body).await;
                    took = route;
                    answer
                }
            }
        }
        Err(refusal) => {
            if let Site::Inbound(site) = &door.site {
                site.refused(refusal.code);
            }
            Err(Refused::from(refusal))
        }
    };
    let answer = answer.unwrap_or_else(|refused| {
        let refusal = &refused.refusal;
        if let Some(trail) = trail {
            trail.refused(refusal.code);
        }
        let sent_id = || sent_id.as_ref().and_then(correlation_text).map(Box::<str>::from);
        let id = refusal.correlation_id.clone().or_else(sent_id).unwrap_or_else(|| caller.worker.context_id().into());
        tracing::debug!(code = refusal.code.0, detail = ?refusal.detail, correlation_id = id, "refused a request");
        match &door.site {
            Site::Outbound(site) => outbound::refuse(site, caller, refused, (uri.path(), &*id)),
            Site::Inbound(_) => inbound::refuse(refused, &id),
        }
    });
    // a protected API counts its refusals by itself
    if let (Site::Outbound(_), Some(code)) = (&door.site, answer.1.code()) {
        outbound::count_refusal(&caller.worker, uri.path(), reason.get().copied().unwrap_or(code.0));
    }
    (answer, took)
}

/// A refusal, and the shape of its platform once the client is known.
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) shape: Option<PlatformKind>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, shape: None }
    }
}

/// What two servers could read in two ways goes no further.
async fn checked<'a>(
    caller: &Caller,
    parts: &Parts,
    uri: &'a Uri,
    body: &mut Incoming,
    trail: Option<&Arc<Trail>>,
) -> Result<(Head, CanonicalPath<'a>), Refusal> {
    let head = guards::check(&parts.method, &parts.uri, parts.version, &parts.headers);
    let chunked = head.map_or_else(|_| parts.headers.contains_key(header::TRANSFER_ENCODING), |head| head.chunked);
    // asked in every case: it also says that what follows is a body
    let both_lengths = caller.sniff.take(chunked, &parts.method);
    if both_lengths {
        return Err(Refusal::ambiguous("the request has both Content-Length and Transfer-Encoding"));
    }
    let head = head.map_err(Refusal::ambiguous)?;
    if head.http2 && parts.headers.len() > HEADERS_MAX && fields(&parts.headers) > HEADERS_MAX {
        let refusal = Refusal::new(Code::REQUEST_TOO_LARGE, "the request has too many headers");
        return Err(Refusal { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ..refusal });
    }
    if head.http2 && body.size_hint().exact() == Some(0) && !body.is_end_stream() {
        // boxed: rare, and its size would be everybody's
        Box::pin(nothing(body, caller.worker.limits.body_idle)).await?;
    }
    let path = target(&caller.worker, uri, 0)?;
    if let Some(trail) = trail {
        trail.path(path.as_str());
    }
    Ok((head, path))
}

/// How many header fields HTTP/1.1 would have: there the cookies are one, which HTTP/2 may split (RFC 9113 section
/// 8.2.3). How many they are is bounded by the size of the head.
fn fields(headers: &HeaderMap) -> usize {
    headers.len() - headers.get_all(header::COOKIE).iter().skip(1).count()
}

/// Waits for the end of a body that was announced as empty: with HTTP/1.1 there is nothing to wait for, with HTTP/2
/// bytes may follow, and the upstream must not be asked before that is known.
async fn nothing(body: &mut Incoming, patience: Duration) -> Result<(), Refusal> {
    match timeout(patience, body.frame()).await {
        Ok(None) => Ok(()),
        Ok(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) && body.is_end_stream() => Ok(()),
        Ok(Some(_)) | Err(_) => Err(Refusal::ambiguous("the body is not as long as was announced")),
    }
}

/// The path of a request from its byte `from` on, if it has one reading only and the query is not too long.
pub(crate) fn target<'a>(worker: &Worker, uri: &'a Uri, from: usize) -> Result<CanonicalPath<'a>, Refusal> {
    if uri.query().is_some_and(|query| query.len() > worker.limits.query_bytes) {
        let refusal = Refusal::new(Code::REQUEST_TOO_LARGE, "the query is too long");
        return Err(Refusal { status: StatusCode::URI_TOO_LONG, ..refusal });
    }
    CanonicalPath::parse(uri.path().get(from..).unwrap_or_default()).map_err(path_refusal)
}

fn path_refusal(error: PathError) -> Refusal {
    let refusal = Refusal::ambiguous(error.to_string());
    if error == PathError::TooLong {
        return Refusal { status: StatusCode::URI_TOO_LONG, code: Code::REQUEST_TOO_LARGE, ..refusal };
    }
    refusal
}
