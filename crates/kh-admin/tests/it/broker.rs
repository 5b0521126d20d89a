//! The broker's contract, row by row.

use std::time::Duration;

use kh_core::Sha256;

use crate::rig::{Mood, Rig, Surface, start};

async fn rig() -> Rig {
    start(Surface::Broker).await
}

fn report(token: &str) -> String {
    format!(r#"{{"sha256":"{}"}}"#, Sha256::of(token.as_bytes()).to_hex())
}

#[tokio::test]
async fn a_token() {
    let rig = rig().await;
    let reply = rig.get("/v1/token/acme").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let expected = serde_json::json!({
        "access_token": "token-1",
        "token_type": "Bearer",
        "expires_at": "2026-11-21T01:00:00Z",
        "expires_in": 3600,
        "api_base": "https://api.mypurecloud.de",
        "platform": "genesys",
        "sha256": Sha256::of(b"token-1").to_hex(),
    });
    assert_eq!(reply.json(), expected);
    rig.clock.advance(Duration::from_millis(60_500));
    let later = rig.get("/v1/token/acme?min_ttl=120").await.json();
    assert_eq!((&later["access_token"], &later["expires_in"]), (&"token-1".into(), &3539.into()));
    assert_eq!(rig.platform.fetches(), 1);
}

#[tokio::test]
async fn names_with_a_slash_and_the_header_shape() {
    let rig = rig().await;
    assert_eq!(rig.get("/v1/token/team%2Facme.eu").await.status, 200);
    let reply = rig.get("/v1/header/acme").await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.body, r#"{"authorizationHeader":"Bearer token-2"}"#);
}

#[tokio::test]
async fn the_alias_header_is_accepted() {
    let rig = rig().await;
    let alias = format!("x-aws-parameters-secrets-token: {}\r\n", rig.token());
    assert_eq!(rig.send("GET /v1/token/acme", &alias, "").await.status, 200);
}

#[tokio::test]
async fn a_bad_token_is_replaced_once() {
    let rig = rig().await;
    rig.get("/v1/token/acme").await;
    let reply = rig.post("/v1/token/acme/invalidate", &report("token-1")).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    assert_eq!(rig.get("/v1/token/acme").await.json()["access_token"], "token-2");
    // an old report, and one about a token that never was, leave the new token alone
    for token in ["token-1", "token-9"] {
        assert_eq!(rig.post("/v1/token/acme/invalidate", &report(token)).await.status, 204);
    }
    assert_eq!(rig.get("/v1/token/acme").await.json()["access_token"], "token-2");
    assert_eq!(rig.platform.fetches(), 2);
}

#[tokio::test]
async fn min_ttl_beyond_a_fresh_token_is_422_without_a_loop() {
    let rig = rig().await;
    for _ in 0..5 {
        let reply = rig.get("/v1/token/acme?min_ttl=7200").await;
        assert_eq!((reply.status, reply.code().as_str()), (422, "keyholder.token.ttl_unsatisfiable"));
    }
    assert!(rig.platform.fetches() <= 1, "{}", rig.platform.fetches());
}

#[tokio::test]
async fn questions_that_have_no_answer() {
    let rig = rig().await;
    let long = format!("/v1/token/{}", "x".repeat(65));
    for (line, body, status, code) in [
        ("GET /v1/token/unknown", "", 404, "keyholder.not_found"),
        ("GET /v1/header/unknown", "", 404, "keyholder.not_found"),
        ("POST /v1/token/unknown/invalidate", "{}", 404, "keyholder.not_found"),
        ("GET /v1/token/..%2F..%2Fetc", "", 404, "keyholder.not_found"),
        ("GET /v1/token/%ff", "", 404, "keyholder.not_found"),
        (&format!("GET {long}"), "", 404, "keyholder.not_found"),
        ("GET /v1/token/", "", 404, "keyholder.not_found"),
        ("GET /", "", 404, "keyholder.not_found"),
        ("GET /v1/token/acme/invalidate", "", 405, "keyholder.method.not_allowed"),
        ("POST /v1/token/acme", "", 405, "keyholder.method.not_allowed"),
        ("GET /v1/token/acme?min_ttl=x", "", 400, "keyholder.request.malformed"),
        ("GET /v1/token/acme?mintl=1", "", 400, "keyholder.request.malformed"),
        ("GET /v1/header/acme?min_ttl=1", "", 400, "keyholder.request.malformed"),
        ("POST /v1/token/acme/invalidate", "", 400, "keyholder.request.malformed"),
        ("POST /v1/token/acme/invalidate", r#"{"sha256":"00"}"#, 400, "keyholder.request.malformed"),
        ("POST /v1/token/acme/invalidate", &" ".repeat(1025), 413, "keyholder.request.too_large"),
    ] {
        let reply = rig.send(line, &rig.guard(), body).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{line}");
    }
    assert_eq!(rig.platform.fetches(), 0);
}

#[tokio::test]
async fn failures_of_the_platform() {
    for (mood, status, code, wait, correlation) in [
        (Mood::Reject, 502, "keyholder.credential.rejected", false, Some("corr-1")),
        (Mood::Limit, 503, "keyholder.token.rate_limited", true, Some("corr-1")),
        (Mood::Down, 502, "keyholder.upstream.unreachable", true, None),
    ] {
        let rig = rig().await;
        rig.platform.set(mood);
        let reply = rig.get("/v1/token/acme").await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code));
        assert_eq!(reply.header("retry-after").is_some(), wait, "{reply:?}");
        assert_eq!(reply.json()["correlation_id"].as_str(), correlation);
        assert_eq!(rig.get("/v1/token/acme").await.status, status);
        assert_eq!(rig.platform.fetches(), 1, "the second caller is told without asking the platform again");
        assert_eq!(rig.send("GET /readyz", "", "").await.status, 200, "callers of the other credentials are served");
        let only = vec![rig.broker.credential(&"acme".parse().unwrap()).unwrap().spec().clone()];
        rig.broker.apply(only);
        let refused = status == 502 && !wait;
        let expected = if refused { 503 } else { 200 };
        assert_eq!(rig.send("GET /readyz", "", "").await.status, expected, "a wait is no reason, a rejection is");
        assert_eq!(rig.send("GET /healthz", "", "").await.status, 200);
    }
}

#[tokio::test]
async fn a_missing_document_is_said_so() {
    let rig = rig().await;
    // both clocks run as fast as everybody waits
    tokio::time::pause();
    let step = Duration::from_millis(100);
    let reply = tokio::select! {
        reply = rig.get("/v1/token/nosecret") => reply,
        () = async {
            loop {
                tokio::time::sleep(step).await;
                rig.clock.advance(step);
            }
        } => unreachable!("the loop never ends"),
    };
    assert_eq!((reply.status, reply.code().as_str()), (502, "keyholder.credential.unusable"));
    assert_eq!(rig.platform.fetches(), 0);
}

/// Nothing else of the broker's answers can go wrong by what a platform sends.
#[tokio::test]
async fn a_token_that_cannot_be_told_is_a_bug_of_ours() {
    let rig = rig().await;
    rig.platform.set(Mood::IssueForeign);
    let reply = rig.get("/v1/header/acme").await;
    assert_eq!((reply.status, reply.code().as_str()), (500, "keyholder.internal"));
    assert!(!reply.body.contains("ken-1"), "{reply:?}");
}

#[tokio::test]
async fn health_needs_no_guard() {
    let rig = rig().await;
    for path in ["/healthz", "/readyz"] {
        let reply = rig.send(&format!("GET {path}"), "", "").await;
        assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")), "{path}");
    }
    assert_eq!(rig.platform.fetches(), 0, "asking for readiness fetches nothing");
}
