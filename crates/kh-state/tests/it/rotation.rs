//! The rotation journal: its port, what it keeps and what it forgets, processes that compete and are killed, a full
//! disk, an audit log that refuses, damage and the way back to an older schema.

mod care;
mod processes;

use std::sync::{Arc, atomic::Ordering};

use kh_core::{
    Code, CredentialName, Fingerprint, UnixMillis,
    port::{
        JournalError, RotationJournal, SightingLog,
        rotation_journal::{Append, EscrowChange, Grade, HeldLease, Hold, NewRun, Sighting},
    },
    rotation::RunId,
};
use kh_state::{SqliteState, conformance};

pub(crate) use self::processes::{compete, fill};
use crate::support::{Fixture, START, event};

const LIFE: std::time::Duration = std::time::Duration::from_mins(1);

fn name(text: &str) -> CredentialName {
    text.parse().unwrap()
}

async fn leased(journal: &SqliteState, credential: &str, owner: &str, now: UnixMillis) -> HeldLease {
    journal.lease(&format!("credential/{credential}"), owner, now, LIFE).await.unwrap().unwrap()
}

fn new_run(credential: &str, at: UnixMillis) -> NewRun {
    NewRun { id: RunId(event("id").id), credential: name(credential), at, record: "{}".to_owned() }
}

async fn begun(journal: &SqliteState, credential: &str, lease: &HeldLease, at: UnixMillis) -> RunId {
    let run = new_run(credential, at);
    let id = run.id;
    journal.begin(run, lease.clone(), event("rotation.begin")).await.unwrap();
    id
}

fn next(run: RunId, seq: u64, lease: &HeldLease, at: UnixMillis) -> Append {
    Append {
        run,
        seq,
        lease: lease.clone(),
        at,
        record: "{\"state\":\"created\"}".to_owned(),
        escrow: Vec::new(),
        unless_held: false,
        ends: false,
        event: event("rotation.step"),
    }
}

#[tokio::test]
async fn the_journal_does_what_its_port_says() {
    let fixture = Fixture::new();
    let open = || -> Arc<dyn RotationJournal> { Arc::new(fixture.open()) };
    let audited = || fixture.audit.events.lock().clone();
    conformance::run(&conformance::Subject { open: &open, audited: &audited }).await;
}

#[tokio::test]
async fn what_a_hold_keeps_back_is_refused_by_its_code() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let lease = leased(&state, "a", "one", START).await;
    let run = begun(&state, "a", &lease, START).await;
    let hold = Hold { since: START, actor: "cli:ann".to_owned(), reason: "black friday".to_owned() };
    state.set_hold(&name("a"), Some(hold), event("rotation.hold")).await.unwrap();
    let prune = Append { unless_held: true, ..next(run, 2, &lease, START) };
    let refused = state.append(prune.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ROTATION_HELD, "{refused}");
    assert!(refused.to_string().contains("black friday"));
    state.set_hold(&name("a"), None, event("rotation.hold")).await.unwrap();
    state.append(prune).await.unwrap();
}

#[tokio::test]
async fn intents_wait_for_the_audit_log_and_a_secret_that_was_told_once_does_not() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let lease = leased(&state, "a", "one", START).await;
    let run = begun(&state, "a", &lease, START).await;
    fixture.audit.refuses.store(true, Ordering::SeqCst);
    let refused = state.append(next(run, 2, &lease, START)).await;
    let Err(JournalError::Unavailable(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("cannot be audited"), "{reason}");
    let renewed = leased(&state, "a", "one", START).await;
    assert_eq!(renewed.fence, lease.fence, "a lease needs no audit log");
    let mut created = next(run, 2, &lease, START);
    created.escrow = vec![EscrowChange::Keep { name: "new", sealed: b"sealed".to_vec() }];
    created.event = event("rotation.created");
    state.append(created).await.expect("the only copy of the secret is kept at any price");
    state.append(next(run, 3, &lease, START)).await.expect_err("and nothing is done before it is audited");
    assert_eq!(fixture.audit.actions(), ["rotation.begin"]);
    drop(state);
    fixture.audit.refuses.store(false, Ordering::SeqCst);
    let state = fixture.open();
    assert_eq!(fixture.audit.actions(), ["rotation.begin", "rotation.created"], "its event waited");
    assert_eq!(state.escrow(run, "new").await.unwrap().as_deref(), Some(&b"sealed"[..]));
}

#[tokio::test]
async fn rotation_does_not_make_servers_read_their_clients_again() {
    use kh_core::port::StateStore;
    let fixture = Fixture::new();
    let state = fixture.open();
    let before = state.change_counter().await.unwrap();
    let lease = leased(&state, "a", "one", START).await;
    begun(&state, "a", &lease, START).await;
    assert_eq!(state.change_counter().await.unwrap(), before);
}

/// Ten ended runs of a credential are kept, younger ones as well, an unfinished one always, and nothing of another.
#[tokio::test]
async fn old_runs_go_and_what_is_needed_stays() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let (a, b) = (leased(&state, "a", "one", START).await, leased(&state, "b", "one", START).await);
    let others = begun(&state, "b", &b, START).await;
    let day = |days: u64| START.plus(std::time::Duration::from_hours(24 * days));
    let mut ids = Vec::new();
    for number in 0..30 {
        let run = begun(&state, "a", &a, day(number)).await;
        let mut last = next(run, 2, &a, day(number));
        last.escrow = vec![EscrowChange::Keep { name: "new", sealed: vec![7; 100] }];
        last.ends = true;
        state.append(last).await.unwrap();
        ids.push(run);
    }
    let unfinished = begun(&state, "a", &a, day(30)).await;
    let kept: Vec<_> = state.runs(Some(&name("a")), 100).await.unwrap().iter().map(|run| run.id).collect();
    let mut expected: Vec<_> = ids[20..].to_vec();
    expected.push(unfinished);
    expected.reverse();
    assert_eq!(kept, expected);
    assert_eq!(state.escrow(ids[0], "new").await.unwrap(), None, "what belongs to them goes with them");
    assert_eq!(state.escrow(ids[29], "new").await.unwrap().map(|sealed| sealed.len()), Some(100));
    assert_eq!(state.run(others).await.unwrap().ended_at, None);
    // many within two days are kept, to be counted
    let mut last = next(unfinished, 2, &a, day(30));
    last.ends = true;
    state.append(last).await.unwrap();
    for _ in 0..25 {
        let run = begun(&state, "a", &a, day(30)).await;
        let mut last = next(run, 2, &a, day(30));
        last.ends = true;
        state.append(last).await.unwrap();
    }
    assert!(state.runs(Some(&name("a")), 100).await.unwrap().len() >= 26);
}

#[tokio::test]
async fn a_consumer_that_is_known_is_always_seen_and_too_many_are_refused() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let seen = |consumer: u64, at: u64| Sighting {
        credential: name("a"),
        consumer: format!("exec/host/{consumer}"),
        fingerprint: Fingerprint::try_from("0123456789abcdef".to_owned()).unwrap(),
        version: None,
        grade: Grade::Used,
        at: UnixMillis(START.0 + at),
        alive_until: UnixMillis(START.0 + at + 1000),
    };
    let all = (0..4096).map(|consumer| state.sight(seen(consumer, 0)));
    futures_util::future::try_join_all(all).await.unwrap();
    let refused = state.sight(seen(5000, 1)).await;
    assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
    state.sight(seen(17, 500)).await.expect("a known one");
    state.sight(seen(5000, 1001)).await.expect("those that are gone make room");
    let left: Vec<_> = state.sightings(&name("a")).await.unwrap().into_iter().map(|one| one.consumer).collect();
    assert_eq!(left, ["exec/host/17", "exec/host/5000"]);
}
