//! `store check`: what is wrong is named, and does not hide the rest.

use std::fs;

use rusqlite::Connection;
use serde_json::Value;

use super::world::{DOCUMENT, World, digests, problem};
use crate::harness::text;

/// The findings, as `part subject`; the command must have ended with 1.
fn findings(world: &World) -> (Vec<String>, Value) {
    let said = world.said("state", &["store", "check"], b"");
    assert_eq!(said.code, Some(1), "{said:?}");
    let problem = problem(&said);
    let found = problem["seen"]["findings"].as_array().unwrap();
    let told = found.iter().map(|finding| format!("{} {}", text(finding, "part"), text(finding, "subject")));
    (told.collect(), problem.clone())
}

#[test]
fn one_damaged_secret_is_told_by_name_and_the_rest_still_listed() {
    let world = World::furnished();
    world.said("state", &["secret", "set", "two"], DOCUMENT).done();
    let store = Connection::open(world.path("state/secrets.db")).unwrap();
    let changed = store
        .execute("UPDATE secret SET sealed = zeroblob(length(sealed)) WHERE name = 'two' AND version = 1", [])
        .unwrap();
    assert_eq!(changed, 1);
    drop(store);
    let before = digests(&world.path("state"));
    let (told, whole) = findings(&world);
    assert_eq!(told, ["store the secret two version 1"]);
    assert_eq!(text(&whole, "code"), "keyholder.store.tampered");
    assert_eq!((&whole["seen"]["secrets"], &whole["seen"]["versions"]), (&Value::from(3), &Value::from(3)));
    let listed = world.said("state", &["secret", "list"], b"");
    assert_eq!(listed.code, Some(1), "{listed:?}");
    let answer: Value = serde_json::from_str(&listed.out).unwrap();
    let names: Vec<&str> = answer["secrets"].as_array().unwrap().iter().map(|secret| text(secret, "name")).collect();
    assert_eq!(names, ["one", "three", "two"]);
    assert_eq!(answer["secrets"][2]["damaged"], serde_json::json!([1]));
    assert!(listed.err.contains("version 1 of two is damaged"), "{}", listed.err);
    assert_eq!(digests(&world.path("state")), before, "looking changes nothing");
    // the damaged name can be removed, and everything is sound again
    world.said("state", &["secret", "rm", "two", "--yes"], b"").done();
    world.is_sound("state");
}

#[test]
fn what_is_wrong_with_the_state_the_log_and_the_store_is_told_at_once() {
    let world = World::furnished();
    let state = Connection::open(world.path("state/state.db")).unwrap();
    state.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    let nobodys = "INSERT INTO tokens (digest, client, issued_at, expires_at) VALUES (zeroblob(32), 'nobody', 1, 2)";
    state.execute(nobodys, []).unwrap();
    state.execute("UPDATE clients SET scopes = 'no list' WHERE name = 'client-two'", []).unwrap();
    state.execute("INSERT INTO audit_outbox (event_id, event) VALUES ('x', '{}')", []).unwrap();
    drop(state);
    let log = world.path("state/audit.log");
    let edited = fs::read_to_string(&log).unwrap().replacen("client-one", "client-0ne", 1);
    fs::write(&log, edited).unwrap();
    let (told, whole) = findings(&world);
    let log_name = format!("audit {}", log.display());
    assert_eq!(
        told,
        ["state the tokens", "state the client client-two", "state the waiting audit event x", &log_name],
        "{whole}"
    );
    let store = world.path("state/secrets.db");
    let bytes = fs::read(&store).unwrap();
    fs::write(&store, &bytes[..bytes.len() / 2]).unwrap();
    let (told, _) = findings(&world);
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[0].starts_with("store "), "{told:?}");
    fs::write(&store, bytes).unwrap();
    fs::write(world.path("state/state.db"), b"not a database").unwrap();
    let (told, _) = findings(&world);
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn rekey_to_every_kind_of_key_and_the_old_one_opens_no_more() {
    let world = World::furnished();
    let config = fs::read_to_string(world.path("keyholder.toml")).unwrap();
    let configured =
        |line: &str| fs::write(world.path("keyholder.toml"), format!("{config}[store]\n{line}\n")).unwrap();
    let (key, passphrase) = (world.path("a.key"), world.path("a.passphrase"));
    super::world::write_private(&key, b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n");
    super::world::write_private(&passphrase, b"a passphrase of the operator\n");
    let public_key = || world.said("state", &["audit", "verify"], b"").json()["public_key"].clone();
    let signed_by = public_key();
    for (words, line) in [
        (["--key-file", key.to_str().unwrap()], "key_file = \"a.key\""),
        (["--passphrase-file", passphrase.to_str().unwrap()], "passphrase_file = \"a.passphrase\""),
        (["--key-file", key.to_str().unwrap()], "key_file = \"a.key\""),
    ] {
        let answer = world.said("state", &[&["store", "rekey"], &words[..]].concat(), b"").json();
        assert!(answer["configuration"].as_str().unwrap().starts_with(line.split(' ').next().unwrap()), "{answer}");
        let old = world.said("state", &["secret", "list"], b"");
        super::world::refused(&old, 2, "keyholder.store.wrong_key");
        configured(line);
        world.is_sound("state");
        assert_eq!(public_key(), signed_by, "the audit log's key stays, so that the old log verifies on");
    }
    // without a named key, a new one takes the configured file's place
    world.said("state", &["store", "rekey"], b"").done();
    assert_ne!(fs::read(&key).unwrap(), b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n");
    world.is_sound("state");
    world.said("state", &["secret", "list"], b"").done();
    let events = world.said("state", &["audit", "list"], b"").out;
    assert_eq!(events.matches("store.rekey").count(), 4, "{events}");
    configured("passphrase_file = \"a.passphrase\"");
    let placeless = world.said("state", &["store", "rekey", "--key-env", "NOT_SET"], b"");
    assert_eq!(placeless.code, Some(2), "{placeless:?}");
}
