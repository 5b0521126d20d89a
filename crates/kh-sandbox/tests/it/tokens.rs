//! Access tokens: validity, idle time, revocation, permissions, addresses.

use crate::harness::{Rig, answer};
use kh_sandbox::{ClientConfig, SandboxConfig};
use serde_json::json;

#[tokio::test]
async fn the_two_401_codes() {
    let rig = Rig::default().await;
    let none = answer(rig.http.get(format!("{}/api/v2/tokens/me", rig.sandbox.genesys_url))).await;
    assert_eq!((none.status, none.code().as_str()), (401, "authentication.required"));
    let bad = rig.call("GET", "/api/v2/tokens/me", "nonsense").await;
    assert_eq!((bad.status, bad.code().as_str()), (401, "bad.credentials"));
    for answer in [none, bad] {
        assert!(answer.headers.contains_key("inin-ratelimit-count"));
        assert_eq!(answer.json()["contextId"], answer.header("inin-correlation-id"));
    }
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn tokens_me_shows_probes_and_revokes() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    let shown = rig.call("GET", "/api-path/api/v2/tokens/me", &token).await;
    assert_eq!(shown.status, 200);
    let body = shown.json();
    assert_eq!(body["OAuthClient"]["id"], json!(rig.sandbox.admin().id));
    assert_eq!(body["organization"]["name"], "Sandbox Organisation");
    assert!(body.get("exp").is_none() && body.get("expires_in").is_none(), "the platform's TokenInfo has no expiry");
    let organization = rig.call("GET", "/api/v2/organizations/me", &token).await.json();
    assert_eq!(organization["id"], body["organization"]["id"]);
    let probe = rig.call("HEAD", "/api/v2/tokens/me", &token).await;
    assert_eq!((probe.status, probe.text.as_str()), (200, ""));
    let null_body = answer(rig.request("DELETE", "/api/v2/tokens/me", &token).body("null")).await;
    assert_eq!(null_body.status, 200);
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &token).await.status, 401);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_token_ends_with_its_life_and_the_skew_applies() {
    for (skew, alive_at) in [(0, 599), (-100, 499), (100, 699)] {
        let mut client = ClientConfig::with_permissions("short", &["*"]);
        client.token_seconds = 600;
        let mut config = SandboxConfig::default();
        config.genesys.clients = vec![client];
        config.behaviours.token_life_skew_seconds = skew;
        let rig = Rig::start(config).await;
        rig.freeze().await;
        let token = rig.token().await;
        rig.pass(alive_at).await;
        assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &token).await.status, 200, "skew {skew}");
        rig.pass(1).await;
        assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &token).await.status, 401, "skew {skew}");
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn the_idle_timer_is_reset_by_calls_but_not_by_a_preserving_check() {
    let mut config = SandboxConfig::default();
    config.genesys.idle_timeout_seconds = Some(300);
    let rig = Rig::start(config).await;
    rig.freeze().await;
    let token = rig.token().await;
    for _ in 0..3 {
        rig.pass(299).await;
        assert_eq!(rig.call("GET", "/api/v2/tokens/me", &token).await.status, 200, "a call resets the timer");
    }
    rig.pass(200).await;
    let preserved = rig.call("GET", "/api/v2/tokens/me?preserveIdleTTL=true", &token).await;
    assert_eq!(preserved.status, 200);
    assert!(preserved.json()["dateTokenIdles"].is_string());
    rig.pass(100).await;
    let idle = rig.call("GET", "/api/v2/tokens/me", &token).await;
    assert_eq!((idle.status, idle.code().as_str()), (401, "bad.credentials"));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn the_idle_timeout_is_an_organisation_setting() {
    let rig = Rig::default().await;
    rig.freeze().await;
    let token = rig.token().await;
    let path = "/api/v2/tokens/timeout";
    assert_eq!(rig.call("GET", path, &token).await.json()["enableIdleTokenTimeout"], false);
    let bad = rig.send("PUT", path, &token, json!({"idleTokenTimeoutSeconds": 299})).await;
    assert_eq!(bad.status, 400);
    let set =
        rig.send("PUT", path, &token, json!({"idleTokenTimeoutSeconds": 300, "enableIdleTokenTimeout": true})).await;
    assert_eq!(set.json(), json!({"idleTokenTimeoutSeconds": 300, "enableIdleTokenTimeout": true}));
    rig.pass(300).await;
    assert_eq!(rig.call("GET", path, &token).await.status, 401);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn permissions_of_the_callers_roles_decide() {
    let mut config = SandboxConfig::default();
    config.genesys.clients = vec![
        ClientConfig::with_permissions("narrow", &["oauth:client:view"]),
        ClientConfig::with_permissions("wide", &["*"]),
    ];
    let rig = Rig::start(config).await;
    let narrow = rig.token_of(0).await;
    assert_eq!(rig.call("GET", "/api/v2/oauth/clients", &narrow).await.status, 200);
    let refused = rig.send("POST", "/api/v2/oauth/clients", &narrow, json!({"name": "x"})).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "missing.any.permissions"));
    assert!(refused.json()["message"].as_str().unwrap().contains("oauth:client:add"));
    assert!(refused.headers.contains_key("inin-ratelimit-count"));
    let queues = rig.call("GET", "/api/v2/audits/query/servicemapping", &narrow).await;
    assert_eq!((queues.status, queues.code().as_str()), (403, "missing.permissions"), "an ALL operation");
    let wide = rig.token_of(1).await;
    assert_eq!(rig.call("GET", "/api/v2/audits/query/servicemapping", &wide).await.status, 200);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_foreign_address_is_not_authorized() {
    let mut client = ClientConfig::with_permissions("fenced", &["*"]);
    client.allowed_ips = vec!["10.0.0.0/8".to_owned()];
    let mut config = SandboxConfig::default();
    config.genesys.clients = vec![client, ClientConfig::with_permissions("free", &["*"])];
    config.behaviours.enforce_allowed_ips = true;
    let rig = Rig::start(config).await;
    let fenced = rig.sandbox.clients[0].clone();
    let refused = rig.login(&fenced.id, fenced.secret.expose()).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (401, Some("ip.not.authorized")));
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &rig.token_of(1).await).await.status, 200);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn deleting_a_users_tokens_leaves_client_credentials_alone() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    assert_eq!(rig.call("DELETE", "/api/v2/tokens/no-such-user", &token).await.status, 404);
    let me = rig.call("GET", "/api/v2/oauth/clients", &token).await;
    let user = me.json()["entities"][0]["createdBy"]["id"].as_str().unwrap().to_owned();
    assert_eq!(rig.call("DELETE", &format!("/api/v2/tokens/{user}"), &token).await.status, 204);
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &token).await.status, 200);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_fence_put_around_a_live_token_shows_at_the_api() {
    let mut config = SandboxConfig::default();
    config.behaviours.enforce_allowed_ips = true;
    let rig = Rig::start(config).await;
    let token = rig.token().await;
    let role =
        rig.call("GET", "/api/v2/authorization/roles?name=admin", &token).await.json()["entities"][0]["id"].clone();
    let body = json!({
        "name": "fenced", "authorizedGrantType": "CLIENT-CREDENTIALS",
        "roleDivisions": [{"roleId": role, "divisionId": "*"}],
    });
    let created = rig.send("POST", "/api/v2/oauth/clients", &token, body.clone()).await.json();
    let (id, secret) = (created["id"].as_str().unwrap(), created["secret"].as_str().unwrap());
    let fenced = rig.login(id, secret).await.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &fenced).await.status, 200);
    let mut body = body;
    body["allowedIps"] = json!(["10.0.0.0/8"]);
    assert_eq!(rig.send("PUT", &format!("/api/v2/oauth/clients/{id}"), &token, body).await.status, 200);
    let refused = rig.call("GET", "/api/v2/tokens/me", &fenced).await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "ip.not.authorized"));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_come_after_authentication() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    assert_eq!(rig.call("GET", "/api/v2/oauth/revoke", "x").await.status, 401);
    let unknown = rig.call("GET", "/api/v2/api-docs", &token).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "not.found"));
    let method = rig.call("PATCH", "/api/v2/oauth/clients", &token).await;
    assert_eq!(method.status, 405);
    assert!(method.header("allow").contains("GET") && method.header("allow").contains("POST"));
    assert!(unknown.number("inin-ratelimit-count") < method.number("inin-ratelimit-count"), "both count");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn what_has_no_rules_of_its_own_is_created_read_and_deleted_by_the_engine() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    let created = rig.send("POST", "/api/v2/routing/queues", &token, json!({"name": "support"})).await;
    assert_eq!(created.status, 200, "{created:?}");
    let path = format!("/api/v2/routing/queues/{}", created.json()["id"].as_str().unwrap());
    assert_eq!(rig.call("GET", &path, &token).await.json()["name"], "support");
    assert!([200, 202, 204].contains(&rig.call("DELETE", &path, &token).await.status));
    assert_eq!(rig.call("GET", &path, &token).await.status, 404);
    rig.sandbox.shutdown().await;
}
