//! Changes by persons and the audit log: one is never there without the other for long, and never silently.

use std::sync::atomic::Ordering;

use kh_core::port::{StateError, StateStore};
use tokio::sync::oneshot;

use crate::support::{Fixture, client, event, token};

#[tokio::test]
async fn a_change_is_in_the_log_when_it_is_acknowledged_and_a_refused_one_is_not() {
    let fixture = Fixture::new();
    let state = fixture.open();
    state.add_client(client("one"), event("client.add")).await.unwrap();
    state.add_client(client("one"), event("client.add_again")).await.unwrap_err();
    state.set_setting("k", "v", event("setting.set")).await.unwrap();
    assert_eq!(fixture.audit.actions(), ["client.add", "setting.set"]);
}

#[tokio::test]
async fn while_the_log_refuses_changes_by_persons_are_refused_and_logins_go_on() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let owner = client("one");
    state.add_client(owner.clone(), event("client.add")).await.unwrap();
    fixture.audit.refuses.store(true, Ordering::SeqCst);
    let refused = state.set_setting("k", "v", event("setting.set")).await;
    let Err(StateError::Unavailable { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("audit") && reason.contains("no space"), "{reason}");
    assert_eq!(state.setting("k").await.unwrap(), None, "refused before anything was written");
    state.add_token(token(&owner, "t", 10)).await.unwrap();
    fixture.audit.refuses.store(false, Ordering::SeqCst);
    state.set_setting("k", "v", event("setting.set")).await.unwrap();
    assert_eq!(fixture.audit.actions(), ["client.add", "setting.set"]);
}

#[tokio::test]
async fn while_the_log_is_slow_logins_of_other_processes_go_on() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.open(), fixture.open());
    let owner = client("one");
    first.add_client(owner.clone(), event("client.add")).await.unwrap();
    let ((begun, began), (let_through, pass)) = (oneshot::channel(), oneshot::channel());
    *fixture.audit.gate.lock() = Some((begun, pass));
    let change = first.set_setting("k", "v", event("setting.set"));
    let meanwhile = async {
        began.await.unwrap();
        let added = second.add_token(token(&owner, "t", 10)).await;
        let_through.send(()).unwrap();
        added
    };
    let (changed, added) = tokio::join!(change, meanwhile);
    added.expect("the database is not locked while the log is written");
    changed.unwrap();
    assert_eq!(fixture.audit.actions(), ["client.add", "setting.set"]);
}

#[tokio::test]
async fn an_event_that_the_log_refused_too_late_waits_and_is_appended_once() {
    let fixture = Fixture::new();
    let state = fixture.open();
    fixture.audit.breaks_late.store(true, Ordering::SeqCst);
    state.set_setting("k", "1", event("first")).await.expect("the change is durable, and so is its event");
    assert_eq!(state.setting("k").await.unwrap().as_deref(), Some("1"));
    state.set_setting("k", "2", event("second")).await.expect_err("now the log is known to refuse");
    assert_eq!(fixture.audit.actions(), <[&str; 0]>::default());
    fixture.audit.breaks_late.store(false, Ordering::SeqCst);
    state.change_counter().await.unwrap();
    assert_eq!(fixture.audit.actions(), <[&str; 0]>::default(), "it is not tried at every turn");
    fixture.clock.advance(std::time::Duration::from_secs(1));
    // a turn answers first and keeps house afterwards, and two questions may share one turn
    for _ in 0..1000 {
        state.change_counter().await.unwrap();
        if !fixture.audit.actions().is_empty() {
            break;
        }
    }
    assert_eq!(fixture.audit.actions(), ["first"]);
}

#[tokio::test]
async fn what_waits_is_drained_on_open() {
    let fixture = Fixture::new();
    let state = fixture.open();
    fixture.audit.breaks_late.store(true, Ordering::SeqCst);
    state.set_setting("k", "1", event("first")).await.unwrap();
    drop(state);
    drop(fixture.open());
    assert_eq!(fixture.audit.actions(), <[&str; 0]>::default(), "opening does not need the log");
    fixture.audit.breaks_late.store(false, Ordering::SeqCst);
    drop(fixture.open());
    assert_eq!(fixture.audit.actions(), ["first"]);
    drop(fixture.open());
    assert_eq!(fixture.audit.actions(), ["first"]);
}
