//! What real servers understand of what is forwarded to them: nginx and HAProxy behind a site. Their own logs say which
//! request they saw, in their own reading.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    program::{Program, free_ports},
    smuggling::{SMUGGLED, with_two_ends},
    *,
};

/// A server of somebody else, with a journal in its own words: a JSON object for each request.
struct Backend {
    address: SocketAddr,
    journal: PathBuf,
    _program: Program,
    _folder: TempDir,
}

/// `path` is the path as nginx reads it: decoded, without dot segments and doubled slashes.
const NGINX: &str =
    r#"log_format seen escape=json '{"method":"$request_method","target":"$request_uri","path":"$uri"}';"#;

/// `path` is the path as HAProxy's own normalizers read it.
const HAPROXY: &str = r#"log-format "{\"method\":\"%[var(txn.method),json]\",\"target\":\"%[var(txn.target),json]\",\"path\":\"%[var(txn.path),json]\"}"
  http-request set-var(txn.method) method
  http-request set-var(txn.target) url
  http-request normalize-uri percent-decode-unreserved
  http-request normalize-uri path-merge-slashes
  http-request normalize-uri path-strip-dotdot full
  http-request set-var(txn.path) path
  http-request return status 200 content-type text/plain string reached"#;

impl Backend {
    async fn nginx() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_ports(1)[0]);
        let journal = folder.path().join("seen.log");
        let config = format!(
            "{NGINX}\naccess_log {} seen;\nmerge_slashes on;\nserver {{ listen 127.0.0.1:{port}; \
             location / {{ return 200 reached; }} }}\n",
            journal.display()
        );
        let program = Program::nginx(folder.path(), &config, &[port]).await;
        Self { address: ([127, 0, 0, 1], port).into(), journal, _program: program, _folder: folder }
    }

    async fn haproxy() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_ports(1)[0]);
        let config = format!(
            "global\n  expose-experimental-directives\n  log stdout format raw local0\ndefaults\n  mode http\n  \
             log global\n  timeout client 60s\n  timeout server 60s\n  timeout connect 60s\n\
             frontend api\n  bind 127.0.0.1:{port}\n  {HAPROXY}\n"
        );
        let program = Program::haproxy(folder.path(), &config, &[port]).await;
        let journal = folder.path().join("haproxy.log");
        Self { address: ([127, 0, 0, 1], port).into(), journal, _program: program, _folder: folder }
    }

    /// What it saw, once `count` requests to `/last` are in it: the journal is written in order.
    async fn seen(&self, count: usize) -> Vec<Value> {
        for _ in 0..1_000 {
            let bytes = fs::read(&self.journal).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines = text.lines().filter(|line| line.starts_with('{'));
            let seen = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
            // connections that ended without a request are told as well
            let seen = seen.filter(|seen| seen["target"] != "-" && seen["target"] != "");
            let (last, others): (Vec<_>, Vec<_>) = seen.partition(|seen| seen["target"] == "/last");
            if last.len() >= count {
                return others;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there are no {count} requests to /last: {:?}", fs::read(&self.journal));
    }
}

async fn both() -> [Backend; 2] {
    [Backend::nginx().await, Backend::haproxy().await]
}

/// A site that opens these to every token.
fn open_to(backend: &Backend, lines: &[&str]) -> Site {
    let mut setup = Setup::new(backend.address);
    let rules = lines.iter().chain(&["GET /last="]).map(|line| RouteRule::parse_line(line).unwrap()).collect();
    setup.routes = RouteTable::new(rules).unwrap();
    setup.start()
}

#[tokio::test]
async fn a_backend_sees_nothing_of_ambiguous_and_broken_requests() {
    for backend in both().await {
        let site = open_to(&backend, &["* /api/**=", "* /=", "POST /first="]);
        crate::bad_input::refused_all(site.address, "nothing").await;
        for (name, request) in with_two_ends() {
            let answer = site.raw(&request).await;
            assert!(answer.matches("HTTP/1.1").count() <= 1, "{name}: {answer}");
        }
        assert_eq!(site.call("GET /last", "nothing").await.status, 200);
        let seen = backend.seen(1).await;
        assert!(seen.iter().all(|seen| seen["target"] == "/first" && seen["method"] == "POST"), "{seen:?}");
    }
    assert!(SMUGGLED.contains("/smuggled"));
}

/// Ways to ask for `/closed/x` by a path that begins, or seems to begin, with `/open/`.
const WAYS: &[&str] = &[
    "/closed/x",
    "/open/../closed/x",
    "/open/%2e%2e/closed/x",
    "/open/.%2e/closed/x",
    "/open/%2E./closed/x",
    "/open/..%2fclosed/x",
    "/open/%2e%2e%2fclosed/x",
    "/open/..%5cclosed/x",
    "/open/..\\closed\\x",
    "/open\\..\\closed/x",
    "/open/..;/closed/x",
    "/open/..;a=b/closed/x",
    "/open/;/../closed/x",
    "/open/./../closed/x",
    "/open//../../closed/x",
    "/open/a/../../closed/x",
    "/open/a/b/%2e%2e/%2e%2e/%2e%2e/closed/x",
    "/open/%252e%252e/closed/x",
    "/open/%25%32%65%25%32%65/closed/x",
    "/open/%c0%ae%c0%ae/closed/x",
    "/open/%e0%80%ae%e0%80%ae/closed/x",
    "/open/..%c0%afclosed/x",
    "/open/%uff0e%uff0e/closed/x",
    "/open/..%00/closed/x",
    "/open/%00/../closed/x",
    "/open/..%20/closed/x",
    "/open/.. /closed/x",
    "/open/..%0d%0a/closed/x",
    "/open/x%0d%0aGET%20/closed/x",
    "/open/..?/../closed/x",
    "/open/..#/closed/x",
    "/closed/x?/open/",
    "/closed/x#/open/",
    "/closed/x;/open/",
    "//closed/x",
    "//open/../closed/x",
    "/./closed/x",
    "/%2fclosed/x",
    "/closed%2fx",
    "/%63losed/x",
    "/CLOSED/x",
    "/closed/x/../../open/../closed/x",
    "http://a/closed/x",
    "http://a/open/../closed/x",
    "http://a/open/%2e%2e/closed/x",
    "http://closed@a/open/../closed/x",
    "*",
    "closed/x",
    "?/open/",
];

#[tokio::test]
async fn what_is_authorised_is_what_a_backend_reads() {
    for backend in both().await {
        let site = open_to(&backend, &["GET /open/**="]);
        let mut forwarded = 0;
        for way in WAYS {
            let head =
                format!("GET {way} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\nConnection: close\r\n\r\n");
            let answer = site.raw(&head).await;
            forwarded += usize::from(answer.starts_with("HTTP/1.1 200 "));
        }
        for harmless in ["/open/a", "/open/a%20b", "/open/a?b=/../closed", "/open/a;b/c"] {
            assert_eq!(site.call(&format!("GET {harmless}"), "nothing").await.status, 200, "{harmless}");
        }
        assert_eq!(site.call("GET /last", "nothing").await.status, 200);
        let seen = backend.seen(1).await;
        assert_eq!(seen.len(), forwarded + 4, "{seen:?}");
        for seen in seen {
            let path = seen["path"].as_str().unwrap();
            assert!(path.starts_with("/open/") && path.split('/').all(|part| part != ".."), "{seen}");
        }
    }
}

/// The lines of the table above mean what they say: without a gateway some of them do arrive there.
#[tokio::test]
async fn a_backend_alone_is_led_astray_by_some_of_them() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for backend in both().await {
        for way in WAYS.iter().chain(&["/last"]) {
            let mut stream = tokio::net::TcpStream::connect(backend.address).await.unwrap();
            let head = format!("GET {way} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // a server may close on bad bytes before it read them all
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
        let seen = backend.seen(1).await;
        let text = |seen: &Value, name: &str| seen[name].as_str().unwrap_or_default().to_owned();
        let astray = seen
            .iter()
            .filter(|seen| text(seen, "target").starts_with("/open/") && text(seen, "path").starts_with("/closed/"));
        assert!(astray.count() >= 5, "{seen:?}");
    }
}
