//! Whole rotations at TRACE with marked secrets, on every kind of platform and with every strategy: no secret, old or
//! new, in anything that leaves a process.
//!
//! Invariants: what the platform made, what stores and hooks log in with, and every token on a wire is searched for; each
//! path of the scenario is proven to have been taken; a leak of each secret in each form would have been found.

mod outside;
mod stage;

use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{evidence::Evidence, forms::secret_text, world::Apart};
use crate::harness::{Said, request, text};
use stage::{ROTATED, Stage};

/// Applications that call while everything is rotated.
const CALLING: [&str; 3] = ["pair", "swap", "leaked"];

/// Between two calls of one application.
const PACE: Duration = Duration::from_millis(200);

/// How often a rotation that waits for a hook is resumed.
const RESUMES_MAX: usize = 12;

type Shared<'e> = Mutex<&'e mut Evidence>;

/// A command in both forms of its answer; the second one says whether it ended as it should.
fn told(stage: &Stage, evidence: &Shared<'_>, words: &[&str]) -> Said {
    let said = stage.run(words, b"");
    let mut evidence = evidence.lock().unwrap();
    evidence.add(&format!("standard output of {}", words.join(" ")), &said.out);
    evidence.add(&format!("standard error of {}", words.join(" ")), &said.err);
    said
}

/// The same, and it must end with one of `codes`.
fn ends(stage: &Stage, evidence: &Shared<'_>, words: &[&str], codes: &[i32]) -> Said {
    let said = told(stage, evidence, words);
    assert!(codes.iter().any(|code| said.code == Some(*code)), "{words:?}: {:?} {}{}", said.code, said.out, said.err);
    said
}

fn state(stage: &Stage, evidence: &Shared<'_>, name: &str) -> String {
    let said = told(stage, evidence, &["--output", "json", "rotate", "status", name]);
    let status: Value = serde_json::from_str(&said.out).unwrap();
    text(&status, "state").to_owned()
}

/// `pair` meets a command that fails once and a receiver that refuses; a person mends it and resumes.
fn through_failing_hooks(stage: &Stage, evidence: &Shared<'_>) {
    ends(stage, evidence, &["rotate", "run", "pair", "--reason", "leak run"], &[3, 4]);
    let refused = || stage.receiver.came().iter().any(|(path, _)| path == "/crm");
    for _ in 0..RESUMES_MAX {
        if refused() {
            break;
        }
        ends(stage, evidence, &["rotate", "resume", "pair"], &[3, 4]);
    }
    assert!(refused(), "the webhook that refuses was never called");
    stage.receiver.answer("/crm", 204);
    for _ in 0..RESUMES_MAX {
        if ends(stage, evidence, &["rotate", "resume", "pair", "--wait"], &[0, 3, 4]).code == Some(0) {
            break;
        }
    }
    assert_eq!(state(stage, evidence, "pair"), "completed");
}

/// `back` is promoted, its hook never succeeds, and a person takes it back.
fn back(stage: &Stage, evidence: &Shared<'_>) {
    ends(stage, evidence, &["rotate", "run", "back"], &[3, 4]);
    ends(stage, evidence, &["rotate", "hold", "back", "--reason", "looking"], &[0]);
    ends(stage, evidence, &["rotate", "hold", "back", "--lift"], &[0]);
    let mut code = ends(stage, evidence, &["rotate", "rollback", "back", "--reason", "billing fails"], &[0, 3]).code;
    stage.receiver.answer("/stuck", 204);
    for _ in 0..RESUMES_MAX {
        if code == Some(0) {
            break;
        }
        code = ends(stage, evidence, &["rotate", "resume", "back"], &[0, 3]).code;
    }
    assert_eq!(state(stage, evidence, "back"), "rolled_back");
}

/// Everything at once, while applications call.
fn rotate(stage: &Stage, evidence: &Shared<'_>) {
    std::thread::scope(|scope| {
        scope.spawn(|| through_failing_hooks(stage, evidence));
        scope.spawn(|| back(stage, evidence));
        scope.spawn(|| {
            ends(stage, evidence, &["--output", "json", "rotate", "run", "swap", "--wait"], &[0]);
            assert_eq!(state(stage, evidence, "swap"), "completed");
        });
        scope.spawn(|| {
            let words = ["rotate", "now", "leaked", "--reason", "leaked", "--wait"];
            ends(stage, evidence, &words, &[0]);
            assert_eq!(state(stage, evidence, "leaked"), "completed");
        });
        scope.spawn(|| {
            let said = ends(stage, evidence, &["rotate", "run", "keys", "--wait"], &[0]);
            for part in [" DEBUG ", "rotation: deletes ", "a token was fetched"] {
                assert!(said.err.contains(part), "a command says nothing of {part}: {}", said.err);
            }
            assert_eq!(state(stage, evidence, "keys"), "completed");
        });
    });
}

/// What a person looks at before and after.
fn look(stage: &Stage, evidence: &Shared<'_>) {
    // a platform that tells what it should not
    let tells = json!({ "message": secret_text("rotator"), "code": secret_text("rotator"), "status": 400 });
    let rule = json!({ "match": { "platform": "genesys", "method": "GET", "first": 4 },
        "effect": { "kind": "status", "status": 400, "body": tells.to_string() } });
    stage.control("PUT", "faults", &json!({ "rules": [rule] }));
    ends(stage, evidence, &["rotate", "plan"], &[1, 3]);
    let hits = &stage.control("GET", "faults", &Value::Null)["rules"][0]["hits"];
    assert!(hits.as_u64() >= Some(1), "the platform did not tell its secret: {hits}");
    stage.control("PUT", "faults", &json!({ "rules": [] }));
    for form in ["text", "json"] {
        ends(stage, evidence, &["--output", form, "rotate", "plan"], &[0]);
        ends(stage, evidence, &["--output", form, "rotate", "status"], &[0]);
    }
}

fn look_back(stage: &Stage, evidence: &Shared<'_>) {
    for form in ["text", "json"] {
        ends(stage, evidence, &["--output", form, "rotate", "status"], &[0]);
        ends(stage, evidence, &["--output", form, "audit", "list"], &[0]);
    }
    for format in ["json", "csv", "html"] {
        told(stage, evidence, &["secret", "report", "--format", format]);
    }
    // good for one login, which `serve` may have taken
    ends(stage, evidence, &["secret", "copy", "wrapped:acme/keys", "store:keys-copy"], &[0, 1]);
    ends(stage, evidence, &["secret", "copy", "vault:acme/keys", "store:keys-copy"], &[0]);
    ends(stage, evidence, &["--output", "json", "secret", "copy", "aws:acme/swap", "azure:swap-copy"], &[0]);
    ends(stage, evidence, &["secret", "copy", "azure:acme-leaked", "store:keys-copy"], &[1]);
    ends(stage, evidence, &["secret", "copy", "vault:acme/nothing", "store:nothing"], &[1]);
    ends(stage, evidence, &["audit", "verify"], &[0]);
}

/// The gateway's token of an application that was added for `name`.
fn token(stage: &Stage, evidence: &mut Evidence, gateway: &str, name: &str) -> String {
    let words = ["--output", "json", "client", "add", name, "--credential", name, "--allow-all"];
    let said = stage.run(&words, b"");
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    let (id, secret) = (text(&answer, "client_id"), text(&answer, "client_secret"));
    evidence.secret("a client's secret", secret);
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = request("POST", &format!("{gateway}/oauth/token"), &headers, form.as_bytes()).json();
    evidence.secret("a token of keyholder", text(&answer, "access_token"));
    text(&answer, "access_token").to_owned()
}

/// Ends the calls, also where a test fails.
struct Stopping<'s>(&'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Calls until `stop`; every call must succeed.
fn call(gateway: &str, token: &str, stop: &AtomicBool) -> usize {
    let bearer = format!("Bearer {token}");
    let mut calls = 0;
    while !stop.load(Ordering::SeqCst) {
        let answer = request("GET", &format!("{gateway}/api/v2/users?pageSize=1"), &[("Authorization", &bearer)], b"");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        calls += 1;
        std::thread::sleep(PACE);
    }
    calls
}

/// Every file of the state; the guard tokens stand in the files made for them and nowhere else.
fn search_state(stage: &Stage, evidence: &mut Evidence, ready: &Value) {
    let guards = ["broker_token_file", "admin_token_file"].map(|name| {
        let file = stage.path(text(ready, name));
        let token = fs::read_to_string(&file).unwrap().trim().to_owned();
        evidence.secret(name, &token);
        (file, token)
    });
    assert!(evidence.add_files(&stage.path("state"), &guards) >= 6);
}

fn add_logs(stage: &Stage, evidence: &mut Evidence, serve: &Apart) {
    for file in [&serve.out, &serve.err, &stage.sandbox.err] {
        evidence.add("what a server said", fs::read(file).unwrap());
    }
    let log = fs::read_to_string(stage.path("keyholder.log")).unwrap();
    // The most talkative level was on, or the silence would prove nothing.
    for part in
        ["\"level\":\"DEBUG\"", "\"target\":\"kh_store_vault", "\"target\":\"azure_identity", "\"target\":\"aws_sdk"]
    {
        assert!(log.contains(part), "the log has nothing of {part}");
    }
    evidence.add("the log", log);
    evidence.add("the access log", fs::read(stage.path("access.log")).unwrap());
    evidence.add("the configuration", fs::read(stage.path("keyholder.toml")).unwrap());
}

/// What the hooks were given, and what went to people and programs: only GitHub, PagerDuty and Slack are shown the
/// secret that they made themselves.
fn add_deliveries(stage: &Stage, evidence: &mut Evidence) {
    let came = stage.receiver.came();
    for path in ["/crm", "/stuck", "/team", "/on-call", "/slack", "/repos/acme/integration/actions/secrets/GENESYS"] {
        assert!(came.iter().any(|(seen, _)| seen.starts_with(path)), "nothing came to {path}");
    }
    for (_, bytes) in came {
        let own = ["PagerDuty", "GitHub", "Slack"].map(secret_text);
        evidence.add_telling("what a receiver got", bytes, &own.each_ref().map(String::as_str));
    }
    let mut given = 0;
    for entry in fs::read_dir(stage.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("given.")) {
            let bytes = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(text.contains("PATH=") && text.contains("\"fingerprint\""), "{text}");
            evidence.add("what a command was given", bytes);
            given += 1;
        }
    }
    assert!(given >= 2, "the command failed once and was called again");
}

#[test]
fn no_secret_leaves_a_rotation_at_trace() {
    let mut evidence = Evidence::default();
    let stage = Stage::start(&mut evidence);
    stage.receiver.answer("/crm", 410);
    stage.receiver.answer("/stuck", 410);
    let ready_file = stage.path("ready.json");
    let mut command = stage.command(&["serve", "--ready-file", ready_file.to_str().unwrap()]);
    let mut serve = Apart::start(&mut command, stage.folder.path(), "serve");
    let ready = serve.ready(&ready_file);
    let gateway = text(&ready, "gateway_url");
    let tokens = CALLING.map(|name| token(&stage, &mut evidence, gateway, name));

    let shared = Mutex::new(&mut evidence);
    look(&stage, &shared);
    let stop = AtomicBool::new(false);
    let calls: usize = std::thread::scope(|scope| {
        let callers = tokens.each_ref().map(|token| scope.spawn(|| call(gateway, token, &stop)));
        let stopping = Stopping(&stop);
        rotate(&stage, &shared);
        drop(stopping);
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    look_back(&stage, &shared);
    evidence.add_process("keyholder serve", serve.pid());
    search_state(&stage, &mut evidence, &ready);
    assert_eq!(serve.end("TERM").code(), Some(0));
    search_state(&stage, &mut evidence, &ready);
    add_logs(&stage, &mut evidence, &serve);
    add_deliveries(&stage, &mut evidence);
    let (learned, made) = stage.learn(&mut evidence);
    assert!(made >= ROTATED.len() && learned >= 30, "{learned} seen on wires, {made} made by platforms");
    for host in [kh_fakes::azure::VAULT_HOST, kh_fakes::azure::LOGIN_HOST] {
        assert!(stage.tunnel.asked().contains(host), "nothing went to {host}");
    }
    let planted = evidence.control();
    println!(
        "{calls} calls; searched {} bytes for {} secrets; {planted} planted leaks are found",
        evidence.bytes(),
        evidence.secrets().len()
    );
    let leaks = evidence.leaks();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}
