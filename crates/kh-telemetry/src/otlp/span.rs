//! Finished requests as OTLP spans, after the OpenTelemetry semantic conventions for HTTP (1.30 and later).

use std::sync::Arc;

use bytes::Bytes;
use kh_core::port::observer::{Attempt, Ended, Finished, RequestTrace};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use prost::Message;

use super::{OtlpSettings, client::Accepted, settings::nanos};
use crate::spans;

/// The conventions that the attributes follow.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.30.0";

/// Methods that are told by name; any other is `_OTHER` (semantic conventions, "http.request.method").
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

pub(super) type Answer = ExportTraceServiceResponse;

impl Accepted for Answer {
    fn rejected(&self) -> u64 {
        self.partial_success.as_ref().map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
    }
}

/// The request for a batch, and how many spans it has.
pub(super) fn request(settings: &OtlpSettings, batch: &[Arc<Finished>]) -> (Bytes, u64) {
    let spans: Vec<Span> = batch.iter().flat_map(|request| spans_of(request)).collect();
    let count = spans.len() as u64;
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, schema_url: SCHEMA.to_owned() }];
    let resource = Some(resource(settings));
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url: SCHEMA.to_owned() }],
    };
    (Bytes::from(request.encode_to_vec()), count)
}

pub(super) fn resource(settings: &OtlpSettings) -> Resource {
    let attributes = settings.resource.iter().map(|(key, value)| text(key, value)).collect();
    Resource { attributes, ..Resource::default() }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "keyholder".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// The gateway's span, and one for each attempt to reach the platform.
fn spans_of(request: &Finished) -> Vec<Span> {
    let Some(trace) = request.trace else { return Vec::new() };
    let mut all = vec![server(request, trace)];
    let attempts = request.attempts.iter().enumerate();
    all.extend(attempts.filter_map(|(index, attempt)| client(request, trace, index, attempt)));
    all
}

fn method(request: &Finished) -> &str {
    METHODS.iter().find(|known| **known == &*request.method).copied().unwrap_or("_OTHER")
}

/// In a span's name, `HTTP` stands for a method that nobody knows.
fn method_in_name(request: &Finished) -> &str {
    match method(request) {
        "_OTHER" => "HTTP",
        known => known,
    }
}

fn server(request: &Finished, trace: RequestTrace) -> Span {
    let route = request.path.as_deref().map(crate::route::template);
    let name = match &route {
        Some(route) => format!("{} {route}", method_in_name(request)),
        None => method_in_name(request).to_owned(),
    };
    let broke = match request.ended {
        Ended::Complete | Ended::CallerGone => None,
        Ended::UpstreamBroke | Ended::UpstreamStalled => Some(request.ended.as_str().to_owned()),
    };
    let failed = request.status.filter(|status| *status >= 500).map(|status| status.to_string());
    let code = request.code.map(|code| code.0.to_owned());
    let is_error = broke.is_some() || failed.is_some();
    let mut attributes = vec![
        text("http.request.method", method(request)),
        text("url.scheme", if request.secure { "https" } else { "http" }),
        text("network.protocol.version", request.http_version),
        text("keyholder.outcome", request.outcome.unwrap_or("none")),
        number("http.request.body.size", request.bytes_in),
        number("http.response.body.size", request.bytes_out),
    ];
    attributes.extend(request.status.map(|status| number("http.response.status_code", status.into())));
    for (key, value) in [
        ("http.route", route),
        ("client.address", request.peer.map(|peer| peer.to_string())),
        ("user_agent.original", request.user_agent.as_deref().map(str::to_owned)),
        ("error.type", broke.or(code).or(failed)),
        ("keyholder.client.id", request.client.as_ref().map(ToString::to_string)),
        ("keyholder.client.name", request.client_name.as_ref().map(ToString::to_string)),
        ("keyholder.credential.name", request.credential.as_ref().map(ToString::to_string)),
        ("keyholder.correlation_id", request.correlation_id.as_deref().map(str::to_owned)),
    ] {
        attributes.extend(value.map(|value| text(key, &value)));
    }
    debug_assert!(attributes.iter().all(|attribute| is_listed(spans::SERVER, &attribute.key)), "a listed attribute");
    let start = nanos(request.began);
    Span {
        name,
        kind: SpanKind::Server.into(),
        parent_span_id: trace.parent.map(|span| span.bytes().to_vec()).unwrap_or_default(),
        // the parent stands in another process
        flags: flags(trace, if trace.parent.is_some() { REMOTE | REMOTE_KNOWN } else { REMOTE_KNOWN }),
        ..span(
            trace,
            trace.context.span.bytes(),
            start,
            start.saturating_add(nanos_of(request.took)),
            attributes,
            is_error,
        )
    }
}

fn client(request: &Finished, trace: RequestTrace, index: usize, attempt: &Attempt) -> Option<Span> {
    let mut attributes = vec![
        text("http.request.method", method(request)),
        text("server.address", &attempt.host),
        number("server.port", attempt.port.into()),
        text("url.scheme", if attempt.secure { "https" } else { "http" }),
    ];
    let refused = attempt.status.filter(|status| *status >= 400).map(|status| status.to_string());
    let error = attempt.error.map(str::to_owned).or(refused);
    attributes.extend(attempt.status.map(|status| number("http.response.status_code", status.into())));
    attributes.extend(error.as_ref().map(|error| text("error.type", error)));
    attributes.extend((index > 0).then(|| number("http.request.resend_count", index as u64)));
    debug_assert!(attributes.iter().all(|attribute| is_listed(spans::CLIENT, &attribute.key)), "a listed attribute");
    let start = nanos(request.began).saturating_add(nanos_of(attempt.after));
    let end = start.saturating_add(nanos_of(attempt.took));
    Some(Span {
        name: method_in_name(request).to_owned(),
        kind: SpanKind::Client.into(),
        parent_span_id: trace.context.span.bytes().to_vec(),
        flags: flags(trace, REMOTE_KNOWN),
        ..span(trace, attempt.span?.bytes(), start, end, attributes, error.is_some())
    })
}

fn is_listed(kind: usize, key: &str) -> bool {
    spans::SPANS.get(kind).is_some_and(|kind| kind.attributes.iter().any(|(known, _)| *known == key))
}

/// Bits 8 and 9 of a span's flags: whether it is known that the parent is remote, and whether it is.
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

fn flags(trace: RequestTrace, remote: u32) -> u32 {
    u32::from(trace.context.sampled) | u32::from(trace.context.random) << 1 | remote
}

fn span(trace: RequestTrace, id: [u8; 8], start: u64, end: u64, attributes: Vec<KeyValue>, is_error: bool) -> Span {
    Span {
        trace_id: trace.context.trace.bytes().to_vec(),
        span_id: id.to_vec(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes,
        status: is_error.then(|| Status { code: StatusCode::Error.into(), message: String::new() }),
        ..Span::default()
    }
}

fn nanos_of(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn number(key: &str, value: u64) -> KeyValue {
    let value = Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX));
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
