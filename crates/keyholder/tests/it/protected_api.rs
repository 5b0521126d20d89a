//! `keyholder serve --listen ...`: one protected API by flags alone, with tokens of a key made in the test.

mod security_log;
pub mod tokens;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::tokens::Key;
use crate::harness::{Answer, Process, eventually, keyholder, request, run, text};

pub const ISSUER: &str = "https://issuer.example";

/// An API that answers each request with its head, and remembers it.
pub struct Api {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Api {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        // ends with the test's process
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, seen) = (stream.unwrap(), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).unwrap();
                    seen.lock().unwrap().push(head.clone());
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{head}", head.len());
                    stream.write_all(answer.as_bytes()).ok();
                });
            }
        });
        Self { address, heads }
    }

    pub fn calls(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

/// A gateway in a folder that has nothing but the key file.
struct Protected {
    folder: TempDir,
    process: Process,
    url: String,
    /// Where `--metrics` is among the flags.
    metrics_url: Option<String>,
}

fn short(folder: &TempDir, api: &Api, more: &[&str]) -> Command {
    let mut command = keyholder();
    let upstream = format!("http://{}", api.address);
    command
        .current_dir(folder.path())
        .args(["serve", "--listen", "127.0.0.1:0", "--ready-file", "ready.json", "--jwks", "keys.json"])
        .args(["--upstream", &upstream, "--issuer", ISSUER])
        .args(more);
    command
}

impl Protected {
    fn start(api: &Api, keys: &[&Key], more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("keys.json"), key_set(keys)).unwrap();
        let log = folder.path().join("log");
        let mut process = Process::start(&mut short(&folder, api, more), &log);
        let ready = process.ready(&folder.path().join("ready.json"));
        let metrics_url = ready["metrics_url"].as_str().map(str::to_owned);
        Self { url: text(&ready, "inbound_url").to_owned(), metrics_url, folder, process }
    }

    fn scrape(&self) -> String {
        let url = self.metrics_url.as_deref().expect("--metrics is among the flags");
        String::from_utf8(request("GET", &format!("{url}/metrics"), &[], b"").body).unwrap()
    }

    fn call(&self, method: &str, path: &str, authorization: &str) -> Answer {
        let headers = [("Authorization", authorization)];
        let headers = if authorization.is_empty() { &[][..] } else { &headers[..] };
        request(method, &format!("{}{path}", self.url), headers, b"")
    }

    fn bearer(&self, path: &str, token: &str) -> u16 {
        self.call("GET", path, &format!("Bearer {token}")).status
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into()).collect()
    }
}

pub fn key_set(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.public()).collect::<Vec<Value>>() }).to_string()
}

/// Claims of a good token, with some changed.
pub fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "sub": "alice", "aud": "reports-api", "client_id": "job", "scope": "reports:read other",
        "iat": tokens::now(), "exp": tokens::now() + 300,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn one_api_is_protected_by_flags_alone() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let requires =
        ["--audience", "reports-api", "--require", "GET /reports/{id}=reports:read", "--require", "GET /any="];
    let gateway = Protected::start(&api, &[&key], &requires);
    let good = key.sign(&claims(&json!({})));
    let answer = gateway.call("GET", "/reports/7?x=1", &format!("Bearer {good}"));
    assert_eq!(answer.status, 200);
    let head = String::from_utf8(answer.body).unwrap();
    assert!(head.starts_with("GET /reports/7?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-forwarded-for: 127.0.0.1\r\n") && !head.contains("authorization"), "{head}");
    assert_eq!(gateway.bearer("/reports/7", &good), 200, "again, from memory");
    assert_eq!(api.calls(), 2);
    let refused = gateway.call("GET", "/reports/7", "");
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some(r#"Bearer realm="api""#)));
    let refused =
        gateway.call("GET", "/reports/7", &format!("Bearer {}", key.sign(&claims(&json!({ "scope": "other" })))));
    assert_eq!(refused.status, 403);
    assert!(refused.header("www-authenticate").unwrap().ends_with(r#"scope="reports:read""#), "{refused:?}");
    assert_eq!(gateway.bearer("/elsewhere", &good), 404);
    assert_eq!(gateway.call("POST", "/any", &format!("Bearer {good}")).status, 405);
    assert_eq!(api.calls(), 2);
    let left = gateway.files();
    assert_eq!(left, ["keys.json", "log", "ready.json"].map(PathBuf::from).into(), "no state, no store, no key");
    let (code, said) = gateway.process.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("keyholder protects http://") && said.contains("stopped"), "{said}");
    assert!(!said.contains(&good), "no token is told");
}

/// SIGHUP opens the security log again. Without one there is nothing to do, and nothing to end for.
#[test]
fn a_hangup_without_a_security_log_ends_nothing() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let gateway = Protected::start(&api, &[&key], &[]);
    let good = key.sign(&claims(&json!({})));
    for _ in 0..2 {
        gateway.process.signal("HUP");
        assert_eq!(gateway.bearer("/reports/7", &good), 200);
    }
    let (code, said) = gateway.process.stop();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn the_operations_of_genesys_cloud_are_routes_by_a_flag() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let flags = ["--operations", "genesys-scopes", "--require", "GET /api/v2/users/me=reports:read other"];
    let gateway = Protected::start(&api, &[&key], &flags);
    let token = |scope: &str| key.sign(&claims(&json!({ "scope": scope })));
    for (scope, path, expected) in [
        ("users:readonly", "/api/v2/users/7", 200),
        ("users", "/api/v2/users/7", 200),
        ("reports:read", "/api/v2/users/7", 403),
        // one's own route stands in the place of the built-in one
        ("users:readonly", "/api/v2/users/me", 403),
        ("reports:read other", "/api/v2/users/me", 200),
        ("users:readonly", "/elsewhere", 404),
    ] {
        assert_eq!(gateway.bearer(path, &token(scope)), expected, "{scope} {path}");
    }
    let (_, said) = gateway.process.stop();
    assert!(said.contains("1 kind of request, and the operations of Genesys Cloud"), "{said}");
}

/// Every mistake of a widely copied tutorial, and what else is tried on a verifier of tokens.
#[test]
fn tokens_that_prove_nothing_are_refused() {
    let (api, key, stranger) = (Api::start(), Key::new("k1"), Key::new("k1"));
    let gateway = Protected::start(&api, &[&key], &["--audience", "reports-api"]);
    let good = key.sign(&claims(&json!({})));
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let changed = tokens::encode(&claims(&json!({ "sub": "root" })));
    let none = tokens::encode(&json!({ "alg": "none" }));
    for (name, token) in [
        ("of another key with the same kid", stranger.sign(&claims(&json!({})))),
        ("with other claims", format!("{header}.{changed}.{signature}")),
        ("without a signature", format!("{header}.{payload}.")),
        ("with a signature of zeros", format!("{header}.{payload}.{}", "A".repeat(86))),
        ("alg none", format!("{none}.{payload}.")),
        ("alg NONE with the signature", format!("{}.{payload}.{signature}", tokens::encode(&json!({ "alg": "NONE" })))),
        ("HMAC with the public key", key.sign_with_public_key(&claims(&json!({})))),
        ("expired", key.sign(&claims(&json!({ "exp": tokens::now() - 60 })))),
        ("not valid yet", key.sign(&claims(&json!({ "nbf": tokens::now() + 600 })))),
        ("of another issuer", key.sign(&claims(&json!({ "iss": "https://issuer.example.evil" })))),
        ("for another API", key.sign(&claims(&json!({ "aud": "reports-api-2" })))),
        ("without an end", key.sign(&claims(&json!({ "exp": null })))),
        ("bound to a key", key.sign(&claims(&json!({ "cnf": { "jkt": "A".repeat(43) } })))),
        ("one letter longer", format!("{good}A")),
        ("not a token", "reader".to_owned()),
    ] {
        assert_eq!(gateway.bearer("/reports/7", &token), 401, "{name}");
    }
    assert_eq!(api.calls(), 0);
    assert_eq!(gateway.bearer("/reports/7", &good), 200);
}

#[test]
fn a_changed_key_file_is_taken_over() {
    let (api, old, new) = (Api::start(), Key::new("old"), Key::new("new"));
    let gateway = Protected::start(&api, &[&old], &[]);
    let (of_old, of_new) = (old.sign(&claims(&json!({}))), new.sign(&claims(&json!({}))));
    assert_eq!((gateway.bearer("/", &of_old), gateway.bearer("/", &of_new)), (200, 401));
    let next = gateway.folder.path().join("next.json");
    fs::write(&next, key_set(&[&new])).unwrap();
    fs::rename(&next, gateway.folder.path().join("keys.json")).unwrap();
    eventually(&(401, 200), || (gateway.bearer("/", &of_old), gateway.bearer("/", &of_new)));
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let (api, key) = (Api::start(), Key::new("k1"));
    for (keys, more, expected) in [
        ("{}", &[][..], "is no key set"),
        (r#"{"keys":[]}"#, &[], "has no key that can be used"),
        ("", &["--require", "GET /reports"], "does not say what is required"),
        ("", &["--require", "get /x="], "not a word in capitals"),
        ("", &["--require", "GET /x=", "--require", "GET /x=a"], "take the same requests"),
        ("", &["--operations", "all"], "invalid value"),
        ("", &["--upstream", "ftp://x"], "cannot be used"),
        ("", &["--listen", "nowhere"], "neither an IP address"),
        ("", &["--config", "keyholder.toml"], "leave one of them out"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let keys = if keys.is_empty() { key_set(&[&key]) } else { keys.to_owned() };
        fs::write(folder.path().join("keys.json"), keys).unwrap();
        let mut command = short(&folder, &api, &[]);
        // a flag that is given twice would be another mistake
        if let Some(flag) = more.first().filter(|flag| ["--upstream", "--listen"].contains(flag)) {
            command = keyholder();
            let upstream = if *flag == "--upstream" { more[1] } else { "http://127.0.0.1:1" };
            let listen = if *flag == "--listen" { more[1] } else { "127.0.0.1:0" };
            command.current_dir(folder.path()).args(["serve", "--listen", listen, "--upstream", upstream]);
            command.args(["--jwks", "keys.json", "--issuer", ISSUER]);
        } else {
            command.args(more);
        }
        let said = run(&mut command, b"");
        assert_eq!(said.code, Some(2), "{more:?}: {}", said.err);
        assert!(said.err.contains(expected), "{more:?}: {}", said.err);
    }
    let folder = tempfile::tempdir().unwrap();
    let said = run(&mut short(&folder, &api, &[]), b"");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("keys.json cannot be read"), "{}", said.err);
    let said = run(keyholder().args(["serve", "--listen", "127.0.0.1:0"]), b"");
    assert_eq!(said.code, Some(2), "{}", said.err);
}

#[test]
fn an_address_that_others_reach_is_warned_of_and_one_of_another_machine_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keys.json"), key_set(&[&Key::new("k1")])).unwrap();
    let mut command = keyholder();
    // an address of documents (RFC 5737), which no machine has
    command.current_dir(folder.path()).args(["serve", "--listen", "192.0.2.1:0", "--upstream", "http://127.0.0.1:1"]);
    let said = run(command.args(["--jwks", "keys.json", "--issuer", ISSUER]), b"");
    assert_eq!(said.code, Some(3), "{}", said.err);
    for told in ["send their tokens to this address in the clear", "this machine does not have the address"] {
        assert!(said.err.contains(told), "{told}: {}", said.err);
    }
}

#[test]
fn keys_come_by_address_and_counts_are_told() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let issuer = crate::inbound::remote::Documents::start();
    issuer.put("/jwks?v=2", key_set(&[&key]));
    let folder = tempfile::tempdir().unwrap();
    let mut command = keyholder();
    command
        .current_dir(folder.path())
        .args(["serve", "--listen", "127.0.0.1:0", "--ready-file", "ready.json", "--metrics", "127.0.0.1:0"])
        .args(["--jwks", &format!("http://{}/jwks?v=2", issuer.address)])
        .args(["--upstream", &format!("http://{}", api.address), "--issuer", ISSUER, "--require", "GET /{id}="]);
    let mut process = Process::start(&mut command, &folder.path().join("log"));
    let ready = process.ready(&folder.path().join("ready.json"));
    let good = format!("Bearer {}", key.sign(&claims(&json!({}))));
    let url = text(&ready, "inbound_url");
    assert_eq!(request("GET", &format!("{url}/7"), &[("Authorization", &good)], b"").status, 200);
    assert_eq!(request("GET", &format!("{url}/7"), &[], b"").status, 401);
    assert_eq!(issuer.asked("GET /jwks?v=2 "), 1);
    let told = |path: &str| request("GET", &format!("{}{path}", text(&ready, "metrics_url")), &[], b"");
    assert_eq!((told("/livez").status, told("/readyz").status, told("/other").status), (200, 200, 404));
    let counted = String::from_utf8(told("/metrics").body).unwrap();
    for line in [
        r#"keyholder_inbound_requests_total{site="api",route="GET /{id}",status="2xx"} 1"#,
        r#"keyholder_inbound_refusals_total{site="api",reason="token_missing"} 1"#,
        r#"percentile="99"}"#,
    ] {
        assert!(counted.contains(line), "{line}\n{counted}");
    }
    assert_eq!(process.stop().0, Some(0));
    // an address that others could reach is none for this
    fs::write(folder.path().join("keys.json"), key_set(&[&key])).unwrap();
    let said = run(&mut short(&folder, &api, &["--metrics", "0.0.0.0:0"]), b"");
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.err.contains("is not a loopback address"), "{}", said.err);
}
