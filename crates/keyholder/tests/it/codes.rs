//! Error codes that are best provoked with the whole program, and `explain`, which tells what they mean.

use std::fs;

use rusqlite::Connection;
use serde_json::Value;

use crate::harness::{Installation, Said, eventually, keyholder, run, text};

fn code_of(said: &Said) -> String {
    let problem: Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {}", said.err));
    let code = text(&problem, "code").to_owned();
    assert_eq!(text(&problem, "type"), format!("urn:keyholder:error:{}", code.strip_prefix("keyholder.").unwrap()));
    code
}

#[test]
fn a_disabled_client_is_told_and_logged() {
    let installation = Installation::new();
    let login = installation.add_client("billing", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let token = server.login(&login);
    assert_eq!(server.call(&token, "GET", "/api/v2/users").status, 200);
    installation.run(&["client", "disable", "billing"]).done();
    eventually(&401, || server.try_login(&login).status);
    let answer = server.try_login(&login).json();
    assert_eq!(
        (text(&answer, "error"), text(&answer, "error_description")),
        ("invalid_client", "the client is disabled")
    );
    let call = server.call(&token, "GET", "/api/v2/users");
    assert_eq!((call.status, text(&call.json(), "code")), (401, "keyholder.caller.unauthenticated"));
    let (_, log) = server.process.stop();
    let line = log.lines().find(|line| line.contains("refused a login")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("keyholder.client.disabled"), "{line}");
}

/// Both databases say which schema they have; the one that is too new is told, and not a byte of it changes.
#[test]
fn files_of_a_newer_keyholder_are_refused_and_left_alone() {
    let installation = Installation::new();
    installation.add_client("billing", &["--allow-all"]);
    for file in ["secrets.db", "state.db"] {
        let path = installation.path("state").join(file);
        let schema = |sql: &str| {
            let database = Connection::open(&path).unwrap();
            database.execute_batch(sql).unwrap();
            database.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).unwrap()
        };
        let own = schema("");
        assert_eq!(schema("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE);"), 99);
        let before = fs::read(&path).unwrap();
        for words in [&["secret", "list"][..], &["client", "list"], &["serve"]] {
            let refused = installation.run(&[&["--output", "json"], words].concat());
            if file == "state.db" && words == ["secret", "list"] && refused.code == Some(0) {
                continue;
            }
            assert_eq!(refused.code, Some(4), "{file} {words:?}: {}", refused.err);
            let last = refused.err.lines().last().unwrap_or_default().to_owned();
            assert_eq!(code_of(&Said { err: last, ..refused }), "keyholder.store.too_new", "{file} {words:?}");
        }
        assert!(fs::read(&path).unwrap() == before, "{file} was changed");
        schema(&format!("PRAGMA user_version = {own}"));
    }
    installation.run(&["client", "list"]).done();
}

#[test]
fn a_configuration_with_mistakes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyholder.toml");
    fs::write(&file, "[gateway]\nlisten = \"nowhere\"\n[sotre]\n").unwrap();
    let said = run(keyholder().args(["--output", "json", "check", "--config"]).arg(&file), b"");
    assert_eq!(said.code, Some(2));
    let problem: Value = serde_json::from_str(&said.err).unwrap();
    assert!(problem["mistakes"].as_array().is_some_and(|all| all.len() >= 2), "{problem}");
    assert_eq!(code_of(&said), "keyholder.config.invalid");
}

#[test]
fn a_wrong_command_line_is_a_problem() {
    let said = run(keyholder().args(["--output", "json", "no-such-command"]), b"");
    assert_eq!((said.code, code_of(&said).as_str()), (Some(2), "keyholder.usage"));
}

/// What the program prints is the page; each code of the list has one, with its short form as good as its whole.
#[test]
fn every_code_can_be_explained() {
    let all = run(keyholder().args(["explain", "--list", "--output", "json"]), b"").json();
    let all = all.as_array().unwrap();
    assert!(all.len() > 30, "{}", all.len());
    for one in all {
        let code = text(one, "code");
        let explained = run(keyholder().args(["explain", code, "--output", "json"]), b"").json();
        for member in ["type", "status", "title"] {
            assert_eq!(explained[member], one[member], "{code}");
        }
        for member in ["summary", "acts", "retry", "page"] {
            assert!(!text(&explained, member).is_empty(), "{code}: {member}");
        }
        let short = code.strip_prefix("keyholder.").unwrap();
        let told = run(keyholder().args(["explain", short]), b"").done();
        assert!(told.starts_with(code) && told.contains("\nWhat to do\n") && !told.contains("]("), "{told}");
    }
}

#[test]
fn failures_name_the_page_that_helps() {
    let installation = Installation::new();
    fs::write(installation.path("state/secrets.db"), "short").unwrap();
    let said = installation.run(&["secret", "list"]);
    assert_eq!(said.code, Some(4), "{}", said.err);
    assert!(said.err.ends_with("hint: keyholder explain store.truncated\n"), "{}", said.err);
    let unknown = run(keyholder().args(["explain", "store.truncted"]), b"");
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("did you mean store.truncated?"), "{}", unknown.err);
}
