//! keyholder as an authorization server: JWTs, metadata, keys, revocation, introspection, and bounds on wrong logins.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kh_core::port::TokenFormat;
use kh_issuer::{NewClient, NewTokens};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::support::{Got, Setup, World, read};

const ISSUER: &str = "https://keys.example/acme";
const API: &str = "https://api.example";
const FORM: &str = "application/x-www-form-urlencoded";
const GRANT: &str = "grant_type=client_credentials";

async fn world(issuer: Option<&'static str>) -> World {
    let mut setup = Setup::new("127.0.0.1:1".parse().unwrap());
    setup.issuer = issuer;
    setup.start().await
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

/// Its `Basic` header, id and secret.
struct Login {
    basic: String,
    id: String,
    secret: String,
}

async fn add(world: &World, name: &str, scopes: &[&str], tokens: NewTokens) -> Login {
    let new = NewClient {
        name: name.parse().unwrap(),
        credential: None,
        environment: None,
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        tokens,
        allow: Vec::new(),
        allow_all: false,
        allow_secret_operations: false,
        ttl: None,
    };
    let (record, secret) = world.issuer.add_client(new, "cli:test").await.unwrap();
    let (id, secret) = (record.id.to_string(), secret.expose().to_owned());
    Login { basic: basic(&id, &secret), id, secret }
}

fn jwt() -> NewTokens {
    NewTokens { format: TokenFormat::Jwt, audience: vec![API.to_owned()], ..NewTokens::default() }
}

fn introspector() -> NewTokens {
    NewTokens { may_introspect: true, audience: vec![API.to_owned()], ..NewTokens::default() }
}

async fn post(world: &World, target: &str, authorization: Option<&str>, body: &str) -> Got {
    let mut request = Request::post(target).header("host", "keys.example").header("content-type", FORM);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    world.send(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
}

async fn get(world: &World, target: &str) -> Got {
    world.send(Request::get(target).header("host", "keys.example").body(Full::default()).unwrap()).await
}

async fn token(world: &World, login: &Login) -> String {
    let got = post(world, "/acme/oauth/token", Some(&login.basic), GRANT).await;
    got.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_jwt_is_had_by_basic_and_by_post_and_its_key_is_published() {
    let world = world(Some(ISSUER)).await;
    let client = add(&world, "actions", &["a", "b"], jwt()).await;
    let in_body = format!("{GRANT}&client_id={}&client_secret={}", client.id, client.secret);
    let narrowed = format!("{GRANT}&scope=b");
    for (authorization, body, scope) in
        [(Some(client.basic.as_str()), GRANT, "a b"), (None, &in_body, "a b"), (Some(&client.basic), &narrowed, "b")]
    {
        let got = post(&world, "/acme/oauth/token", authorization, body).await;
        let answer = got.json();
        assert_eq!((got.status, got.header("cache-control")), (200, "no-store"), "{answer}");
        let rest = json!({ "token_type": "Bearer", "expires_in": 300, "scope": scope });
        for (name, value) in rest.as_object().unwrap() {
            assert_eq!(&answer[name], value);
        }
        let header = answer["access_token"].as_str().unwrap().split('.').next().unwrap();
        let header = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        let keys = get(&world, "/acme/oauth/jwks").await;
        assert_eq!((keys.status, keys.header("cache-control")), (200, "public, max-age=300"));
        assert_eq!((&keys.json()["keys"][0]["kid"], keys.header("pragma")), (&header["kid"], ""));
        assert!(keys.json()["keys"][0].get("d").is_none());
    }
    let both = post(&world, "/oauth/token", Some(&client.basic), &in_body).await;
    assert_eq!((both.status, both.json()["error"].as_str()), (400, Some("invalid_request")));
    for scope in ["c", "a+c", "a++b", "%20"] {
        let got = post(&world, "/oauth/token", Some(&client.basic), &format!("{GRANT}&scope={scope}")).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("invalid_scope")), "{scope}");
    }
    assert_eq!(world.metric(r#"keyholder_issuer_logins_total{result="invalid_scope"}"#), 4);
    let token = token(&world, &client).await;
    let call = Request::get("/api/v2/users/me").header("host", "h").header("authorization", format!("Bearer {token}"));
    let got = world.send(call.body(Full::default()).unwrap()).await;
    assert_eq!(got.status, 401, "it opens no platform");
}

#[tokio::test]
async fn metadata_names_the_issuer_by_which_it_was_found() {
    let named = world(Some(ISSUER)).await;
    for path in ["/.well-known/oauth-authorization-server/acme", "/acme/.well-known/oauth-authorization-server"] {
        let got = get(&named, path).await;
        let document = got.json();
        assert_eq!((got.status, got.header("cache-control")), (200, "public, max-age=300"));
        for (name, value) in [
            ("issuer", ISSUER.to_owned()),
            ("token_endpoint", format!("{ISSUER}/oauth/token")),
            ("jwks_uri", format!("{ISSUER}/oauth/jwks")),
            ("revocation_endpoint", format!("{ISSUER}/oauth/revoke")),
            ("introspection_endpoint", format!("{ISSUER}/oauth/introspect")),
        ] {
            assert_eq!(document[name], value.as_str(), "{path}");
        }
        assert_eq!(document["response_types_supported"], json!([]));
        assert_eq!(document["grant_types_supported"], json!(["client_credentials"]));
    }
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/other"] {
        assert_eq!(get(&named, path).await.status, 404, "{path}");
    }
    let got = post(&named, "/.well-known/oauth-authorization-server/acme", None, "").await;
    assert_eq!((got.status, got.header("allow")), (405, "GET, HEAD"));

    let nameless = world(None).await;
    let document = get(&nameless, "/.well-known/oauth-authorization-server/p").await.json();
    assert_eq!(document["issuer"], "http://keys.example/p");
    assert!(document.get("jwks_uri").is_none());
    assert_eq!(get(&nameless, "/oauth/jwks").await.json(), json!({ "keys": [] }));
    let client = add(&nameless, "actions", &[], jwt()).await;
    let got = post(&nameless, "/oauth/token", Some(&client.basic), GRANT).await;
    assert_eq!((got.status, got.json()["error"].as_str()), (503, Some("temporarily_unavailable")));
}

#[tokio::test]
async fn tokens_are_introspected_by_those_who_may_and_told_to_no_others() {
    let world = world(Some(ISSUER)).await;
    let (client, api) = (add(&world, "actions", &["a"], jwt()).await, add(&world, "api", &[], introspector()).await);
    let token = token(&world, &client).await;
    let body = format!("token={token}&token_type_hint=refresh_token");
    let got = post(&world, "/acme/oauth/introspect", Some(&api.basic), &body).await;
    let answer = got.json();
    assert_eq!((got.status, got.header("cache-control")), (200, "no-store"));
    let jti = answer["jti"].as_str().unwrap().to_owned();
    let expected = json!({
        "active": true, "client_id": client.id, "sub": client.id, "token_type": "Bearer", "scope": "a", "aud": API,
        "iss": ISSUER, "jti": jti, "iat": answer["iat"], "exp": answer["iat"].as_u64().unwrap() + 300,
    });
    assert_eq!(answer, expected);
    let inactive = json!({ "active": false });
    for other in ["x", "a.b.c", &world.token, &format!("{token}x"), &"x".repeat(3000)] {
        let got = post(&world, "/oauth/introspect", Some(&api.basic), &format!("token={other}")).await;
        assert_eq!((got.status, got.json()), (200, inactive.clone()), "{other}");
    }
    for (authorization, body, status, error) in [
        (Some(client.basic.as_str()), body.as_str(), 403, "access_denied"),
        (None, &body, 401, "invalid_client"),
        (Some(&basic(&api.id, "khs_wrong")), &body, 401, "invalid_client"),
        (Some(&api.basic), "", 400, "invalid_request"),
        (Some(&api.basic), "token=a&token=b", 400, "invalid_request"),
    ] {
        let got = post(&world, "/oauth/introspect", authorization, body).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (status, Some(error)), "{body}");
        assert!(!String::from_utf8_lossy(&got.body).contains(&jti));
    }
    world.issuer.set_enabled("actions", false, "cli:test").await.unwrap();
    let got = post(&world, "/oauth/introspect", Some(&api.basic), &body).await;
    assert_eq!(got.json(), inactive);
}

#[tokio::test]
async fn a_client_revokes_its_own_token_and_no_other() {
    let world = world(Some(ISSUER)).await;
    let (one, two) = (add(&world, "one", &[], NewTokens::default()).await, add(&world, "two", &[], jwt()).await);
    let token = token(&world, &one).await;
    let revoke = async |login: &Login, token: &str| {
        let body = format!("token={token}&token_type_hint=access_token");
        post(&world, "/acme/oauth/revoke", Some(&login.basic), &body).await
    };
    let got = revoke(&two, &token).await;
    assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("unauthorized_client")));
    assert!(world.issuer.session(token.as_bytes()).is_some());
    let got = revoke(&one, &token).await;
    assert_eq!((got.status, got.body.len()), (200, 0));
    assert!(world.issuer.session(token.as_bytes()).is_none());
    for unknown in [token.as_str(), "never-was", "a.b.c"] {
        assert_eq!(revoke(&two, unknown).await.status, 200, "{unknown}");
    }
    assert_eq!(post(&world, "/oauth/revoke", None, &format!("token={token}")).await.status, 401);
    let got = world.send(Request::get("/oauth/revoke").header("host", "h").body(Full::default()).unwrap()).await;
    assert_eq!((got.status, got.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_secret_in_the_url_is_refused() {
    let world = world(None).await;
    let query = format!("client_id={}&client_secret={}", world.client_id, world.client_secret);
    for target in [format!("/oauth/token?{query}"), "/oauth/revoke?token=x".into(), "/oauth/token?password=x".into()] {
        let got = post(&world, &target, None, GRANT).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("invalid_request")), "{target}");
        assert!(got.json()["error_description"].as_str().unwrap().contains("URL"));
    }
}

#[tokio::test]
async fn a_login_that_is_refused_before_it_is_looked_at_is_counted() {
    let world = world(None).await;
    let query = "x".repeat(17 * 1024);
    for (target, counted) in [("/oauth/token", 1), ("/p/auth/token", 2), ("/oauth/revoke", 2)] {
        let got = post(&world, &format!("{target}?{query}"), None, GRANT).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (414, Some("invalid_request")), "{target}");
        let logins = world.metric(r#"keyholder_issuer_logins_total{result="invalid_request"}"#);
        assert_eq!(logins, counted, "{target}");
    }
}

/// A login from another loopback address.
async fn login_from(world: &World, local: &str, authorization: &str) -> Got {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{local}:0").parse().unwrap()).unwrap();
    let stream = socket.connect(world.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::post("/oauth/token")
        .header("host", "keys.example")
        .header("content-type", FORM)
        .header("authorization", authorization)
        .body(Full::new(Bytes::from(GRANT)))
        .unwrap();
    let got = read(sender.send_request(request).await.unwrap()).await;
    driver.abort();
    got
}

#[tokio::test]
async fn a_guesser_waits_an_unknown_client_looks_the_same_and_the_real_caller_goes_on() {
    let world = world(None).await;
    let good = basic(&world.client_id, &world.client_secret);
    let mut told = Vec::new();
    for id in [world.client_id.as_str(), "nobody"] {
        let wrong = basic(id, "khs_wrong");
        let mut answers = Vec::new();
        for _ in 0..12 {
            let got = login_from(&world, "127.0.0.2", &wrong).await;
            let mut names: Vec<_> = got.headers.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort();
            answers.push((got.status, got.json(), names));
        }
        // where exactly the waits fall is a matter of the clock
        answers.dedup();
        answers.truncate(2);
        told.push(answers);
    }
    assert_eq!(told[0], told[1]);
    let [(first, _, _), (then, body, headers)] = &told[0][..] else { panic!("{told:?}") };
    assert_eq!((*first, *then), (401, 429));
    assert_eq!(body["error"], "temporarily_unavailable");
    assert!(headers.iter().any(|name| name == "retry-after"));

    let held = login_from(&world, "127.0.0.2", &good).await;
    assert_eq!((held.status, held.header("retry-after").is_empty()), (429, false), "the right secret is not looked at");
    assert_eq!(login_from(&world, "127.0.0.3", &good).await.status, 200, "another address is not concerned");
    assert!(world.metric(r#"keyholder_issuer_lockouts_total{bound="client_address"}"#) >= 2);
    assert!(world.metric(r#"keyholder_issuer_logins_total{result="throttled"}"#) >= 3);
}

/// CXone's applications may send the platform's own access key beside keyholder's Basic header, at every login.
#[tokio::test]
async fn a_platforms_key_beside_the_right_header_is_no_guess() {
    let mut setup = Setup::new("127.0.0.1:1".parse().unwrap());
    setup.kind = kh_core::PlatformKind::Cxone;
    let world = setup.start().await;
    let good = basic(&world.client_id, &world.client_secret);
    for number in 0..30 {
        let got = post(&world, "/auth/token", Some(&good), "grant_type=password&username=VENDOR&password=KEY").await;
        assert_eq!(got.status, 200, "number {number}");
    }
    let other = add(&world, "other", &[], NewTokens::default()).await;
    let wrong = format!("grant_type=password&username={}&password=x", other.id);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(post(&world, "/auth/token", Some(&good), &wrong).await.status);
    }
    assert!(statuses.contains(&429), "a wrong secret of another client is a guess, whatever stands beside it");
}
