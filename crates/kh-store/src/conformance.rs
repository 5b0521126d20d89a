//! What every secret store must do, as one suite that each adapter's tests run.
//!
//! Invariant: uses the port alone; each rule starts from names of its own, so that a store that is not empty passes too.

pub mod target;

use std::sync::{Arc, Mutex, PoisonError};

use kh_core::{
    SecretBytes, SecretName, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{AuditError, AuditLog, Expected, SecretStore, StoreError},
};

/// An audit log in memory, to see what a store records.
#[derive(Clone, Debug, Default)]
pub struct RecordedAudit(Arc<Mutex<Vec<AuditEvent>>>);

impl RecordedAudit {
    /// What was appended, each event once.
    pub fn events(&self) -> Vec<AuditEvent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AuditLog for RecordedAudit {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            if recorded.iter().all(|known| known.id != event.id) {
                recorded.push(event.clone());
            }
        }
        Ok(())
    }
}

/// An event with a fresh id, as a command of a person makes it.
pub fn event(action: &str, name: &SecretName) -> AuditEvent {
    AuditEvent::new(&SystemEntropy, UnixMillis(1_790_000_000_000), "cli:tester", action, name.as_str())
}

/// Runs every rule. `recorded` tells the audit events that the store has delivered so far.
///
/// # Panics
/// On the first rule that does not hold, naming it.
pub async fn run(store: &dyn SecretStore, recorded: impl Fn() -> Vec<AuditEvent>) {
    versions_count_from_one_and_the_newest_is_read(store).await;
    compare_and_set_refuses_what_does_not_match(store).await;
    any_bytes_come_back(store).await;
    history_keeps_the_newest(store).await;
    removal_is_whole_and_versions_never_repeat(store).await;
    names_do_not_mix(store).await;
    refusals_are_typed(store).await;
    changes_are_audited_and_refusals_are_not(store, recorded).await;
}

fn name(text: &str) -> SecretName {
    text.parse().expect("the suite's names are valid")
}

fn value(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

async fn put(store: &dyn SecretStore, at: &SecretName, text: &str, expected: Expected) -> Result<u64, StoreError> {
    store.put(at, value(text), expected, event("secret.set", at)).await
}

async fn versions_count_from_one_and_the_newest_is_read(store: &dyn SecretStore) {
    let at = name("conformance/versions");
    for version in 1..=3 {
        let written = put(store, &at, &format!("v{version}"), Expected::Any).await;
        assert_eq!(written.expect("a put is taken"), version, "versions count from 1");
        assert_eq!(store.newest_version(&at).await.expect("it exists"), version);
        let read = store.get(&at).await.expect("it exists");
        assert_eq!((read.version, read.value.expose()), (version, format!("v{version}").as_bytes()));
    }
}

async fn compare_and_set_refuses_what_does_not_match(store: &dyn SecretStore) {
    let at = name("conformance/cas");
    for (expected, wins, newest) in [
        (Expected::Version(1), false, 0),
        (Expected::Version(0), false, 0),
        (Expected::Absent, true, 1),
        (Expected::Absent, false, 1),
        (Expected::Version(2), false, 1),
        (Expected::Version(0), false, 1),
        (Expected::Version(1), true, 2),
        (Expected::Version(1), false, 2),
        (Expected::Any, true, 3),
    ] {
        let text = format!("written with {expected:?} as {newest}");
        match put(store, &at, &text, expected).await {
            Ok(version) => {
                assert!(wins, "{expected:?} must be refused at version {newest}");
                assert_eq!(version, newest);
                assert_eq!(store.get(&at).await.expect("it exists").value.expose(), text.as_bytes());
            }
            Err(StoreError::Conflict { found, name }) => {
                assert!(!wins, "{expected:?} must win before version {newest}");
                assert_eq!((found, name.as_str()), (newest, at.as_str()));
            }
            Err(other) => unexpected(&other),
        }
    }
}

async fn any_bytes_come_back(store: &dyn SecretStore) {
    let at = name("conformance/bytes");
    for bytes in [Vec::new(), vec![0], (0..=255).collect(), vec![0xFF; 20_000]] {
        store
            .put(&at, SecretBytes::new(bytes.clone()), Expected::Any, event("secret.set", &at))
            .await
            .expect("a put is taken");
        assert_eq!(store.get(&at).await.expect("it exists").value.expose(), bytes, "any bytes come back");
    }
}

async fn history_keeps_the_newest(store: &dyn SecretStore) {
    let at = name("conformance/history");
    for count in 1..=30_u64 {
        put(store, &at, &format!("{count}"), Expected::Any).await.expect("a put is taken");
    }
    let listed = store.list().await.expect("a list is given");
    let secret = listed.iter().find(|secret| secret.name == at).expect("it is listed");
    let versions: Vec<u64> = secret.versions.iter().map(|version| version.version).collect();
    let kept = versions.len() as u64;
    assert!((2..30).contains(&kept), "history is kept, and bounded: {kept}");
    assert_eq!(versions, ((31 - kept)..=30).collect::<Vec<_>>(), "the newest are kept, oldest first");
    let newest = secret.versions.last().expect("there is one");
    assert_eq!((newest.size, newest.created_by.as_str()), (2, "cli:tester"));
}

async fn removal_is_whole_and_versions_never_repeat(store: &dyn SecretStore) {
    let at = name("conformance/removal");
    put(store, &at, "one", Expected::Absent).await.expect("a put is taken");
    put(store, &at, "two", Expected::Any).await.expect("a put is taken");
    let refused = store.remove(&at, Expected::Version(1), event("secret.remove", &at)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { found: 2, .. })), "{refused:?}");
    store.remove(&at, Expected::Version(2), event("secret.remove", &at)).await.expect("it is removed");
    assert!(matches!(store.get(&at).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.newest_version(&at).await, Err(StoreError::NotFound(_))));
    assert!(store.list().await.expect("a list is given").iter().all(|secret| secret.name != at));
    let again = put(store, &at, "three", Expected::Absent).await.expect("the name is free again");
    assert!(again > 2, "version {again} named another value before; who polls versions would miss the change");
    assert_eq!(store.get(&at).await.expect("it exists").value.expose(), b"three");
}

async fn names_do_not_mix(store: &dyn SecretStore) {
    let names = ["conformance/n", "conformance/n.1", "conformance/N", "conformance/n/1"].map(name);
    for at in &names {
        put(store, at, at.as_str(), Expected::Absent).await.expect("a put is taken");
    }
    for at in &names {
        assert_eq!(store.get(at).await.expect("it exists").value.expose(), at.as_str().as_bytes());
    }
    let listed = store.list().await.expect("a list is given");
    assert!(listed.is_sorted_by(|left, right| left.name.as_str() < right.name.as_str()), "the list is by name");
}

async fn refusals_are_typed(store: &dyn SecretStore) {
    let at = name("conformance/none");
    assert!(matches!(store.get(&at).await, Err(StoreError::NotFound(found)) if found == at));
    assert!(matches!(store.newest_version(&at).await, Err(StoreError::NotFound(_))));
    let removed = store.remove(&at, Expected::Any, event("secret.remove", &at)).await;
    assert!(matches!(removed, Err(StoreError::NotFound(_))), "{removed:?}");
    let huge = SecretBytes::new(vec![1; 10 * 1024 * 1024]);
    let refused = store.put(&at, huge, Expected::Any, event("secret.set", &at)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    assert!(matches!(store.get(&at).await, Err(StoreError::NotFound(_))), "a refused put leaves nothing");
}

async fn changes_are_audited_and_refusals_are_not(store: &dyn SecretStore, recorded: impl Fn() -> Vec<AuditEvent>) {
    let at = name("conformance/audit");
    let (set, refused, removed) = (event("secret.set", &at), event("secret.set", &at), event("secret.remove", &at));
    store.put(&at, value("x"), Expected::Absent, set.clone()).await.expect("a put is taken");
    let conflict = store.put(&at, value("y"), Expected::Absent, refused).await;
    assert!(matches!(conflict, Err(StoreError::Conflict { .. })), "{conflict:?}");
    store.remove(&at, Expected::Any, removed.clone()).await.expect("it is removed");
    let about: Vec<AuditEvent> = recorded().into_iter().filter(|event| event.subject == at.as_str()).collect();
    assert_eq!(about, [set, removed], "each change is recorded once and in order, a refused one never");
}

fn unexpected(error: &StoreError) {
    assert_eq!(error.to_string(), "a conflict or success");
}
