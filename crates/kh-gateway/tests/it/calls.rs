//! Ordinary calls: routing, authorisation, headers, pass-through, error shapes.

use http::StatusCode;
use kh_core::PlatformKind;

use crate::{
    stores::platform_token,
    support::{Setup, assert_status},
    upstream::{Upstream, reply, whole},
};

async fn echo() -> Upstream {
    Upstream::start(|request| {
        Box::pin(async {
            let (parts, body) = request.into_parts();
            let body = whole(body).await;
            let target = parts.uri.to_string();
            let headers = [
                ("x-target", target.as_str()),
                ("content-type", "application/json"),
                ("inin-correlation-id", "platform-1"),
                ("inin-ratelimit-count", "1"),
                ("connection", "x-secret-hop"),
                ("x-secret-hop", "1"),
            ];
            reply(if parts.method == "POST" { 201 } else { 200 }, &headers, body)
        })
    })
    .await
}

#[tokio::test]
async fn a_call_goes_out_with_the_platforms_token_and_nothing_of_the_callers() {
    let upstream = echo().await;
    let world = Setup::new(upstream.address).start().await;
    let mut request = world.request("POST /api-path/api/v2/users?pageSize=25&a=%20b", "{\"a\":1}");
    for (name, value) in [
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("cookie", "session=1"),
        ("inin-correlation-id", "caller-1"),
        ("purecloud-sdk", "269.0.0"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let got = world.send(request).await;
    assert_status(&got, StatusCode::CREATED);
    assert_eq!(got.body, "{\"a\":1}");
    assert_eq!(got.header("x-target"), "/api/v2/users?pageSize=25&a=%20b");
    assert_eq!((got.header("inin-correlation-id"), got.header("inin-ratelimit-count")), ("platform-1", "1"));
    assert!(!got.headers.contains_key("x-secret-hop"));
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.headers["authorization"], format!("Bearer {}", platform_token(1)).as_str());
    assert_eq!(seen.headers["host"], upstream.address.to_string().as_str());
    assert_eq!(seen.headers["inin-correlation-id"], "caller-1");
    assert_eq!(seen.headers["purecloud-sdk"], "269.0.0");
    assert!(!seen.headers.contains_key("cookie") && !seen.headers.contains_key("x-hop"));
    assert!(!format!("{seen:?}").contains(&world.token));
}

#[tokio::test]
async fn connections_and_tokens_are_reused() {
    let upstream = echo().await;
    let world = Setup::new(upstream.address).start().await;
    for _ in 0..20 {
        assert_status(&world.call("GET /api/v2/users").await, StatusCode::OK);
    }
    assert_eq!((world.tokens.fetched(), upstream.connections()), (1, 1));
    assert_eq!(world.metric(r#"keyholder_gateway_upstream_connections_total{how="reused"}"#), 19);
    assert_eq!(world.metric(r#"keyholder_gateway_requests_total{outcome="proxied",status="2xx"}"#), 20);
    assert_eq!(world.metric("keyholder_gateway_in_flight_requests"), 0);
}

#[tokio::test]
async fn empty_and_null_bodies_and_head_and_204() {
    let upstream = Upstream::start(|request| {
        Box::pin(async {
            let (parts, body) = request.into_parts();
            let body = whole(body).await;
            match parts.method.as_str() {
                "DELETE" => reply(204, &[], ""),
                "HEAD" => reply(200, &[("content-length", "12345")], ""),
                _ => reply(200, &[("x-length", &body.len().to_string())], body),
            }
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    let got = world.send(world.request("POST /api/v2/flows/actions/checkin", "null")).await;
    assert_eq!((got.header("x-length"), &got.body[..]), ("4", &b"null"[..]));
    assert_eq!(world.call("POST /api/v2/flows/actions/checkin").await.header("x-length"), "0");
    assert_eq!(world.call("DELETE /api/v2/users/1").await.status, 204);
    let head = world.call("HEAD /api/v2/users/1").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "12345", 0));
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_in_the_platforms_shape_and_never_sent() {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.allow = vec!["GET /api/v2/users/**", "* /api/v2/oauth/**"];
    setup.allow_all = false;
    let world = setup.start().await;
    assert_status(&world.call("GET /api/v2/users/7").await, StatusCode::OK);
    for (call, status, code) in [
        ("GET /api/v2/routing/queues", 403, "keyholder.call.not_allowed"),
        ("DELETE /api/v2/users/7", 403, "keyholder.call.not_allowed"),
        ("POST /api/v2/oauth/clients", 403, "keyholder.call.guarded"),
        ("POST /x/api/v2/oauth/clients/7/secret", 403, "keyholder.call.guarded"),
        ("POST /api/v2/OAUTH/clients/", 403, "keyholder.call.guarded"),
        ("POST /api/v2/oauth/%63lients", 400, "keyholder.request.ambiguous"),
        ("GET /api/v2/users/../oauth/clients", 400, "keyholder.request.ambiguous"),
        ("GET /elsewhere", 404, "keyholder.not_found"),
    ] {
        let got = world.call(call).await;
        let body = got.json();
        assert_eq!((got.status, body["code"].as_str()), (status, Some(code)), "{call}: {body}");
        assert_eq!(body["status"], status);
        assert!(body["message"].is_string() && body["details"].is_array() && body["errors"].is_array());
        assert_eq!(body["contextId"], got.header("inin-correlation-id"));
    }
    for (sent, is_repeated) in [("caller-1", true), ("caller 1", false)] {
        let mut request = world.request("GET /elsewhere", "");
        request.headers_mut().insert("inin-correlation-id", sent.parse().unwrap());
        let got = world.send(request).await;
        let repeated = (got.header("inin-correlation-id") == sent, got.json()["contextId"] == sent);
        assert_eq!(repeated, (is_repeated, is_repeated), "{sent}");
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_caller_without_a_valid_token_gets_a_401_and_its_challenge() {
    let upstream = echo().await;
    let world = Setup::new(upstream.address).start().await;
    for (authorization, challenge) in [
        (None, r#"Bearer realm="keyholder""#),
        (Some("Basic eDp5"), r#"Bearer realm="keyholder""#),
        (Some("Bearer kht_wrong"), "error=\"invalid_token\""),
        (Some("Bearer platform-token-1"), "error=\"invalid_token\""),
    ] {
        let mut request = world.request("GET /api/v2/users", "");
        request.headers_mut().remove("authorization");
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", value.parse().unwrap());
        }
        let got = world.send(request).await;
        assert_status(&got, StatusCode::UNAUTHORIZED);
        assert!(got.header("www-authenticate").contains(challenge), "{authorization:?}: {got:?}");
        assert_eq!(got.json()["code"], "keyholder.caller.unauthenticated");
    }
    world.issuer.set_enabled(&world.client_id, false, "cli:test").await.unwrap();
    assert_status(&world.call("GET /api/v2/users").await, StatusCode::UNAUTHORIZED);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn platform_errors_pass_through_unchanged() {
    let upstream = Upstream::start(|request| {
        Box::pin(async move {
            let status: u16 = request.uri().path().rsplit('/').next().unwrap().parse().unwrap();
            let headers = [("retry-after", "120"), ("content-type", "application/json"), ("www-authenticate", "X")];
            reply(status, &headers, format!("{{\"code\":\"c{status}\"}}"))
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    for status in [302, 400, 403, 404, 409, 429, 500, 502, 503] {
        let got = world.call(&format!("GET /api/v2/x/{status}")).await;
        assert_eq!((got.status, got.body.as_ref()), (status, format!("{{\"code\":\"c{status}\"}}").as_bytes()));
        assert_eq!((got.header("retry-after"), got.header("www-authenticate")), ("120", "X"));
    }
    assert_eq!(upstream.seen().len(), 9);
}

#[tokio::test]
async fn cxone_paths_go_to_their_hosts_and_errors_have_their_shape() {
    let (api, account) = (echo().await, echo().await);
    let mut setup = Setup::new(api.address);
    setup.kind = PlatformKind::Cxone;
    setup.auth_base = Some(format!("http://{}", account.address));
    let world = setup.start().await;
    let got = world.call("GET /inContactAPI/services/v34.0/agents?top=1").await;
    assert_eq!((got.status, got.header("x-target")), (200, "/inContactAPI/services/v34.0/agents?top=1"));
    assert_eq!(world.call("GET /access-key-management/v1/access-keys").await.status, 200);
    assert_eq!((api.seen().len(), account.seen().len()), (1, 1));
    for call in ["POST /access-key-management/v1/access-keys", "POST /public/user/refresh"] {
        let got = world.call(call).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (403, Some("keyholder.call.guarded")), "{call}");
        assert!(got.json()["errorDescription"].is_string());
        assert!(!got.header("icstatusdescription").is_empty());
    }
    assert_eq!((api.seen().len(), account.seen().len()), (1, 1));
}

#[tokio::test]
async fn errors_of_other_issuers_are_problem_documents() {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.kind = PlatformKind::Oauth2;
    setup.allow_all = false;
    setup.allow = vec!["GET /things/{id}"];
    setup.api_base = format!("http://{}/base", upstream.address);
    let world = setup.start().await;
    assert_eq!(world.call("GET /things/1").await.header("x-target"), "/base/things/1");
    let got = world.call("GET /other").await;
    assert_eq!((got.status, got.header("content-type")), (403, "application/problem+json"));
    assert_eq!(
        (got.json()["code"].as_str(), got.json()["status"].as_u64()),
        (Some("keyholder.call.not_allowed"), Some(403))
    );
}

#[tokio::test]
async fn tokens_me_is_about_the_keyholder_token() {
    let upstream = echo().await;
    let world = Setup::new(upstream.address).start().await;
    let got = world.call("GET /p/api/v2/tokens/me?preserveIdleTTL=true").await;
    assert_status(&got, StatusCode::OK);
    assert_eq!(got.json()["OAuthClient"]["id"], world.client_id.as_str());
    assert_eq!(got.json()["OAuthClient"]["authorizedGrantType"], "CLIENT-CREDENTIALS");
    assert_eq!(world.call("HEAD /api/v2/tokens/me").await.status, 200);
    assert_eq!(world.call("POST /api/v2/tokens/me").await.status, 405);
    assert_eq!(world.call("DELETE /api/v2/tokens/me").await.status, 200);
    assert_status(&world.call("GET /api/v2/users").await, StatusCode::UNAUTHORIZED);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn an_absolute_request_target_is_read_by_its_path() {
    let upstream = echo().await;
    let world = Setup::new(upstream.address).start().await;
    let answer = world
        .raw(
            format!(
                "GET http://api.mypurecloud.com/api/v2/users?a=b HTTP/1.1\r\nHost: api.mypurecloud.com\r\n\
                 Authorization: Bearer {}\r\nConnection: close\r\n\r\n",
                world.token
            )
            .as_bytes(),
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(upstream.seen().remove(0).target, "/api/v2/users?a=b");
}

#[tokio::test]
async fn no_platform_token_is_an_error_of_its_own() {
    let upstream = echo().await;
    let world = Setup::new(upstream.address).start().await;
    world.tokens.refuse("invalid_client");
    let got = world.call("GET /api/v2/users").await;
    let body = got.json();
    assert_eq!((got.status, body["code"].as_str()), (502, Some("keyholder.credential.rejected")));
    assert_eq!(body["details"][0]["errorCode"], "invalid_client");
    assert_eq!(
        (body["contextId"].as_str(), got.header("inin-correlation-id")),
        (Some("login-correlation"), "login-correlation")
    );
    assert!(upstream.seen().is_empty());
}
