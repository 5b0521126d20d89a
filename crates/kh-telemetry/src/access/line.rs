//! One line of the access log, as JSON or for people.
//!
//! Invariant: no query, no header but a cleaned user agent, no body; a segment of a path that looks like a token is cut
//! out; a line holds no control character, so that nobody can forge the next one.

use jiff::Timestamp;
use kh_core::{
    UnixMillis,
    port::{observer::Finished, security::Told},
};
use serde::Serialize;

/// The form of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// One JSON object per line.
    #[default]
    Json,
    /// Like the combined log format of web servers, with three words more.
    Text,
}

/// Longest path segment that is written as it is: most ids and names are shorter, secrets and tokens longer (Genesys
/// Cloud: 43 characters, CXone: 56).
const SEGMENT_MAX: usize = 24;

/// What a JSON line has: name, type, and what it says. Fields without a value are left out.
pub const FIELDS: &[(&str, &str, &str)] = &[
    ("timestamp", "text", "when the request's head had come in, RFC 3339 in UTC with milliseconds"),
    ("method", "text", "the method"),
    ("path", "text", "the canonical path without its query; absent for a path with two readings"),
    (
        "route",
        "text",
        "the protected API's route, else the path with words of the published API paths only, as spans have it",
    ),
    ("status", "number", "the status; absent when the caller left before there was one"),
    ("outcome", "text", "`proxied`, `own`, `refused` or `failed`"),
    ("code", "text", "keyholder's error code, when it refused or failed"),
    ("ended", "text", "`complete`, `caller_gone`, `upstream_broke` or `upstream_stalled`"),
    ("duration_ms", "number", "until the last byte of the answer"),
    ("head_ms", "number", "until the head of the answer"),
    ("bytes_in", "number", "bytes of the request's body"),
    ("bytes_out", "number", "bytes of the answer's body"),
    ("client.id", "text", "the client"),
    ("client.name", "text", "its name"),
    ("caller", "text", "on a protected API: the client of the verified token, else its subject"),
    ("credential.name", "text", "the credential that the call used"),
    ("peer.ip", "text", "the caller's address; absent over a unix socket"),
    ("user_agent", "text", "the caller's user agent: printable ASCII, at most 256 characters"),
    ("http.version", "text", "`1.0`, `1.1` or `2`"),
    ("tls", "flag", "whether the caller spoke TLS"),
    ("upstream.host", "text", "the platform's host, of the last attempt"),
    ("upstream.status", "number", "the platform's status, of the last attempt"),
    (
        "upstream.error",
        "text",
        "what went wrong with the last attempt: `connect`, `tls`, `timeout`, `protocol`, `cancelled`",
    ),
    ("upstream.attempts", "number", "attempts to reach the platform"),
    ("upstream.duration_ms", "number", "until the head of the platform's answer, all attempts together"),
    ("correlation_id", "text", "the platform's correlation id, or keyholder's own for an error"),
    ("trace.id", "text", "the W3C trace id, with tracing on"),
    ("span.id", "text", "the gateway's own span"),
];

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    ended: &'static str,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    head_ms: Option<f64>,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(rename = "client.id", skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(rename = "client.name", skip_serializing_if = "Option::is_none")]
    client_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    #[serde(rename = "credential.name", skip_serializing_if = "Option::is_none")]
    credential_name: Option<&'a str>,
    #[serde(rename = "peer.ip", skip_serializing_if = "Option::is_none")]
    peer_ip: Option<std::net::IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(rename = "http.version")]
    http_version: &'static str,
    tls: bool,
    #[serde(flatten)]
    upstream: Option<Upstream<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(rename = "trace.id", skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(rename = "span.id", skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
}

#[derive(Serialize)]
struct Upstream<'a> {
    #[serde(rename = "upstream.host")]
    host: &'a str,
    #[serde(rename = "upstream.status", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "upstream.error", skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(rename = "upstream.attempts")]
    attempts: usize,
    #[serde(rename = "upstream.duration_ms")]
    duration_ms: f64,
}

/// Appends one line with its end.
pub(super) fn write(request: &Finished, form: Form, lines: &mut Vec<u8>) {
    match form {
        Form::Json => {
            let before = lines.len();
            // numbers and text only: it cannot fail, and half a line would be worse than none
            if serde_json::to_writer(&mut *lines, &line(request)).is_err() {
                lines.truncate(before);
                return;
            }
        }
        Form::Text => lines.extend_from_slice(text(request).as_bytes()),
    }
    lines.push(b'\n');
}

fn line(request: &Finished) -> Line<'_> {
    Line {
        timestamp: timestamp(request.began),
        method: &request.method,
        path: request.path.as_deref().map(redacted),
        route: route(request),
        status: request.status,
        outcome: request.outcome,
        code: request.code.map(|code| code.0),
        ended: request.ended.as_str(),
        duration_ms: millis(request.took),
        head_ms: request.head_took.map(millis),
        bytes_in: request.bytes_in,
        bytes_out: request.bytes_out,
        client_id: request.client.as_ref().map(kh_core::ClientId::as_str),
        client_name: request.client_name.as_ref().map(kh_core::ClientName::as_str),
        caller: request.caller.as_ref().map(Told::as_str),
        credential_name: request.credential.as_ref().map(kh_core::CredentialName::as_str),
        peer_ip: request.peer,
        user_agent: request.user_agent.as_deref(),
        http_version: request.http_version,
        tls: request.secure,
        upstream: request.attempts.last().map(|last| Upstream {
            host: &last.host,
            status: last.status,
            error: last.error,
            attempts: request.attempts.len(),
            duration_ms: millis(request.attempts.iter().map(|attempt| attempt.took).sum()),
        }),
        correlation_id: request.correlation_id.as_deref(),
        trace_id: request.trace.map(|trace| trace.context.trace.to_string()),
        span_id: request.trace.map(|trace| trace.context.span.to_string()),
    }
}

/// The route's name, which is the operator's own text; else what is left of the path without its ids.
fn route(request: &Finished) -> Option<String> {
    request.route.as_deref().map(str::to_owned).or_else(|| request.path.as_deref().map(crate::route::template))
}

/// `peer - client [time] "METHOD path HTTP/1.1" status bytes "-" "user agent" ms outcome ended`.
fn text(request: &Finished) -> String {
    let peer = request.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
    let client = request.client_name.as_ref().map(kh_core::ClientName::as_str);
    // one word, as the form has it
    let caller = request.caller.as_ref().map(|caller| caller.as_str().replace(' ', "_"));
    let client = client.or(caller.as_deref()).unwrap_or("-");
    let path = request.path.as_deref().map_or_else(|| "-".to_owned(), redacted);
    let status = request.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let agent = request.user_agent.as_deref().unwrap_or("-").replace(['"', '\\'], "?");
    format!(
        "{peer} - {client} [{}] \"{} {} HTTP/{}\" {status} {} \"-\" \"{agent}\" {:.3} {} {}",
        timestamp(request.began),
        printable(&request.method),
        printable(&path),
        request.http_version,
        request.bytes_out,
        millis(request.took),
        request.outcome.unwrap_or("-"),
        request.ended.as_str(),
    )
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_ascii_graphic() && !"\"\\".contains(letter) { letter } else { '?' })
        .collect()
}

fn timestamp(time: UnixMillis) -> String {
    let time = i64::try_from(time.0).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    format!("{:.3}", time.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Milliseconds with three decimals.
fn millis(span: std::time::Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// The path without segments that may be a secret: a platform's secret, a token or a key is longer than the ids that
/// people and platforms put into paths, UUIDs apart.
fn redacted(path: &str) -> String {
    let segments: Vec<&str> =
        path.split('/').map(|segment| if is_told(segment) { segment } else { REDACTED }).collect();
    segments.join("/")
}

const REDACTED: &str = "[redacted]";

fn is_told(segment: &str) -> bool {
    let token = ["kht_", "khs_", "eyJ"].iter().any(|start| segment.starts_with(start));
    !token && (segment.len() <= SEGMENT_MAX || crate::route::is_published(segment) || is_uuid(segment))
}

/// 8-4-4-4-12 hexadecimal digits (RFC 9562 section 4).
fn is_uuid(segment: &str) -> bool {
    segment.len() == 36
        && segment.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
