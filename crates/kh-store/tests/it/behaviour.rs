//! The port's conformance, keys, permissions, several handles, the outbox, and what must not be in the file.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
    thread,
};

use kh_core::{
    ManualClock, SecretBytes, SecretString, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{AuditError, AuditLog, Expected, SecretStore, StoreError},
};
use kh_store::{
    EVENT_BYTES_MAX, FileStore, HISTORY_MAX, KdfParams, StoreKey, VALUE_BYTES_MAX,
    conformance::{self, RecordedAudit, event},
    unlock_with,
};

use crate::support::{ACME, BETA, filled, get, key, name, open, put, start, unlocked, wait};

#[test]
fn the_port_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let audit = RecordedAudit::default();
    let store = start(unlocked(&directory.path().join("secrets.db"), 1).unwrap(), audit.clone());
    wait(conformance::run(&store, || audit.events()));
}

#[test]
fn values_and_versions_survive_a_restart() {
    filled().is_whole();
}

#[test]
fn limits_are_exact() {
    let filled = filled();
    let store = open(&filled.path).unwrap();
    put(&store, "big", &vec![7; VALUE_BYTES_MAX]).unwrap();
    assert!(matches!(put(&store, "big", &vec![7; VALUE_BYTES_MAX + 1]), Err(StoreError::TooLarge { .. })));
    for _ in 0..2 * HISTORY_MAX {
        put(&store, "acme", ACME).unwrap();
    }
    let listed = wait(store.list()).unwrap();
    assert_eq!(listed[0].versions.len() as u64, HISTORY_MAX);
    let at = name("acme");
    let loud = event("secret.set", &at).with("text", &"x".repeat(EVENT_BYTES_MAX));
    let refused = wait(store.put(&at, SecretBytes::new(vec![1]), Expected::Any, loud));
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    assert_eq!(get(&store, "acme").unwrap().1, ACME);
}

#[test]
fn a_wrong_key_is_told_and_changes_nothing() {
    let filled = filled();
    let before = fs::read(&filled.path).unwrap();
    let passphrase = StoreKey::from_passphrase(&SecretString::copied("hunter2")).unwrap();
    assert!(matches!(unlocked(&filled.path, 2), Err(StoreError::WrongKey)));
    let entropy = Arc::new(SystemEntropy);
    assert!(matches!(kh_store::unlock(&filled.path, &passphrase, entropy), Err(StoreError::WrongKey)));
    assert_eq!(fs::read(&filled.path).unwrap(), before);
    filled.is_whole();
}

#[test]
fn a_passphrase_opens_its_store_and_no_other_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.db");
    let light = KdfParams { memory_kib: 256, passes: 1, lanes: 2 };
    let try_with = |text: &str| {
        let key = StoreKey::from_passphrase(&SecretString::copied(text)).unwrap();
        unlock_with(&path, &key, Arc::new(SystemEntropy), light)
    };
    let unlocked = try_with("correct horse").unwrap();
    assert!(unlocked.created());
    let subkey = unlocked.subkey("audit");
    put(&start(unlocked, RecordedAudit::default()), "acme", ACME).unwrap();
    let again = try_with("correct horse\n").unwrap();
    assert!(!again.created());
    assert_eq!(again.subkey("audit"), subkey);
    assert_ne!(again.subkey("audit2"), subkey);
    assert_eq!(get(&start(again, RecordedAudit::default()), "acme").unwrap(), (1, ACME.to_vec()));
    for wrong in ["correct hors", "Correct horse", " correct horse"] {
        assert!(matches!(try_with(wrong), Err(StoreError::WrongKey)), "{wrong}");
    }
    assert!(matches!(kh_store::unlock(&path, &key(1), Arc::new(SystemEntropy)), Err(StoreError::WrongKey)));
}

#[test]
fn files_are_private_from_the_start_and_open_ones_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/secrets.db");
    let store = open(&path).unwrap();
    put(&store, "acme", ACME).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    drop(store);
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["secrets.db"], "no draft and no journal is left");
    for (bits, hint) in [(0o644, "chmod 600"), (0o620, "chmod 600"), (0o604, "chmod 600")] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(&error, StoreError::Unavailable { reason, .. } if reason.contains(hint)), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { reason, .. } if reason.contains("chmod go-w")), "{error}");
}

#[test]
fn no_value_stands_in_the_file_in_any_form() {
    let filled = filled();
    let store = open(&filled.path).unwrap();
    wait(store.remove(&name("beta"), Expected::Any, event("secret.remove", &name("beta")))).unwrap();
    let content = fs::read(&filled.path).unwrap();
    let has = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
    assert!(has(b"acme"), "names are in the clear, so the search works");
    for marker in [b"MARKER-".as_slice(), ACME, BETA] {
        let hex = marker.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        assert!(!has(marker) && !has(hex.as_bytes()) && !has(hex.to_uppercase().as_bytes()));
    }
    // "MARKER" in base64 at each of the three alignments.
    for base64 in ["TUFSS0VS", "1BUktFUi", "NQVJLRVI"] {
        assert!(!has(base64.as_bytes()), "{base64}");
    }
}

#[test]
fn compare_and_set_holds_between_handles() {
    let filled = filled();
    let winners = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = open(&filled.path).unwrap();
                let at = name("race");
                for _ in 0..60 {
                    let found = wait(store.newest_version(&at)).unwrap_or(0);
                    let expected = if found == 0 { Expected::Absent } else { Expected::Version(found) };
                    let value = SecretBytes::new(b"x".to_vec());
                    match wait(store.put(&at, value, expected, event("secret.set", &at))) {
                        Ok(version) => winners.lock().unwrap().push(version),
                        Err(StoreError::Conflict { found: newer, .. }) => assert!(newer > found),
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
    });
    let mut winners = winners.into_inner().unwrap();
    winners.sort_unstable();
    let expected: Vec<u64> = (1..=winners.len() as u64).collect();
    assert_eq!(winners, expected, "each version was won once");
    assert!(winners.len() >= 60);
}

#[test]
fn two_creators_make_one_store() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets.db");
        thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || put(&open(path).unwrap(), &format!("from-{writer}"), b"x").unwrap());
            }
        });
        let store = open(&path).unwrap();
        assert_eq!(wait(store.list()).unwrap().len(), 4, "no creator replaced another's store");
    }
}

/// An audit log that refuses until it is mended.
#[derive(Clone, Default)]
struct Brittle(RecordedAudit, Arc<Mutex<bool>>);

impl AuditLog for Brittle {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        if *self.1.lock().unwrap() { self.0.append(events) } else { Err(AuditError::Broken("edited".to_owned())) }
    }
}

#[test]
fn an_event_waits_for_the_log_and_no_further_change_is_made_before() {
    let filled = filled();
    let brittle = Brittle::default();
    let clock = Arc::new(ManualClock::at(UnixMillis(5)));
    let store = FileStore::open(unlocked(&filled.path, 1).unwrap(), Arc::new(brittle.clone()), clock).unwrap();
    assert_eq!(put(&store, "acme", b"four").unwrap(), 4, "the change is durable with its event");
    let refused = put(&store, "acme", b"five").unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable { reason, .. } if reason.contains("audit log")), "{refused}");
    assert_eq!(get(&store, "acme").unwrap(), (4, b"four".to_vec()), "reading goes on");
    drop(store);
    let audit = RecordedAudit::default();
    let store = start(unlocked(&filled.path, 1).unwrap(), audit.clone());
    get(&store, "acme").unwrap();
    assert_eq!(audit.events().len(), 1, "the next start delivers it");
    *brittle.1.lock().unwrap() = true;
    put(&store, "acme", b"five").unwrap();
    assert_eq!(audit.events().len(), 2, "and once only");
}

#[test]
fn a_restored_backup_is_followed_and_an_older_one_refused() {
    let filled = filled();
    let older = fs::read(&filled.path).unwrap();
    let store = open(&filled.path).unwrap();
    put(&store, "acme", b"four").unwrap();
    let newer = fs::read(&filled.path).unwrap();
    for (content, good) in [(&newer, true), (&older, false)] {
        let copy = filled.directory.path().join("copy");
        fs::write(&copy, content).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&copy, &filled.path).unwrap();
        match get(&store, "acme") {
            Ok(found) => assert!(good && found.0 == 4),
            Err(StoreError::Tampered(why)) => assert!(!good && why.contains("older copy"), "{why}"),
            Err(error) => panic!("{error:?}"),
        }
    }
    fs::remove_file(&filled.path).unwrap();
    assert!(matches!(get(&store, "acme"), Err(StoreError::Unavailable { .. })));
    assert!(!filled.path.exists(), "a lost file is not silently made anew");
}
