//! Crowds: however many callers come at once, the platform sees one login.
//!
//! Invariants: every crowd is connected before its first byte is sent, and each test of one proves from counters (the
//! gateway's gauge, the broker's waits, the hits of a fault) that the whole crowd was inside at the moment it is about.
//! The sandbox's journal has the last word. The sandbox's limits are raised explicitly and printed.

use std::{process::Command, sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
};

use crate::harness::{Answer, Installation, Login, Process, Server, parse_answer, request, text};

/// Callers of a crowd.
const CROWD: usize = 1_000;

/// Open files that a crowd needs: in the gateway, which has the most, two connections for each caller, and its own.
const FILES: u64 = 2 * CROWD as u64 + 500;

/// The platform would refuse the crowd: 300 requests per token and minute, 3,000 per client and minute.
const LIMITS: &str = "
[limits]
requests_per_token = 100000
requests_per_client_minute = 100000
logins_per_minute = 100000
";

const USERS: &str = "/api/v2/users";
const GET_USERS: &str = "GET /api/v2/users";
const POST_USERS: &str = "POST /api/v2/users";
const LOGIN: &str = "POST /oauth/token";

/// How long a fault holds a request, so that the whole crowd can be waited for meanwhile.
const HOLD_MS: u64 = 5_000;

/// Waits end as soon as what they wait for is there; this many polls mean that it does not come.
const POLLS: u32 = 3_000;
const POLL: Duration = Duration::from_millis(10);

/// A running keyholder with one client, over a sandbox with raised limits.
struct Stage {
    installation: Installation,
    server: Server,
    login: Login,
}

impl Stage {
    fn new() -> Self {
        raise_open_files();
        let installation = Installation::with(LIMITS, "");
        let limits = installation.sandbox.control("GET", "limits", &Value::Null);
        println!("the sandbox's limits are raised for this test: {limits}");
        assert_eq!(limits["requests_per_token"], 100_000);
        let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
        let server = installation.serve();
        Self { installation, server, login }
    }

    fn faults(&self, rules: &Value) {
        self.installation.sandbox.control("PUT", "faults", &json!({ "rules": rules }));
    }

    /// How many requests the first rule of the fault plan has met.
    fn held(&self) -> u64 {
        let plan = self.installation.sandbox.control("GET", "faults", &Value::Null);
        plan["rules"][0]["hits"].as_u64().unwrap_or(0)
    }

    /// Counts of an endpoint by status.
    fn seen(&self, endpoint: &str) -> Value {
        self.installation.sandbox.control("GET", "requests?limit=1", &Value::Null)["counts"][endpoint].clone()
    }

    fn logins(&self) -> u64 {
        self.installation.sandbox.count(LOGIN)
    }

    /// Requests inside the gateway, by its own gauge.
    fn in_flight(&self) -> u64 {
        self.metric("keyholder_gateway_in_flight_requests ")
    }

    /// How often a caller waited for the credential's token.
    fn waits(&self) -> u64 {
        self.metric(r#"keyholder_token_waits_total{credential="genesys"} "#)
    }

    fn metric(&self, name: &str) -> u64 {
        let metrics = request("GET", &format!("{}/metrics", self.server.admin()), &[], b"");
        let metrics = String::from_utf8(metrics.body).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }

    fn host(&self) -> &str {
        self.server.gateway().strip_prefix("http://").unwrap()
    }
}

/// Lets this process and its children open as many files as the crowd needs.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    println!("open files: {:?} of at most {:?}; {FILES} are needed", limit.current, limit.maximum);
    assert!(most >= FILES, "a crowd of {CROWD} needs {FILES} open files: raise the hard limit (ulimit -Hn {FILES})");
    if limit.current.is_some_and(|current| current < FILES) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum: limit.maximum }).unwrap();
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..POLLS {
        if holds() {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
    panic!("in vain: {what}");
}

/// One call's bytes.
fn call(method: &str, target: &str, headers: &str, body: &str) -> Arc<[u8]> {
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: keyholder\r\nAccept: application/json\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n\r\n{body}"
    );
    Arc::from(head.into_bytes())
}

fn users(token: &str) -> Arc<[u8]> {
    call("GET", USERS, &format!("Authorization: Bearer {token}"), "")
}

/// Connects `size` callers first and then lets all of them send `bytes` at once.
async fn crowd(host: &str, size: usize, bytes: Arc<[u8]>) -> JoinSet<Answer> {
    let mut open = Vec::new();
    for _ in 0..size {
        open.push(TcpStream::connect(host).await.unwrap());
    }
    let start = Arc::new(Barrier::new(size));
    let mut callers = JoinSet::new();
    for mut stream in open {
        let (start, bytes) = (Arc::clone(&start), Arc::clone(&bytes));
        callers.spawn(async move {
            start.wait().await;
            stream.write_all(&bytes).await.unwrap();
            let mut raw = Vec::new();
            stream.read_to_end(&mut raw).await.unwrap();
            parse_answer(&raw)
        });
    }
    callers
}

/// Every answer by its status, the rarest problem first to be seen.
async fn statuses(callers: JoinSet<Answer>) -> Vec<u16> {
    let answers = callers.join_all().await;
    if let Some(bad) = answers.iter().find(|answer| answer.status != 200) {
        println!("one of the answers: {} {}", bad.status, String::from_utf8_lossy(&bad.body));
    }
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_cause_one_token_request() {
    let stage = Stage::new();
    let token = stage.server.login(&stage.login);
    stage.faults(&json!([{ "match": { "path": "/oauth/token" }, "effect": { "kind": "delay", "ms": HOLD_MS } }]));
    let callers = crowd(stage.host(), CROWD, users(&token)).await;
    until("the whole crowd waits for the token", || stage.in_flight() == CROWD as u64).await;
    assert_eq!(stage.seen(GET_USERS), Value::Null, "all of that was before the first token");
    assert_eq!(statuses(callers).await, [200; CROWD]);
    assert_eq!(stage.seen(GET_USERS), json!({ "200": CROWD }));
    assert_eq!(stage.logins(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_whose_token_was_just_revoked_cause_one_refetch_and_no_failure() {
    let stage = Stage::new();
    let token = stage.server.login(&stage.login);
    assert_eq!(stage.server.call(&token, "GET", USERS).status, 200);
    stage.installation.sandbox.control("DELETE", "requests", &Value::Null);
    let every = json!({ "path": USERS, "first": CROWD });
    stage.faults(&json!([{ "match": every, "effect": { "kind": "delay", "ms": HOLD_MS } }]));
    let callers = crowd(stage.host(), CROWD, users(&token)).await;
    until("the platform holds the whole crowd, with the old token", || stage.held() == CROWD as u64).await;
    let revoked = stage.installation.sandbox.control("POST", "tokens/revoke", &json!({ "all": true }));
    assert_eq!(revoked["revoked"], 1);
    assert_eq!(stage.seen(GET_USERS), Value::Null, "the token died before the first of them was looked at");
    assert_eq!(statuses(callers).await, [200; CROWD]);
    assert_eq!(stage.seen(GET_USERS), json!({ "401": CROWD, "200": CROWD }));
    assert_eq!(stage.logins(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hangs_up_strands_nobody() {
    const FOLLOWERS: usize = 100;
    let stage = Stage::new();
    let token = stage.server.login(&stage.login);
    stage.faults(&json!([{ "match": { "path": "/oauth/token" }, "effect": { "kind": "delay", "ms": HOLD_MS } }]));
    let mut leader = TcpStream::connect(stage.host()).await.unwrap();
    leader.write_all(&users(&token)).await.unwrap();
    until("the leader's token request is under way", || stage.held() == 1).await;
    let followers = crowd(stage.host(), FOLLOWERS, users(&token)).await;
    until("everybody waits", || stage.in_flight() == FOLLOWERS as u64 + 1).await;
    drop(leader);
    until("the leader is gone", || stage.in_flight() == FOLLOWERS as u64).await;
    assert_eq!(stage.seen(GET_USERS), Value::Null, "it went while the token request was under way");
    assert_eq!(statuses(followers).await, [200; FOLLOWERS]);
    assert_eq!(stage.seen(GET_USERS), json!({ "200": FOLLOWERS }), "and its own call was never made");
    assert_eq!(stage.logins(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_callers_of_the_broker_cause_one_token_request() {
    const CALLERS: usize = 500;
    let stage = Stage::new();
    stage.faults(&json!([{ "match": { "path": "/oauth/token" }, "effect": { "kind": "delay", "ms": HOLD_MS } }]));
    let host = stage.server.broker().strip_prefix("http://").unwrap();
    let guard = stage.server.guard();
    let bytes = format!(
        "GET /v1/token/genesys HTTP/1.1\r\nHost: {host}\r\nX-Keyholder-Token: {guard}\r\nConnection: close\r\n\r\n"
    );
    let callers = crowd(host, CALLERS, Arc::from(bytes.into_bytes())).await;
    until("every caller waits for the token", || stage.waits() == CALLERS as u64).await;
    let answers = callers.join_all().await;
    let first = text(&answers[0].json(), "access_token").to_owned();
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(text(&answer.json(), "access_token"), first);
    }
    assert_eq!(stage.logins(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_tried_once_and_the_right_one_works_without_a_restart() {
    const CALLERS: usize = 200;
    let stage = Stage::new();
    let mut wrong = stage.installation.sandbox.genesys_document();
    wrong["client_secret"] = json!("x".repeat(43));
    stage.installation.store_secret("genesys", &wrong);
    let token = stage.server.login(&stage.login);
    // with a restart the wrong secret is certainly the one that is tried first
    let Stage { installation, server, login } = stage;
    assert_eq!(server.process.stop().0, Some(0));
    let stage = Stage { server: installation.serve(), installation, login };
    stage.faults(&json!([{ "match": { "path": "/oauth/token" }, "effect": { "kind": "delay", "ms": HOLD_MS } }]));
    let callers = crowd(stage.host(), CALLERS, users(&token)).await;
    until("the whole crowd waits for the login", || stage.in_flight() == CALLERS as u64).await;
    assert_eq!(stage.seen(LOGIN), Value::Null, "all of that was before the first refusal");
    let answers = callers.join_all().await;
    stage.faults(&json!([]));
    for answer in answers.into_iter().chain([stage.server.call(&token, "GET", USERS)]) {
        assert_eq!(answer.status, 502, "{answer:?}");
        assert_eq!(text(&answer.json(), "code"), "keyholder.credential.rejected");
    }
    assert_eq!(stage.seen(LOGIN), json!({ "401": 1 }), "one wrong login, not {CALLERS}");
    assert_eq!(stage.seen(GET_USERS), Value::Null);
    stage.installation.store_secret("genesys", &stage.installation.sandbox.genesys_document());
    until("the right secret is picked up", || stage.server.call(&token, "GET", USERS).status == 200).await;
    assert_eq!(stage.seen(LOGIN), json!({ "401": 1, "200": 1 }));
}

/// Service managers and shells give 1,024 open files; the process takes what it may have.
#[test]
fn serve_raises_its_limit_of_open_files() {
    let installation = Installation::new();
    let ready = installation.path("ready.json");
    let serve = installation.command(&["serve", "--ready-file", ready.to_str().unwrap()]);
    let mut command = Command::new("/bin/sh");
    command
        .env_clear()
        .args(["-c", "ulimit -Sn 256 && exec \"$0\" \"$@\""])
        .arg(serve.get_program())
        .args(serve.get_args());
    let mut process = Process::start(&mut command, &installation.path("serve.log"));
    process.ready(&ready);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard, _] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert_eq!(soft, hard);
    assert_ne!(soft, "256");
    assert_eq!(process.stop().0, Some(0));
}

/// Answers of the platform that ask to wait: what the caller gets, and how often the platform was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_wait_is_waited_out_where_that_is_safe_and_passed_on_where_it_is_not() {
    let stage = Stage::new();
    let token = stage.server.login(&stage.login);
    let body = json!({ "message": "the platform's very own words", "code": "too.many.requests" }).to_string();
    for (method, status, retry_after, waited) in [
        ("GET", 429, "1", true),
        ("GET", 503, "1", true),
        ("POST", 429, "1", false),
        ("POST", 503, "1", false),
        ("GET", 429, "7200", false),
        ("GET", 503, "7200", false),
        ("POST", 429, "7200", false),
    ] {
        let row = format!("{method} {status} Retry-After: {retry_after}");
        stage.installation.sandbox.control("DELETE", "requests", &Value::Null);
        let rule = json!({
            "match": { "path": USERS, "first": 1 },
            "effect": { "kind": "status", "status": status, "retry_after": retry_after, "body": body },
        });
        stage.faults(&json!([rule]));
        let user = if method == "POST" { r#"{"name":"A","email":"a@example.com"}"# } else { "" };
        let bytes = call(method, USERS, &format!("Authorization: Bearer {token}"), user);
        let answer = crowd(stage.host(), 1, bytes).await.join_all().await.remove(0);
        let endpoint = if method == "POST" { POST_USERS } else { GET_USERS };
        if waited {
            assert_eq!(answer.status, 200, "{row}: {answer:?}");
            assert_eq!(stage.seen(endpoint), json!({ status.to_string(): 1, "200": 1 }), "{row}");
        } else {
            assert_eq!(answer.status, status, "{row}: {answer:?}");
            assert_eq!(answer.header("retry-after"), Some(retry_after), "{row}");
            assert_eq!(String::from_utf8_lossy(&answer.body), body, "{row}");
            assert!(answer.header("inin-correlation-id").is_some(), "{row}");
            assert_eq!(stage.seen(endpoint), json!({ status.to_string(): 1 }), "{row}");
        }
    }
}
