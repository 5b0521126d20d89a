//! Tokens of keyholder's own that are bound to their client: how they are had, what is told of them, and that nobody else
//! can use them.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kh_core::{Clock, Now, Sha256, SystemClock, port::TokenAuthority, port::TokenBinding, port::TokenFormat};
use kh_gateway::{CertificateSlot, ClientAuth, ClientTrust, OwnBinding, Senders, server_tls};
use kh_issuer::{NewClient, NewTokens, OwnTokens};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    holder::{Authority, Holder, Key, base64url, claims, private},
    support::{Got, Setup, World, read},
    upstream::{Upstream, reply},
};

const ISSUER: &str = "https://keys.example/acme";
const TOKEN: &str = "https://keys.example/acme/oauth/token";
const API: &str = "https://api.example";

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("authority"));
static OURS: LazyLock<Holder> = LazyLock::new(|| AUTHORITY.issue("ours.example"));
static THEIRS: LazyLock<Holder> = LazyLock::new(|| AUTHORITY.issue("theirs.example"));
static KEY: LazyLock<Key> = LazyLock::new(Key::new);
static OTHER_KEY: LazyLock<Key> = LazyLock::new(Key::new);

/// A gateway behind TLS that asks for certificates, before a platform.
struct Place {
    world: World,
    upstream: Upstream,
}

impl Place {
    async fn new(binding: OwnBinding) -> Self {
        let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "ok") })).await;
        let mut setup = Setup::new(upstream.address);
        setup.issuer = Some(ISSUER);
        setup.public_url = Some("https://keys.example");
        setup.binding = binding;
        let own = AUTHORITY.issue("keys.example");
        let key = CertifiedKey::from_der(vec![own.0.clone()], private(&own), &aws_lc_rs::default_provider()).unwrap();
        let trust = ClientTrust::parse(AUTHORITY.pem().as_bytes(), ClientAuth::Optional, Vec::new()).unwrap();
        setup.config.tls = Some(server_tls(CertificateSlot::new(key), Some(&trust)).unwrap());
        Self { world: setup.start().await, upstream }
    }

    /// Sends over TLS, with a certificate or without.
    async fn send(&self, holder: Option<&Holder>, request: Request<Full<Bytes>>) -> Got {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(AUTHORITY.0.der().clone()).unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match holder {
            None => builder.with_no_client_auth(),
            Some(holder) => builder.with_client_auth_cert(vec![holder.0.clone()], private(holder)).unwrap(),
        };
        let stream = TcpStream::connect(self.world.address).await.unwrap();
        let name = ServerName::try_from("keys.example").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let driver = tokio::spawn(connection);
        let got = read(sender.send_request(request).await.unwrap()).await;
        driver.abort();
        got
    }

    async fn add(&self, name: &str, tokens: NewTokens) -> (String, String) {
        let platform = tokens.format == TokenFormat::Opaque && !tokens.may_introspect;
        let new = NewClient {
            name: name.parse().unwrap(),
            credential: platform.then(|| "acme".parse().unwrap()),
            environment: None,
            scopes: Vec::new(),
            tokens,
            allow: Vec::new(),
            allow_all: platform,
            allow_secret_operations: false,
            ttl: None,
        };
        let (record, secret) = self.world.issuer.add_client(new, "cli:test").await.unwrap();
        (record.id.to_string(), secret.expose().to_owned())
    }

    /// A login with these proofs.
    async fn login(&self, holder: Option<&Holder>, client: &(String, String), proofs: &[String]) -> Got {
        let body = format!("grant_type=client_credentials&client_id={}&client_secret={}", client.0, client.1);
        self.post(holder, "/acme/oauth/token", &body, proofs).await
    }

    async fn post(&self, holder: Option<&Holder>, target: &str, body: &str, proofs: &[String]) -> Got {
        let request = Request::post(target).header("host", "keys.example");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = proofs.iter().fold(request, |request, proof| request.header("dpop", proof));
        self.send(holder, request.body(Full::from(body.to_owned())).unwrap()).await
    }

    /// A call to the platform.
    async fn call(&self, holder: Option<&Holder>, authorization: &str, proofs: &[String]) -> Got {
        let request = Request::get("/api/v2/users/me?a=b").header("host", "keys.example");
        let request = request.header("authorization", authorization);
        let request = proofs.iter().fold(request, |request, proof| request.header("dpop", proof));
        self.send(holder, request.body(Full::default()).unwrap()).await
    }
}

fn tokens(format: TokenFormat, binding: TokenBinding) -> NewTokens {
    let audience = if format == TokenFormat::Jwt { vec![API.to_owned()] } else { Vec::new() };
    NewTokens { format, audience, binding, ..NewTokens::default() }
}

fn proof(key: &Key, other: &Value) -> String {
    key.proof(&claims("POST", TOKEN, None, other))
}

fn granted(got: &Got) -> String {
    assert_eq!(got.status, 200, "{}", got.json());
    got.json()["access_token"].as_str().unwrap().to_owned()
}

/// The claims of a JWT, whose signature is others' business here.
fn payload(token: &str) -> Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_login_with_a_proof_gets_a_token_of_that_key_in_both_forms() {
    let place = Place::new(OwnBinding::default()).await;
    let api = place.add("api", NewTokens { may_introspect: true, ..NewTokens::default() }).await;
    let jkt = json!({ "jkt": base64url(KEY.thumbprint().0) });
    for (name, format) in [("jwt", TokenFormat::Jwt), ("opaque", TokenFormat::Opaque)] {
        let client = place.add(name, tokens(format, TokenBinding::None)).await;
        let got = place.login(None, &client, &[proof(&KEY, &json!({}))]).await;
        assert_eq!(got.json()["token_type"], "DPoP", "{name}");
        let token = granted(&got);
        if format == TokenFormat::Jwt {
            assert_eq!(payload(&token)["cnf"], jkt);
        }
        let asked = format!("client_id={}&client_secret={}&token={token}", api.0, api.1);
        let told = place.post(None, "/acme/oauth/introspect", &asked, &[]).await.json();
        assert_eq!((&told["active"], &told["token_type"], &told["cnf"]), (&json!(true), &json!("DPoP"), &jkt));
        // without a proof it is a bearer token as before, of the same client
        let got = place.login(None, &client, &[]).await;
        assert!(got.json()["token_type"].as_str().unwrap().eq_ignore_ascii_case("bearer"), "{name}");
        if format == TokenFormat::Jwt {
            assert_eq!(payload(&granted(&got)).get("cnf"), None);
        }
    }
}

#[tokio::test]
async fn a_wrong_proof_gets_no_token_and_the_secret_comes_first() {
    let place = Place::new(OwnBinding::default()).await;
    let client = place.add("jwt", tokens(TokenFormat::Jwt, TokenBinding::Dpop)).await;
    let seen = proof(&KEY, &json!({}));
    assert_eq!(place.login(None, &client, std::slice::from_ref(&seen)).await.status, 200);
    for (proofs, error, case) in [
        (vec![], "invalid_dpop_proof", "no proof, and the client's tokens must be bound"),
        (vec![seen], "invalid_dpop_proof", "seen before"),
        (vec![proof(&KEY, &json!({})), proof(&KEY, &json!({}))], "invalid_dpop_proof", "two"),
        (vec![proof(&KEY, &json!({ "htm": "GET" }))], "invalid_dpop_proof", "another method"),
        (vec![proof(&KEY, &json!({ "htu": "https://keys.example/oauth/token" }))], "invalid_dpop_proof", "elsewhere"),
        (vec![proof(&KEY, &json!({ "iat": 1_500_000_000 }))], "invalid_dpop_proof", "long ago"),
        (vec!["x".to_owned()], "invalid_dpop_proof", "nothing"),
    ] {
        let got = place.login(None, &client, &proofs).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (400, Some(error)), "{case}");
    }
    assert_eq!(place.world.metric(r#"keyholder_issuer_logins_total{result="invalid_dpop_proof"}"#), 7);
    // who has no secret is told that and nothing of the proof, and uses no proof up
    let unused = proof(&KEY, &json!({}));
    let (mut secret, other) = (client.1.clone(), if client.1.ends_with('x') { 'y' } else { 'x' });
    secret.pop();
    secret.push(other);
    let wrong = (client.0.clone(), secret);
    for proof in [unused.clone(), "x".to_owned()] {
        let got = place.login(None, &wrong, &[proof]).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (401, Some("invalid_client")));
    }
    assert_eq!(place.login(None, &client, &[unused]).await.status, 200);
}

#[tokio::test]
async fn a_login_with_a_certificate_gets_a_token_of_it_where_the_client_says_so() {
    let place = Place::new(OwnBinding { certificates: Arc::new(true.into()), ..OwnBinding::default() }).await;
    let api = place.add("api", NewTokens { may_introspect: true, ..NewTokens::default() }).await;
    let cnf = json!({ "x5t#S256": base64url(Sha256::of(&OURS.0).0) });
    let free = place.add("free", tokens(TokenFormat::Jwt, TokenBinding::None)).await;
    assert_eq!(payload(&granted(&place.login(Some(&OURS), &free, &[]).await)).get("cnf"), None);
    for (name, format) in [("jwt", TokenFormat::Jwt), ("opaque", TokenFormat::Opaque)] {
        let client = place.add(name, tokens(format, TokenBinding::Certificate)).await;
        let token = granted(&place.login(Some(&OURS), &client, &[]).await);
        if format == TokenFormat::Jwt {
            assert_eq!(payload(&token)["cnf"], cnf);
        }
        let asked = format!("client_id={}&client_secret={}&token={token}", api.0, api.1);
        let told = place.post(None, "/acme/oauth/introspect", &asked, &[]).await.json();
        assert_eq!((&told["token_type"], &told["cnf"]), (&json!("Bearer"), &cnf));
        let none = place.login(None, &client, &[]).await;
        assert_eq!((none.status, none.json()["error"].as_str()), (400, Some("invalid_request")));
        let both = place.login(Some(&OURS), &client, &[proof(&KEY, &json!({}))]).await;
        assert_eq!((both.status, both.json()["error"].as_str()), (400, Some("invalid_request")));
    }
    let request = Request::get("/.well-known/oauth-authorization-server/acme").header("host", "keys.example");
    let document = place.send(None, request.body(Full::default()).unwrap()).await.json();
    assert_eq!(document["tls_client_certificate_bound_access_tokens"], true);
    assert!(document["dpop_signing_alg_values_supported"].as_array().unwrap().contains(&json!("ES256")));
}

/// On calls to a platform a bound token is checked as well: else it would be a bearer token there.
#[tokio::test]
async fn a_bound_token_calls_a_platform_for_its_client_alone() {
    let place = Place::new(OwnBinding::default()).await;
    let by_key = place.add("by-key", tokens(TokenFormat::Opaque, TokenBinding::Dpop)).await;
    let by_certificate = place.add("by-certificate", tokens(TokenFormat::Opaque, TokenBinding::Certificate)).await;
    let of_key = granted(&place.login(None, &by_key, &[proof(&KEY, &json!({}))]).await);
    let of_certificate = granted(&place.login(Some(&OURS), &by_certificate, &[]).await);
    let other = |key: &Key, token: &str, other: &Value| {
        key.proof(&claims("GET", "https://keys.example/api/v2/users/me", Some(token), other))
    };
    let call = |key: &Key, token: &str| vec![other(key, token, &json!({}))];
    let mine = |claim: Value| vec![other(&KEY, &of_key, &claim)];
    let seen = call(&KEY, &of_key);
    let (dpop, bearer) = (format!("DPoP {of_key}"), format!("Bearer {of_key}"));
    let (certified, wrong) = (format!("Bearer {of_certificate}"), format!("DPoP {of_certificate}"));
    let plain = format!("DPoP {}", place.world.token);
    for (holder, authorization, proofs, expected, error) in [
        (None, &dpop, seen.clone(), 200, ""),
        (None, &dpop, seen, 401, "DPoP invalid_dpop_proof"),
        (None, &dpop, vec![], 401, "DPoP invalid_dpop_proof"),
        (None, &dpop, call(&KEY, "another"), 401, "DPoP invalid_dpop_proof"),
        (None, &dpop, mine(json!({ "ath": null })), 401, "DPoP invalid_dpop_proof"),
        (None, &dpop, mine(json!({ "htm": "POST" })), 401, "DPoP invalid_dpop_proof"),
        (None, &dpop, mine(json!({ "htu": "https://keys.example/api/v2/users" })), 401, "DPoP invalid_dpop_proof"),
        (None, &dpop, mine(json!({ "htu": "https://other.example/api/v2/users/me" })), 401, "DPoP invalid_dpop_proof"),
        (None, &dpop, mine(json!({ "iat": 1_500_000_000 })), 401, "DPoP invalid_dpop_proof"),
        (None, &dpop, [mine(json!({})), mine(json!({}))].concat(), 401, "DPoP invalid_dpop_proof"),
        (Some(&*OURS), &bearer, vec![], 401, "Bearer invalid_token"),
        (None, &dpop, call(&OTHER_KEY, &of_key), 401, "DPoP invalid_token"),
        (None, &bearer, call(&KEY, &of_key), 401, "Bearer invalid_token"),
        (None, &plain, call(&KEY, &place.world.token), 401, "DPoP invalid_token"),
        (Some(&*OURS), &certified, vec![], 200, ""),
        (Some(&*THEIRS), &certified, vec![], 401, "Bearer invalid_token"),
        (None, &certified, vec![], 401, "Bearer invalid_token"),
        (Some(&*OURS), &wrong, call(&KEY, &of_certificate), 401, "DPoP invalid_token"),
    ] {
        let got = place.call(holder, authorization, &proofs).await;
        assert_eq!(got.status, expected, "{authorization} {error}");
        if let Some((scheme, error)) = error.split_once(' ') {
            let told = got.header("www-authenticate");
            assert!(told.starts_with(scheme) && told.contains(&format!("error=\"{error}\"")), "{told}");
            let refused = error == "invalid_token";
            let code = if refused { "keyholder.caller.unauthenticated" } else { "keyholder.caller.proof_invalid" };
            assert_eq!(got.json()["code"], code);
        }
    }
    let seen = place.upstream.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|one| !one.headers.contains_key("dpop")), "the platform hears nothing of proofs");
}

/// What a client must be bound to is asked of every way in, and a token is not freed by the endpoints about it.
#[tokio::test]
async fn other_logins_and_tokens_me_ask_for_the_same() {
    let place = Place::new(OwnBinding::default()).await;
    let client = place.add("by-key", tokens(TokenFormat::Opaque, TokenBinding::Dpop)).await;
    let body = format!("grant_type=password&username={}&password={}", client.0, client.1);
    let refused = place.post(None, "/auth/token", &body, &[]).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_dpop_proof")));
    // under the name that the request gives it, or under the issuer's, which has no path of CXone's
    let elsewhere = KEY.proof(&claims("POST", "https://keys.example/auth/token", None, &json!({})));
    let token = granted(&place.post(None, "/auth/token", &body, &[elsewhere]).await);
    let me = |method: &'static str, authorization: String, proofs: Vec<String>| {
        let request = Request::builder().method(method).uri("/api/v2/tokens/me").header("host", "keys.example");
        let request = request.header("authorization", authorization);
        let request = proofs.iter().fold(request, |request, proof| request.header("dpop", proof));
        place.send(None, request.body(Full::default()).unwrap())
    };
    let address = "https://keys.example/api/v2/tokens/me";
    let proof = |method| vec![KEY.proof(&claims(method, address, Some(&token), &json!({})))];
    for (method, authorization, proofs, status) in [
        ("GET", format!("Bearer {token}"), vec![], 401),
        ("DELETE", format!("Bearer {token}"), vec![], 401),
        ("GET", format!("DPoP {token}"), vec![], 401),
        ("DELETE", format!("DPoP {token}"), proof("GET"), 401),
        ("GET", format!("DPoP {token}"), proof("GET"), 200),
        ("DELETE", format!("DPoP {token}"), proof("DELETE"), 200),
        ("GET", format!("DPoP {token}"), proof("GET"), 401),
    ] {
        assert_eq!(me(method, authorization, proofs).await.status, status, "{method}");
    }
    // what nobody knows is told by the scheme that it came by
    let unknown = me("GET", format!("DPoP {token}"), proof("GET")).await;
    assert!(unknown.header("www-authenticate").starts_with("DPoP "), "{unknown:?}");
}

/// A client whose tokens must be bound can be given that afterwards: its bearer tokens end with the next request.
#[tokio::test]
async fn a_bearer_token_ends_when_its_client_must_be_bound() {
    let place = Place::new(OwnBinding::default()).await;
    let client = place.add("free", tokens(TokenFormat::Opaque, TokenBinding::None)).await;
    let authorization = format!("Bearer {}", granted(&place.login(None, &client, &[]).await));
    assert_eq!(place.call(None, &authorization, &[]).await.status, 200);
    place.world.issuer.set_token_binding("free", TokenBinding::Dpop, "cli:test").await.unwrap();
    assert_eq!(place.call(None, &authorization, &[]).await.status, 401);
    let refused = place.login(None, &client, &[]).await;
    assert_eq!(refused.json()["error"], "invalid_dpop_proof");
}

#[tokio::test]
async fn a_nonce_is_asked_for_at_the_token_endpoint() {
    let mut binding = OwnBinding { senders: Arc::new(Senders::default()), ..OwnBinding::default() };
    binding.proofs.nonce = true;
    let place = Place::new(binding).await;
    let client = place.add("jwt", tokens(TokenFormat::Jwt, TokenBinding::Dpop)).await;
    let first = place.login(None, &client, &[proof(&KEY, &json!({}))]).await;
    assert_eq!((first.status, first.json()["error"].as_str()), (400, Some("use_dpop_nonce")));
    let nonce = first.header("dpop-nonce");
    assert!(!nonce.is_empty());
    assert_eq!(place.login(None, &client, &[proof(&KEY, &json!({ "nonce": nonce }))]).await.status, 200);
    // and on a call to a platform
    let caller = place.add("caller", tokens(TokenFormat::Opaque, TokenBinding::Dpop)).await;
    let token = granted(&place.login(None, &caller, &[proof(&KEY, &json!({ "nonce": nonce }))]).await);
    let call = |nonce: Value| {
        let claimed = claims("GET", "https://keys.example/api/v2/users/me", Some(&token), &json!({ "nonce": nonce }));
        vec![KEY.proof(&claimed)]
    };
    let without = place.call(None, &format!("DPoP {token}"), &call(Value::Null)).await;
    assert_eq!((without.status, without.header("dpop-nonce")), (401, nonce));
    assert!(without.header("www-authenticate").contains("error=\"use_dpop_nonce\""));
    let refused = r#"keyholder_gateway_refusals_total{route="/api/v2/**",reason="proof_nonce"}"#;
    assert_eq!(place.world.metric(refused), 1);
    assert_eq!(place.call(None, &format!("DPoP {token}"), &call(json!(nonce))).await.status, 200);
    let made_up = place.login(None, &client, &[proof(&KEY, &json!({ "nonce": "made-up" }))]).await;
    assert_eq!(made_up.json()["error"], "use_dpop_nonce");
    assert_eq!(place.world.metric(r#"keyholder_issuer_logins_total{result="use_dpop_nonce"}"#), 2);
}

/// In front of the user's own API keyholder's opaque tokens are known with their binding, from memory and when asked for.
#[tokio::test]
async fn an_opaque_token_is_known_with_its_binding() {
    let place = Place::new(OwnBinding::default()).await;
    let client = place.add("opaque", tokens(TokenFormat::Opaque, TokenBinding::Dpop)).await;
    let token = granted(&place.login(None, &client, &[proof(&KEY, &json!({}))]).await);
    let authority = OwnTokens::new(Arc::clone(&place.world.issuer), ISSUER.into());
    let now: Now = SystemClock::new().now();
    let identity = authority.in_memory(token.as_bytes(), now).unwrap();
    let bound = kh_core::Confirmation::Jkt(KEY.thumbprint().0);
    assert_eq!(identity.confirmation(), Some(&bound));
}
