//! A run of the whole scenario at TRACE with marked secrets: none of them in anything that leaves a process.
//!
//! Invariant: the evidence is searched for every 12 bytes of every secret that was configured, issued or seen on the
//! wire, in every form of [`forms::FORMS`]; each path of the scenario is proven to have been taken.

mod calls;
mod commands;
pub mod evidence;
pub mod forms;
mod hostile;
mod process;
mod recorder;
mod rotation;
mod world;

use std::fs;

use evidence::Evidence;
use serde_json::Value;
use world::{Apart, World};

use crate::harness::text;

/// One `keyholder serve` at TRACE with everything around it, from its start to its orderly end.
fn serve_and_call(world: &World, evidence: &mut Evidence, config: &str, format: &str, environment: &[(&str, &str)]) {
    let ready_file = world.path(&format!("ready-{format}.json"));
    let mut command = crate::harness::keyholder();
    command.current_dir(world.folder.path()).args(["--config", config, "--log", "trace", "--log-format", format]);
    command.args(["serve", "--ready-file"]).arg(&ready_file).envs(environment.iter().copied());
    let mut serve = Apart::start(&mut command, world.folder.path(), &format!("serve-{format}"));
    let ready = serve.ready(&ready_file);
    calls::drive(world, evidence, &ready, format);
    evidence.add_process("keyholder serve", serve.pid());
    let limits = fs::read_to_string(format!("/proc/{}/limits", serve.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // While it runs, with the write-ahead logs of its databases, and after its end.
    search_state(world, evidence, &ready);
    assert_eq!(serve.end("TERM").code(), Some(0));
    search_state(world, evidence, &ready);
    for file in [&serve.out, &serve.err] {
        evidence.add(&format!("the {format} log"), fs::read(file).unwrap());
    }
    let log = fs::read_to_string(&serve.err).unwrap();
    // The most talkative level was on, or the silence would prove nothing.
    for part in ["\"level\":\"DEBUG\"", "\"target\":\"kh_gateway", "\"target\":\"kh_broker"] {
        assert!(format != "json" || log.contains(part), "the log has nothing of {part}");
    }
    for told in ["the platform refused a token", "refused a login", "keyholder is ready"] {
        assert!(log.contains(told), "the {format} log does not tell: {told}");
    }
}

/// Every file of the state; the two guard tokens stand in the files made for them and nowhere else.
fn search_state(world: &World, evidence: &mut Evidence, ready: &Value) {
    let guards = ["broker_token_file", "admin_token_file"].map(|name| {
        let file = world.path(text(ready, name));
        let token = fs::read_to_string(&file).unwrap().trim().to_owned();
        evidence.secret(name, &token);
        (file, token)
    });
    let files = evidence.add_files(&world.path("state"), &guards);
    assert!(files >= 6, "the state has {files} files only");
}

#[test]
fn no_secret_leaves_a_process_at_trace() {
    let mut evidence = Evidence::default();
    let world = World::start(&mut evidence);
    commands::drive(&world, &mut evidence);
    serve_and_call(&world, &mut evidence, "keyholder.toml", "json", &[]);
    let key = forms::key_base64("store key");
    let environment = [("KEYHOLDER_STORE_KEY", key.as_str())];
    serve_and_call(&world, &mut evidence, "by-env.toml", "human", &environment);
    for file in ["keyholder.toml", "by-env.toml", "ready-json.json", "ready-human.json"] {
        if let Ok(bytes) = fs::read(world.path(file)) {
            evidence.add(file, bytes);
        }
    }
    for sandbox in &world.sandboxes {
        // Its standard output is the one place that tells its made-up logins; its log is none.
        evidence.add("the sandbox's log", fs::read(&sandbox.err).unwrap());
        evidence.add_process("the sandbox", sandbox.pid());
    }
    let access = fs::read(world.path("access.log")).unwrap();
    assert!(String::from_utf8_lossy(&access).lines().count() >= 20, "the access log was written");
    evidence.add("the access log", access);
    let security = fs::read(world.path("security.log")).unwrap();
    assert!(String::from_utf8_lossy(&security).lines().count() >= 10, "the security log was written");
    evidence.add("the security log", security);
    let payloads = world.collector.payloads();
    assert!(payloads.len() >= 4, "spans and metrics were sent by both servers");
    for payload in payloads {
        evidence.add("what the collector received", payload);
    }
    let learned = world.learn(&mut evidence);
    assert!(learned >= 12, "only {learned} tokens and authorization values were seen on the wire");
    let leaks = evidence.leaks();
    println!("searched {} bytes for {} secrets", evidence.bytes(), evidence.secrets().len());
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}
