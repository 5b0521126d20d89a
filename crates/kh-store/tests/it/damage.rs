//! Tampering and damage: never a wrong value, always a typed error, and the file as it was.

use std::fs;

use kh_core::port::StoreError;

use crate::support::{ACME, BETA, Filled, filled, get, open, put};

fn right(read: &[(u64, Vec<u8>); 2]) -> bool {
    *read == [(3, ACME.to_vec()), (1, BETA.to_vec())]
}

/// Every byte that is not zero, and every 97th that is: one bit of each is turned.
#[test]
fn a_changed_byte_never_gives_a_wrong_value() {
    let filled = filled();
    let original = fs::read(&filled.path).unwrap();
    let mut refused = [0; 3];
    for index in 0..original.len() {
        if original[index] == 0 && index % 97 != 0 {
            continue;
        }
        let mut changed = original.clone();
        changed[index] ^= 1 << (index % 8);
        filled.write(&changed);
        match filled.read() {
            Ok(read) => assert!(right(&read), "byte {index} gave a wrong value"),
            Err(error) => {
                match &error {
                    StoreError::Tampered(_) => refused[0] += 1,
                    StoreError::Truncated(_) => refused[1] += 1,
                    StoreError::TooNew { .. } | StoreError::Unavailable { .. } => refused[2] += 1,
                    other => panic!("byte {index}: {other:?}"),
                }
                assert!(fs::read(&filled.path).unwrap() == changed, "byte {index}: the file was written to ({error})");
            }
        }
    }
    assert!(refused[0] > 500 && refused[1] > 50, "each kind of answer was reached: {refused:?}");
    filled.write(&original);
    filled.is_whole();
}

#[test]
fn a_truncated_file_is_told_and_left_as_it_is() {
    let filled = filled();
    let original = fs::read(&filled.path).unwrap();
    let lengths =
        (0..original.len()).step_by(251).chain([1, 15, 16, 99, 100, 511, 512, 4095, 4096, original.len() - 1]);
    for length in lengths {
        filled.write(&original[..length]);
        let error = filled.read().unwrap_err();
        assert!(matches!(error, StoreError::Truncated(_)), "{length} bytes: {error:?}");
        assert!(fs::read(&filled.path).unwrap() == original[..length], "{length} bytes: the file was written to");
    }
    filled.write(&original);
    filled.is_whole();
}

#[test]
fn foreign_files_are_told_and_left_as_they_are() {
    let filled = filled();
    for content in [vec![0; 8192], vec![b'x'; 8192], b"SQLite format 3\0".repeat(100)] {
        filled.write(&content);
        let error = open(&filled.path).unwrap_err();
        assert!(matches!(error, StoreError::Truncated(_)), "{error:?}");
        assert!(fs::read(&filled.path).unwrap() == content);
    }
    fs::remove_file(&filled.path).unwrap();
    filled.sql("CREATE TABLE somebody_elses (x)");
    filled.write(&fs::read(&filled.path).unwrap());
    let error = open(&filled.path).unwrap_err();
    assert!(matches!(&error, StoreError::Truncated(why) if why.contains("not a keyholder secret store")), "{error:?}");
}

#[test]
fn a_journal_without_its_file_is_not_played_into_a_new_one() {
    let filled = filled();
    fs::remove_file(&filled.path).unwrap();
    let journal = filled.path.with_extension("db-journal");
    fs::write(&journal, "pages").unwrap();
    assert!(matches!(open(&filled.path), Err(StoreError::Truncated(why)) if why.contains("journal")));
    assert!(journal.exists() && !filled.path.exists());
}

#[test]
fn a_newer_schema_is_refused_and_left_as_it_is() {
    let filled = filled();
    filled.sql("PRAGMA user_version = 2; CREATE TABLE invention (x);");
    let before = fs::read(&filled.path).unwrap();
    let error = open(&filled.path).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 2, known: 1 }), "{error:?}");
    assert_eq!(fs::read(&filled.path).unwrap(), before);
    filled.sql("PRAGMA user_version = 1; DROP TABLE invention;");
    filled.is_whole();
}

/// Somebody with SQLite and without the key. Both a fresh start and a running store must notice.
fn check(statements: &str, answer: &str) {
    let filled = filled();
    let original = fs::read(&filled.path).unwrap();
    let running = open(&filled.path).unwrap();
    assert!(get(&running, "acme").is_ok());
    filled.sql(statements);
    let changed = fs::read(&filled.path).unwrap();
    for error in [filled.read().unwrap_err(), both(&running).unwrap_err()] {
        assert_eq!(error.code().0, answer, "{statements}: {error:?}");
    }
    assert!(fs::read(&filled.path).unwrap() == changed, "{statements}: the file was written to");
    drop(running);
    filled.write(&original);
    filled.is_whole();
}

fn both(store: &kh_store::FileStore) -> Result<(), StoreError> {
    get(store, "acme")?;
    get(store, "beta")?;
    Ok(())
}

#[test]
fn changes_by_sql_are_found() {
    const TAMPERED: &str = "keyholder.store.tampered";
    for statements in [
        "DELETE FROM secret WHERE name = 'beta'",
        "DELETE FROM secret WHERE name = 'acme' AND version = 3",
        "DELETE FROM secret WHERE name = 'acme' AND version = 1",
        "DELETE FROM secret",
        "INSERT INTO secret SELECT 'gamma', version, digest, created_at, created_by, size, salt, sealed FROM secret WHERE name = 'beta'",
        "INSERT INTO secret SELECT name, 4, digest, created_at, created_by, size, salt, sealed FROM secret WHERE name = 'acme' AND version = 1",
        "UPDATE secret SET version = version + 1 WHERE name = 'beta'",
        "UPDATE secret SET name = 'gamma' WHERE name = 'beta'",
        // Two secrets exchanged, with and without the digest.
        "UPDATE secret SET (salt, sealed) = (SELECT salt, sealed FROM secret WHERE name = 'beta') WHERE name = 'acme' AND version = 3",
        "UPDATE secret SET (digest, salt, sealed) = (SELECT digest, salt, sealed FROM secret WHERE name = 'beta') WHERE name = 'acme' AND version = 3",
        // An older version in the newest's place.
        "UPDATE secret SET (salt, sealed) = (SELECT salt, sealed FROM secret WHERE name = 'acme' AND version = 1) WHERE name = 'acme' AND version = 3",
        "UPDATE secret SET sealed = zeroblob(length(sealed)) WHERE name = 'acme'",
        "UPDATE secret SET created_by = 'cli:mallory' WHERE name = 'acme'",
        "UPDATE secret SET created_at = 0 WHERE name = 'acme'",
        "UPDATE secret SET size = 1 WHERE name = 'beta'",
        "UPDATE manifest SET counter = counter + 1",
        "UPDATE manifest SET counter = counter - 1",
        "UPDATE manifest SET mac = zeroblob(32)",
        "DELETE FROM manifest",
        "DELETE FROM header",
        "UPDATE header SET kdf = 'none'",
        "UPDATE header SET store_id = zeroblob(32)",
        "UPDATE header SET key_check = zeroblob(32)",
        "UPDATE header SET wrapped_key = zeroblob(48)",
        "INSERT INTO outbox (body) VALUES ('{}')",
        "INSERT INTO removed (name, version, counter) VALUES ('x', 1, 1)",
        "DROP TABLE outbox",
        "CREATE TABLE extra (x)",
        "CREATE VIEW extra AS SELECT 1",
        "CREATE INDEX extra ON secret (size)",
        "CREATE TRIGGER extra AFTER INSERT ON outbox BEGIN DELETE FROM outbox; END",
        "ALTER TABLE secret ADD COLUMN extra TEXT",
        "PRAGMA user_version = 0",
    ] {
        // A running store holds the header's keys already; what it does not read again it cannot miss.
        if statements.contains("header") {
            let filled = filled();
            filled.sql(statements);
            assert_eq!(filled.read().unwrap_err().code().0, TAMPERED, "{statements}");
            continue;
        }
        check(statements, TAMPERED);
    }
    check("PRAGMA application_id = 1", "keyholder.store.truncated");
}

#[test]
fn a_row_put_back_to_an_earlier_state_is_found() {
    let filled: Filled = filled();
    filled.sql("ATTACH ':memory:' AS m");
    let backup = filled.directory.path().join("backup.db");
    fs::copy(&filled.path, &backup).unwrap();
    let store = open(&filled.path).unwrap();
    put(&store, "beta", b"rotated").unwrap();
    drop(store);
    let attach = format!("ATTACH '{}' AS old;", backup.display());
    filled.sql(&format!(
        "{attach} DELETE FROM secret WHERE name = 'beta'; INSERT INTO secret SELECT * FROM old.secret WHERE name = 'beta';"
    ));
    assert!(matches!(filled.read(), Err(StoreError::Tampered(_))));
}

/// One damaged row does not take the others away, and setting it again mends it.
#[test]
fn the_rest_of_a_store_with_one_damaged_row_is_usable() {
    let filled = filled();
    filled.sql("UPDATE secret SET sealed = zeroblob(length(sealed)) WHERE name = 'beta'");
    let store = open(&filled.path).unwrap();
    assert_eq!(get(&store, "acme").unwrap(), (3, ACME.to_vec()));
    assert!(matches!(get(&store, "beta"), Err(StoreError::Tampered(_))));
    assert_eq!(put(&store, "beta", b"again").unwrap(), 2);
    assert_eq!(get(&store, "beta").unwrap(), (2, b"again".to_vec()));
}
