//! The login host: grants, client authentication, limits, metadata.

use crate::harness::{Rig, answer};
use kh_sandbox::{Behaviours, ClientConfig, LoginLimitStatus, SandboxConfig, WrongSecretStatus};
use serde_json::json;

#[tokio::test]
async fn client_credentials_give_an_opaque_token() {
    let rig = Rig::default().await;
    let admin = rig.sandbox.admin();
    assert_eq!(admin.secret.expose().len(), 43);
    let answer = rig.login(&admin.id, admin.secret.expose()).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["access_token"].as_str().unwrap().len(), 86);
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("bearer"), &json!(86_400)));
    assert_eq!(body.as_object().unwrap().len(), 3, "no refresh token and no scope for client credentials");
    assert!(!answer.header("inin-correlation-id").is_empty());
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn body_credentials_prefixes_and_double_authentication() {
    let rig = Rig::default().await;
    let admin = rig.sandbox.admin().clone();
    let url = format!("{}/login/eu/oauth/token", rig.sandbox.genesys_url);
    let form =
        [("grant_type", "client_credentials"), ("client_id", &admin.id), ("client_secret", admin.secret.expose())];
    assert_eq!(answer(rig.http.post(&url).form(&form)).await.status, 200);
    let twice = rig.http.post(&url).basic_auth(&admin.id, Some(admin.secret.expose())).form(&form);
    let twice = answer(twice).await;
    assert_eq!((twice.status, twice.json()["error"].as_str()), (400, Some("invalid_request")));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn wrong_credentials_have_the_login_hosts_shape_and_a_switchable_status() {
    for (status, expected) in [(WrongSecretStatus::BadRequest, 400), (WrongSecretStatus::Unauthorized, 401)] {
        let behaviours = Behaviours { wrong_secret_status: status, ..Behaviours::default() };
        let rig = Rig::start(SandboxConfig { behaviours, ..SandboxConfig::default() }).await;
        let id = rig.sandbox.admin().id.clone();
        for answer in [rig.login(&id, "wrong").await, rig.login("nobody", "wrong").await] {
            assert_eq!(answer.status, expected);
            let body = answer.json();
            assert_eq!(body["error"], "invalid_client");
            assert!(body["description"].is_string() && body["description"] == body["error_description"]);
        }
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn unsupported_and_missing_grants() {
    let rig = Rig::default().await;
    let admin = rig.sandbox.admin().clone();
    let url = format!("{}/oauth/token", rig.sandbox.genesys_url);
    for (form, error) in
        [(vec![("grant_type", "password")], "unsupported_grant_type"), (vec![("a", "b")], "invalid_request")]
    {
        let request = rig.http.post(&url).basic_auth(&admin.id, Some(admin.secret.expose())).form(&form);
        let answer = answer(request).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some(error)));
    }
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn the_login_limit_is_a_400_by_default_and_ends_with_its_minute() {
    for (variant, expected) in [(LoginLimitStatus::BadRequest, 400), (LoginLimitStatus::TooManyRequests, 429)] {
        let mut config = SandboxConfig::default();
        config.limits.logins_per_minute = 2;
        config.behaviours.login_limit_status = variant;
        let rig = Rig::start(config).await;
        rig.freeze().await;
        let admin = rig.sandbox.admin().clone();
        let login = || rig.login(&admin.id, admin.secret.expose());
        assert_eq!((login().await.status, login().await.status), (200, 200));
        let refused = login().await;
        assert_eq!(refused.status, expected);
        assert_eq!(refused.json()["error"], "invalid_request");
        assert!(refused.json()["error_description"].as_str().unwrap().contains("rate limit exceeded"));
        assert_eq!(refused.headers.contains_key("retry-after"), expected == 429);
        rig.pass(60).await;
        assert_eq!(login().await.status, 200);
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn metadata_says_exactly_what_the_platform_says() {
    let rig = Rig::default().await;
    let origin = &rig.sandbox.genesys_url;
    let metadata = answer(rig.http.get(format!("{origin}/.well-known/oauth-authorization-server"))).await.json();
    let mut names: Vec<&str> = metadata.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "authorization_endpoint",
            "code_challenge_methods_supported",
            "grant_types_supported",
            "issuer",
            "response_types_supported",
            "token_endpoint",
            "token_endpoint_auth_methods_supported",
        ]
    );
    assert_eq!(answer(rig.http.get(format!("{origin}/.well-known/openid-configuration"))).await.status, 404);
    rig.sandbox.shutdown().await;
}

/// A client of the code grant, with the RFC 7636 appendix B pair.
fn code_config() -> SandboxConfig {
    let mut client = ClientConfig::with_permissions("code", &[]);
    "CODE".clone_into(&mut client.grant_type);
    client.redirect_uris = vec!["http://localhost:1/back".to_owned()];
    client.scopes = vec!["users".to_owned()];
    let mut config = SandboxConfig::default();
    config.genesys.clients = vec![client];
    config
}

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn code(rig: &Rig) -> String {
    let client = rig.sandbox.admin();
    let url = format!(
        "{}/oauth/authorize?response_type=code&client_id={}&redirect_uri=http%3A%2F%2Flocalhost%3A1%2Fback&state=s1&code_challenge={CHALLENGE}&code_challenge_method=S256",
        rig.sandbox.genesys_url, client.id
    );
    let answer = answer(rig.http.get(url)).await;
    assert_eq!(answer.status, 302, "{answer:?}");
    let location: reqwest::Url = answer.header("location").parse().unwrap();
    let pairs: std::collections::HashMap<_, _> = location.query_pairs().into_owned().collect();
    assert_eq!(pairs["state"], "s1");
    pairs["code"].clone()
}

async fn exchange(rig: &Rig, form: &[(&str, &str)]) -> crate::harness::Answer {
    let client = rig.sandbox.admin();
    let url = format!("{}/oauth/token", rig.sandbox.genesys_url);
    answer(rig.http.post(url).basic_auth(&client.id, Some(client.secret.expose())).form(form)).await
}

#[tokio::test]
async fn code_grant_with_pkce_and_refresh() {
    let rig = Rig::start(code_config()).await;
    let redirect = ("redirect_uri", "http://localhost:1/back");
    let wrong = code(&rig).await;
    let refused =
        exchange(&rig, &[("grant_type", "authorization_code"), ("code", &wrong), redirect, ("code_verifier", "x")])
            .await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_grant")));
    let code = code(&rig).await;
    let form = [("grant_type", "authorization_code"), ("code", code.as_str()), redirect, ("code_verifier", VERIFIER)];
    let granted = exchange(&rig, &form).await;
    assert_eq!(granted.status, 200, "{granted:?}");
    assert_eq!(exchange(&rig, &form).await.status, 400, "a code works once");
    let refresh = granted.json()["refresh_token"].as_str().unwrap().to_owned();
    let again = exchange(&rig, &[("grant_type", "refresh_token"), ("refresh_token", &refresh)]).await;
    assert_eq!(again.status, 200);
    assert_ne!(again.json()["access_token"], granted.json()["access_token"]);
    let me = rig.call("GET", "/api/v2/tokens/me", again.json()["access_token"].as_str().unwrap()).await;
    assert_eq!(me.json()["authorizedScope"], json!(["users"]));
    let credentials = exchange(&rig, &[("grant_type", "client_credentials")]).await;
    assert_eq!(credentials.json()["error"], "unauthorized_client");
    rig.sandbox.shutdown().await;
}

async fn refresh(rig: &Rig, token: &str) -> crate::harness::Answer {
    exchange(rig, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

fn member(answer: &crate::harness::Answer, name: &str) -> String {
    answer.json()[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_second_use_of_a_rotating_refresh_token_ends_its_login_and_no_other() {
    let mut config = code_config();
    config.behaviours.refresh_tokens_rotate = true;
    let rig = Rig::start(config).await;
    let redirect = ("redirect_uri", "http://localhost:1/back");
    let mut logins = Vec::new();
    for _ in 0..2 {
        let code = code(&rig).await;
        let form =
            [("grant_type", "authorization_code"), ("code", code.as_str()), redirect, ("code_verifier", VERIFIER)];
        logins.push(exchange(&rig, &form).await);
    }
    let (first, other) = (member(&logins[0], "refresh_token"), member(&logins[1], "access_token"));
    let second = refresh(&rig, &first).await;
    let (access, newest) = (member(&second, "access_token"), member(&second, "refresh_token"));
    assert_ne!(first, newest);
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &access).await.status, 200);
    let reused = refresh(&rig, &first).await;
    assert_eq!((reused.status, reused.json()["error"].as_str()), (400, Some("invalid_grant")));
    assert_eq!(refresh(&rig, &newest).await.status, 400, "the newest one went with its login");
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &access).await.status, 401, "and so did its access tokens");
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &other).await.status, 200, "another login stays");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn within_the_grace_a_rotating_refresh_token_works_twice() {
    let mut config = code_config();
    config.behaviours.refresh_tokens_rotate = true;
    config.behaviours.refresh_reuse_grace_seconds = 60;
    let rig = Rig::start(config).await;
    let code = code(&rig).await;
    let redirect = ("redirect_uri", "http://localhost:1/back");
    let form = [("grant_type", "authorization_code"), ("code", code.as_str()), redirect, ("code_verifier", VERIFIER)];
    let first = member(&exchange(&rig, &form).await, "refresh_token");
    assert_eq!(refresh(&rig, &first).await.status, 200);
    assert_eq!(refresh(&rig, &first).await.status, 200);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn an_unregistered_redirect_uri_gets_nothing() {
    let rig = Rig::start(code_config()).await;
    let id = &rig.sandbox.admin().id;
    let url = format!(
        "{}/oauth/authorize?response_type=code&client_id={id}&redirect_uri=http%3A%2F%2Fevil.example%2F",
        rig.sandbox.genesys_url
    );
    let answer = answer(rig.http.get(url)).await;
    assert_eq!(answer.status, 400);
    assert!(!answer.headers.contains_key("location"));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn no_refresh_token_while_the_idle_timeout_is_on() {
    let mut config = code_config();
    config.genesys.idle_timeout_seconds = Some(300);
    let rig = Rig::start(config).await;
    let code = code(&rig).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", "http://localhost:1/back"),
        ("code_verifier", VERIFIER),
    ];
    let granted = exchange(&rig, &form).await;
    assert_eq!(granted.status, 200);
    assert!(granted.json().get("refresh_token").is_none());
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn scopes_are_enforced_for_users_only_when_switched_on() {
    for (enforced, expected) in [(false, 200), (true, 403)] {
        let mut config = code_config();
        config.behaviours.enforce_scopes = enforced;
        let rig = Rig::start(config).await;
        let code = code(&rig).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", "http://localhost:1/back"),
            ("code_verifier", VERIFIER),
        ];
        let token = exchange(&rig, &form).await.json()["access_token"].as_str().unwrap().to_owned();
        let answer = rig.call("GET", "/api/v2/oauth/clients", &token).await;
        assert_eq!(answer.status, expected, "{answer:?}");
        if enforced {
            assert_eq!(answer.code(), "app.not.authorized.for.scope");
        }
        rig.sandbox.shutdown().await;
    }
}
