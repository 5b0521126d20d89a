//! Platforms and callers that misbehave on well-formed requests: what the caller gets, and that nothing is lost or
//! done twice.
//!
//! Invariants: a `POST` takes effect at most once, whatever breaks; a failure is told in the caller's shape and over
//! when its cause is over; the same process answers afterwards and has not grown. The sandbox's journal decides.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Installation, Sandbox, Server, eventually, exchange, parse_answer, text},
    shapes::{Shape, check_error, peak},
};

const USERS: &str = "/api/v2/users";
const MIB: u64 = 1024 * 1024;
const PATIENCE: Duration = Duration::from_mins(1);

/// A keyholder before a sandbox, one client, one warm token.
struct Stage {
    installation: Installation,
    server: Server,
    token: String,
    memory: u64,
}

impl Stage {
    fn new(lines: &str) -> Self {
        let installation = Installation::with("", lines);
        // one worker, so that the next call finds the connection of the one before
        let file = installation.path("keyholder.toml");
        let config = fs::read_to_string(&file).unwrap().replace("[gateway]\n", "[gateway]\nworkers = 1\n");
        fs::write(&file, config).unwrap();
        let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
        let server = installation.serve();
        let token = server.login(&login);
        assert_eq!(server.call(&token, "GET", USERS).status, 200);
        let memory = peak(&server);
        Self { installation, server, token, memory }
    }

    fn host(&self) -> &str {
        self.server.gateway().strip_prefix("http://").unwrap()
    }

    /// Puts one fault in force and forgets the journal.
    fn fault(&self, matches: &Value, effect: &Value) {
        let rule = json!({ "match": matches, "effect": effect });
        self.installation.sandbox.control("PUT", "faults", &json!({ "rules": [rule] }));
        self.installation.sandbox.control("DELETE", "requests", &Value::Null);
    }

    /// What the platform saw of a path: how it was answered (0 when it hung up), and whether that took effect.
    fn seen(&self, method: &str, path: &str) -> Vec<(u64, bool)> {
        let journal = self.installation.sandbox.control("GET", &format!("requests?method={method}"), &Value::Null);
        let all = journal["requests"].as_array().unwrap();
        let of_path = all.iter().filter(|seen| seen["path"] == path);
        of_path.map(|seen| (seen["status"].as_u64().unwrap_or(0), seen["applied"] == true)).collect()
    }

    /// A call's raw answer.
    fn raw(&self, token: &str, method: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head = format!(
            "{method} {USERS} HTTP/1.1\r\nHost: keyholder\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        exchange(self.host(), &[head.as_bytes(), body].concat())
    }

    fn call(&self, method: &str, body: &[u8]) -> Answer {
        parse_answer(&self.raw(&self.token, method, body))
    }

    fn end(&self) {
        self.installation.sandbox.control("PUT", "faults", &json!({ "rules": [] }));
        assert_eq!(self.server.call(&self.token, "GET", USERS).status, 200);
        let grown = peak(&self.server).saturating_sub(self.memory);
        println!("the process has grown by {} KiB", grown / 1024);
        assert!(grown < 64 * MIB, "the process has grown by {} MiB", grown / MIB);
    }
}

fn user(number: usize) -> Vec<u8> {
    json!({ "name": "A", "email": format!("a{number}@example.com") }).to_string().into_bytes()
}

#[test]
fn connections_that_drop_apply_a_post_at_most_once_and_lose_no_get() {
    const PROTOCOL: &str = "keyholder.upstream.protocol";
    let stage = Stage::new("");
    let once = json!({ "path": USERS, "first": 1 });
    let always = json!({ "path": USERS });
    for (number, kind) in ["drop_before", "drop_after"].into_iter().enumerate() {
        // so that the next call goes over a connection that has served, where a library might send it again
        assert_eq!(stage.call("GET", b"").status, 200);
        stage.fault(&once, &json!({ "kind": kind }));
        let answer = stage.call("POST", &user(number));
        assert_eq!(answer.status, 502, "{kind}: {answer:?}");
        check_error(kind, &answer, Shape::Genesys, PROTOCOL);
        assert_eq!(stage.seen("POST", USERS), [(0, kind == "drop_after")], "{kind}: it was sent once");
        // a GET may be sent again on a fresh connection, once
        assert_eq!(stage.call("GET", b"").status, 200, "warm again");
        stage.fault(&once, &json!({ "kind": kind }));
        assert_eq!(stage.call("GET", b"").status, 200, "{kind}");
        assert_eq!(stage.seen("GET", USERS).len(), 2, "{kind}");
        stage.fault(&always, &json!({ "kind": kind }));
        let answer = stage.call("GET", b"");
        assert_eq!(answer.status, 502, "{kind}: {answer:?}");
        check_error(kind, &answer, Shape::Genesys, PROTOCOL);
        assert!(stage.seen("GET", USERS).len() <= 2, "{kind}: twice at most");
        stage.installation.sandbox.control("PUT", "faults", &json!({ "rules": [] }));
    }
    stage.end();
}

#[test]
fn the_platforms_own_answers_pass_unchanged_however_broken() {
    let stage = Stage::new("");
    let once = json!({ "path": USERS, "first": 1 });
    stage.fault(&once, &json!({ "kind": "bad_json" }));
    let answer = stage.call("GET", b"");
    assert_eq!(answer.status, 200);
    assert!(serde_json::from_slice::<Value>(&answer.body).is_err(), "the caller sees what the platform said");
    stage.fault(&once, &json!({ "kind": "empty_body" }));
    let answer = stage.call("GET", b"");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    stage.fault(&once, &json!({ "kind": "truncated_body" }));
    let answer = stage.call("GET", b"");
    let announced: usize = answer.header("content-length").expect("the length as announced").parse().unwrap();
    assert!(answer.body.len() < announced, "a cut answer is not made to look whole: {answer:?}");
    for (status, code) in [(500, "internal.server.error"), (502, "bad.gateway"), (504, "gateway.timeout")] {
        let body = json!({ "code": code, "message": "its own words" }).to_string();
        stage.fault(&once, &json!({ "kind": "status", "status": status, "body": body }));
        let answer = stage.call("POST", &user(9));
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).as_ref()), (status, body.as_str()));
        assert!(answer.header("inin-correlation-id").is_some());
        assert_eq!(stage.seen("POST", USERS), [(u64::from(status), false)]);
    }
    stage.fault(&once, &json!({ "kind": "status", "status": 429, "retry_after": "7200" }));
    let answer = stage.call("GET", b"");
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7200")));
    // a body over the platform's limit is the platform's to refuse
    stage.fault(&json!({ "path": "/none" }), &json!({ "kind": "drop_before" }));
    let answer = stage.call("POST", &vec![b' '; 600_000]);
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.json()["code"].is_string());
    assert!(stage.seen("POST", USERS).iter().all(|(_, applied)| !applied));
    stage.end();
}

#[test]
fn a_refused_token_is_never_the_callers_401() {
    let stage = Stage::new("");
    for (number, code, posts) in [(20, "ip.not.authorized", 1), (21, "bad.credentials", 2)] {
        stage.fault(&json!({ "path": USERS }), &json!({ "kind": "unauthorized", "code": code }));
        let answer = stage.call("POST", &user(number));
        assert_eq!(answer.status, 502, "{code}: {answer:?}");
        check_error(code, &answer, Shape::Genesys, "keyholder.credential.rejected");
        assert_eq!(answer.json()["details"][0]["errorCode"], code);
        assert_eq!(stage.seen("POST", USERS), vec![(401, false); posts], "{code}: at most one fresh token");
    }
    stage.end();
}

/// Each row has a credential of its own, so that each begins without a token and without a history.
#[test]
fn a_token_endpoint_that_fails_once_is_asked_again_while_the_caller_waits() {
    let rows = [
        ("bad-json", json!({ "kind": "bad_json" })),
        ("truncated", json!({ "kind": "truncated_body" })),
        ("empty", json!({ "kind": "empty_body" })),
        ("dropped-before", json!({ "kind": "drop_before" })),
        ("dropped-after", json!({ "kind": "drop_after" })),
        ("error", json!({ "kind": "status", "status": 500 })),
        ("html", json!({ "kind": "status", "status": 503, "body": "<html>" })),
        ("limited", json!({ "kind": "status", "status": 429, "retry_after": "1" })),
    ];
    let lines = rows.iter().fold(String::new(), |text, (name, ..)| {
        text + &format!("[credential.{name}]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n")
    });
    let stage = Stage::new(&lines);
    for (number, (name, effect)) in rows.iter().enumerate() {
        let login = stage.installation.add_client(name, &["--credential", name, "--allow-all"]);
        let token = stage.server.login(&login);
        stage.fault(&json!({ "path": "/oauth/token", "first": 1 }), effect);
        let answer = parse_answer(&stage.raw(&token, "POST", &user(30 + number)));
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert_eq!(stage.seen("POST", "/oauth/token").len(), 2, "{name}: asked twice");
        assert_eq!(stage.seen("POST", USERS), [(200, true)], "{name}: and the call was made once");
    }
    stage.end();
}

#[test]
fn a_token_endpoint_that_keeps_failing_is_told_and_got_over() {
    let stage = Stage::new(
        "[credential.broken]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n\
         [credential.limited]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n",
    );
    let of = |name: &str| {
        let login = stage.installation.add_client(name, &["--credential", name, "--allow-all"]);
        stage.server.login(&login)
    };
    let (broken, limited) = (of("broken"), of("limited"));
    let logins = json!({ "path": "/oauth/token" });
    stage.fault(&logins, &json!({ "kind": "status", "status": 429, "retry_after": "7200" }));
    for _ in 0..3 {
        let answer = parse_answer(&stage.raw(&limited, "POST", &user(50)));
        assert_eq!(answer.status, 503, "{answer:?}");
        check_error("limited", &answer, Shape::Genesys, "keyholder.token.rate_limited");
        let after: u64 = answer.header("retry-after").expect("how long").parse().unwrap();
        assert!((7_000..=9_000).contains(&after), "what the platform asked for and a little: {after}");
    }
    assert_eq!(stage.seen("POST", "/oauth/token"), [(429, false)], "asked once in two hours");
    stage.fault(&logins, &json!({ "kind": "bad_json" }));
    let answer = parse_answer(&stage.raw(&broken, "POST", &user(51)));
    assert_eq!(answer.status, 503, "{answer:?}");
    check_error("broken", &answer, Shape::Genesys, "keyholder.token.unavailable");
    let asked = stage.seen("POST", "/oauth/token").len();
    assert!((1..10).contains(&asked), "with pauses between: {asked}");
    assert_eq!(stage.seen("POST", USERS), [], "no call without a token");
    stage.fault(&json!({ "path": "/none" }), &json!({ "kind": "drop_before" }));
    let recovered = (0..1_500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        stage.server.call(&broken, "GET", USERS).status == 200
    });
    assert!(recovered, "over when its cause is over: {}", stage.server.process.said());
    stage.end();
}

/// Writes a certificate for 127.0.0.1 that is valid or has expired, its key and its authority; their paths.
fn certificate(folder: &Path, expired: bool) -> [PathBuf; 3] {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, format!("test authority, expired: {expired}"));
    let issuer = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let paths = ["cert", "key", "ca"].map(|name| folder.join(format!("{name}-{expired}.pem")));
    for (path, text) in paths.iter().zip([leaf.pem(), key.serialize_pem(), issuer.pem()]) {
        fs::write(path, text).unwrap();
    }
    paths
}

#[test]
fn platforms_that_cannot_be_reached_or_trusted_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key, ca] = certificate(folder.path(), true);
    let expired = Sandbox::start(folder.path(), &format!("[tls]\ncertificate = {cert:?}\nkey = {key:?}\n"));
    assert!(expired.url().starts_with("https://"));
    // a port where nobody listens; it stays ours, so that no other test gets it
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let stage = Stage::new("");
    let good = stage.installation.sandbox.url().to_owned();
    let (good, nowhere) = (good.as_str(), nowhere.as_str());
    let mut config = fs::read_to_string(stage.installation.path("keyholder.toml")).unwrap();
    let rows = [
        ("tls-api", good, expired.url(), 502, "keyholder.upstream.tls"),
        ("tls-login", expired.url(), good, 502, "keyholder.upstream.tls"),
        ("gone-api", good, nowhere, 502, "keyholder.upstream.unreachable"),
        ("gone-login", nowhere, good, 502, "keyholder.upstream.unreachable"),
    ];
    for (name, login, api, ..) in rows {
        write!(
            config,
            "[platform.{name}]\nkind = \"genesys\"\nlogin_url = \"{login}\"\napi_url = \"{api}\"\nextra_ca = {ca:?}\n\
             [credential.{name}]\nplatform = \"{name}\"\nsecret = \"store:genesys\"\n"
        )
        .unwrap();
    }
    fs::write(stage.installation.path("keyholder.toml"), config).unwrap();
    let Stage { installation, server, token, memory } = stage;
    assert_eq!(server.process.stop().0, Some(0));
    let stage = Stage { server: installation.serve(), installation, token, memory };
    for (name, _, _, status, code) in rows {
        let login = stage.installation.add_client(name, &["--credential", name, "--allow-all"]);
        let token = stage.server.login(&login);
        let answer = parse_answer(&stage.raw(&token, "POST", &user(40)));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        check_error(name, &answer, Shape::Genesys, code);
    }
    // whoever has to act is told why
    eventually(&true, || stage.server.process.said().to_ascii_lowercase().contains("expired"));
    let journal = expired.control("GET", "requests", &Value::Null);
    assert_eq!(journal["total"], 0, "nothing was sent over a connection that is not trusted");
    stage.end();
}

/// A TLS exchange over loopback; `Err` is the handshake's failure.
fn https(host: &str, ca: &Path, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let socket = TcpStream::connect(host)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), socket);
    stream.write_all(bytes)?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    Ok(raw)
}

#[test]
fn callers_refuse_an_expired_certificate_of_the_gateway_and_get_on_with_a_valid_one() {
    let folder = tempfile::tempdir().unwrap();
    for expired in [true, false] {
        let [cert, key, ca] = certificate(folder.path(), expired);
        let tls = format!("[gateway.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = {cert:?}\nkey = {key:?}\n");
        let stage = Stage::new(&tls);
        let host = text(&stage.server.ready, "gateway_tls_url").strip_prefix("https://").unwrap();
        let bytes = format!(
            "GET {USERS} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
            stage.token
        );
        let got = https(host, &ca, bytes.as_bytes());
        if expired {
            assert!(got.unwrap_err().to_string().contains("certificate"), "the handshake fails for its reason");
        } else {
            assert_eq!(parse_answer(&got.unwrap()).status, 200);
        }
        // plain text at the TLS listener, and noise
        let clear = exchange(host, bytes.as_bytes());
        assert!(!String::from_utf8_lossy(&clear).contains("HTTP/1.1 2"), "{clear:?}");
        exchange(host, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 0xff, 0, 0]);
        stage.end();
    }
}

/// Heads and bodies that never end cost their connection and nobody else's.
#[test]
fn callers_that_never_finish_are_let_go_and_hinder_nobody() {
    let stage =
        Stage::new("[gateway.limits]\nheader_timeout = \"2s\"\nbody_timeout = \"2s\"\nupstream_timeout = \"2s\"\n");
    stage.fault(&json!({ "path": "/none" }), &json!({ "kind": "drop_before" }));
    let token = &stage.token;
    let head = format!(
        "POST {USERS} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    );
    let starts = [
        head.clone(),
        format!("{head}Content-Length: 100\r\n\r\n{{\"name\""),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n7\r\n{{\"name\""),
        "POST /oauth/token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant"
            .to_owned(),
    ];
    let open: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::connect(stage.host()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(starts[number % starts.len()].as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(stage.server.call(token, "GET", USERS).status, 200, "in the middle of it");
    for (number, mut stream) in open.into_iter().enumerate() {
        let mut raw = Vec::new();
        let ended = stream.read_to_end(&mut raw);
        let said = String::from_utf8_lossy(&raw);
        // a reset is an end as well; a read that times out is not
        assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "{number} is still open");
        assert!(!said.contains("HTTP/1.1 2"), "{number}: {said}");
    }
    assert!(stage.seen("POST", USERS).iter().all(|(_, applied)| !applied), "half a body is no body");
    stage.end();
}
