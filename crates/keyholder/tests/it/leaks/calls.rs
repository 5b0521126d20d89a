//! Everything that applications, local programs and attackers say to a running keyholder.
//!
//! Invariant: each path that matters is asserted to have been taken; every answer goes into the evidence whole, except
//! for what it exists to tell.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};

use super::{
    evidence::Evidence,
    forms::secret_text,
    hostile,
    world::{CREDENTIALS, World},
};
use crate::harness::{Answer, exchange, parse_answer, text};

const USERS: &str = "/api/v2/users?pageSize=1";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// Credentials that cannot log in, for an honest reason.
const FAILING: [&str; 4] = ["genesys-wrong", "unreachable", "not-tls", "untrusted"];
const GRANT: &str = "grant_type=client_credentials";

/// A running keyholder as the outside sees it.
struct Server<'w> {
    world: &'w World,
    gateway: String,
    broker: String,
    admin: String,
    guard: String,
    admin_guard: String,
    tag: &'w str,
}

fn host(url: &str) -> String {
    url.split("://").nth(1).unwrap().to_owned()
}

/// One raw request; the answer goes into the evidence without what it may tell.
fn send(evidence: &mut Evidence, host: &str, head: &str, body: &str, told: &[&str]) -> Answer {
    let length = body.len();
    let (line, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    let raw = exchange(
        host,
        format!("{line}\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{rest}\r\n{body}")
            .as_bytes(),
    );
    let what = line.split(' ').next().unwrap_or_default();
    evidence.add_telling(&format!("an answer to {what}"), &raw, told);
    parse_answer(&raw)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn basic(id: &str, secret: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{id}:{secret}")))
}

/// The whole traffic.
pub fn drive(world: &World, evidence: &mut Evidence, ready: &Value, tag: &str) {
    let token = |name: &str| fs::read_to_string(world.path(text(ready, name))).unwrap().trim().to_owned();
    let server = Server {
        world,
        gateway: host(text(ready, "gateway_url")),
        broker: host(text(ready, "broker_url")),
        admin: host(text(ready, "admin_url")),
        guard: token("broker_token_file"),
        admin_guard: token("admin_token_file"),
        tag,
    };
    evidence.secret("the broker's guard token", &server.guard);
    evidence.secret("the admin guard token", &server.admin_guard);
    let mut main = None;
    for name in CREDENTIALS {
        let login = server.client(evidence, name);
        let token = server.login(evidence, &login);
        server.first_call(evidence, name, &token);
        if name == "genesys" {
            main = Some((login, token));
        }
    }
    let (login, token) = main.expect("one of the credentials is genesys");
    server.platform_troubles(evidence, &token);
    server.wrong_logins(evidence, &login, &token);
    server.wrong_places(evidence, &token);
    server.over_tls(evidence, &login, text(ready, "gateway_tls_url"));
    server.broker(evidence, &token);
    server.admin(evidence);
    let revoked = server.call(evidence, &format!("DELETE /api/v2/tokens/me HTTP/1.1\r\n{}", bearer(&token)));
    assert_eq!(revoked.status, 200, "{revoked:?}");
}

impl Server<'_> {
    /// A client of this credential that may make every call: id and secret.
    fn client(&self, evidence: &mut Evidence, credential: &str) -> (String, String) {
        let name = format!("{credential}-{}", self.tag);
        let words = ["--output", "json", "client", "add", &name, "--credential", credential, "--allow-all"];
        let said = self.world.run(&words, b"");
        assert_eq!(said.code, Some(0), "{said:?}");
        let answer: Value = serde_json::from_str(&said.out).unwrap();
        let secret = text(&answer, "client_secret").to_owned();
        evidence.secret("a client's secret", &secret);
        evidence.add("client add", &said.err);
        evidence.add_telling("client add", &said.out, &[&secret]);
        (text(&answer, "client_id").to_owned(), secret)
    }

    fn login(&self, evidence: &mut Evidence, (id, secret): &(String, String)) -> String {
        let mut tokens = Vec::new();
        let body = format!("{GRANT}&client_id={id}&client_secret={secret}");
        let key = json!({ "accessKeyId": id, "accessKeySecret": secret }).to_string();
        for (head, body) in [
            (format!("POST /oauth/token HTTP/1.1\r\n{FORM}{}", basic(id, secret)), GRANT.to_owned()),
            (format!("POST /oauth/token HTTP/1.1\r\n{FORM}"), body),
            ("POST /authentication/v1/token/access-key HTTP/1.1\r\nContent-Type: application/json\r\n".to_owned(), key),
        ] {
            let length = body.len();
            let (line, rest) = head.split_once("\r\n").unwrap();
            let host = &self.gateway;
            let raw = exchange(
                host,
                format!("{line}\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{rest}\r\n{body}")
                    .as_bytes(),
            );
            let answer = parse_answer(&raw);
            assert_eq!(answer.status, 200, "{line}: {answer:?}");
            let json = answer.json();
            let told: Vec<String> = ["access_token", "refresh_token", "id_token"]
                .iter()
                .filter_map(|name| json[name].as_str().map(str::to_owned))
                .collect();
            for token in &told {
                evidence.secret("a token of keyholder", token);
            }
            evidence.add_telling("a login's answer", &raw, &told.iter().map(String::as_str).collect::<Vec<_>>());
            tokens.push(text(&json, "access_token").to_owned());
        }
        evidence.secret("a client's Basic header", STANDARD.encode(format!("{id}:{secret}")));
        tokens.swap_remove(0)
    }

    fn call(&self, evidence: &mut Evidence, head: &str) -> Answer {
        send(evidence, &self.gateway, head, "", &[])
    }

    fn get(&self, evidence: &mut Evidence, token: &str, target: &str) -> Answer {
        self.call(evidence, &format!("GET {target} HTTP/1.1\r\nAccept: application/json\r\n{}", bearer(token)))
    }

    /// What a credential's first call meets.
    fn first_call(&self, evidence: &mut Evidence, name: &str, token: &str) {
        let target = if name.starts_with("cxone") { "/incontactapi/services/v30.0/agents" } else { USERS };
        let answer = self.get(evidence, token, target);
        let expected: &[u16] = match name {
            "genesys" | "genesys-tls" | "well" => &[200],
            // What the sandbox answers there is not the point: a token was had and used.
            "cxone" | "cxone-regional" => &[200, 204, 400, 404],
            "refusing" | "genesys-wrong" => &[502],
            _ => &[502, 503, 504],
        };
        assert!(expected.contains(&answer.status), "{name}: {answer:?} {}", String::from_utf8_lossy(&answer.body));
    }

    /// 401 that heals and that does not, addresses that are not allowed, limits, answers that are none.
    fn platform_troubles(&self, evidence: &mut Evidence, token: &str) {
        let refused = |code: &str| json!({ "kind": "unauthorized", "code": code });
        let limited = json!({ "kind": "status", "status": 429, "retry_after": "1" });
        for (path, first, effect, expected) in [
            ("/api/v2/users", 1, refused("bad.credentials"), 200),
            ("/api/v2/users", 9, refused("ip.not.authorized"), 502),
            ("/api/v2/users", 1, limited, 200),
            ("/api/v2/users", 1, json!({ "kind": "bad_json" }), 200),
            ("/api/v2/users", 9, json!({ "kind": "drop_before" }), 502),
            ("/api/v2/users", 9, refused("bad.credentials"), 502),
        ] {
            self.world.fault(path, first, &effect);
            let answer = self.get(evidence, token, USERS);
            assert_eq!(answer.status, expected, "{effect}: {}", String::from_utf8_lossy(&answer.body));
        }
        // The token is gone now; logins go wrong in every way the sandbox can.
        for effect in [
            json!({ "kind": "bad_json" }),
            json!({ "kind": "truncated_body" }),
            json!({ "kind": "empty_body" }),
            json!({ "kind": "drop_after" }),
            json!({ "kind": "status", "status": 500 }),
        ] {
            self.world.fault("/oauth/token", 1, &effect);
            let answer = self.get(evidence, token, USERS);
            assert!(answer.status == 200 || answer.status >= 500, "{effect}: {answer:?}");
        }
        self.world.no_faults();
    }

    fn wrong_logins(&self, evidence: &mut Evidence, (id, secret): &(String, String), token: &str) {
        let altered = format!("{}x", &secret[..secret.len() - 1]);
        let platform = secret_text("admin");
        let form = |body: &str| (format!("POST /oauth/token HTTP/1.1\r\n{FORM}"), body.to_owned());
        let with = |header: String| (format!("POST /oauth/token HTTP/1.1\r\n{FORM}{header}"), GRANT.to_owned());
        for (head, body) in [
            with(basic(id, &altered)),
            with(basic(secret, id)),
            with(basic(&platform, &platform)),
            with(format!("Authorization: Basic {secret}\r\n")),
            with(format!("Authorization: Basic {id}:{secret}\r\n")),
            with(format!("Authorization: Basic !{}\r\n", STANDARD.encode(format!("{id}:{secret}")))),
            with(format!("Authorization: Bearer {secret}\r\n")),
            with(format!("Authorization: {secret}\r\n")),
            with(format!("{}{}", basic(id, secret), basic(id, &altered))),
            form(&format!("{GRANT}&client_id={secret}&client_secret={id}")),
            form(&format!("{GRANT}&client_id={id}&client_secret={altered}")),
            form(&format!("{GRANT}&client_id={id}&client_secret={secret}&client_secret={secret}")),
            form(&format!("grant_type={secret}&client_id={id}&client_secret={secret}")),
            form(&format!("grant_type=password&username={id}&password={secret}")),
            form(&format!("grant_type=refresh_token&refresh_token={token}&client_id={id}")),
            form(&format!("{secret}={secret}&%zz={platform}")),
            form(&json!({ "client_id": id, "client_secret": secret }).to_string()),
            (format!("POST /oauth/token?client_id={id}&client_secret={secret} HTTP/1.1\r\n{FORM}"), GRANT.to_owned()),
            (format!("GET /oauth/token?client_secret={secret} HTTP/1.1\r\n"), String::new()),
            (format!("POST /oauth/token HTTP/1.1\r\nContent-Type: {secret}\r\n"), secret.clone()),
            (
                "POST /authentication/v1/token/access-key HTTP/1.1\r\nContent-Type: application/json\r\n".to_owned(),
                format!("{{\"accessKeyId\":\"{id}\",\"accessKeySecret\":{secret}}}"),
            ),
            (
                "POST /authentication/v1/token/access-key HTTP/1.1\r\nContent-Type: application/json\r\n".to_owned(),
                json!({ "accessKeyId": secret, "accessKeySecret": [secret], secret.as_str(): secret }).to_string(),
            ),
        ] {
            let answer = send(evidence, &self.gateway, &head, &body, &[]);
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }

    /// Secrets where they do not belong: paths, queries, methods, host names, malformed heads.
    fn wrong_places(&self, evidence: &mut Evidence, token: &str) {
        let platform = secret_text("admin");
        let wrong = format!("{}x", &token[..token.len() - 1]);
        for head in [
            format!("GET {USERS} HTTP/1.1\r\n{}", bearer(&wrong)),
            format!("GET {USERS} HTTP/1.1\r\n{}{}", bearer(token), bearer(&wrong)),
            format!("GET {USERS} HTTP/1.1\r\nAuthorization: {token}\r\n"),
            format!("GET {USERS} HTTP/1.1\r\nAuthorization: Bearer {platform}\r\n"),
            format!("GET {USERS}&access_token={token} HTTP/1.1\r\n"),
            format!("GET /api/v2/users/{token} HTTP/1.1\r\n{}", bearer(token)),
            format!("GET /api/v2/users/{platform} HTTP/1.1\r\n{}", bearer(&wrong)),
            format!("GET /{platform}/../{token} HTTP/1.1\r\n{}", bearer(token)),
            format!("GET /%2e%2e/{token}%00 HTTP/1.1\r\n{}", bearer(token)),
            format!("POST /api/v2/oauth/clients/{token}/secret HTTP/1.1\r\n{}", bearer(token)),
            format!("GET http://user:{platform}@{}{USERS} HTTP/1.1\r\n{}", self.gateway, bearer(token)),
            format!("GET http://{platform}.example.com{USERS} HTTP/1.1\r\n{}", bearer(token)),
            format!("GET {USERS} HTTP/1.1\r\nX-{platform}: {token}\r\nCookie: {token}\r\n{}", bearer(token)),
            format!("GET {USERS} HTTP/1.1\r\nUpgrade: {platform}\r\nConnection: upgrade\r\n{}", bearer(token)),
        ] {
            let answer = self.call(evidence, &head);
            assert!(answer.status >= 200, "{answer:?}");
        }
        // The platform names the caller's own address in its answer: it goes back where it came from.
        let echoed = format!("GET {USERS}&access_token={token} HTTP/1.1\r\n{}", bearer(token));
        let answer = send(evidence, &self.gateway, &echoed, "", &[token]);
        assert!([200, 400].contains(&answer.status), "{answer:?}");
        // What no HTTP parser takes.
        for raw in [
            format!("GET {USERS} HTTP/1.1\r\nAuthorization Bearer {token}\r\n\r\n"),
            format!("{token} {platform}\r\n\r\n"),
            format!("GET {USERS} {platform}\r\nAuthorization: Bearer {token}\r\n\r\n"),
            format!("GET {USERS} HTTP/1.1\r\nHost: {token}@x\r\nContent-Length: {platform}\r\n\r\n"),
            format!(
                "POST {USERS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{token}\r\n"
            ),
            format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{platform}\r\n"),
        ] {
            for host in [&self.gateway, &self.broker, &self.admin] {
                evidence.add("an answer to no request", exchange(host, raw.as_bytes()));
            }
        }
    }

    fn over_tls(&self, evidence: &mut Evidence, (id, secret): &(String, String), url: &str) {
        let head = format!("POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FORM}");
        let body = format!("{GRANT}&client_id={id}&client_secret={secret}");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let raw = exchange_tls(&host(url), &self.world.ca, request.as_bytes());
        let token = text(&parse_answer(&raw).json(), "access_token").to_owned();
        evidence.secret("a token of keyholder over TLS", &token);
        evidence.add_telling("a login's answer over TLS", &raw, &[&token]);
        let request = format!("GET {USERS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n", bearer(&token));
        let raw = exchange_tls(&host(url), &self.world.ca, request.as_bytes());
        assert_eq!(parse_answer(&raw).status, 200);
        evidence.add("an answer over TLS", raw);
        // Not TLS at all, with a token in clear.
        evidence.add("an answer to no handshake", exchange(&host(url), request.as_bytes()));
    }

    fn broker(&self, evidence: &mut Evidence, client_token: &str) {
        let guard = format!("X-Keyholder-Token: {}\r\n", self.guard);
        // All at once: each credential that fails makes its callers wait a little longer each time.
        let answers = thread::scope(|scope| {
            let threads: Vec<_> = CREDENTIALS
                .into_iter()
                .chain(hostile::WAYS)
                .map(|name| scope.spawn(move || (name, ["token", "header"].map(|path| self.ask_broker(path, name)))))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for (name, raws) in answers {
            for raw in raws {
                let answer = parse_answer(&raw);
                let json = answer.json();
                let header = json["authorizationHeader"].as_str().and_then(|value| value.strip_prefix("Bearer "));
                let token = json["access_token"].as_str().or(header).unwrap_or_default();
                let good = !hostile::WAYS.contains(&name) && !FAILING.contains(&name);
                assert_eq!(answer.status == 200, good, "{name}: {}", String::from_utf8_lossy(&answer.body));
                assert_eq!(token.is_empty(), !good, "{name}");
                evidence.secret(&format!("the platform token of {name}"), token);
                evidence.add_telling("the broker's answer", &raw, &[token]);
            }
        }
        let token = self.platform_token(evidence);
        let wrong = format!("X-Keyholder-Token: {}x\r\n", &self.guard[..self.guard.len() - 1]);
        for (head, body, expected) in [
            (format!("GET /v1/token/genesys HTTP/1.1\r\n{wrong}"), String::new(), 403),
            ("GET /v1/token/genesys HTTP/1.1\r\n".to_owned(), String::new(), 403),
            (format!("GET /v1/token/genesys?token={} HTTP/1.1\r\n", self.guard), String::new(), 403),
            (format!("GET /v1/token/{token} HTTP/1.1\r\n{guard}"), String::new(), 404),
            (format!("GET /v1/token/{client_token} HTTP/1.1\r\n{guard}"), String::new(), 404),
            (format!("GET /v1/token/genesys?min_ttl={token} HTTP/1.1\r\n{guard}"), String::new(), 400),
            (format!("GET /v1/token/genesys?min_ttl=99999999 HTTP/1.1\r\n{guard}"), String::new(), 422),
            (format!("GET /{token} HTTP/1.1\r\n{guard}"), String::new(), 404),
            (format!("{token} /v1/token/genesys HTTP/1.1\r\n{guard}"), String::new(), 0),
            (
                format!("POST /v1/token/genesys/invalidate HTTP/1.1\r\n{guard}"),
                json!({ "sha256": token }).to_string(),
                0,
            ),
            (
                format!("POST /v1/token/genesys/invalidate HTTP/1.1\r\n{guard}"),
                json!({ token.as_str(): token }).to_string(),
                0,
            ),
            (format!("POST /v1/token/genesys/invalidate HTTP/1.1\r\n{guard}"), token.clone(), 0),
            (format!("POST /v1/token/genesys/invalidate HTTP/1.1\r\n{wrong}"), token.clone(), 403),
            (format!("GET /v1/token/genesys HTTP/1.1\r\nOrigin: http://{token}\r\n{guard}"), String::new(), 0),
        ] {
            let answer = send(evidence, &self.broker, &head, &body, &[]);
            assert!(answer.status == expected || expected == 0 && answer.status >= 400, "{expected}: {answer:?}");
        }
        let digest = kh_core::Sha256::of(token.as_bytes()).to_hex();
        let head = format!("POST /v1/token/genesys/invalidate HTTP/1.1\r\nContent-Type: application/json\r\n{guard}");
        let answer = send(evidence, &self.broker, &head, &json!({ "sha256": digest }).to_string(), &[]);
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_ne!(self.platform_token(evidence), token, "the invalidated token is given out again");
    }

    fn ask_broker(&self, path: &str, name: &str) -> Vec<u8> {
        let head = format!(
            "GET /v1/{path}/{name} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nX-Keyholder-Token: {}\r\n\r\n",
            self.broker, self.guard
        );
        exchange(&self.broker, head.as_bytes())
    }

    fn platform_token(&self, evidence: &mut Evidence) -> String {
        let answer = parse_answer(&self.ask_broker("token", "genesys"));
        let token = text(&answer.json(), "access_token").to_owned();
        evidence.secret("the platform token of genesys", &token);
        token
    }

    fn admin(&self, evidence: &mut Evidence) {
        let good = format!("X-Keyholder-Token: {}\r\n", self.admin_guard);
        let wrong = bearer(&self.guard);
        for (path, header, expected) in [
            ("/livez", "", 200),
            ("/metrics", "", 200),
            ("/v1/status", good.as_str(), 200),
            ("/v1/status", &wrong, 403),
            (&format!("/{}", self.admin_guard), &good, 404),
            (&format!("/v1/status?token={}", self.admin_guard), "", 403),
        ] {
            let answer = send(evidence, &self.admin, &format!("GET {path} HTTP/1.1\r\n{header}"), "", &[]);
            assert_eq!(answer.status, expected, "{path}: {answer:?}");
        }
        let ready = send(evidence, &self.admin, "GET /readyz HTTP/1.1\r\n", "", &[]);
        assert!([200, 503].contains(&ready.status), "{ready:?}");
    }
}

/// [`exchange`] over TLS, trusting `ca` alone.
fn exchange_tls(address: &str, ca: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    stream.write_all(bytes).unwrap();
    let mut raw = Vec::new();
    // A peer that closes without a TLS alert has still said everything.
    stream.read_to_end(&mut raw).ok();
    raw
}
