//! Older and newer schemas of the state on the real program, the way back, and kills on the way.

use std::{fs, os::unix::process::ExitStatusExt, path::Path, process::Stdio, time::Duration};

use kh_core::{Entropy, SeededEntropy, Sha256};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::world::{DOCUMENT, World, copy_folder, digests, opened, refused, sealed};

/// A database as the first schema wrote it.
const FIRST: &str = include_str!("../../../../kh-state/tests/it/schema_1.sql");

/// What the second schema added.
const SECOND: &str = "ALTER TABLE clients ADD COLUMN old_secrets_until INTEGER; PRAGMA user_version = 2;";

fn schema(world: &World, file: &str) -> u32 {
    let state = Connection::open(world.path(file)).unwrap();
    state.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// An installation whose state an older keyholder wrote.
fn older(version: u32) -> World {
    let world = World::new();
    world.said("state", &["secret", "set", "one"], DOCUMENT).done();
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(world.path(&format!("state/state.db{suffix}"))).ok();
    }
    super::world::write_private(&world.path("state/state.db"), b"");
    let state = Connection::open(world.path("state/state.db")).unwrap();
    state.execute_batch(FIRST).unwrap();
    if version == 2 {
        state.execute_batch(SECOND).unwrap();
        state.execute("UPDATE clients SET old_secrets_until = 1767225600000", []).unwrap();
    }
    drop(state);
    world
}

#[test]
fn every_older_schema_is_brought_up_to_date_with_a_copy_and_back() {
    for version in [1, 2] {
        let world = older(version);
        let was = fs::read(world.path("state/state.db")).unwrap();
        assert_eq!(world.client_names("state"), ["reports"]);
        assert_eq!(schema(&world, "state/state.db"), kh_state::SCHEMA);
        let copy = format!("state/state.db.schema-{version}");
        assert_eq!(schema(&world, &copy), version, "the copy is as it was");
        assert_eq!(fs::read(world.path("state/state.db.schema-1")).is_ok(), version == 1);
        let seen = world.is_sound("state");
        assert_eq!((&seen["seen"]["tokens"], &seen["seen"]["clients"]), (&Value::from(1), &Value::from(1)));
        // the way back: lossless to 2; to 1 the overlap of secrets has no place
        let back = world.said("state", &["store", "migrate", "--to", &version.to_string()], b"").json();
        assert_eq!(
            (back["from"].as_u64(), back["schema"].as_u64()),
            (Some(kh_state::SCHEMA.into()), Some(version.into()))
        );
        assert_eq!(schema(&world, "state/state.db"), version);
        let columns = |file: &str| -> Vec<String> {
            let state = Connection::open(world.path(file)).unwrap();
            let mut statement = state.prepare("SELECT name FROM pragma_table_info('clients') ORDER BY cid").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        fs::write(world.path("was.db"), &was).unwrap();
        assert_eq!(columns("state/state.db"), columns("was.db"), "what the older keyholder knows, and no more");
        assert_eq!(world.client_names("state"), ["reports"], "and forward again");
    }
}

#[test]
fn a_check_leaves_an_older_schema_to_the_next_start() {
    for version in [1, 2] {
        let world = older(version);
        for words in [&["check"][..], &["check", "--online"]] {
            let said = world.said("state", words, b"");
            assert_eq!(said.code, Some(0), "{said:?}");
            assert!(said.err.contains(&format!("the state has schema {version}; the next start")), "{said:?}");
            assert_eq!(schema(&world, "state/state.db"), version, "{words:?}");
        }
        let answer = world.said("state", &["check", "--output", "json"], b"").json();
        assert_eq!(answer["shared_between_environments"], serde_json::json!([]), "{answer}");
        assert!(answer["notes"][0].as_str().unwrap().contains("schema"), "{answer}");
        let names = fs::read_dir(world.path("state")).unwrap().map(|entry| entry.unwrap().file_name());
        let copies: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".schema-")).collect();
        assert!(copies.is_empty(), "{copies:?}");
        assert_eq!(world.client_names("state"), ["reports"]);
        let said = world.said("state", &["check"], b"");
        assert!(!said.err.contains("the state has schema"), "{said:?}");
    }
}

#[test]
fn what_an_older_schema_has_no_place_for_is_lost_only_if_a_person_says_so() {
    let world = older(2);
    let refusal = world.said("state", &["store", "migrate", "--to", "1"], b"");
    let told = refused(&refusal, 1, "keyholder.usage");
    assert_eq!(told["losses"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(schema(&world, "state/state.db"), kh_state::SCHEMA, "nothing was changed");
    let done = world.said("state", &["store", "migrate", "--to", "1", "--accept-loss"], b"").json();
    let copy = Path::new(done["copy"].as_str().unwrap());
    assert_eq!(
        schema(&world, copy.strip_prefix(world.path("")).unwrap().to_str().unwrap()),
        kh_state::SCHEMA,
        "it has what was lost"
    );
    assert_eq!(schema(&world, "state/state.db"), 1);
    let events = world.said("state", &["audit", "list"], b"").out;
    assert!(events.contains("store.migrate"), "{events}");
}

#[test]
fn a_newer_schema_is_refused_by_every_command_and_left_alone() {
    let world = World::furnished();
    let state = Connection::open(world.path("state/state.db")).unwrap();
    state.pragma_update(None, "user_version", 99).unwrap();
    drop(state);
    let before = digests(&world.path("state"));
    for words in [&["client", "list"][..], &["serve"], &["store", "migrate", "--to", "2"]] {
        refused(&world.said("state", words, b""), 4, "keyholder.store.too_new");
    }
    let checked = world.said("state", &["store", "check"], b"");
    refused(&checked, 1, "keyholder.store.too_new");
    assert_eq!(digests(&world.path("state")), before);
}

#[test]
fn a_backup_of_an_older_schema_restores_and_is_brought_up_to_date() {
    let world = World::furnished();
    let newer = world.backup("state", "newer.age");
    // what an older keyholder would have packed: the same installation with its state in schema 1
    let old = fs::read(older(1).path("state/state.db")).unwrap();
    let mut members = opened(&world, &newer);
    let mut manifest: Value = serde_json::from_slice(&members[0].1).unwrap();
    manifest["schemas"]["state"] = json!(1);
    manifest["parts"][1]["size"] = json!(old.len());
    manifest["parts"][1]["sha256"] = json!(Sha256::of(&old).to_hex());
    assert_eq!(members[2].0, "state.db");
    members[2].1 = old;
    members[0].1 = manifest.to_string().into_bytes();
    let file = world.path("older.age");
    sealed(&world, &file, &members);
    let identity = world.identity();
    world.said("restored", &World::restore(&file, &[], &identity), b"").done();
    assert_eq!(schema(&world, "restored/state.db"), kh_state::SCHEMA);
    assert_eq!(world.client_names("restored"), ["reports"]);
    world.is_sound("restored");
    let events = world.said("restored", &["audit", "list", "--subject", "reports"], b"").out;
    assert!(events.contains("client.add"), "what waited in it was delivered: {events}");
}

/// A rotation in the middle: its journal, and the sealed secret that only the journal has.
#[test]
fn an_unfinished_rotation_survives_a_backup_a_new_key_and_a_check() {
    let world = World::furnished();
    let state = Connection::open(world.path("state/state.db")).unwrap();
    state
        .execute_batch(
            "INSERT INTO rotation_leases VALUES ('credential/acme', 'one', 4, 1767225600000);
             INSERT INTO rotation_runs VALUES (7, '018f4a3c-0000-7000-8000-000000000007', 'acme', 'credential/acme', 1, NULL);
             INSERT INTO rotation_records VALUES (7, 1, 3, 1, '{}'), (7, 2, 4, 2, '{}');
             INSERT INTO rotation_escrow VALUES (7, 'new', x'736561');
             INSERT INTO rotation_holds VALUES ('acme', 1, 'cli:ops', 'wait');",
        )
        .unwrap();
    drop(state);
    let file = world.backup("state", "middle.age");
    world.said("state", &["store", "rekey"], b"").done();
    world.is_sound("state");
    let identity = world.identity();
    world.said("restored", &World::restore(&file, &[], &identity), b"").done();
    world.is_sound("restored");
    for folder in ["state", "restored"] {
        let state = Connection::open(world.path(&format!("{folder}/state.db"))).unwrap();
        let kept: (u32, u32, Vec<u8>, String) = state
            .query_row(
                "SELECT fence, (SELECT count(*) FROM rotation_records), sealed, reason \
                 FROM rotation_leases, rotation_escrow, rotation_holds",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .unwrap();
        assert_eq!(kept, (4, 2, b"sea".to_vec(), "wait".to_owned()), "{folder}");
    }
    let refusal = world.said("state", &["store", "migrate", "--to", "3"], b"");
    let told = refused(&refusal, 1, "keyholder.usage");
    assert!(told["losses"][0].as_str().unwrap().starts_with("1 credentials have the journal"), "{told}");
}

#[test]
fn a_migration_that_is_killed_leaves_one_schema_or_the_other_and_every_client() {
    let world = older(1);
    let state = Connection::open(world.path("state/state.db")).unwrap();
    // enough rows that copying and changing them takes a while
    state
        .execute_batch(
            "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 20000) \
             INSERT INTO clients SELECT 'id-' || value, 'name-' || value, 'acme', '[]', '[]', '[]', 1, 0, 86400, 1, 1, 1 \
             FROM n",
        )
        .unwrap();
    drop(state);
    fs::rename(world.path("state"), world.path("template")).unwrap();
    let entropy = SeededEntropy::new(73);
    let (mut killed, mut copied, mut inside) = (0, 0, 0);
    for _ in 0..12 {
        let folder = world.path("state");
        copy_folder(&world.path("template"), &folder);
        let mut command = world.command("state", &["secret", "list"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let draft = folder.join("state.db.schema-1.new");
        for _ in 0..100_000 {
            if draft.exists() || child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        std::thread::sleep(Duration::from_micros(entropy.below(40_000)));
        child.kill().ok();
        killed += usize::from(child.wait().unwrap().signal() == Some(9));
        copied += usize::from(folder.join("state.db.schema-1").exists());
        inside += usize::from(draft.exists());
        let found = schema(&world, "state/state.db");
        assert!([1, kh_state::SCHEMA].contains(&found), "schema {found}");
        world.said("state", &["secret", "list"], b"").done();
        assert_eq!(schema(&world, "state/state.db"), kh_state::SCHEMA);
        assert_eq!(schema(&world, "state/state.db.schema-1"), 1);
        let seen = world.said("state", &["store", "check"], b"").json();
        assert_eq!(seen["seen"]["clients"], 20_001, "{seen}");
        fs::remove_dir_all(&folder).unwrap();
    }
    println!("migrations: {killed} killed, {inside} while the copy was made, {copied} after it");
    assert!(killed >= 4 && inside + copied >= 2, "the kills missed: {killed} killed, {inside} inside, {copied} copied");
}
