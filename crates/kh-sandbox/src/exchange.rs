//! One request and its answer, on either platform: read the body, ask the fault plan, run the handler, journal.
//! Invariant: a request takes effect at most once, and the journal says whether it did.

use crate::clock;
use crate::cxone;
use crate::faults::{Injection, Subject, Verdict};
use crate::genesys;
use crate::journal::JournalEntry;
use crate::mint::{hex, sha256};
use crate::reply::{Dropped, Reply, ReplyBody};
use crate::shared::Shared;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, EXPECT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;

/// How much of a body beyond its limit is read and forgotten before the refusal: more than anybody sends by mistake.
const DRAIN_MAX: usize = 16 * 1024 * 1024;

/// Which platform a listener plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Genesys,
    Cxone,
}

impl Site {
    fn name(self) -> &'static str {
        match self {
            Self::Genesys => "genesys",
            Self::Cxone => "cxone",
        }
    }
}

/// A request, wholly read.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path as sent.
    pub(crate) raw_path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) remote: IpAddr,
    pub(crate) correlation: String,
}

impl Call {
    /// The bearer token of the request, if it carries one.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let value = self.headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }

    /// Whether the body is of this media type. One that no header describes may be.
    pub(crate) fn may_be(&self, media_type: &str) -> bool {
        self.content_type()
            .is_none_or(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type))
    }

    /// The value of a query parameter, decoded.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        form_value(self.query.as_bytes(), name)
    }

    /// The JSON body; absent when it is empty or the literal `null` that one official SDK sends for "no body".
    pub(crate) fn json(&self) -> Result<Option<serde_json::Value>, serde_json::Error> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let value: serde_json::Value = serde_json::from_slice(&self.body)?;
        Ok((!value.is_null()).then_some(value))
    }
}

/// The first value of a key in `application/x-www-form-urlencoded` bytes.
pub(crate) fn form_value(form: &[u8], name: &str) -> Option<String> {
    url::form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// What a request is about, known before it is applied.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// Path without a gateway's prefix.
    pub(crate) path: String,
    /// Endpoint template.
    pub(crate) endpoint: String,
    /// Calling client, when it can be told.
    pub(crate) client: Option<String>,
}

/// Runs one request through the sandbox. The error closes the connection without an answer.
pub(crate) async fn exchange(
    shared: Arc<Shared>,
    site: Site,
    remote: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Dropped> {
    let (call, too_large) = read(&shared, remote, request).await?;
    let target = match site {
        Site::Genesys => genesys::identify(&shared, &call),
        Site::Cxone => cxone::identify(&shared, &call),
    };
    if too_large {
        let reply = refusal(site, &target, &call, 413, "request.entity.too.large", "Request entity too large.");
        return Ok(finish(&shared, site, &call, &target, &Verdict::default(), closing(reply)));
    }
    let verdict = shared.faults.decide(&Subject {
        platform: site.name(),
        method: call.method.as_str(),
        path: &target.path,
        endpoint: &target.endpoint,
        client: target.client.as_deref(),
        now: shared.clock.now_ms() / 1_000,
    });
    if !verdict.delay.is_zero() {
        tokio::time::sleep(verdict.delay).await;
    }
    let reply = match &verdict.injection {
        Injection::DropBefore => {
            record(&shared, site, &call, &target, None, false, true);
            return Err(Dropped);
        }
        Injection::Status { status, retry_after, body } => {
            let mut reply = injected(site, &target, &call, *status, body.as_deref());
            if let Some(value) = retry_after {
                reply = reply.header(http::header::RETRY_AFTER, value);
            }
            reply
        }
        Injection::Unauthorized { code } => {
            refusal(site, &target, &call, 401, code, "The request was refused by the fault plan.")
        }
        Injection::None
        | Injection::DropAfter
        | Injection::BadJson
        | Injection::TruncatedBody
        | Injection::EmptyBody => match site {
            Site::Genesys => genesys::handle(&shared, &call, &target),
            Site::Cxone => cxone::handle(&shared, &call, &target),
        },
    };
    if verdict.injection == Injection::DropAfter {
        record(&shared, site, &call, &target, None, reply.applied, true);
        return Err(Dropped);
    }
    Ok(finish(&shared, site, &call, &target, &verdict, reply))
}

/// Reads the body up to the limit; a larger one gives an empty body and `true`.
async fn read(shared: &Shared, remote: IpAddr, request: Request<Incoming>) -> Result<(Call, bool), Dropped> {
    let (parts, body) = request.into_parts();
    let limits = shared.limits();
    let limit = if is_upload(&parts.headers) { limits.upload_bytes_max } else { limits.request_bytes_max };
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let unsent = parts.headers.contains_key(EXPECT) && announced.is_some_and(|length| length > limit);
    let body = if unsent { None } else { whole(body, limit).await? };
    let too_large = body.is_none();
    let call = Call {
        method: parts.method,
        raw_path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        remote,
        correlation: shared.mint.random_uuid(),
        body: body.unwrap_or_default(),
    };
    Ok((call, too_large))
}

/// The whole body, or `None` if it is larger than `limit`. What is too large is read on for a while and forgotten:
/// an answer to a client that is still sending is lost in the reset that follows it.
async fn whole(mut body: Incoming, limit: usize) -> Result<Option<Bytes>, Dropped> {
    let (mut kept, mut read) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        // The client went away in the middle of its request: there is nobody to answer.
        let frame = frame.map_err(|_| Dropped)?;
        let Some(bytes) = frame.data_ref() else { continue };
        read += bytes.len();
        if read <= limit {
            kept.extend_from_slice(bytes);
        } else if read > limit.saturating_add(DRAIN_MAX) {
            break;
        }
    }
    Ok((read <= limit).then(|| kept.freeze()))
}

/// Uploads send a multipart form or raw bytes; every other operation of the platform sends JSON or a form.
fn is_upload(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    ["multipart/form-data", "application/octet-stream", "text/csv"]
        .iter()
        .any(|kind| essence.eq_ignore_ascii_case(kind))
}

fn refusal(site: Site, target: &Target, call: &Call, status: u16, code: &str, message: &str) -> Reply {
    match site {
        Site::Genesys => genesys::refusal(target, call, status, code, message),
        Site::Cxone => cxone::refusal(target, status, code, message),
    }
}

fn injected(site: Site, target: &Target, call: &Call, status: u16, body: Option<&str>) -> Reply {
    if let Some(body) = body {
        let mut reply = Reply::text(status, "application/json", body.to_owned());
        reply.applied = false;
        return reply;
    }
    // Codes as published on every operation of Genesys Cloud.
    let (code, message) = match status {
        401 => ("bad.credentials", "Invalid login credentials."),
        403 => ("not.authorized", "You are not authorized to perform the requested action."),
        404 => ("not.found", "The requested resource was not found."),
        429 => ("too.many.requests", "Rate limit exceeded."),
        503 => ("service.unavailable", "Service Unavailable - The server is currently unavailable."),
        504 => ("request.timeout", "The request timed out."),
        500..=599 => ("internal.server.error", "The server encountered an unexpected condition."),
        _ => ("bad.request", "The request could not be understood by the server."),
    };
    refusal(site, target, call, status, code, message)
}

fn closing(mut reply: Reply) -> Reply {
    reply.headers.push((CONNECTION, HeaderValue::from_static("close")));
    reply
}

/// Bends the body as the fault plan wants, adds what every answer carries, and journals.
fn finish(
    shared: &Shared,
    site: Site,
    call: &Call,
    target: &Target,
    verdict: &Verdict,
    mut reply: Reply,
) -> Response<ReplyBody> {
    if site == Site::Genesys {
        genesys::decorate(shared, call, target, &mut reply);
    }
    let skew = shared.config.behaviours.date_skew_seconds.saturating_add(verdict.skew_seconds);
    let date = clock::http_date(shared.clock.now_ms().saturating_add(skew.saturating_mul(1_000)));
    reply = reply.header(DATE, &date);
    let body = match verdict.injection {
        Injection::BadJson => ReplyBody::whole(Bytes::from_static(b"{\"entities\": [{\"id\": \"cut off here")),
        Injection::EmptyBody => {
            reply.status = 200;
            ReplyBody::whole(Bytes::new())
        }
        Injection::TruncatedBody => ReplyBody::truncated(&reply.body),
        Injection::None
        | Injection::DropBefore
        | Injection::DropAfter
        | Injection::Status { .. }
        | Injection::Unauthorized { .. } => match verdict.slow {
            Some((bytes, pause)) => ReplyBody::slow(std::mem::take(&mut reply.body), bytes, pause),
            None => ReplyBody::whole(std::mem::take(&mut reply.body)),
        },
    };
    record(shared, site, call, target, Some(reply.status), reply.applied, *verdict != Verdict::default());
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value);
    }
    response
}

fn record(shared: &Shared, site: Site, call: &Call, target: &Target, status: Option<u16>, applied: bool, fault: bool) {
    let entry = JournalEntry {
        seq: 0,
        time_ms: shared.clock.now_ms(),
        platform: site.name(),
        method: call.method.as_str().to_owned(),
        path: call.raw_path.clone(),
        endpoint: target.endpoint.clone(),
        status,
        client: target.client.clone(),
        token_sha256: call.bearer().map(|token| hex(&sha256(token.as_bytes()))),
        correlation_id: call.correlation.clone(),
        applied,
        fault,
    };
    tracing::debug!(
        platform = entry.platform,
        http.method = %entry.method,
        http.endpoint = %entry.endpoint,
        http.status = entry.status,
        correlation_id = %entry.correlation_id,
        "sandbox answered a request"
    );
    shared.journal.record(entry, shared.limits().journal_entries_max);
}
