//! Files of an installation that were cut short, garbled, emptied or exchanged: a typed error with a hint, and not one
//! byte changed.

use std::{fs, path::Path};

use serde_json::Value;

use super::evidence::contents;
use crate::harness::{BARE_CONFIG, keyholder, run, text};

/// A document for `secret set`.
const DOCUMENT: &[u8] = br#"{"client_id":"id","client_secret":"secret"}"#;

/// Commands that open everything.
const OPENING: &[&[&str]] =
    &[&["client", "add", "new"], &["client", "list"], &["secret", "set", "new"], &["secret", "list"], &["serve"]];

const VERIFY: &[&[&str]] = &[&["audit", "verify"]];

/// A file that is gone must not be made anew beside the rest: that would hide the loss.
const GONE: &[(&str, Harm)] = &[("gone", |_| Vec::new())];

type Harm = fn(&[u8]) -> Vec<u8>;

const HARMS: &[(&str, Harm)] = &[
    ("cut", |bytes| bytes[..20].to_vec()),
    ("halved", |bytes| bytes[..bytes.len() / 2].to_vec()),
    ("emptied", |_| Vec::new()),
    ("foreign", |_| b"PK\x03\x04 somebody else's file\n".repeat(200)),
    ("garbled", |bytes| bytes.iter().enumerate().map(|(at, byte)| if at % 100 == 1 { !byte } else { *byte }).collect()),
];

#[test]
fn the_secret_store() {
    check("secrets.db", HARMS, &[OPENING, VERIFY], "keyholder.store.truncated", 4);
    check("secrets.db", GONE, &[OPENING], "keyholder.store.truncated", 4);
}

#[test]
fn the_state() {
    check("state.db", HARMS, &[OPENING], "keyholder.state.damaged", 4);
    check("state.db", GONE, &[OPENING], "keyholder.state.damaged", 4);
}

#[test]
fn the_audit_log() {
    check("audit.log", HARMS, &[OPENING], "keyholder.audit.broken", 4);
    check("audit.log", HARMS, &[VERIFY], "keyholder.audit.broken", 1);
}

#[test]
fn the_checkpoints() {
    // Cut at half, its last line looks as a crash leaves it; that is repaired, see the kills.
    let harms: Vec<(&str, Harm)> = HARMS.iter().filter(|(name, _)| *name != "halved").copied().collect();
    check("audit.checkpoints", &harms, &[OPENING], "keyholder.audit.broken", 4);
    check("audit.checkpoints", &harms, &[VERIFY], "keyholder.audit.broken", 1);
}

#[test]
fn the_key_of_the_store() {
    check("store.key", HARMS, &[OPENING, VERIFY], "keyholder.store.wrong_key", 2);
    let other: &[(&str, Harm)] = &[("another key", |_| b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n".to_vec())];
    check("store.key", other, &[OPENING, VERIFY], "keyholder.store.wrong_key", 2);
}

/// Harms one file of a whole installation in every way, runs every command, and compares every file's bytes.
fn check(file: &str, harms: &[(&str, Harm)], commands: &[&[&[&str]]], code: &str, exit: i32) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("keyholder.toml");
    fs::write(&config, BARE_CONFIG).unwrap();
    let state = folder.path().join("state");
    let said = |words: &[&str]| {
        let mut command = keyholder();
        run(
            command.arg("--config").arg(&config).arg("--state").arg(&state).args(["--output", "json"]).args(words),
            DOCUMENT,
        )
    };
    for name in ["one", "two", "three"] {
        said(&["client", "add", name]).done();
        said(&["secret", "set", name]).done();
    }
    let path = state.join(file);
    let aside = folder.path().join("aside");
    let whole = fs::read(&path).unwrap();
    for (harm, apply) in harms {
        match *harm {
            "gone" => fs::rename(&path, &aside).unwrap(),
            _ => fs::write(&path, apply(&whole)).unwrap(),
        }
        let before = steady(&state);
        for words in commands.iter().copied().flatten() {
            let said = said(words);
            let told = format!("{file} {harm}: {words:?} said {}", said.err);
            assert_eq!(said.code, Some(exit), "{told}");
            let problem =
                said.err.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()).expect(&told);
            assert_eq!(text(&problem, "code"), code, "{told}");
            let hinted = problem["hints"].as_array().is_some_and(|hints| !hints.is_empty());
            assert!(hinted, "no hint: {told}");
            assert_eq!(said.out, "", "{told}");
            assert!(steady(&state) == before, "{told}\nand changed a file");
        }
    }
    if aside.exists() {
        fs::rename(&aside, &path).unwrap();
    }
    fs::write(&path, &whole).unwrap();
    said(&["client", "list"]).done();
    said(&["audit", "verify"]).done();
    let secrets = said(&["secret", "list"]).json();
    assert_eq!(secrets["secrets"].as_array().map(Vec::len), Some(3), "with the file back, everything is back");
}

/// Every file but SQLite's shared memory, which holds nothing that lasts.
fn steady(state: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    contents(state).into_iter().filter(|(path, _)| !path.to_string_lossy().ends_with("-shm")).collect()
}
