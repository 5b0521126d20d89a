//! Revocations: their port, an audit log that refuses, and the way back to an older schema.

use std::sync::{Arc, atomic::Ordering};

use kh_core::{
    UnixMillis,
    port::{AuditLog, RevocationStore},
    revocation::{RevocationRecord, RevocationTarget},
};
use kh_state::{SqliteState, conformance};

use crate::support::{Fixture, START, event};

fn record(client: &str) -> RevocationRecord {
    let target = RevocationTarget::Client { issuer: None, client: client.to_owned() };
    let expires_at = UnixMillis(START.0 + 1000);
    RevocationRecord { target, before: START, revoked_at: START, expires_at, issuer: None, client: None, subject: None }
}

async fn count(state: &SqliteState) -> usize {
    state.revocations_after(0, 1000).await.unwrap().len()
}

#[tokio::test]
async fn the_store_of_revocations_does_what_its_port_says() {
    let fixture = Fixture::new();
    let open = || -> Arc<dyn RevocationStore> { Arc::new(fixture.open()) };
    let audited = || fixture.audit.events.lock().clone();
    let subject = conformance::RevocationSubject { open: &open, audited: &audited };
    conformance::run_revocations(&subject).await;
    conformance::run_revocations(&subject).await;
}

/// A token that must not be used any more does not wait until a disk has room for the audit log: its event waits in
/// the outbox.
#[tokio::test]
async fn revoking_does_not_wait_for_the_audit_log() {
    let fixture = Fixture::new();
    let state = fixture.open();
    fixture.audit.refuses.store(true, Ordering::SeqCst);
    state.add_revocations(vec![record("c")], Some(event("token.revoke"))).await.unwrap();
    assert_eq!(count(&state).await, 1);
    assert_eq!(fixture.audit.actions(), Vec::<String>::new());
    fixture.audit.refuses.store(false, Ordering::SeqCst);
    drop(state);
    drop(fixture.open());
    assert_eq!(fixture.audit.actions(), ["token.revoke"]);
    assert!(fixture.audit.append(&[]).is_ok());
}

#[tokio::test]
async fn one_write_is_bounded() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let many = (0..65).map(|number| record(&number.to_string())).collect();
    assert!(state.add_revocations(many, None).await.is_err());
    assert_eq!(count(&state).await, 0);
}

#[tokio::test]
async fn the_way_back_says_that_revoked_tokens_come_alive() {
    let fixture = Fixture::new();
    let state = fixture.open();
    state.add_revocations(vec![record("a"), record("b")], None).await.unwrap();
    drop(state);
    let (from, losses) = kh_state::losses(&fixture.path(), 5).unwrap();
    assert_eq!((from, losses.len(), losses[0].count, losses[0].whose), (kh_state::SCHEMA, 1, 2, "revocations"));
    assert!(losses[0].what.contains("is valid again"));
    kh_state::downgrade(&fixture.path(), 5).unwrap();
    assert_eq!(count(&fixture.open()).await, 0, "and forward again, empty");
}
