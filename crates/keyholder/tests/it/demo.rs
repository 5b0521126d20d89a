//! The demo's story: it holds, and notices every step that is broken on purpose.

use std::path::Path;

use crate::harness::{Process, Said, keyholder, request, run, text};

fn story(words: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let mut command = keyholder();
    let said = run(command.env("TMPDIR", folder.path()).args(["demo", "--once"]).args(words), b"");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the demo leaves nothing behind");
    said
}

#[test]
fn every_step_holds() {
    let said = story(&[]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert_eq!(said.out.matches("     held ").count(), 9, "{}", said.out);
    assert!(said.out.contains("the sandbox's limit is lowered"), "{}", said.out);
    for told in ["makes a new secret", "promoted", "deletes the old", "while the secret was replaced, 0 failed"] {
        assert!(said.out.contains(told), "the timeline lacks {told}: {}", said.out);
    }
    assert!(!said.out.contains('\u{1b}') && !said.out.contains('\r'), "colours and a changing line are for terminals");
    assert_eq!(said.err, "");
}

#[test]
fn with_json_the_answer_is_one_document() {
    let answer = story(&["--output", "json"]).json();
    assert_eq!(answer["held"], true);
    let steps: Vec<_> = answer["steps"].as_array().unwrap().iter().map(|step| text(step, "step")).collect();
    assert_eq!(steps.len(), 9);
    assert_eq!((steps[0], steps[8]), ("login", "audit"));
}

fn broken(step: &str) {
    let said = story(&["--sabotage", step, "--output", "json"]);
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    let problem: serde_json::Value = serde_json::from_str(&said.err).expect("one problem object on standard error");
    assert_eq!(text(&problem, "code"), "keyholder.demo.step_failed");
    assert_eq!(text(&problem, "step"), step);
    assert!(text(&problem, "detail").contains(step));
}

#[test]
fn a_broken_login_is_noticed() {
    broken("login");
}

#[test]
fn a_lost_cache_is_noticed() {
    broken("cached-token");
}

#[test]
fn a_token_that_cannot_be_replaced_is_noticed() {
    broken("token-killed");
}

#[test]
fn a_limit_that_is_not_waited_out_is_noticed() {
    broken("rate-limit");
}

#[test]
fn a_call_that_fails_during_a_rotation_is_noticed() {
    broken("rotation");
}

#[test]
fn a_forbidden_call_that_gets_through_is_noticed() {
    broken("forbidden-call");
}

#[test]
fn a_token_that_gets_out_is_noticed() {
    broken("secret-stays");
}

#[test]
fn a_broken_cxone_login_is_noticed() {
    broken("cxone");
}

#[test]
fn an_edited_audit_log_is_noticed() {
    broken("audit");
}

#[test]
fn it_stays_up_until_a_signal_and_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let ready_file = folder.path().join("ready.json");
    let mut command = keyholder();
    command.env("TMPDIR", folder.path()).args(["demo", "--ready-file"]).arg(&ready_file);
    let mut process = Process::start(&mut command, &folder.path().join("log"));
    let ready = process.ready(&ready_file);
    let mut members: Vec<_> = ready.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(
        members,
        [
            "admin_token_file",
            "admin_url",
            "broker_token_file",
            "broker_url",
            "client_id",
            "client_secret",
            "config",
            "gateway_url",
            "sandbox_control_url",
            "sandbox_url"
        ]
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&ready_file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let listed = run(keyholder().arg("--config").arg(Path::new(text(&ready, "config"))).args(["client", "list"]), b"");
    assert!(listed.done().contains("cxone-application"));
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        text(&ready, "client_id"),
        text(&ready, "client_secret")
    );
    let login = request(
        "POST",
        &format!("{}/oauth/token", text(&ready, "gateway_url")),
        &[("Content-Type", "application/x-www-form-urlencoded")],
        form.as_bytes(),
    );
    assert_eq!(login.status, 200, "{login:?}");
    process.signal("TERM");
    assert_eq!(process.end(), Some(0), "{}", process.said());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only the ready file and the log are left: {left:?}");
}

/// A story that was not told to its end has not held.
#[test]
fn a_story_that_a_signal_stops_fails_and_names_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let ready_file = folder.path().join("ready.json");
    let mut command = keyholder();
    command.env("TMPDIR", folder.path()).args(["demo", "--once", "--ready-file"]).arg(&ready_file);
    let mut process = Process::start(&mut command, &folder.path().join("log"));
    process.ready(&ready_file);
    process.signal("TERM");
    assert_eq!(process.end(), Some(1), "{}", process.said());
    let said = process.said();
    assert!(said.contains("the step ") && said.contains(" was stopped by a signal"), "{said}");
}
