//! What is told of a request to its observer, gathered on its way.
//!
//! Invariants: without an observer there is no `Trail` and nothing of this runs; with one, a trail tells exactly once,
//! when its last owner (the answer's body, a tunnel, or the request that was given up) is dropped.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts};
use kh_core::{
    Code, CredentialName, Identity,
    port::{observer::USER_AGENT_MAX, security::Told},
    trace::{TraceContext, is_valid_state},
};
use kh_issuer::Client;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use kh_core::port::observer::{Attempt, Ended, Finished, Observer, RequestTrace};

use crate::{request::Began, upstream::Origin};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest method that is told; those of the RFCs have at most 17 characters.
const METHOD_MAX: usize = 32;

/// Most attempts that are told of one request: it is sent again a handful of times at most.
const ATTEMPTS_MAX: usize = 16;

/// One request as it goes.
pub(crate) struct Trail {
    observer: Arc<dyn Observer>,
    began: Instant,
    trace: Option<RequestTrace>,
    told: Mutex<Finished>,
}

impl Trail {
    /// A request came in.
    pub(crate) fn begin(
        observer: &Arc<dyn Observer>,
        parts: &Parts,
        began: Began,
        peer: Option<IpAddr>,
        secure: bool,
    ) -> Arc<Self> {
        let trace = observer.begin(context(&parts.headers));
        let told = Finished {
            began: began.now.wall,
            took: std::time::Duration::ZERO,
            head_took: None,
            method: method(&parts.method),
            path: None,
            http_version: version(parts.version),
            secure,
            peer,
            user_agent: user_agent(&parts.headers),
            status: None,
            outcome: None,
            code: None,
            client: None,
            client_name: None,
            route: None,
            caller: None,
            credential: None,
            correlation_id: None,
            bytes_in: declared_length(&parts.headers),
            bytes_out: 0,
            ended: Ended::CallerGone,
            trace,
            attempts: Vec::new(),
        };
        Arc::new(Self { observer: Arc::clone(observer), began: began.at, trace, told: Mutex::new(told) })
    }

    /// The gateway's place in the trace.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        self.trace.map(|trace| trace.context)
    }

    /// The canonical path is known.
    pub(crate) fn path(&self, path: &str) {
        self.told.lock().path = Some(path.into());
    }

    /// The client's address, as its headers or its connection tell it.
    pub(crate) fn client_address(&self, address: Option<IpAddr>) {
        self.told.lock().peer = address;
    }

    /// The caller is known.
    pub(crate) fn client(&self, client: &Client) {
        let mut told = self.told.lock();
        told.client = Some(client.record.id.clone());
        told.client_name = Some(client.record.name.clone());
    }

    /// The route of a protected API is known.
    pub(crate) fn route(&self, name: &str) {
        self.told.lock().route = Some(name.into());
    }

    /// A protected API's caller is known.
    pub(crate) fn identity(&self, identity: &Identity) {
        self.told.lock().caller = identity.client().or(identity.subject()).map(Told::new);
    }

    /// The credential is known.
    pub(crate) fn credential(&self, name: &CredentialName) {
        self.told.lock().credential = Some(name.clone());
    }

    /// It was refused or failed.
    pub(crate) fn refused(&self, code: Code) {
        self.told.lock().code = Some(code);
    }

    /// The head of the answer.
    pub(crate) fn answered(&self, status: StatusCode, outcome: &'static str, correlation_id: Option<&str>) {
        let took = self.began.elapsed();
        let mut told = self.told.lock();
        told.status = Some(status.as_u16());
        told.head_took = Some(took);
        told.outcome = Some(outcome);
        told.correlation_id = correlation_id.map(Box::from);
    }

    /// Bytes of the request's body were read. The first ones replace what the head announced.
    pub(crate) fn read(&self, before: u64, bytes: u64) {
        self.told.lock().bytes_in = before + bytes;
    }

    /// Bytes of the answer's body were handed on.
    pub(crate) fn wrote(&self, bytes: u64) {
        self.told.lock().bytes_out += bytes;
    }

    /// The answer is over.
    pub(crate) fn ended(&self, ended: Ended) {
        self.told.lock().ended = ended;
    }

    /// An attempt to reach the platform begins; dropped unfinished, it was given up.
    pub(crate) fn attempt(&self, origin: &Origin) -> Attempting<'_> {
        let span = self.trace.and_then(|_| self.observer.span_id());
        Attempting { trail: self, span, began: Instant::now(), origin: origin.clone_name(), done: false }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let mut told = self.told.get_mut().clone();
        told.took = self.began.elapsed();
        self.observer.finished(told);
    }
}

/// The name of a platform's host as an attempt tells it.
pub(crate) struct HostName {
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    pub(crate) secure: bool,
}

/// An attempt under way.
pub(crate) struct Attempting<'a> {
    trail: &'a Trail,
    span: Option<kh_core::trace::SpanId>,
    began: Instant,
    origin: HostName,
    done: bool,
}

impl Attempting<'_> {
    /// Puts the attempt's place in the trace into the request. The caller's `tracestate` goes with it.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        let Some((trace, span)) = self.trail.trace.zip(self.span) else { return };
        let context = TraceContext { span, ..trace.context };
        if let Ok(value) = HeaderValue::from_str(&context.header()) {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// The head of the platform's answer came.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.end(Some(status.as_u16()), None);
    }

    /// There was no answer.
    pub(crate) fn failed(mut self, kind: &'static str) {
        self.end(None, Some(kind));
    }

    fn end(&mut self, status: Option<u16>, error: Option<&'static str>) {
        self.done = true;
        let mut told = self.trail.told.lock();
        if told.attempts.len() < ATTEMPTS_MAX {
            told.attempts.push(Attempt {
                span: self.span,
                after: self.began.duration_since(self.trail.began),
                took: self.began.elapsed(),
                host: std::mem::take(&mut self.origin.host),
                port: self.origin.port,
                secure: self.origin.secure,
                status,
                error,
            });
        }
    }
}

impl Drop for Attempting<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.end(None, Some("cancelled"));
        }
    }
}

/// The trace of a caller, if its headers are valid. Two `traceparent` headers are none (section 3.2).
pub(crate) fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let context = TraceContext::parse(values.next()?.as_bytes())?;
    values.next().is_none().then_some(context)
}

/// Takes out what does not parse: an invalid `traceparent` with its `tracestate`, or an invalid `tracestate` alone (W3C
/// trace context, sections 3.2 and 3.3). Valid ones are not touched.
pub(crate) fn keep_valid(headers: &mut HeaderMap) -> Option<TraceContext> {
    let context = context(headers);
    if context.is_none() {
        headers.remove(TRACEPARENT);
    }
    let states = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes);
    if context.is_none() || !is_valid_state(states) {
        headers.remove(TRACESTATE);
    }
    context
}

fn method(method: &Method) -> Box<str> {
    method.as_str().get(..METHOD_MAX).unwrap_or(method.as_str()).into()
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

/// Printable ASCII only, so that no line of a log can be forged or torn.
fn user_agent(headers: &HeaderMap) -> Option<Box<str>> {
    let value = headers.get(header::USER_AGENT)?.as_bytes();
    let clean = |byte: &u8| if matches!(byte, 0x20..=0x7e) { char::from(*byte) } else { '?' };
    let text: String = value.iter().take(USER_AGENT_MAX).map(clean).collect();
    (!text.is_empty()).then(|| text.into())
}

fn declared_length(headers: &HeaderMap) -> u64 {
    headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn trace_headers_are_kept_whole_or_dropped() {
        for (sent, kept) in [
            (vec![("traceparent", PARENT)], vec!["traceparent"]),
            (vec![("traceparent", PARENT), ("tracestate", "a=1")], vec!["traceparent", "tracestate"]),
            (
                vec![("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")],
                vec!["traceparent", "tracestate", "tracestate"],
            ),
            (vec![("traceparent", PARENT), ("tracestate", "not a list")], vec!["traceparent"]),
            (vec![("traceparent", "00-x"), ("tracestate", "a=1")], vec![]),
            (vec![("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "a=1")], vec![]),
            (vec![("tracestate", "a=1")], vec![]),
            (vec![], vec![]),
        ] {
            let mut headers = map(&sent);
            assert_eq!(keep_valid(&mut headers).is_some(), kept.contains(&"traceparent"), "{sent:?}");
            assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), kept, "{sent:?}");
        }
    }

    #[test]
    fn user_agents_are_cleaned_and_bounded() {
        let long = "x".repeat(USER_AGENT_MAX + 1);
        for (sent, told) in [
            ("curl/8", Some("curl/8")),
            ("a\tb\u{7f}\u{e9}", Some("a?b???")),
            (long.as_str(), Some(&long[..USER_AGENT_MAX])),
            ("", None),
        ] {
            // `map` takes what a header may hold; a tab and bytes above 0x7f it may
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(sent.as_bytes()) {
                headers.insert(header::USER_AGENT, value);
            } else {
                headers.insert(header::USER_AGENT, HeaderValue::from_bytes(b"a\tb?\xc3\xa9").unwrap());
            }
            assert_eq!(user_agent(&headers).as_deref(), told, "{sent:?}");
        }
    }
}
