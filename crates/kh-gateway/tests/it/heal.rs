//! A platform that refuses tokens or asks for patience.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};

use crate::{
    stores::platform_token,
    support::{PATIENCE, Setup, World, assert_status},
    upstream::{Upstream, reply, token, whole},
};

const BAD: &str = r#"{"message":"Invalid login credentials.","code":"bad.credentials","status":401}"#;

/// Answers 401 unless the token is the `good`-th, echoing the body.
async fn picky(good: Arc<AtomicU64>) -> Upstream {
    Upstream::start(move |request| {
        let good = Arc::clone(&good);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = whole(body).await;
            if token(&parts) == platform_token(good.load(Ordering::SeqCst)) {
                return reply(200, &[], body);
            }
            reply(401, &[("inin-correlation-id", "refused-1"), ("content-type", "application/json")], BAD)
        })
    })
    .await
}

#[tokio::test]
async fn a_revoked_token_is_healed_with_the_same_body() {
    let good = Arc::new(AtomicU64::new(1));
    let upstream = picky(Arc::clone(&good)).await;
    let world = Setup::new(upstream.address).start().await;
    assert_status(&world.call("GET /api/v2/users").await, StatusCode::OK);
    good.store(2, Ordering::SeqCst);
    let body = "x".repeat(100_000);
    let got = world.send(world.request("POST /api/v2/users", &body)).await;
    assert_eq!((got.status, got.body == body), (200, true));
    assert_eq!((world.tokens.fetched(), upstream.seen().len()), (2, 3));
    assert_eq!(world.metric(r#"keyholder_gateway_token_heals_total{result="healed"}"#), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_with_a_revoked_token_cause_one_refetch_and_no_failure() {
    let good = Arc::new(AtomicU64::new(1));
    let upstream = picky(Arc::clone(&good)).await;
    let mut setup = Setup::new(upstream.address);
    setup.config.workers = 2;
    let world = Arc::new(setup.start().await);
    assert_status(&world.call("GET /api/v2/users").await, StatusCode::OK);
    good.store(2, Ordering::SeqCst);
    let mut calls = JoinSet::new();
    for index in 0..1_000 {
        let world = Arc::clone(&world);
        calls.spawn(async move {
            let method = if index % 2 == 0 { "GET" } else { "POST" };
            world.send(world.request(&format!("{method} /api/v2/users/{index}"), "{}")).await.status
        });
    }
    let statuses = calls.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status != 200).count(), 0);
    assert_eq!(world.tokens.fetched(), 2);
    assert!(world.metric(r#"keyholder_gateway_token_heals_total{result="healed"}"#) > 0);
}

async fn check_rejected(world: &World, call: &str, body: &str, code: Option<&str>) {
    let got = world.send(world.request(call, body)).await;
    assert_status(&got, StatusCode::BAD_GATEWAY);
    let json = got.json();
    assert_eq!(json["code"], "keyholder.credential.rejected");
    assert_eq!(json["details"][0]["errorCode"].as_str(), code);
    assert_eq!((json["contextId"].as_str(), got.header("inin-correlation-id")), (Some("refused-1"), "refused-1"));
}

#[tokio::test]
async fn what_a_fresh_token_does_not_heal_is_a_502() {
    let upstream = picky(Arc::new(AtomicU64::new(0))).await;
    let world = Setup::new(upstream.address).start().await;
    check_rejected(&world, "POST /api/v2/users", "{}", Some("bad.credentials")).await;
    assert_eq!((world.tokens.fetched(), upstream.seen().len()), (2, 2));
    assert_eq!(world.metric(r#"keyholder_gateway_token_heals_total{result="failed"}"#), 1);
}

/// Some operations answer 401 whatever the token. A client that calls one again and again must not log the credential
/// in again and again, nor bring on the pause that follows a storm of dead tokens: other clients share the token.
#[tokio::test]
async fn a_call_that_always_gets_401_does_not_take_the_token_from_others() {
    let upstream = Upstream::start(|request| {
        Box::pin(async move {
            if request.uri().path().ends_with("/always") { reply(401, &[], BAD) } else { reply(200, &[], "ok") }
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    assert_status(&world.call("GET /api/v2/users").await, StatusCode::OK);
    for _ in 0..8 {
        assert_status(&world.call("GET /api/v2/always").await, StatusCode::BAD_GATEWAY);
        assert_status(&world.call("GET /api/v2/users").await, StatusCode::OK);
    }
    assert_eq!(world.tokens.fetched(), 2);
}

/// The token was renewed while the call was on its way, and then the platform ended both: the renewed one is no answer to
/// the call's 401, so that a third one is fetched for it.
#[tokio::test]
async fn a_call_that_meets_a_renewal_and_then_the_end_of_both_tokens_is_healed() {
    let (ended, good) = (Arc::new(Notify::new()), platform_token(3));
    let told = Arc::clone(&ended);
    let upstream = Upstream::start(move |request| {
        let (told, good) = (Arc::clone(&told), good.clone());
        Box::pin(async move {
            let (parts, _) = request.into_parts();
            if token(&parts) == platform_token(1) && parts.uri.path().ends_with("/slow") {
                told.notified().await;
            }
            if token(&parts) == good { reply(200, &[], "ok") } else { reply(401, &[], BAD) }
        })
    })
    .await;
    let world = Arc::new(Setup::new(upstream.address).start().await);
    let calling = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.call("GET /api/v2/slow").await }
    });
    while upstream.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.credential().renew().await.unwrap().generation(), 2);
    ended.notify_one();
    assert_status(&calling.await.unwrap(), StatusCode::OK);
    assert_eq!((world.tokens.fetched(), upstream.seen().len()), (3, 3));
}

#[tokio::test]
async fn two_tokens_killed_in_a_row_do_not_shut_a_lone_client_out() {
    let good = Arc::new(AtomicU64::new(3));
    let upstream = picky(Arc::clone(&good)).await;
    let world = Setup::new(upstream.address).start().await;
    check_rejected(&world, "GET /api/v2/users", "", Some("bad.credentials")).await;
    assert_status(&world.call("GET /api/v2/users").await, StatusCode::OK);
    assert_eq!(world.tokens.fetched(), 3);
}

#[tokio::test]
async fn a_refused_address_costs_no_token() {
    let upstream = Upstream::start(|_| {
        Box::pin(async {
            reply(401, &[("inin-correlation-id", "refused-1")], r#"{"code":"ip.not.authorized","status":401}"#)
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    for _ in 0..3 {
        check_rejected(&world, "GET /api/v2/users", "", Some("ip.not.authorized")).await;
    }
    assert_eq!((world.tokens.fetched(), upstream.seen().len()), (1, 3));
}

/// A platform compresses its 401 as well, if the caller takes that.
#[tokio::test]
async fn a_refused_address_costs_no_token_when_its_answer_is_compressed() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(br#"{"code":"ip.not.authorized","status":401}"#).unwrap();
    let packed = packed.finish().unwrap();
    let upstream = Upstream::start(move |_| {
        let packed = packed.clone();
        Box::pin(
            async move { reply(401, &[("inin-correlation-id", "refused-1"), ("content-encoding", "gzip")], packed) },
        )
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    for _ in 0..3 {
        check_rejected(&world, "GET /api/v2/users", "", Some("ip.not.authorized")).await;
    }
    assert_eq!((world.tokens.fetched(), upstream.seen().len()), (1, 3));
}

#[tokio::test]
async fn a_401_without_a_readable_body_is_healed_as_well() {
    for body in ["{bad json", "", "<html>", "[1]"] {
        let upstream = Upstream::start(move |request| {
            Box::pin(async move {
                let (parts, _) = request.into_parts();
                if token(&parts) == platform_token(1) { reply(401, &[], body) } else { reply(200, &[], "ok") }
            })
        })
        .await;
        let world = Setup::new(upstream.address).start().await;
        assert_status(&world.call("GET /api/v2/users").await, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_short_retry_after_is_waited_out_for_idempotent_calls_only() {
    for (method, status, retry_after, refusals, expected, sent) in [
        ("GET", 429, "0", 1, 200, 2),
        ("PUT", 503, "0", 2, 200, 3),
        ("DELETE", 429, "0", 9, 429, 3),
        ("POST", 429, "0", 1, 429, 1),
        ("PATCH", 503, "0", 1, 503, 1),
        ("GET", 429, "31", 1, 429, 1),
        ("GET", 429, "soon", 1, 429, 1),
        ("GET", 500, "0", 1, 500, 1),
    ] {
        let left = Arc::new(AtomicU64::new(refusals));
        let bodies: Arc<Mutex<Vec<bytes::Bytes>>> = Arc::default();
        let journal = Arc::clone(&bodies);
        let upstream = Upstream::start(move |request| {
            let (left, journal) = (Arc::clone(&left), Arc::clone(&journal));
            Box::pin(async move {
                let body = whole(request.into_body()).await;
                journal.lock().push(body);
                if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                    return reply(status, &[("retry-after", retry_after)], "slow down");
                }
                reply(200, &[], "ok")
            })
        })
        .await;
        let world = Setup::new(upstream.address).start().await;
        let got = world.send(world.request(&format!("{method} /api/v2/users/1"), "{\"same\":1}")).await;
        assert_eq!((got.status, upstream.seen().len()), (expected, sent), "{method} {status} {retry_after}");
        assert!(bodies.lock().iter().all(|body| body == "{\"same\":1}"));
        assert_eq!(world.metric("keyholder_gateway_rate_limit_waits_total"), sent as u64 - 1);
    }
}

/// Who is asked for patience is not to answer it with a handshake.
#[tokio::test]
async fn what_is_waited_out_is_asked_again_on_the_same_connection() {
    // of the rest of a long refusal nobody waits for the end
    for (refusal, opened) in [(100, 1), (100_000, 2)] {
        let left = Arc::new(AtomicU64::new(1));
        let upstream = Upstream::start(move |_| {
            let first = left.swap(0, Ordering::SeqCst) == 1;
            Box::pin(async move {
                if first { reply(429, &[("retry-after", "0")], "x".repeat(refusal)) } else { reply(200, &[], "ok") }
            })
        })
        .await;
        let world = Setup::new(upstream.address).start().await;
        assert_status(&world.call("GET /api/v2/users").await, StatusCode::OK);
        assert_eq!(world.metric("keyholder_gateway_rate_limit_waits_total"), 1);
        assert_eq!(world.metric(r#"keyholder_gateway_upstream_connections_total{how="opened"}"#), opened, "{refusal}");
    }
}

/// What is sent again is the whole body or none: not what was left of it when its caller went away in between.
#[tokio::test]
async fn a_body_that_breaks_off_while_a_refusal_comes_is_not_sent_again_as_a_whole_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = Setup::new(listener.local_addr().unwrap()).start().await;
    let upload = format!(
        "PUT /api/v2/users/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nfirst\r\n",
        world.token
    );
    let mut caller = TcpStream::connect(world.address).await.unwrap();
    caller.write_all(upload.as_bytes()).await.unwrap();
    let (mut platform, _) = listener.accept().await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"first\r\n") {
        platform.read_buf(&mut heard).await.unwrap();
    }
    let refusal = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nwa";
    platform.write_all(refusal).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    caller.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(platform.write_all(b"it").await);
    let again = async {
        let (mut platform, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while platform.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {
            assert!(!heard.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&heard));
        }
        std::future::pending::<()>().await;
    };
    let mut answer = String::new();
    let answered = async { caller.read_to_string(&mut answer).await.map(drop).unwrap() };
    tokio::select! {
        () = again => (),
        done = tokio::time::timeout(PATIENCE, answered) => done.expect("it is answered"),
    }
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("the request body broke off"), "{answer}");
}

#[tokio::test]
async fn a_body_too_large_to_keep_is_not_sent_again() {
    let good = Arc::new(AtomicU64::new(2));
    let upstream = picky(Arc::clone(&good)).await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.replay_body_bytes = 1_000;
    let world = setup.start().await;
    check_rejected(&world, "PUT /api/v2/users/1", &"x".repeat(1_001), Some("bad.credentials")).await;
    assert_eq!(upstream.seen().len(), 1);
    // the refused token is not used again
    let got = world.send(world.request("PUT /api/v2/users/1", &"x".repeat(1_001))).await;
    assert_eq!((got.status, world.tokens.fetched()), (200, 2));
}
