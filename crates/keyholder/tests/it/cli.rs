//! The command line without servers: help, errors, the configuration, the store and the audit log.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::{
    harness::{Said, keyholder, run, text},
    protected_api::{key_set, tokens::Key},
};

/// Help, errors and answers as transcripts in `tests/cmd`.
#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("NO_COLOR", "1")
        .env("KEYHOLDER_CONFIG", "")
        .env("KEYHOLDER_STATE", "")
        .env("USER", "tester")
        .case("tests/cmd/*.toml")
        .case("tests/cmd/*.trycmd");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// The page that people copy is what the program prints.
#[test]
fn the_example_in_the_docs_is_the_programs() {
    let page = std::fs::read_to_string(root().join("docs/reference/keyholder.toml")).unwrap_or_default();
    assert_eq!(page, keyholder::config::EXAMPLE, "run: cargo run -- config example > docs/reference/keyholder.toml");
}

/// An answer that nobody could read is no success, and a secret that is shown once says how to get another.
#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let said = |words: &[&str], out: Stdio| {
        let mut command = keyholder();
        command.current_dir(folder.path()).args(["--state", "state"]).args(words);
        Said::of(&command.stdout(out).stderr(Stdio::piped()).output().unwrap())
    };
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let gone = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for words in [&["version"][..], &["--output", "json", "version"], &["config", "example"]] {
        let full = said(words, full());
        assert_eq!(full.code, Some(3), "{words:?}: {full:?}");
        assert!(full.err.contains("the answer could not be written"), "{words:?}: {full:?}");
        assert_eq!(said(words, gone()).code, Some(0), "{words:?}: a reader may go away");
    }
    let help = Said::of(&keyholder().arg("--help").stdout(full()).stderr(Stdio::piped()).output().unwrap());
    assert_eq!(help.code, Some(3), "{help:?}");
    assert!(help.err.contains("the answer could not be written"), "{help:?}");
    for (words, out) in [
        (["client", "add", "app"], full()),
        (["client", "rotate-secret", "app"], full()),
        (["client", "rotate-secret", "app"], gone()),
    ] {
        let lost = said(&words, out);
        assert_eq!(lost.code, Some(3), "{words:?}: {lost:?}");
        assert!(lost.err.contains("`keyholder client rotate-secret app` makes another"), "{words:?}: {lost:?}");
    }
    assert!(said(&["client", "rotate-secret", "app"], Stdio::piped()).done().contains("client_secret"));
}

struct Store(tempfile::TempDir);

impl Store {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, words: &[&str], input: &str) -> Said {
        let mut command = keyholder();
        command.current_dir(self.0.path()).arg("--state").arg("state").args(words);
        run(&mut command, input.as_bytes())
    }
}

#[test]
fn secrets_are_versioned_and_never_told() {
    let store = Store::new();
    let document = r#"{"client_id":"an-id","client_secret":"s3cr3t-V4lue"}"#;
    let first =
        store.run(&["secret", "set", "acme", "--expect-version", "absent", "--output", "json"], document).json();
    assert_eq!(first["version"], 1);
    let conflict = store.run(&["secret", "set", "acme", "--expect-version", "absent"], document);
    assert_eq!(conflict.code, Some(1));
    assert!(conflict.err.contains("--expect-version 1"), "{}", conflict.err);
    assert_eq!(store.run(&["secret", "set", "acme", "--client-id", "an-id"], "other\n").code, Some(0));
    let shown = store.run(&["secret", "show-metadata", "acme", "--output", "json"], "").json();
    assert_eq!(shown["version"], 2);
    let all = [
        store.run(&["secret", "list"], "").out,
        store.run(&["secret", "show-metadata", "acme"], "").out,
        store.run(&["config", "show", "--output", "json"], "").out,
        store.run(&["audit", "list", "--output", "json"], "").out,
    ];
    assert!(all.iter().all(|said| !said.contains("s3cr3t")), "{all:?}");
    for file in std::fs::read_dir(store.0.path().join("state")).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!content.windows(6).any(|window| window == b"s3cr3t"));
    }
    let removed = store.run(&["secret", "rm", "acme"], "");
    assert_eq!(removed.code, Some(2), "nobody is there to confirm: {}", removed.err);
    store.run(&["secret", "rm", "acme", "--yes"], "").done();
    assert_eq!(store.run(&["secret", "show-metadata", "acme"], "").code, Some(1));
}

/// A mistyped state folder is told, and not made.
#[test]
fn what_looks_or_takes_away_makes_no_installation() {
    let store = Store::new();
    let state = store.0.path().join("state");
    std::fs::write(store.0.path().join("keyholder.toml"), "").unwrap();
    for words in [
        &["client", "list"][..],
        &["client", "show", "billing"],
        &["client", "disable", "billing"],
        &["client", "enable", "billing"],
        &["client", "rotate-secret", "billing"],
        &["client", "rm", "billing", "--yes"],
        &["secret", "list"],
        &["secret", "show-metadata", "acme"],
        &["secret", "rm", "acme", "--yes"],
        &["secret", "fingerprint"],
        &["revoke", "list"],
        &["revoke", "client", "billing"],
        &["revoke", "token"],
        &["session", "list"],
        &["signing-key", "list"],
        &["rotate", "status"],
        &["audit", "list"],
        &["audit", "verify"],
    ] {
        let said = store.run(words, "an-opaque-value\n");
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{words:?}: {}", said.err);
        assert!(said.err.contains("there is no installation in "), "{words:?}: {}", said.err);
        assert!(said.err.contains("hint: see --state and [state] dir\n"), "{words:?}: {}", said.err);
        assert!(!state.exists(), "{words:?} made a state folder");
    }
    // nor a part of one in a folder that is there for something else
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(store.run(&["client", "list"], "").code, Some(1));
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
    store.run(&["client", "add", "billing"], "").done();
    assert!(store.run(&["client", "list"], "").done().contains("billing"));
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    let store = Store::new();
    let said = store.run(&["secret", "set", "acme", "hunter2-hunter2"], "");
    assert_eq!(said.code, Some(2));
    assert!(!said.err.contains("hunter2") && said.err.contains("rotate"), "{}", said.err);
    for bad in [r#"{"client_id":"x","client_sceret":"hunter2"}"#, "hunter2", "", r#"{"client_secret":""}"#] {
        let said = store.run(&["secret", "set", "acme"], bad);
        assert_eq!(said.code, Some(2), "{bad}");
        assert!(!said.err.contains("hunter2"), "{}", said.err);
    }
}

/// The sections of a protected API whose files are not there.
const INBOUND: &str = r#"[issuer.corp]
kind = "jwks"
iss = ["https://login.example.com"]
jwks_file = "nokeys.json"
audiences = ["reports-api"]
[inbound.reports]
listen = ["127.0.0.1:18090"]
upstream = "http://127.0.0.1:3000"
issuers = ["corp"]
[[inbound.reports.route]]
match = ["GET /reports"]
any_token = true
"#;

#[test]
fn check_names_the_section_of_what_is_wrong() {
    let store = Store::new();
    let file = store.0.path().join("a.toml");
    let keys = store.0.path().join("nokeys.json");
    let tls = "[inbound.reports.tls]\ncert = \"no.pem\"\nkey = \"no.key\"\n";
    let same = format!("{INBOUND}[gateway]\nlisten = [\"127.0.0.1:18090\"]\n");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        store.run(&["check", "--config", "a.toml"], "")
    };
    let said = check(INBOUND);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("hint: [issuer.corp]: "), "{}", said.err);
    std::fs::write(&keys, key_set(&[&Key::new("k1")])).unwrap();
    for (text, told) in [
        (format!("{INBOUND}{tls}"), "hint: [inbound.reports.tls]: "),
        (same, "hint: [inbound.reports]: [gateway] listens on 127.0.0.1:18090 already; "),
    ] {
        let said = check(&text);
        assert_eq!(said.code, Some(1), "{text}: {}", said.err);
        assert!(said.err.contains(told) && !said.err.contains("hint: [inbound]: "), "{told}: {}", said.err);
        assert_eq!(said.err.matches("hint: ").count(), 1, "{}", said.err);
    }
    let said = check(INBOUND);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(said.out, "a.toml is fine: 1 issuer, 1 protected API\n");
    assert!(!said.err.contains("warning"), "{}", said.err);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    let said = check(INBOUND);
    assert!(said.err.contains("may be changed by every user"), "{}", said.err);
    let counted = store.run(&["check", "--config", "a.toml", "--output", "json"], "").json();
    assert_eq!((&counted["issuers"], &counted["protected_apis"]), (&Value::from(1), &Value::from(1)), "{counted}");
}

/// A state folder that cannot be looked at is not told as one without a store.
#[test]
fn check_does_not_take_an_unreadable_state_for_an_empty_one() {
    let store = Store::new();
    let config = "[platform.acme]\nkind = \"genesys\"\nregion = \"eu-central-1\"\n\
                  [credential.acme]\nplatform = \"acme\"\nsecret = \"store:acme\"\n";
    std::fs::write(store.0.path().join("a.toml"), config).unwrap();
    // nothing is below a file, whoever looks
    std::fs::write(store.0.path().join("state"), "").unwrap();
    let said = store.run(&["check", "--config", "a.toml"], "");
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("the state folder: ") && said.err.contains("Not a directory"), "{}", said.err);
    assert!(!said.err.contains("does not exist yet"), "{}", said.err);
}

/// What looks like a secret is hidden where somebody typed it, and not in the program's own examples.
#[test]
fn the_examples_in_hints_are_readable() {
    let store = Store::new();
    std::fs::write(store.0.path().join("bad.toml"), "[security.alerts]\nexempt_asns=[\"foo\"]\n").unwrap();
    for (words, shown) in [
        (&["revoke", "before", "tomorrow"][..], "write a time like 2026-11-21T08:00:00Z, or seconds since 1970"),
        (&["revoke", "client", "c", "--before", "1700000000000"], "or seconds since 1970, not milliseconds"),
        (&["secret", "list", "--log", "foo=bar=baz"], "a filter such as info,kh_broker=debug"),
        (&["init", "--yes", "--region", "?"], "use2.us-gov-pure.cloud  Ohio (FedRAMP)"),
        (&["check", "--config", "bad.toml"], "exempt_asns=[\"foo\"]"),
    ] {
        let said = store.run(words, "");
        assert_eq!(said.code, Some(2), "{words:?}: {}", said.err);
        assert!(said.err.contains(shown), "{words:?}: {}", said.err);
        if words[0] != "check" {
            let said = store.run(&[words, &["--output", "json"]].concat(), "");
            assert!(said.err.contains(shown), "{words:?}: {}", said.err);
        }
    }
}

#[test]
fn an_edited_audit_log_is_found() {
    let store = Store::new();
    for name in ["a", "b", "c"] {
        store.run(&["client", "add", name, "--allow-all"], "").done();
    }
    let verified = store.run(&["audit", "verify", "--output", "json"], "").json();
    assert_eq!((&verified["verified"], &verified["entries"]), (&Value::Bool(true), &Value::from(3)));
    let log = store.0.path().join("state/audit.log");
    let content = std::fs::read_to_string(&log).unwrap();
    for (edit, kind) in [
        (content.replacen("client.add", "client.rm_", 1), "edited"),
        (content.split_inclusive('\n').skip(1).collect(), "removed"),
        (content.split_inclusive('\n').take(2).collect(), "truncated"),
    ] {
        std::fs::write(&log, edit).unwrap();
        let said = store.run(&["audit", "verify", "--output", "json"], "");
        assert_eq!(said.code, Some(1), "{}", said.err);
        let problem: Value = serde_json::from_str(&said.err).unwrap();
        assert_eq!(text(&problem, "code"), "keyholder.audit.broken");
        assert_eq!(problem["report"]["finding"]["kind"], kind, "{problem}");
        assert_ne!(store.run(&["client", "add", "d"], "").code, Some(0), "nothing is appended to a broken log");
    }
}

#[test]
fn the_audit_log_is_listed_from_a_time_to_a_time_and_up_to_a_limit() {
    let store = Store::new();
    let now_ms = || {
        let output = std::process::Command::new("date").arg("+%s%3N").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<i64>().unwrap()
    };
    store.run(&["client", "add", "older"], "").done();
    let between = jiff::Timestamp::from_millisecond(now_ms() + 1).unwrap().to_string();
    let between = between.as_str();
    store.run(&["client", "add", "newer"], "").done();
    let listed = |words: &[&str]| {
        let list = ["--output", "json", "audit", "list", "--action", "client.add"];
        let log = store.run(&[&list[..], words].concat(), "").json();
        let entries = log["entries"].as_array().unwrap();
        entries.iter().map(|entry| text(entry, "subject").to_owned()).collect::<Vec<_>>().join(" ")
    };
    for (words, subjects) in [
        (&["--limit", "10000"][..], "older newer"),
        (&["--limit", "1"], "newer"),
        (&["--limit", "1", "--until", between], "older"),
        (&["--since", between], "newer"),
        (&["--since", "2000-01-01T00:00:00Z", "--until", between], "older"),
        (&["--since", between, "--until", between], ""),
        (&["--until", "946684800"], ""),
    ] {
        assert_eq!(listed(words), subjects, "{words:?}");
    }
    for (flag, value, told) in [
        ("--limit", "0", "0 is not in 1..=10000"),
        ("--limit", "10001", "10001 is not in 1..=10000"),
        ("--since", "yesterday", "write a time like 2026-11-21T08:00:00Z"),
        ("--until", "1700000000000", "not milliseconds"),
    ] {
        let said = store.run(&["audit", "list", flag, value], "");
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{flag} {value}");
        assert!(said.err.contains(told), "{flag} {value}: {}", said.err);
    }
}

#[test]
fn errors_with_json_are_one_problem_object() {
    for words in [
        &["--output", "json", "client", "show", "nobody"][..],
        &["--output=json", "no-such-command"],
        &["--output", "json", "serve", "--config", "/nowhere/keyholder.toml"],
        &["--output", "json", "client", "add", "x", "--allow", "users"],
        &["--output", "json", "client", "add", "x", "--credential", "nope"],
        &["--output", "json", "check"],
    ] {
        let said = Store::new().run(words, "");
        assert_ne!(said.code, Some(0), "{words:?}");
        assert_eq!(said.out, "", "{words:?}");
        let problem: Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {}", said.err));
        for member in ["type", "title", "status", "detail", "code", "hints"] {
            assert!(problem.get(member).is_some(), "{words:?}: {member}");
        }
    }
}

#[test]
fn every_page_for_the_shell_and_the_docs_is_made() {
    for (words, needle) in [
        (&["completions", "bash"][..], "_keyholder"),
        (&["completions", "zsh"], "#compdef keyholder"),
        (&["completions", "fish"], "complete -c keyholder"),
        (&["man"], ".TH keyholder"),
        (&["man", "client", "add"], "allow"),
        (&["explain", "--list"], "keyholder.upstream.protocol"),
        (&["explain", "credential.rejected"], "What to do"),
        (&["docs", "cli"], "## `keyholder client add`"),
        (&["docs", "error-codes"], "keyholder.credential.rejected"),
        (&["docs", "metrics"], "keyholder_gateway_requests"),
    ] {
        let said = run(keyholder().args(words), b"").done();
        assert!(said.contains(needle), "{words:?}");
    }
}

#[test]
fn flags_beat_the_environment_and_the_environment_beats_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keyholder.toml"), "[state]\ndir = \"of-file\"\n").unwrap();
    let shown = |words: &[&str], variable: Option<&str>| {
        let mut command = keyholder();
        command.current_dir(folder.path()).args(["--output", "json", "config", "show"]).args(words);
        if let Some(value) = variable {
            command.env("KEYHOLDER_STATE", value);
        }
        let answer = run(&mut command, b"").json();
        text(&answer["paths"], "state").rsplit('/').next().unwrap().to_owned()
    };
    assert_eq!(shown(&[], None), "of-file");
    assert_eq!(shown(&[], Some("of-environment")), "of-environment");
    assert_eq!(shown(&["--state", "of-flag"], Some("of-environment")), "of-flag");
}

/// A key that a service manager mounts: beside a folder of its own, readable to the group.
#[test]
fn a_mounted_credential_opens_the_store() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let config = "[state]\ndir = \"state\"\n[store]\nkey_credential = \"store.key\"\n";
    std::fs::write(folder.path().join("keyholder.toml"), config).unwrap();
    // as Kubernetes lays it out: a link to a file of the group
    let (real, mounted) = (folder.path().join("..data.key"), folder.path().join("mounted"));
    std::fs::write(&real, "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY=\n").unwrap();
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o440)).unwrap();
    std::fs::create_dir(&mounted).unwrap();
    symlink(&real, mounted.join("store.key")).unwrap();
    let said = |directory: Option<&Path>, words: &[&str]| {
        let mut command = keyholder();
        command.current_dir(folder.path()).args(words);
        if let Some(directory) = directory {
            command.env("CREDENTIALS_DIRECTORY", directory);
        }
        run(&mut command, b"value")
    };
    said(Some(&mounted), &["secret", "set", "acme", "--opaque"]).done();
    assert!(said(Some(&mounted), &["secret", "list"]).done().contains("acme"));
    assert!(!folder.path().join("state/store.key").exists());
    let without = said(None, &["secret", "list"]);
    assert_eq!(without.code, Some(2));
    assert!(without.err.contains("CREDENTIALS_DIRECTORY"), "{}", without.err);
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o444)).unwrap();
    let open = said(Some(&mounted), &["secret", "list"]);
    assert_eq!(open.code, Some(2));
    assert!(open.err.contains("0440"), "{}", open.err);
}

/// Each way to give the store's key opens what it sealed, and another key is told from a damaged store.
#[test]
fn every_source_of_the_stores_key_opens_what_it_sealed() {
    let right = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY=";
    let wrong = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=";
    for (setting, is_file) in
        [("key_env", false), ("passphrase_env", false), ("key_file", true), ("passphrase_file", true)]
    {
        let folder = tempfile::tempdir().unwrap();
        let place = if is_file { "the.key" } else { "STORE_KEY" };
        let config = format!("[state]\ndir = \"state\"\n[store]\n{setting} = \"{place}\"\n");
        std::fs::write(folder.path().join("keyholder.toml"), config).unwrap();
        let run = |key: &str, words: &[&str], input: &str| {
            let mut command = keyholder();
            command.current_dir(folder.path()).args(words);
            if is_file {
                let file = folder.path().join(place);
                std::fs::write(&file, key).unwrap();
                std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            } else {
                command.env(place, key);
            }
            run(&mut command, input.as_bytes())
        };
        run(right, &["secret", "set", "acme", "--opaque"], "value").done();
        assert!(run(right, &["secret", "list"], "").done().contains("acme"), "{setting}");
        let refused = run(wrong, &["--output", "json", "secret", "list"], "");
        assert_eq!(refused.code, Some(2), "{setting}: {}", refused.err);
        assert!(refused.err.contains("keyholder.store.wrong_key") && !refused.err.contains(wrong), "{}", refused.err);
        assert!(run(right, &["secret", "list"], "").done().contains("acme"), "{setting}: nothing is lost");
        assert!(!folder.path().join("state/store.key").exists());
    }
}
