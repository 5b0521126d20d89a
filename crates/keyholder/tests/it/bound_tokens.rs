//! Tokens of keyholder's own that are bound to their client, from `client add` to the platform and to a protected API: over
//! `serve`, with certificates by curl and with `DPoP` proofs made by hand.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_core::Sha256;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Installation, Login, Server, eventually, request, run, text},
    inbound::certificates::{authority, issue},
    protected_api::{
        Api,
        tokens::{Key, now},
    },
};

const ME: &str = "/api/v2/users/me";

fn configuration(api: &Api) -> String {
    format!(
        r#"
[gateway.tls]
listen = ["127.0.0.1:0"]
cert = "server.pem"
key = "server.key"
client_ca = "clients.pem"
[token_endpoint]
issuer = "https://keys.example"
[issuer.own]
kind = "keyholder"
audiences = ["https://api.example"]
[inbound.reports]
listen = ["127.0.0.1:0"]
upstream = "http://{}"
issuers = ["own"]
audiences = ["https://api.example"]
binding = "required"
[[inbound.reports.route]]
match = ["GET /reports"]
scopes = ["reports:read"]
"#,
        api.address
    )
}

/// What curl makes of a request over https with the certificate in `FILE.pem`, or with none: the status and the body.
fn curl(
    installation: &Installation,
    server: &Server,
    file: Option<&str>,
    path: &str,
    more: &[&str],
) -> (String, Value) {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "30", "-w", "\n%{http_code}", "--cacert"]);
    curl.arg(installation.path("servers.pem"));
    if let Some(file) = file {
        curl.arg("--cert").arg(installation.path(&format!("{file}.pem")));
        curl.arg("--key").arg(installation.path(&format!("{file}.key")));
    }
    let url = format!("{}{path}", text(&server.ready, "gateway_tls_url"));
    let said = run(curl.args(more).arg(url), b"").out;
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

fn login_by_curl(installation: &Installation, server: &Server, file: Option<&str>, login: &Login) -> (String, Value) {
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", login.id, login.secret);
    curl(installation, server, file, "/oauth/token", &["-d", &form])
}

/// A proof for one request; with a token where there is one.
fn proof(key: &Key, method: &str, address: &str, token: Option<&str>) -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let name = MADE.fetch_add(1, Ordering::Relaxed);
    let mut claims = json!({ "jti": format!("bound-{name}"), "htm": method, "htu": address, "iat": now() });
    if let Some(token) = token {
        claims["ath"] = BASE64_URL_SAFE_NO_PAD.encode(Sha256::of(token.as_bytes()).0).into();
    }
    key.proof(&claims)
}

/// A login over http, with these headers.
fn login(server: &Server, login: &Login, proofs: &[&str]) -> Answer {
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", login.id, login.secret);
    let mut headers = vec![("Content-Type", "application/x-www-form-urlencoded")];
    headers.extend(proofs.iter().map(|proof| ("DPoP", *proof)));
    request("POST", &format!("{}/oauth/token", server.gateway()), &headers, form.as_bytes())
}

fn access_token(answer: &Value) -> String {
    text(answer, "access_token").to_owned()
}

#[test]
fn a_token_is_bound_to_its_clients_certificate_and_the_authority_may_change() {
    let api = Api::start();
    let installation = Installation::with("", &configuration(&api));
    let (servers, clients, next) = (authority("servers"), authority("clients"), authority("next clients"));
    fs::write(installation.path("servers.pem"), servers.pem()).unwrap();
    fs::write(installation.path("clients.pem"), clients.pem()).unwrap();
    issue(&installation, &servers, "127.0.0.1", "server");
    let digest = issue(&installation, &clients, "ours.example", "ours");
    issue(&installation, &clients, "theirs.example", "theirs");
    issue(&installation, &next, "ours.example", "newcomer");
    let words = ["--credential", "genesys", "--allow-all", "--token-binding", "certificate"];
    let client = installation.add_client("by-certificate", &words);
    let server = installation.serve();
    let (status, refused) = login_by_curl(&installation, &server, None, &client);
    assert_eq!((status.as_str(), &refused["error"]), ("400", &json!("invalid_request")));
    let (status, wrong) = login_by_curl(
        &installation,
        &server,
        Some("ours"),
        &Login { secret: "khs_wrong".to_owned(), ..client.clone() },
    );
    assert_eq!((status.as_str(), &wrong["error"]), ("401", &json!("invalid_client")), "the certificate alone");
    let (status, granted) = login_by_curl(&installation, &server, Some("ours"), &client);
    assert_eq!((status.as_str(), &granted["token_type"]), ("200", &json!("bearer")), "{granted}");
    let token = access_token(&granted);
    let call = |file| {
        let header = format!("authorization: Bearer {token}");
        curl(&installation, &server, file, ME, &["-H", &header]).0
    };
    for (file, expected) in [(Some("ours"), "200"), (Some("theirs"), "401"), (None, "401")] {
        assert_eq!(call(file), expected, "{file:?}");
    }
    assert_eq!(server.call(&token, "GET", ME).status, 401, "over http there is no certificate");
    // whoever may introspect is told
    let asking = installation.add_client("asking", &["--introspect"]);
    let form = format!("client_id={}&client_secret={}&token={token}", asking.id, asking.secret);
    let told = || curl(&installation, &server, None, "/oauth/introspect", &["-d", &form]).1;
    eventually(&json!({ "x5t#S256": digest }), || told()["cnf"].clone());
    let metadata = curl(&installation, &server, None, "/.well-known/oauth-authorization-server", &[]).1;
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
    // the authority is replaced while the program serves
    fs::write(installation.path("clients.pem"), next.pem()).unwrap();
    server.process.signal("HUP");
    eventually(&("000".to_owned(), "401".to_owned()), || (call(Some("ours")), call(Some("newcomer"))));
    assert_eq!(login_by_curl(&installation, &server, Some("newcomer"), &client).0, "200");
    assert_eq!(server.process.stop().0, Some(0));
}

#[test]
fn a_token_is_bound_to_its_clients_key_at_the_platform_and_at_the_protected_api() {
    let api = Api::start();
    let installation = Installation::with("", &configuration(&api));
    let servers = authority("servers");
    fs::write(installation.path("clients.pem"), servers.pem()).unwrap();
    issue(&installation, &servers, "127.0.0.1", "server");
    let (key, other) = (Key::new("k"), Key::new("o"));
    let caller =
        installation.add_client("caller", &["--credential", "genesys", "--allow-all", "--token-binding", "dpop"]);
    let jwt = ["--token-format", "jwt", "--audience", "https://api.example", "--scope", "reports:read"];
    let actions = installation.add_client("actions", &[&jwt[..], &["--token-binding", "dpop"]].concat());
    let free = installation.add_client("free", &jwt);
    let server = installation.serve();
    let address = format!("{}/oauth/token", server.gateway());
    let at_login = || proof(&key, "POST", &address, None);
    let without = login(&server, &caller, &[]);
    assert_eq!((without.status, &without.json()["error"]), (400, &json!("invalid_dpop_proof")));
    let granted = login(&server, &caller, &[&at_login()]);
    assert_eq!((granted.status, &granted.json()["token_type"]), (200, &json!("DPoP")));
    // the token endpoint as the metadata call it
    let named = proof(&key, "POST", "https://keys.example/oauth/token", None);
    assert_eq!(login(&server, &caller, &[&named]).status, 200);
    assert_eq!(login(&server, &caller, &[&named]).status, 400, "a proof is good once");
    let token = access_token(&granted.json());
    let me = format!("{}{ME}", server.gateway());
    let call = |scheme: &str, proofs: &[String]| {
        let authorization = format!("{scheme} {token}");
        let mut headers = vec![("Authorization", authorization.as_str()), ("Accept", "application/json")];
        headers.extend(proofs.iter().map(|proof| ("DPoP", proof.as_str())));
        request("GET", &me, &headers, b"")
    };
    assert_eq!(call("DPoP", &[proof(&key, "GET", &me, Some(&token))]).status, 200);
    for (scheme, proofs) in [
        ("Bearer", vec![]),
        ("Bearer", vec![proof(&key, "GET", &me, Some(&token))]),
        ("DPoP", vec![]),
        ("DPoP", vec![proof(&other, "GET", &me, Some(&token))]),
        ("DPoP", vec![proof(&key, "GET", &me, None)]),
        ("DPoP", vec![proof(&key, "GET", &me, Some(&token)), proof(&key, "GET", &me, Some(&token))]),
    ] {
        let refused = call(scheme, &proofs);
        assert_eq!(refused.status, 401, "{scheme} {}", proofs.len());
        assert!(refused.header("www-authenticate").is_some_and(|told| told.starts_with(scheme)));
    }
    // a JWT, at the protected API: it carries its binding itself
    let token = access_token(&login(&server, &actions, &[&at_login()]).json());
    let unbound = access_token(&login(&server, &free, &[]).json());
    let reports = format!("{}/reports", text(&server.ready["inbound_urls"], "reports"));
    let ask = |scheme: &str, token: &str, proof: Option<String>| {
        let authorization = format!("{scheme} {token}");
        let mut headers = vec![("Authorization", authorization.as_str())];
        headers.extend(proof.iter().map(|proof| ("DPoP", proof.as_str())));
        request("GET", &reports, &headers, b"").status
    };
    assert_eq!(ask("DPoP", &token, Some(proof(&key, "GET", &reports, Some(&token)))), 200);
    assert_eq!(ask("DPoP", &token, Some(proof(&other, "GET", &reports, Some(&token)))), 401);
    assert_eq!(ask("Bearer", &token, None), 401);
    assert_eq!(ask("Bearer", &unbound, None), 401, "binding = \"required\"");
    assert_eq!(api.calls(), 1);
    assert_eq!(server.process.stop().0, Some(0));
    let log = fs::read_to_string(installation.path("serve.log")).unwrap();
    assert!(!log.contains(&token) && !log.contains(&unbound) && !log.contains(&named), "{log}");
}

/// What another process says of a client counts for the tokens that it has.
#[test]
fn a_client_that_must_be_bound_from_now_on_has_no_bearer_token_left() {
    let installation = Installation::new();
    let client = installation.add_client("billing", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let token = server.login(&client);
    assert_eq!(server.call(&token, "GET", ME).status, 200);
    let edited = installation.run(&["--output", "json", "client", "edit", "billing", "--token-binding", "dpop"]).json();
    assert_eq!(edited["token_binding"], "dpop");
    eventually(&(401, 400), || (server.call(&token, "GET", ME).status, server.try_login(&client).status));
    assert!(installation.run(&["client", "show", "billing"]).done().contains("bound to    its key (DPoP)"));
    installation.run(&["client", "rotate-secret", "billing"]).done();
    let shown = installation.run(&["--output", "json", "client", "show", "billing"]).json();
    assert_eq!(shown["token_binding"], "dpop", "a new secret changes nothing about it");
    let edit = |binding| installation.run(&["client", "edit", "billing", "--token-binding", binding]);
    let warned = edit("certificate");
    assert!(warned.err.contains("client_ca"), "{warned:?}");
    assert_ne!(edit("mtls").code, Some(0));
    let log = fs::read_to_string(installation.path("state/audit.log")).unwrap();
    assert!(log.contains("client.set_token_binding"), "each change is audited");
    assert_eq!(server.process.stop().0, Some(0));
}
