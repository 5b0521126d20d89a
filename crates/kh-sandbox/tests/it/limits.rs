//! Rate and size limits, on a frozen clock.

use crate::harness::{Rig, answer};
use kh_sandbox::{EndpointLimit, RateLimitCode, SandboxConfig};
use serde_json::json;

#[tokio::test]
async fn defaults_are_the_platforms() {
    let rig = Rig::default().await;
    let limits = rig.control("GET", "/_sandbox/limits", json!(null)).await.json();
    assert_eq!((&limits["requests_per_token"], &limits["window_seconds"]), (&json!(300), &json!(60)));
    assert_eq!(limits["request_bytes_max"], 512_000);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn each_token_has_its_own_window_with_headers_on_each_answer() {
    for code in [RateLimitCode::TooManyRequests, RateLimitCode::TooManyRequestsRetryAfter] {
        let mut config = SandboxConfig::default();
        config.limits.requests_per_token = 3;
        config.behaviours.rate_limit_code = code;
        let rig = Rig::start(config).await;
        rig.freeze().await;
        let (first, second) = (rig.token().await, rig.token().await);
        for count in 1..=3 {
            let answer = rig.call("GET", "/api/v2/tokens/me", &first).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.number("inin-ratelimit-count"), count);
            assert_eq!(answer.number("inin-ratelimit-allowed"), 3);
            assert_eq!(answer.number("inin-ratelimit-reset"), 60);
        }
        rig.pass(20).await;
        let refused = rig.call("GET", "/api/v2/tokens/me", &first).await;
        assert_eq!((refused.status, refused.number("retry-after")), (429, 40));
        let body = refused.json();
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with("Rate limit exceeded the maximum [3] requests within [60] seconds"), "{message}");
        match code {
            RateLimitCode::TooManyRequests => assert_eq!(body["code"], "too.many.requests"),
            RateLimitCode::TooManyRequestsRetryAfter => {
                assert_eq!(body["code"], "too.many.requests.retry.after");
                assert!(message.ends_with("Retry the request in [40] seconds"), "{message}");
            }
        }
        let limit = json!({"key": "client.credentials.token.rate.per.minute", "namespace": "platform.api", "value": 3});
        assert_eq!(body["limit"], limit);
        assert_eq!(rig.call("GET", "/api/v2/tokens/me", &second).await.status, 200, "the limit is per token");
        rig.pass(40).await;
        assert_eq!(rig.call("GET", "/api/v2/tokens/me", &first).await.status, 200);
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn an_endpoint_limit_is_stricter_than_the_tokens() {
    let mut config = SandboxConfig::default();
    config.limits.endpoints = vec![EndpointLimit {
        method: Some("GET".to_owned()),
        path: "/api/v2/oauth/clients/{clientId}".to_owned(),
        requests: 1,
        window_seconds: 10,
    }];
    let rig = Rig::start(config).await;
    rig.freeze().await;
    let token = rig.token().await;
    let path = format!("/api/v2/oauth/clients/{}", rig.sandbox.admin().id);
    let first = rig.call("GET", &path, &token).await;
    assert_eq!((first.status, first.number("inin-ratelimit-allowed")), (200, 1));
    let second = rig.call("GET", &path, &token).await;
    assert_eq!((second.status, second.number("retry-after")), (429, 10));
    assert_eq!(rig.call("GET", "/api/v2/tokens/me", &token).await.number("inin-ratelimit-allowed"), 300);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn several_tokens_of_a_client_share_its_limit() {
    let mut config = SandboxConfig::default();
    config.limits.requests_per_client_minute = 2;
    let rig = Rig::start(config).await;
    rig.freeze().await;
    for expected in [200, 200, 429] {
        let token = rig.token().await;
        let answer = rig.call("GET", "/api/v2/tokens/me", &token).await;
        assert_eq!(answer.status, expected);
        if expected == 429 {
            assert_eq!(answer.json()["limit"]["key"], "org.app.user.rate.per.minute");
        }
    }
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn limits_can_be_replaced_at_run_time() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    let set = rig.control("PUT", "/_sandbox/limits", json!({"requests_per_token": 5})).await;
    assert_eq!(set.status, 200, "{set:?}");
    assert_eq!(rig.call("GET", "/api/v2/tokens/me", &token).await.number("inin-ratelimit-allowed"), 5);
    assert_eq!(rig.control("PUT", "/_sandbox/limits", json!({"request_per_token": 5})).await.status, 400);
    assert_eq!(rig.control("PUT", "/_sandbox/limits", json!({"window_seconds": 0})).await.status, 400);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_unless_it_is_an_upload() {
    let mut config = SandboxConfig::default();
    config.limits.request_bytes_max = 1_000;
    let rig = Rig::start(config).await;
    let token = rig.token().await;
    let send = |kind: &'static str, size: usize| {
        rig.request("POST", "/api/v2/authorization/roles", &token).header("content-type", kind).body(vec![b' '; size])
    };
    let large = answer(send("application/json", 1_001)).await;
    assert_eq!((large.status, large.code().as_str()), (413, "request.entity.too.large"));
    assert_eq!(answer(send("application/json", 1_000)).await.status, 400, "just no JSON object");
    assert_eq!(answer(send("multipart/form-data; boundary=x", 1_001)).await.status, 400);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_thousand_connections_at_once() {
    let mut config = SandboxConfig::default();
    config.limits.requests_per_token = 1_000_000;
    config.limits.requests_per_client_minute = 1_000_000;
    let rig = Rig::start(config).await;
    let token = rig.token().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let request = rig.request("GET", "/api/v2/tokens/me", &token);
        calls.spawn(async move { request.send().await.map(|response| response.status().as_u16()) });
    }
    let mut served = 0;
    while let Some(done) = calls.join_next().await {
        assert_eq!(done.unwrap().unwrap(), 200);
        served += 1;
    }
    assert_eq!(served, 1_000);
    rig.sandbox.shutdown().await;
}
