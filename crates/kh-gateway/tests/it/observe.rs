//! What an observer is told, and what becomes of trace headers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::StatusCode;
use kh_core::trace::{SpanId, TraceContext, TraceId};
use kh_gateway::observe::{Ended, Finished, Observer, RequestTrace};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use crate::{
    stores::platform_token,
    support::{PATIENCE, Setup, World, assert_status},
    upstream::{Upstream, raw, reply, token, whole},
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Remembers everything, and takes part in every trace if it is told to.
#[derive(Default)]
struct Recorder {
    traces: bool,
    spans: AtomicU64,
    heard: Mutex<Vec<Finished>>,
    news: Notify,
}

impl Observer for Recorder {
    fn begin(&self, caller: Option<TraceContext>) -> Option<RequestTrace> {
        let span = self.span_id().filter(|_| self.traces)?;
        let fresh = TraceContext { trace: TraceId::new([5; 16])?, span, sampled: true, random: true };
        let context = caller.map_or(fresh, |caller| TraceContext { span, ..caller });
        Some(RequestTrace { context, parent: caller.map(|caller| caller.span) })
    }

    fn span_id(&self) -> Option<SpanId> {
        SpanId::new((1 + self.spans.fetch_add(1, Ordering::SeqCst)).to_be_bytes())
    }

    fn finished(&self, request: Finished) {
        self.heard.lock().push(request);
        self.news.notify_one();
    }
}

impl Recorder {
    fn new(traces: bool) -> Arc<Self> {
        Arc::new(Self { traces, ..Self::default() })
    }

    /// The next request that was told.
    async fn next(&self) -> Finished {
        let waiting = async {
            loop {
                if let Some(found) = self.heard.lock().pop() {
                    return found;
                }
                self.news.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the observer is told")
    }
}

async fn world(upstream: std::net::SocketAddr, recorder: &Arc<Recorder>) -> World {
    let observer: Arc<dyn Observer> = recorder.clone();
    Setup { observer: Some(observer), ..Setup::new(upstream) }.start().await
}

async fn echo() -> Upstream {
    Upstream::start(|request| {
        Box::pin(async move { reply(200, &[("inin-correlation-id", "c-1")], whole(request.into_body()).await) })
    })
    .await
}

#[tokio::test]
async fn a_proxied_call_is_told_once_with_everything_but_its_secrets() {
    let recorder = Recorder::new(false);
    let upstream = echo().await;
    let world = world(upstream.address, &recorder).await;
    let mut request = world.request("POST /api/v2/users?email=somebody@example.org", "hello");
    request.headers_mut().insert("user-agent", "sdk/1".parse().unwrap());
    assert_status(&world.send(request).await, StatusCode::OK);
    let told = recorder.next().await;
    assert_eq!(
        (&*told.method, told.path.as_deref(), told.status, told.outcome),
        ("POST", Some("/api/v2/users"), Some(200), Some("proxied"))
    );
    assert_eq!((told.bytes_in, told.bytes_out, told.ended), (5, 5, Ended::Complete));
    assert_eq!(told.client.as_ref().map(ToString::to_string), Some(world.client_id.clone()));
    assert_eq!(told.client_name.as_ref().map(ToString::to_string).as_deref(), Some("app"));
    assert_eq!(told.credential.as_ref().map(ToString::to_string).as_deref(), Some("acme"));
    assert_eq!((told.user_agent.as_deref(), told.correlation_id.as_deref()), (Some("sdk/1"), Some("c-1")));
    assert_eq!((told.http_version, told.secure, told.code), ("1.1", false, None));
    assert!(told.peer.is_some_and(|peer| peer.is_loopback()) && told.head_took.is_some_and(|head| head <= told.took));
    let [attempt] = told.attempts.as_slice() else { panic!("{told:?}") };
    assert_eq!((attempt.status, attempt.error, attempt.span, &*attempt.host), (Some(200), None, None, "127.0.0.1"));
    let shown = format!("{told:?}");
    for secret in [world.token.as_str(), &platform_token(1), "somebody", "hello"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(recorder.heard.lock().is_empty(), "told once");
}

#[tokio::test]
async fn refusals_logins_and_failures_are_told_with_their_code() {
    let recorder = Recorder::new(false);
    let world = world("127.0.0.1:1".parse().unwrap(), &recorder).await;
    for (call, status, outcome, code, path) in [
        ("GET /api/v2/users", 502, "failed", Some("keyholder.upstream.unreachable"), Some("/api/v2/users")),
        ("GET /api/v2/../x", 400, "refused", Some("keyholder.request.ambiguous"), None),
        ("POST /api/v2/oauth/clients", 403, "refused", Some("keyholder.call.guarded"), Some("/api/v2/oauth/clients")),
        ("GET /nothing", 404, "refused", Some("keyholder.not_found"), Some("/nothing")),
        ("GET /oauth/token", 405, "refused", Some("keyholder.method.not_allowed"), Some("/oauth/token")),
        ("HEAD /api/v2/tokens/me", 200, "own", None, Some("/api/v2/tokens/me")),
        ("GET /auth/jwks", 200, "own", None, Some("/auth/jwks")),
    ] {
        world.call(call).await;
        let told = recorder.next().await;
        let got = (told.status, told.outcome, told.code.map(|code| code.0), told.path.as_deref());
        assert_eq!(got, (Some(status), Some(outcome), code, path), "{call}");
        assert_eq!(told.ended, Ended::Complete, "{call}");
    }
    let form =
        format!("grant_type=client_credentials&client_id={}&client_secret={}", world.client_id, world.client_secret);
    let mut request = world.request("POST /oauth/token", &form);
    request.headers_mut().remove("authorization");
    request.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    assert_status(&world.send(request).await, StatusCode::OK);
    let told = recorder.next().await;
    assert_eq!(told.client_name.map(|name| name.to_string()).as_deref(), Some("app"));
    assert_eq!(world.metric(r#"keyholder_issuer_logins_total{result="ok"}"#), 1);
    assert_eq!(world.metric(r#"keyholder_issuer_logins_total{result="invalid_request"}"#), 1);
}

#[tokio::test]
async fn how_an_answer_broke_off_is_told() {
    const CUT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
    let recorder = Recorder::new(false);
    let (address, _heads, _tasks) = raw(vec![CUT]).await;
    let world = world(address, &recorder).await;
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    stream.write_all(call(&world, "").as_bytes()).await.unwrap();
    // not even half closed before the end: that would be a caller who leaves
    let mut text = Vec::new();
    drop(stream.read_to_end(&mut text).await);
    assert!(text.ends_with(b"abc"), "{}", String::from_utf8_lossy(&text));
    let told = recorder.next().await;
    assert_eq!((told.ended, told.status, told.bytes_out), (Ended::UpstreamBroke, Some(200), 3));
}

fn call(world: &World, more: &str) -> String {
    let token = &world.token;
    format!("GET /api/v2/users HTTP/1.1\r\nhost: k\r\nauthorization: Bearer {token}\r\n{more}\r\n")
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_is_told() {
    let recorder = Recorder::new(false);
    let asked = Arc::new(Notify::new());
    let came = Arc::clone(&asked);
    let upstream = Upstream::start(move |_| {
        came.notify_one();
        Box::pin(std::future::pending())
    })
    .await;
    let world = world(upstream.address, &recorder).await;
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    stream.write_all(call(&world, "").as_bytes()).await.unwrap();
    asked.notified().await;
    drop(stream);
    let told = recorder.next().await;
    assert_eq!((told.ended, told.status, told.head_took), (Ended::CallerGone, None, None));
    assert_eq!(told.attempts.first().and_then(|attempt| attempt.error), Some("cancelled"));
}

#[tokio::test]
async fn without_tracing_valid_trace_headers_pass_and_others_do_not() {
    let upstream = echo().await;
    let world = Setup::new(upstream.address).start().await;
    for (sent, arrives) in [
        (vec![("traceparent", PARENT), ("tracestate", "a=1,b=2")], vec![PARENT, "a=1,b=2"]),
        (vec![("traceparent", PARENT)], vec![PARENT]),
        (vec![("traceparent", PARENT), ("tracestate", "=")], vec![PARENT]),
        (vec![("traceparent", "00-x"), ("tracestate", "a=1")], vec![]),
        (vec![("tracestate", "a=1")], vec![]),
        (vec![], vec![]),
    ] {
        let mut request = world.request("GET /api/v2/users", "");
        for (name, value) in &sent {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        assert_status(&world.send(request).await, StatusCode::OK);
        let seen = upstream.seen().pop().unwrap().headers;
        let found: Vec<&str> =
            ["traceparent", "tracestate"].iter().filter_map(|name| seen.get(*name)?.to_str().ok()).collect();
        assert_eq!(found, arrives, "{sent:?}");
    }
}

#[tokio::test]
async fn with_tracing_each_attempt_has_a_child_span_of_its_own() {
    let good = Arc::new(AtomicU64::new(2));
    let upstream = Upstream::start(move |request| {
        let good = Arc::clone(&good);
        Box::pin(async move {
            let (parts, _) = request.into_parts();
            let status = if token(&parts) == platform_token(good.load(Ordering::SeqCst)) { 200 } else { 401 };
            reply(status, &[], "{}")
        })
    })
    .await;
    let recorder = Recorder::new(true);
    let world = world(upstream.address, &recorder).await;
    let mut request = world.request("GET /api/v2/users", "");
    request.headers_mut().insert("traceparent", PARENT.parse().unwrap());
    request.headers_mut().insert("tracestate", "a=1".parse().unwrap());
    assert_status(&world.send(request).await, StatusCode::OK);
    let told = recorder.next().await;
    let trace = told.trace.unwrap();
    assert_eq!(trace.parent.map(|span| span.to_string()).as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!(trace.context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    let sent: Vec<String> =
        upstream.seen().iter().map(|seen| seen.headers["traceparent"].to_str().unwrap().to_owned()).collect();
    let expected: Vec<String> = told
        .attempts
        .iter()
        .map(|attempt| TraceContext { span: attempt.span.unwrap(), ..trace.context }.header())
        .collect();
    assert_eq!((sent.len(), &sent), (2, &expected));
    assert!(sent[0] != sent[1] && upstream.seen().iter().all(|seen| seen.headers["tracestate"] == "a=1"));
    assert_eq!(told.attempts.iter().filter_map(|attempt| attempt.status).collect::<Vec<_>>(), [401, 200]);

    // an invalid parent is ignored: the trace begins here
    let mut request = world.request("GET /api/v2/users", "");
    request.headers_mut().insert("traceparent", "00-junk".parse().unwrap());
    request.headers_mut().insert("tracestate", "a=1".parse().unwrap());
    assert_status(&world.send(request).await, StatusCode::OK);
    let seen = upstream.seen().pop().unwrap().headers;
    assert!(seen["traceparent"].to_str().unwrap().starts_with(&format!("00-{}-", "05".repeat(16))), "{seen:?}");
    assert!(!seen.contains_key("tracestate") && recorder.next().await.trace.unwrap().parent.is_none());
}
