//! The engine for callers that were authenticated elsewhere.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use kh_core::PlatformKind;
use kh_gateway::{Limits, LocalBody, LocalProxy};
use tokio::sync::mpsc;

use crate::{
    stores::platform_token,
    support::{Got, PATIENCE, Setup, World},
    upstream::{Upstream, hearing, reply, token, whole},
};

/// The prefix of a profile, and what is sent with every call.
const PROFILE: &str = "/acme";

async fn local(upstream: &Upstream) -> (World, LocalProxy) {
    let world = Setup::new(upstream.address).start().await;
    let proxy = LocalProxy::new(world.ports(), Limits::default());
    (world, proxy)
}

fn request(call: &str, body: &str) -> Request<Full<Bytes>> {
    let (method, target) = call.split_once(' ').unwrap();
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "127.0.0.1:8082")
        .header("x-keyholder-token", "the-guard-token")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

async fn send(world: &World, proxy: &LocalProxy, request: Request<Full<Bytes>>) -> Got {
    let answer = proxy.handle(request, world.credential(), PROFILE.len()).await;
    got(answer).await
}

async fn got(answer: Response<LocalBody>) -> Got {
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Got { status: parts.status.as_u16(), headers: parts.headers, body }
}

#[tokio::test]
async fn a_call_goes_out_with_the_platforms_token_and_nothing_of_the_guard() {
    let upstream = Upstream::start(|_| {
        Box::pin(async { reply(200, &[("set-cookie", "session=1"), ("keep-alive", "timeout=5")], "users") })
    })
    .await;
    let (world, proxy) = local(&upstream).await;
    for (target, seen) in
        [("/acme/api/v2/users?pageSize=5", "/api/v2/users?pageSize=5"), ("/acme/v1/api/v2/users", "/api/v2/users")]
    {
        let mut call = request(&format!("GET {target}"), "");
        for (name, value) in [
            ("authorization", "Bearer of-the-caller"),
            ("x-aws-parameters-secrets-token", "the-guard-token"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("proxy-authorization", "Basic x"),
            ("x-forwarded-for", "192.0.2.1"),
            ("cookie", "a=b"),
            ("x-keyholder-token", "the-guard-token"),
        ] {
            call.headers_mut().append(name, value.parse().unwrap());
        }
        let answer = send(&world, &proxy, call).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"users"[..]));
        assert!(!answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("keep-alive"));
        let last = upstream.seen().pop().unwrap();
        assert_eq!(last.target, seen);
        let names: Vec<&str> = last.headers.keys().map(http::HeaderName::as_str).collect();
        for name in names {
            assert!(["host", "authorization", "via"].contains(&name), "{name} reached the platform");
        }
        assert_eq!(last.headers["authorization"], format!("Bearer {}", platform_token(1)));
        let all = format!("{:?}", last.headers);
        assert!(!all.contains("the-guard-token") && !all.contains("of-the-caller"), "{all}");
    }
    assert_eq!(upstream.connections(), 1, "the second call takes the connection of the first");
}

#[tokio::test]
async fn a_revoked_token_is_healed_once_and_a_hopeless_one_is_a_502() {
    let good = Arc::new(AtomicU64::new(1));
    let of_upstream = Arc::clone(&good);
    let upstream = Upstream::start(move |request| {
        let good = of_upstream.load(Ordering::SeqCst);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = whole(body).await;
            let status = if token(&parts) == platform_token(good) { 200 } else { 401 };
            reply(status, &[], body)
        })
    })
    .await;
    let (world, proxy) = local(&upstream).await;
    assert_eq!(send(&world, &proxy, request("GET /acme/api/v2/users", "")).await.status, 200);
    good.store(2, Ordering::SeqCst);
    let healed = send(&world, &proxy, request("POST /acme/api/v2/users", "the body")).await;
    assert_eq!((healed.status, &healed.body[..]), (200, &b"the body"[..]));
    assert_eq!((world.tokens.fetched(), upstream.seen().len()), (2, 3));
    good.store(0, Ordering::SeqCst);
    let hopeless = send(&world, &proxy, request("GET /acme/api/v2/users", "")).await;
    assert_eq!((hopeless.status, hopeless.json()["code"].as_str()), (502, Some("keyholder.credential.rejected")));
    assert_eq!(upstream.seen().len(), 5, "two sends, and no third");
}

#[tokio::test(start_paused = true)]
async fn a_short_retry_after_is_waited_out() {
    let count = Arc::new(AtomicU64::new(0));
    let upstream = Upstream::start(move |_| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move { if first { reply(429, &[("retry-after", "2")], "") } else { reply(200, &[], "ok") } })
    })
    .await;
    let (world, proxy) = local(&upstream).await;
    let answer = send(&world, &proxy, request("GET /acme/api/v2/users", "")).await;
    assert_eq!((answer.status, upstream.seen().len()), (200, 2));
    assert_eq!(world.metric("keyholder_gateway_rate_limit_waits_total"), 1);
}

#[tokio::test]
async fn what_no_local_caller_may_do_is_refused_before_the_platform() {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "reached") })).await;
    let (world, proxy) = local(&upstream).await;
    for (call, status, code) in [
        ("POST /acme/api/v2/oauth/clients", 403, "keyholder.call.guarded"),
        ("POST /acme/api/v2/oauth/clients/", 403, "keyholder.call.guarded"),
        ("POST /acme/x/api/v2/oauth/clients/1/secret", 403, "keyholder.call.guarded"),
        ("DELETE /acme/api/v2/tokens/me", 403, "keyholder.call.guarded"),
        ("GET /acme/api/v2/public/../oauth/clients", 400, "keyholder.request.ambiguous"),
        ("POST /acme/api/v2/oauth%2Fclients", 400, "keyholder.request.ambiguous"),
        ("POST /acme//api/v2/oauth/clients", 400, "keyholder.request.ambiguous"),
        ("TRACE /acme/api/v2/users", 400, "keyholder.request.ambiguous"),
        ("GET /acme/api/v2/users?access_token=x", 400, "keyholder.request.ambiguous"),
        ("POST /acme/oauth/token", 404, "keyholder.not_found"),
        ("GET /acme/login", 404, "keyholder.not_found"),
        ("GET /acme", 404, "keyholder.not_found"),
        ("GET /acmeapi/v2/users", 404, "keyholder.not_found"),
    ] {
        let answer = send(&world, &proxy, request(call, "")).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{call}");
    }
    for (reason, count) in
        [("keyholder.call.guarded", 4), ("keyholder.request.ambiguous", 5), ("keyholder.not_found", 4)]
    {
        let line = format!(r#"keyholder_gateway_refusals_total{{route="/**",reason="{reason}"}}"#);
        assert_eq!(world.metric(&line), count, "{reason}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn other_platforms_take_every_path_and_their_logins_are_not_offered() {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "reached") })).await;
    let mut setup = Setup::new(upstream.address);
    setup.kind = PlatformKind::Cxone;
    let world = setup.start().await;
    let proxy = LocalProxy::new(world.ports(), Limits::default());
    let answer = send(&world, &proxy, request("GET /acme/inContactAPI/services/v34.0/agents", "")).await;
    assert_eq!((answer.status, upstream.seen()[0].target.as_str()), (200, "/inContactAPI/services/v34.0/agents"));
    for call in ["POST /acme/auth/token", "GET /acme/.well-known/cxone-configuration"] {
        let answer = send(&world, &proxy, request(call, "")).await;
        assert_eq!((answer.status, answer.header("icstatusdescription").is_empty()), (404, false), "{call}");
    }
    assert_eq!(upstream.seen().len(), 1);
}

/// Neither body is read whole before it is passed on: each side sees the first chunk while the second is held back.
#[tokio::test]
async fn bodies_stream_both_ways() {
    let upstream = Upstream::start(|request| {
        // the answer is the request's body as it comes in
        Box::pin(async { Response::new(request.into_body().map_err(std::io::Error::other).boxed()) })
    })
    .await;
    let (world, proxy) = local(&upstream).await;
    let (chunks, from) = mpsc::unbounded_channel::<&'static str>();
    let frames = stream::unfold(from, |mut from| async {
        let chunk = from.recv().await?;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from(chunk))), from))
    });
    let (parts, _) = request("POST /acme/api/v2/uploads", "").into_parts();
    let upload = Request::from_parts(parts, StreamBody::new(frames));
    chunks.send("one").unwrap();
    let (credential, length) = (world.credential(), PROFILE.len());
    let task = tokio::spawn(async move {
        let answer = proxy.handle(upload, credential, length).await;
        (answer, proxy)
    });
    let (answer, _proxy) = tokio::time::timeout(PATIENCE, task).await.expect("it begins").unwrap();
    let mut body = answer.into_body();
    for (sent, next) in [("one", Some("two")), ("two", None)] {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("it arrives").unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), sent);
        if let Some(next) = next {
            chunks.send(next).unwrap();
        }
    }
    drop(chunks);
    assert!(tokio::time::timeout(PATIENCE, body.frame()).await.expect("it ends").is_none());
}

#[tokio::test]
async fn the_body_of_a_get_that_tells_no_length_arrives_whole() {
    let (upstream, bodies) = hearing().await;
    let (world, proxy) = local(&upstream).await;
    let (parts, _) = request("GET /acme/api/v2/users", "").into_parts();
    let pieces = ["the ", "body"].map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))));
    let call = Request::from_parts(parts, StreamBody::new(stream::iter(pieces)));
    let answer = got(proxy.handle(call, world.credential(), PROFILE.len()).await).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"heard"[..]));
    assert_eq!(*bodies.lock(), ["the body"]);
}

/// A profile's name may have a slash, which its caller writes `%2F`; the platform's path may not.
#[tokio::test]
async fn the_prefix_is_whatever_its_reader_took_it_for() {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "users") })).await;
    let (world, proxy) = local(&upstream).await;
    let prefix = "/team%2Facme";
    for (rest, status) in [("/api/v2/users", 200), ("/api/v2%2Fusers", 400)] {
        let call = request(&format!("GET {prefix}{rest}"), "");
        let answer = proxy.handle(call, world.credential(), prefix.len()).await;
        assert_eq!(answer.status().as_u16(), status, "{rest}");
    }
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(upstream.seen()[0].target, "/api/v2/users");
}

/// An upgrade would be a tunnel that nobody watches.
#[tokio::test]
async fn an_upgrade_is_not_asked_for() {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "no tunnel") })).await;
    let (world, proxy) = local(&upstream).await;
    let mut call = request("GET /acme/api/v2/notifications", "");
    call.headers_mut().insert("connection", "upgrade".parse().unwrap());
    call.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    assert_eq!(send(&world, &proxy, call).await.status, 200);
    let seen = upstream.seen().pop().unwrap();
    assert!(!seen.headers.contains_key("upgrade") && !seen.headers.contains_key("connection"));
}
