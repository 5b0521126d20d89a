//! The embedded store as a place that rotation writes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use kh_core::{
    ManualClock, SecretBytes, SystemEntropy, UnixMillis,
    port::{BoxFuture, Expected, SecretStore, SecretTarget, TargetError},
    rotation::{RunId, SecretPath, WriteToken},
};
use kh_store::{
    EmbeddedTarget, FileStore,
    conformance::{RecordedAudit, event, target},
};
use tempfile::TempDir;

use crate::support::{name, start, unlocked, wait};

struct Files {
    directory: TempDir,
    /// The consumer's and the other program's own handle to the same file.
    other: FileStore,
    audit: RecordedAudit,
    places: AtomicU64,
}

fn files() -> (EmbeddedTarget, Files) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.db");
    let audit = RecordedAudit::default();
    let store = Arc::new(start(unlocked(&path, 1).unwrap(), audit.clone()));
    let clock = Arc::new(ManualClock::at(UnixMillis(1_790_000_000_000)));
    let target = EmbeddedTarget::new(store, clock, Arc::new(SystemEntropy), "keyholder");
    let other = start(unlocked(&path, 1).unwrap(), audit.clone());
    (target, Files { directory, other, audit, places: AtomicU64::new(0) })
}

impl target::Bench for Files {
    fn fresh_path(&self) -> SecretPath {
        format!("conformance/{:04}", self.places.fetch_add(1, Ordering::SeqCst)).parse().unwrap()
    }

    fn foreign_write<'a>(&'a self, path: &'a SecretPath, document: &'a SecretBytes) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let at = name(path.as_str());
            self.other.put(&at, document.duplicate(), Expected::Any, event("secret.set", &at)).await.unwrap();
        })
    }

    fn consumer_read<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Option<SecretBytes>> {
        Box::pin(async move { self.other.get(&name(path.as_str())).await.ok().map(|found| found.value) })
    }

    fn changes(&self) -> u64 {
        self.audit.events().len() as u64
    }
}

#[test]
fn the_embedded_store_keeps_the_port_of_rotation() {
    let (target, files) = files();
    wait(target::run(&target, &files));
}

#[test]
fn each_change_names_its_write_in_the_audit_log() {
    let (target, files) = files();
    let run: RunId = "01900000-0000-7000-8000-000000000001".parse().unwrap();
    let token = WriteToken::of(run, "file", "promote");
    let at: SecretPath = "acme".parse().unwrap();
    let document = SecretBytes::new(
        format!(
            r#"{{"client_secret":"s","_kh":{{"run":"{run}","write":"{token}","generation":1,"fingerprint":"0123456789abcdef","created_at":5}}}}"#
        )
        .into_bytes(),
    );
    wait(target.stage(&at, token, &document)).unwrap();
    wait(target.stage(&at, token, &document)).unwrap();
    wait(target.promote(&at, token, None)).unwrap();
    wait(target.promote(&at, token, None)).unwrap();
    let told: Vec<_> =
        files.audit.events().into_iter().map(|event| (event.action, event.subject, event.actor)).collect();
    let event = |action: &str| (action.to_owned(), "acme".to_owned(), "keyholder".to_owned());
    assert_eq!(told, [event("secret.stage"), event("secret.promote"), event("secret.unstage")]);
    for event in files.audit.events() {
        assert!(event.detail.contains(&("write".to_owned(), token.to_string())), "{event:?}");
    }
}

#[test]
fn places_that_do_not_fit_are_refused_and_not_cut() {
    let (target, _files) = files();
    for bad in ["_underscore-first", "with+plus", "staged.kh-next", &"x".repeat(60)] {
        let refused = wait(target.live(&bad.parse().unwrap()));
        assert!(matches!(refused, Err(TargetError::Unusable(_))), "{bad}: {refused:?}");
    }
}

/// A lock that stays, as of a backup tool: nothing is written, that is said, and the same call ends as if it had not
/// been there. Takes the store's patience with a lock, 5 s.
#[test]
fn a_file_that_another_process_holds_is_told_and_the_same_write_ends_it() {
    let (target, files) = files();
    let run: RunId = "01900000-0000-7000-8000-000000000002".parse().unwrap();
    let token = WriteToken::of(run, "file", "promote");
    let at: SecretPath = "held".parse().unwrap();
    let document = SecretBytes::new(
        format!(
            r#"{{"client_secret":"s","_kh":{{"run":"{run}","write":"{token}","generation":1,"fingerprint":"0123456789abcdef","created_at":5}}}}"#
        )
        .into_bytes(),
    );
    wait(target.stage(&at, token, &document)).unwrap();
    let other = rusqlite::Connection::open(files.directory.path().join("secrets.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = wait(target.promote(&at, token, None)).unwrap_err();
    assert!(
        matches!(&refused, TargetError::Unknown(why) | TargetError::Unavailable(why) if why.contains("holds the file")),
        "{refused}"
    );
    let live = wait(target.live(&at));
    assert!(matches!(live, Err(TargetError::NotFound(_))), "reading goes on, and nothing is live: {live:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(wait(target.promote(&at, token, None)).unwrap(), wait(target.live_version(&at)).unwrap());
}
