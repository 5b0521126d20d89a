//! NICE CXone: discovery, both logins, key management, the ACD API.

use crate::harness::{Answer, Rig, answer};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use kh_sandbox::SandboxConfig;
use serde_json::{Value, json};

struct Tenant {
    rig: Rig,
}

impl Tenant {
    async fn start(config: SandboxConfig) -> Self {
        Self { rig: Rig::start(config).await }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.rig.sandbox.cxone_url)
    }

    async fn form(&self, form: &[(&str, &str)]) -> Answer {
        let application = &self.rig.sandbox.applications[0];
        let request = self.rig.http.post(self.url("/auth/token"));
        answer(request.basic_auth(&application.id, Some(application.secret.expose())).form(form)).await
    }

    async fn password(&self, id: &str, secret: &str) -> Answer {
        self.form(&[("grant_type", "password"), ("username", id), ("password", secret)]).await
    }

    async fn regional(&self, id: &str, secret: &str) -> Answer {
        let body = json!({"accessKeyId": id, "accessKeySecret": secret});
        answer(self.rig.http.post(self.url("/authentication/v1/token/access-key")).json(&body)).await
    }

    async fn token(&self) -> String {
        let key = &self.rig.sandbox.access_keys[0];
        let answer = self.regional(&key.id, key.secret.expose()).await;
        answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let request = self.rig.http.request(method.parse().unwrap(), self.url(path)).bearer_auth(token);
        let request = request.header("accept", "application/json");
        answer(if body.is_null() { request } else { request.json(&body) }).await
    }
}

#[tokio::test]
async fn flow_a_discovery_login_and_tenant() {
    let tenant = Tenant::start(SandboxConfig::default()).await;
    let discovery = answer(tenant.rig.http.get(tenant.url("/.well-known/openid-configuration"))).await.json();
    assert_eq!(discovery["token_endpoint"], json!(tenant.url("/auth/token")));
    let key = tenant.rig.sandbox.access_keys[0].clone();
    assert!(key.secret.expose().ends_with("===="));
    let granted = tenant.password(&key.id, key.secret.expose()).await;
    assert_eq!(granted.status, 200, "{granted:?}");
    let granted = granted.json();
    assert_eq!((&granted["token_type"], &granted["expires_in"]), (&json!("Bearer"), &json!(3_600)));
    let (access, id, refresh) =
        (text(&granted, "access_token"), text(&granted, "id_token"), text(&granted, "refresh_token"));

    let jwks: JwkSet =
        serde_json::from_value(answer(tenant.rig.http.get(discovery["jwks_uri"].as_str().unwrap())).await.json())
            .unwrap();
    let verify = |token: &str| -> Value {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_aud = false;
        decode::<Value>(token, &DecodingKey::from_jwk(&jwks.keys[0]).unwrap(), &validation).unwrap().claims
    };
    assert_eq!(decode_header(&access).unwrap().kid, None, "access tokens name no key");
    assert_eq!(decode_header(&id).unwrap().kid.as_deref(), Some("default"));
    let (access, id, refresh) = (verify(&access), verify(&id), verify(&refresh));
    assert_eq!(access["iss"], "https://auth.nice-incontact.com");
    assert_eq!((&id["iss"], &refresh["iss"]), (&discovery["issuer"], &discovery["issuer"]));
    assert_ne!(access["iss"], id["iss"], "two issuers");
    for (claims, life) in [(&access, 3_600), (&id, 3_600), (&refresh, 7_200)] {
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), life);
    }
    assert!(access["sub"].as_str().unwrap().starts_with("user:") && access["icBUId"].as_i64().unwrap() < 0);
    assert!(access.get("scope").is_none() && refresh["sessionId"].is_string());

    let path = format!("/.well-known/cxone-configuration?tenantId={}", id["tenantId"].as_str().unwrap());
    let configuration = answer(tenant.rig.http.get(tenant.url(&path))).await.json();
    assert_eq!(
        (&configuration["area"], &configuration["api_endpoint"]),
        (&json!("na1"), &json!(tenant.rig.sandbox.cxone_url))
    );
    assert_eq!(
        answer(tenant.rig.http.get(tenant.url("/.well-known/cxone-configuration?tenantId=x"))).await.status,
        404
    );
    tenant.rig.sandbox.shutdown().await;
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_fixed_issuer_can_be_configured() {
    let mut config = SandboxConfig::default();
    config.cxone.issuer = Some("https://cxone.niceincontact.com".to_owned());
    let tenant = Tenant::start(config).await;
    let discovery = answer(tenant.rig.http.get(tenant.url("/.well-known/openid-configuration"))).await.json();
    assert_eq!(discovery["issuer"], "https://cxone.niceincontact.com");
    tenant.rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn refused_logins() {
    let tenant = Tenant::start(SandboxConfig::default()).await;
    let key = tenant.rig.sandbox.access_keys[0].clone();
    let none = tenant.form(&[("grant_type", "client_credentials")]).await;
    assert_eq!((none.status, none.json()["error"].as_str()), (400, Some("unsupported_grant_type")));
    let wrong = tenant.password(&key.id, "x").await;
    assert_eq!((wrong.status, wrong.json()["error"].as_str()), (400, Some("invalid_grant")));
    assert!(wrong.json()["errorDescription"].is_string(), "camelCase");
    let request = tenant.rig.http.post(tenant.url("/auth/token")).basic_auth("x", Some("y"));
    let form = [("grant_type", "password"), ("username", &key.id), ("password", key.secret.expose())];
    assert_eq!(answer(request.form(&form)).await.json()["error"], "invalid_client");
    assert_eq!(tenant.regional(&key.id, "x").await.status, 400);
    tenant.rig.sandbox.shutdown().await;
}

/// RFC 6749 section 2.3: a client uses one method of authentication in each request.
#[tokio::test]
async fn one_kind_of_client_authentication_each_time() {
    let tenant = Tenant::start(SandboxConfig::default()).await;
    let key = tenant.rig.sandbox.access_keys[0].clone();
    let application = &tenant.rig.sandbox.applications[0];
    let (id, secret) = (application.id.as_str(), application.secret.expose());
    let (right, wrong) = (Some(secret), Some("x"));
    let two = Some("invalid_request");
    for (header, in_body, in_body_secret, status, error) in [
        (right, None, None, 200, None),
        (None, Some(id), right, 200, None),
        (right, Some(id), None, 200, None),
        (right, Some(id), right, 400, two),
        (right, Some(id), wrong, 400, two),
        (wrong, Some(id), right, 400, two),
        (wrong, None, None, 400, Some("invalid_client")),
        (None, Some(id), wrong, 400, Some("invalid_client")),
        (None, Some(id), None, 400, Some("invalid_client")),
        (None, None, right, 400, Some("invalid_client")),
        (None, None, None, 400, Some("invalid_client")),
    ] {
        let row = (header.map(|sent| sent == secret), in_body, in_body_secret.map(|sent| sent == secret));
        let mut form =
            vec![("grant_type", "password"), ("username", key.id.as_str()), ("password", key.secret.expose())];
        form.extend(in_body.map(|id| ("client_id", id)));
        form.extend(in_body_secret.map(|secret| ("client_secret", secret)));
        let mut request = tenant.rig.http.post(tenant.url("/auth/token"));
        if let Some(secret) = header {
            request = request.basic_auth(id, Some(secret));
        }
        let got = answer(request.form(&form)).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (status, error), "{row:?}");
    }
    tenant.rig.sandbox.shutdown().await;
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

#[tokio::test]
async fn each_login_takes_the_media_type_that_is_published_for_it() {
    let tenant = Tenant::start(SandboxConfig::default()).await;
    let key = tenant.rig.sandbox.access_keys[0].clone();
    let application = &tenant.rig.sandbox.applications[0];
    let secret = key.secret.expose();
    let form = reqwest::Url::parse_with_params(
        "http://unused/",
        [("grant_type", "password"), ("username", key.id.as_str()), ("password", secret)],
    )
    .unwrap();
    let form = form.query().unwrap().to_owned();
    let by_key = json!({"accessKeyId": key.id, "accessKeySecret": secret}).to_string();
    let refresh = text(&tenant.regional(&key.id, secret).await.json(), "refresh_token");
    let refresh = json!({"token": refresh}).to_string();
    for (path, body, right, wrong) in [
        ("/auth/token", form, FORM, JSON),
        ("/authentication/v1/token/access-key", by_key, JSON, FORM),
        ("/public/user/refresh", refresh, JSON, FORM),
    ] {
        for (kind, status, error) in [
            (Some(right.to_owned()), 200, None),
            (Some(format!("{}; charset=utf-8", right.to_uppercase())), 200, None),
            (None, 200, None),
            (Some(wrong.to_owned()), 400, Some("invalid_request")),
            (Some("text/plain".to_owned()), 400, Some("invalid_request")),
        ] {
            let mut request = tenant.rig.http.post(tenant.url(path)).body(body.clone());
            if path == "/auth/token" {
                request = request.basic_auth(&application.id, Some(application.secret.expose()));
            }
            if let Some(kind) = &kind {
                request = request.header("content-type", kind);
            }
            let got = answer(request).await;
            assert_eq!((got.status, got.json()["error"].as_str()), (status, error), "{path} {kind:?}");
        }
    }
    tenant.rig.sandbox.shutdown().await;
}

/// The vendor's article on the global authentication service: access keys end in `=`, which must be percent-encoded.
#[tokio::test]
async fn an_equals_sign_in_the_form_is_percent_encoded() {
    let tenant = Tenant::start(SandboxConfig::default()).await;
    let key = tenant.rig.sandbox.access_keys[0].clone();
    let application = &tenant.rig.sandbox.applications[0];
    let (id, secret) = (key.id.as_str(), key.secret.expose());
    assert!(id.ends_with('=') && secret.ends_with('='));
    let encoded = |value: &str| value.replace('=', "%3D");
    for (username, password, status, error) in [
        (encoded(id), encoded(secret), 200, None),
        (encoded(id), secret.to_owned(), 400, Some("invalid_request")),
        (id.to_owned(), encoded(secret), 400, Some("invalid_request")),
        (encoded(id), encoded("x=="), 400, Some("invalid_grant")),
    ] {
        for form in [
            format!("grant_type=password&username={username}&password={password}"),
            format!("password={password}&username={username}&grant_type=password"),
        ] {
            let request = tenant.rig.http.post(tenant.url("/auth/token")).header("content-type", FORM);
            let request = request.basic_auth(&application.id, Some(application.secret.expose())).body(form);
            let got = answer(request).await;
            assert_eq!((got.status, got.json()["error"].as_str()), (status, error), "{}", got.text);
        }
    }
    tenant.rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn both_refreshes_and_their_keys() {
    let mut config = SandboxConfig::default();
    config.cxone.behaviours.refresh_tokens_rotate = true;
    let tenant = Tenant::start(config).await;
    tenant.rig.freeze().await;
    let key = tenant.rig.sandbox.access_keys[0].clone();
    let refresh = text(&tenant.password(&key.id, key.secret.expose()).await.json(), "refresh_token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    assert_eq!(tenant.form(&form).await.status, 200);
    assert_eq!(tenant.form(&form).await.status, 400, "switched to work once");
    let refresh = text(&tenant.regional(&key.id, key.secret.expose()).await.json(), "refresh_token");
    let renewed =
        answer(tenant.rig.http.post(tenant.url("/public/user/refresh")).json(&json!({"token": refresh}))).await.json();
    assert_eq!(
        (&renewed["tokenExpirationTimeSec"], &renewed["refreshTokenExpirationTimeSec"]),
        (&json!(3_600), &json!(7_200))
    );
    assert_eq!(tenant.call("GET", "/auth/userinfo", &text(&renewed, "token"), Value::Null).await.status, 200);
    tenant.rig.pass(7_200).await;
    let late = json!({"token": renewed["refreshToken"]});
    assert_eq!(answer(tenant.rig.http.post(tenant.url("/public/user/refresh")).json(&late)).await.status, 400);
    tenant.rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn access_tokens_end() {
    let tenant = Tenant::start(SandboxConfig::default()).await;
    tenant.rig.freeze().await;
    let token = tenant.token().await;
    tenant.rig.pass(3_599).await;
    let whoami = tenant.call("POST", "/incontactauthorizationserver/token/whoami", &token, Value::Null).await;
    assert!(whoami.json()["resourceServerBaseUri"].as_str().unwrap().starts_with(&tenant.rig.sandbox.cxone_url));
    tenant.rig.pass(1).await;
    assert_eq!(tenant.call("GET", "/auth/userinfo", &token, Value::Null).await.status, 401);
    tenant.rig.sandbox.shutdown().await;
}

const KEYS: &str = "/access-key-management/v1/access-keys";

#[tokio::test]
async fn rotation_by_a_second_key() {
    for kills in [false, true] {
        let mut config = SandboxConfig::default();
        config.cxone.behaviours.key_deactivation_kills_tokens = kills;
        config.cxone.behaviours.max_access_keys_per_user = 2;
        let tenant = Tenant::start(config).await;
        let first = tenant.rig.sandbox.access_keys[0].clone();
        let token = tenant.token().await;
        let created = tenant.call("POST", KEYS, &token, json!({"userId": first.user_id})).await.json();
        let (id, secret) = (text(&created["resultSet"], "accessKeyId"), text(&created["resultSet"], "accessKeySecret"));
        assert_eq!(tenant.call("POST", KEYS, &token, json!({})).await.status, 400, "at most two here");
        let listed = tenant.call("GET", KEYS, &token, Value::Null).await;
        assert_eq!(listed.json()["totalRecords"], 2);
        assert!(!listed.text.contains(&secret) && !listed.text.contains("accessKeySecret"), "the secret is shown once");
        let used = |keys: &Value, id: &str| {
            let row =
                keys["accessKeys"].as_array().unwrap().iter().find(|row| row["accessKeyId"] == id).unwrap().clone();
            row["lastUsedDate"].is_string()
        };
        assert!(used(&listed.json(), &first.id) && !used(&listed.json(), &id));
        let second = tenant.regional(&id, &secret).await;
        assert_eq!(second.status, 200, "both keys live at once");
        let second = text(&second.json(), "access_token");
        let path = reqwest::Url::parse_with_params(&tenant.url(KEYS), [("accessKeyId", &first.id)]).unwrap();
        let path = format!("{}?{}", path.path(), path.query().unwrap());
        assert_eq!(tenant.call("PATCH", &path, &second, json!({"isActive": false})).await.status, 200);
        assert_eq!(tenant.regional(&first.id, first.secret.expose()).await.status, 400);
        let old = tenant.call("GET", "/auth/userinfo", &token, Value::Null).await.status;
        assert_eq!(old, if kills { 401 } else { 200 });
        assert_eq!(tenant.call("PATCH", &path, &second, json!({"isActive": true})).await.status, 200);
        assert_eq!(tenant.regional(&first.id, first.secret.expose()).await.status, 200, "deactivation is reversible");
        let encoded = first.id.replace('=', "%3D");
        assert_eq!(tenant.call("DELETE", &format!("{KEYS}/{encoded}"), &second, Value::Null).await.status, 200);
        assert_eq!(tenant.call("GET", &format!("{KEYS}/{encoded}"), &second, Value::Null).await.status, 404);
        tenant.rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn acd_entities_paging_and_errors() {
    let tenant = Tenant::start(SandboxConfig::default()).await;
    let token = tenant.token().await;
    let base = "/inContactAPI/services/v31.0/agents";
    let mut ids = Vec::new();
    for number in 0..3 {
        let created = tenant.call("POST", base, &token, json!({"firstName": number})).await.json();
        ids.push(created["agentId"].as_u64().unwrap());
    }
    let page = tenant.call("GET", &format!("{base}?skip=1&top=1"), &token, Value::Null).await.json();
    assert_eq!((&page["totalRecords"], &page["agents"][0]["agentId"]), (&json!(3), &json!(ids[1])));
    let rest = tenant.call("GET", page["_links"]["next"].as_str().unwrap(), &token, Value::Null).await.json();
    assert_eq!(rest["agents"][0]["agentId"], json!(ids[2]));
    assert!(rest["_links"].get("next").is_none());
    let one = format!("{base}/{}", ids[0]);
    assert_eq!(tenant.call("PUT", &one, &token, json!({"firstName": "new"})).await.status, 204);
    assert_eq!(tenant.call("GET", &one, &token, Value::Null).await.json()["firstName"], "new");
    assert_eq!(tenant.call("DELETE", &one, &token, Value::Null).await.status, 204);
    let gone = tenant.call("GET", &one, &token, Value::Null).await;
    assert_eq!((gone.status, gone.text.as_str()), (404, ""));
    assert_eq!(gone.header("icStatusDescription"), "The entity does not exist");
    for (path, status) in [(format!("{base}?top=101"), 400), ("/inContactAPI/services/v20.0/agents".to_owned(), 404)] {
        assert_eq!(tenant.call("GET", &path, &token, Value::Null).await.status, status, "{path}");
    }
    let unknown = tenant.call("GET", base, "x", Value::Null).await;
    assert_eq!((unknown.status, unknown.text.as_str()), (401, ""));
    tenant.rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn applications_have_no_new_secret() {
    let tenant = Tenant::start(SandboxConfig::default()).await;
    let token = tenant.token().await;
    let created = tenant.call("POST", "/applications", &token, json!({"name": "second"})).await.json();
    let (id, secret) = (text(&created, "id"), text(&created, "secret"));
    let key = tenant.rig.sandbox.access_keys[0].clone();
    let login = async || {
        let form = [("grant_type", "password"), ("username", &key.id), ("password", key.secret.expose())];
        answer(tenant.rig.http.post(tenant.url("/auth/token")).basic_auth(&id, Some(&secret)).form(&form)).await.status
    };
    assert_eq!(login().await, 200);
    assert_eq!(tenant.call("POST", &format!("/applications/{id}-disable"), &token, Value::Null).await.status, 204);
    assert_eq!(login().await, 400);
    assert_eq!(tenant.call("POST", &format!("/applications/{id}-enable"), &token, Value::Null).await.status, 204);
    assert_eq!(login().await, 200);
    let deleted = tenant.call("DELETE", &format!("/applications/{id}"), &token, Value::Null).await;
    assert!(deleted.json()["scheduledDeletionTime"].is_string() && !deleted.text.contains(&secret));
    tenant.rig.sandbox.shutdown().await;
}
