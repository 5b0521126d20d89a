//! What every store of revocations must do, as one suite that each adapter's tests run.
//!
//! Invariant: uses the port alone; each rule has names of its own and looks only at what it wrote, so that a store that
//! is not empty passes too.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Entropy, Sha256, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::RevocationStore,
    revocation::{Digest, RevocationRecord, RevocationTarget},
};

/// Where the suite's time starts.
const START: UnixMillis = UnixMillis(1_790_000_000_000);

/// A store under test.
pub struct RevocationSubject<'a> {
    /// Opens it once more, as another process or the same one after a restart would.
    pub open: &'a dyn Fn() -> Arc<dyn RevocationStore>,
    /// The audit events that were delivered so far.
    pub audited: &'a dyn Fn() -> Vec<AuditEvent>,
}

/// Runs every rule.
///
/// # Panics
/// On the first rule that does not hold, naming it.
pub async fn run_revocations(subject: &RevocationSubject<'_>) {
    records_come_back_as_they_were_given(subject).await;
    of_two_records_the_stronger_stands(subject).await;
    others_see_what_is_new_and_in_order(subject).await;
    all_of_a_write_or_nothing(subject).await;
    a_change_is_audited_with_it(subject).await;
    only_what_expired_is_forgotten(subject).await;
}

fn at(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

fn unique(of: &str) -> String {
    format!("{of}-{:016x}", SystemEntropy.below(u64::MAX))
}

fn record(target: RevocationTarget) -> RevocationRecord {
    RevocationRecord {
        target,
        before: at(5),
        revoked_at: at(6),
        expires_at: at(100),
        issuer: None,
        client: None,
        subject: None,
    }
}

fn client(name: &str) -> RevocationTarget {
    RevocationTarget::Client { issuer: None, client: name.to_owned() }
}

async fn end(store: &dyn RevocationStore) -> u64 {
    let mut position = 0;
    loop {
        let page = store.revocations_after(position, 100).await.expect("it can be read");
        match page.last() {
            Some(last) => position = last.position,
            None => return position,
        }
    }
}

async fn since(store: &dyn RevocationStore, position: u64) -> Vec<RevocationRecord> {
    let placed = store.revocations_after(position, 1000).await.expect("it can be read");
    placed.into_iter().map(|placed| placed.record).collect()
}

async fn records_come_back_as_they_were_given(subject: &RevocationSubject<'_>) {
    let store = (subject.open)();
    let before = end(&*store).await;
    let (issuer, name) = (unique("issuer"), unique("name"));
    let some = || Some(issuer.clone());
    let targets = vec![
        RevocationTarget::Token { digest: Digest(Sha256::of(name.as_bytes())) },
        RevocationTarget::Signed { digest: Digest(Sha256::of(name.as_bytes())) },
        RevocationTarget::TokenId { issuer: issuer.clone(), id: name.clone() },
        RevocationTarget::Issued { issuer: issuer.clone(), subject: name.clone(), at: at(3) },
        RevocationTarget::Client { issuer: some(), client: name.clone() },
        RevocationTarget::Subject { issuer: some(), subject: name.clone() },
        RevocationTarget::Everything { issuer: some() },
    ];
    let mut given: Vec<_> = targets.into_iter().map(record).collect();
    given.push(RevocationRecord {
        expires_at: RevocationRecord::FOR_EVER,
        issuer: some(),
        client: Some("a client".to_owned()),
        subject: Some("ä subject".to_owned()),
        ..record(client(&unique("other")))
    });
    store.add_revocations(given.clone(), None).await.expect("it can be written");
    assert_eq!(since(&*store, before).await, given, "records come back as they were given");
    drop(store);
    assert_eq!(since(&*(subject.open)(), before).await, given, "and after a restart");
}

async fn of_two_records_the_stronger_stands(subject: &RevocationSubject<'_>) {
    let store = (subject.open)();
    let target = client(&unique("c"));
    let add = async |before: u64, expires_at: u64| {
        let (before, expires_at) = (at(before), at(expires_at));
        let record = RevocationRecord { before, expires_at, ..record(target.clone()) };
        let position = end(&*store).await;
        store.add_revocations(vec![record], None).await.expect("it can be written");
        let stands = since(&*store, position).await;
        assert_eq!(stands.len(), 1, "one record of a target stands, at a new place");
        let stands = stands.first().expect("there is one");
        (stands.before, stands.expires_at)
    };
    assert_eq!(add(50, 500).await, (at(50), at(500)));
    assert_eq!(add(10, 100).await, (at(50), at(500)), "a weaker one changes nothing");
    assert_eq!(add(60, 100).await, (at(60), at(500)));
    assert_eq!(add(10, 600).await, (at(60), at(600)));
}

async fn others_see_what_is_new_and_in_order(subject: &RevocationSubject<'_>) {
    let (mine, theirs) = ((subject.open)(), (subject.open)());
    let mut position = end(&*theirs).await;
    let names: Vec<String> = (0..25).map(|_| unique("c")).collect();
    for name in &names {
        mine.add_revocations(vec![record(client(name))], None).await.expect("it can be written");
    }
    let mut seen = Vec::new();
    loop {
        let page = theirs.revocations_after(position, 10).await.expect("it can be read");
        assert!(page.len() <= 10, "a page is as long as was asked for at most");
        assert!(page.is_sorted_by_key(|placed| placed.position), "positions grow");
        let Some(last) = page.last() else { break };
        position = last.position;
        seen.extend(page.into_iter().map(|placed| placed.record.target));
    }
    assert_eq!(seen, names.iter().map(|name| client(name)).collect::<Vec<_>>(), "others see all of it, in order");
}

async fn all_of_a_write_or_nothing(subject: &RevocationSubject<'_>) {
    let store = (subject.open)();
    let position = end(&*store).await;
    let bad = record(client(&"x".repeat(kh_core::revocation::PART_MAX + 1)));
    let refused = store.add_revocations(vec![record(client(&unique("c"))), bad], None).await;
    assert!(refused.is_err(), "a target that no token can have is refused");
    assert_eq!(since(&*store, position).await, [], "and what was written with it");
}

async fn a_change_is_audited_with_it(subject: &RevocationSubject<'_>) {
    let store = (subject.open)();
    let event = AuditEvent::new(&SystemEntropy, START, "test", "token.revoke", &unique("s"));
    store.add_revocations(vec![record(client(&unique("c")))], Some(event.clone())).await.expect("it can be written");
    assert!((subject.audited)().contains(&event), "the event is delivered");
    let event = AuditEvent::new(&SystemEntropy, START, "test", "token.revoke", &unique("s"));
    let bad = record(client(""));
    assert!(store.add_revocations(vec![bad], Some(event.clone())).await.is_err());
    assert!(!(subject.audited)().contains(&event), "no event without its change");
}

async fn only_what_expired_is_forgotten(subject: &RevocationSubject<'_>) {
    let store = (subject.open)();
    let position = end(&*store).await;
    // the long past, so that nothing else is forgotten with it
    let past = |millis: u64| RevocationRecord { expires_at: UnixMillis(millis), ..record(client(&unique("c"))) };
    store.add_revocations(vec![past(1), past(2), past(3)], None).await.expect("it can be written");
    assert_eq!(store.forget_revocations(UnixMillis(1), 10).await.expect("it can be written"), 0);
    assert_eq!(store.forget_revocations(UnixMillis(3), 1).await.expect("it can be written"), 1, "as many as allowed");
    assert_eq!(store.forget_revocations(UnixMillis(3), 10).await.expect("it can be written"), 1);
    let left = since(&*store, position).await;
    assert_eq!(left.iter().map(|record| record.expires_at).collect::<Vec<_>>(), [UnixMillis(3)]);
    assert_eq!(store.forget_revocations(UnixMillis(4), 10).await.expect("it can be written"), 1);
    let next = end(&*store).await;
    store.add_revocations(vec![record(client(&unique("c")))], None).await.expect("it can be written");
    assert!(end(&*store).await > next.max(position), "a place is never used twice");
}
