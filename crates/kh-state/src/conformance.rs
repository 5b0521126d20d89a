//! What every rotation journal must do, as one suite that each adapter's tests run.
//!
//! Invariant: uses the port alone; each rule has credentials of its own, so that a journal that is not empty passes too.

mod records;
mod revocations;
mod sessions;

use std::{sync::Arc, time::Duration};

use kh_core::{
    CredentialName, Entropy, Fingerprint, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{
        JournalError, RotationJournal,
        rotation_journal::{
            Append, Approval, ApprovalOf, EscrowChange, Grade, HeldLease, Hold, LEASE_MAX, NewRun, Sighting,
        },
    },
    rotation::{RunId, VersionId},
};

pub use revocations::{RevocationSubject, run_revocations};
pub use sessions::{SessionSubject, run_sessions};

/// Where the suite's time starts.
const START: UnixMillis = UnixMillis(1_790_000_000_000);

/// How long the suite's leases live.
const LIFE: Duration = Duration::from_mins(1);

/// A journal under test.
pub struct Subject<'a> {
    /// Opens it once more, as another process or the same one after a restart would.
    pub open: &'a dyn Fn() -> Arc<dyn RotationJournal>,
    /// The audit events that were delivered so far.
    pub audited: &'a dyn Fn() -> Vec<AuditEvent>,
}

/// Runs every rule.
///
/// # Panics
/// On the first rule that does not hold, naming it.
pub async fn run(subject: &Subject<'_>) {
    leases_have_one_owner_and_fences_grow(subject).await;
    holds_stand_until_they_are_lifted(subject).await;
    approvals_count_persons(subject).await;
    sightings_keep_the_newest(subject).await;
    records::run(subject).await;
}

fn at(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

fn credential(of: &str) -> CredentialName {
    format!("{of}-{:08x}", SystemEntropy.below(u64::from(u32::MAX))).parse().expect("the suite's names are valid")
}

fn event(action: &str, subject: &str) -> AuditEvent {
    AuditEvent::new(&SystemEntropy, START, "keyholder", action, subject)
}

fn new_id() -> RunId {
    RunId(event("", "").id)
}

fn lease_name(credential: &CredentialName) -> String {
    format!("credential/{credential}")
}

async fn leased(journal: &dyn RotationJournal, credential: &CredentialName, owner: &str, now: UnixMillis) -> HeldLease {
    let taken = journal.lease(&lease_name(credential), owner, now, LIFE).await.expect("a lease can be asked for");
    taken.expect("nobody holds the lease")
}

async fn begun(journal: &dyn RotationJournal, credential: &CredentialName, lease: &HeldLease) -> RunId {
    let id = new_id();
    let run = NewRun { id, credential: credential.clone(), at: at(0), record: "{\"n\":1}".to_owned() };
    let event = event("rotation.begin", credential.as_str());
    journal.begin(run, lease.clone(), event).await.expect("a run begins");
    id
}

fn next(run: RunId, seq: u64, lease: &HeldLease) -> Append {
    Append {
        run,
        seq,
        lease: lease.clone(),
        at: at(seq),
        record: format!("{{\"n\":{seq}}}"),
        escrow: Vec::new(),
        unless_held: false,
        ends: false,
        event: event("rotation.step", &run.to_string()),
    }
}

async fn leases_have_one_owner_and_fences_grow(subject: &Subject<'_>) {
    let (one, two) = ((subject.open)(), (subject.open)());
    let of = credential("lease");
    let name = lease_name(&of);
    let first = leased(&*one, &of, "one", at(0)).await;
    assert_eq!((first.fence, first.expires_at), (1, at(60)), "the first owner");
    let other = two.lease(&name, "two", at(59), LIFE).await.expect("asked");
    assert_eq!(other, None, "it is held until its end");
    let renewed = leased(&*one, &of, "one", at(30)).await;
    assert_eq!((renewed.fence, renewed.expires_at), (1, at(90)), "its owner gets it again, with a later end");
    let shorter = one.lease(&name, "one", at(31), Duration::from_secs(1)).await.expect("asked").expect("held");
    assert_eq!(shorter.expires_at, at(90), "a renewal never ends earlier");
    let taken = leased(&*two, &of, "two", at(90)).await;
    assert_eq!((taken.fence, taken.owner.as_str()), (2, "two"), "the next owner, from the end on");
    one.release(&first).await.expect("giving back what was lost is no error");
    assert_eq!(one.lease(&name, "one", at(91), LIFE).await.expect("asked"), None, "and changes nothing");
    two.release(&taken).await.expect("given back");
    let again = leased(&*one, &of, "one", at(92)).await;
    assert_eq!(again.fence, 3, "what was given back is free at once, with the next fence");
    let late = leased(&*one, &of, "one", at(500)).await;
    assert_eq!(late.fence, 4, "an owner whose lease was over is a new owner");
    let ahead = leased(&*one, &of, "one", at(500).plus(48 * LEASE_MAX)).await;
    let taken = leased(&*two, &of, "two", at(501)).await;
    assert_eq!((ahead.fence, taken.fence), (5, 6), "a lease of a clock that was ahead is over");
    assert_eq!(taken.expires_at, at(561), "and leaves nothing behind");
    let behind = one.lease(&name, "one", at(400), LIFE).await.expect("asked");
    assert_eq!(behind, None, "a clock that is a little behind takes no lease away");
}

async fn holds_stand_until_they_are_lifted(subject: &Subject<'_>) {
    let journal = (subject.open)();
    let of = credential("hold");
    let hold = Hold { since: at(1), actor: "cli:ops".to_owned(), reason: "a release is going out".to_owned() };
    assert_eq!(journal.hold(&of).await.expect("asked"), None);
    let before = (subject.audited)().len();
    journal.set_hold(&of, Some(hold.clone()), event("rotation.hold", of.as_str())).await.expect("placed");
    journal.set_hold(&of, Some(hold.clone()), event("rotation.hold", of.as_str())).await.expect("placed again");
    assert_eq!((subject.open)().hold(&of).await.expect("asked"), Some(hold), "another process sees it");
    journal.set_hold(&of, None, event("rotation.unhold", of.as_str())).await.expect("lifted");
    journal.set_hold(&of, None, event("rotation.unhold", of.as_str())).await.expect("lifted again");
    assert_eq!(journal.hold(&of).await.expect("asked"), None);
    let audited = (subject.audited)().split_off(before);
    let actions: Vec<_> = audited.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["rotation.hold", "rotation.unhold"], "what changes nothing is no event");
}

async fn approvals_count_persons(subject: &Subject<'_>) {
    let journal = (subject.open)();
    let of = credential("approve");
    let lease = leased(&*journal, &of, "one", at(0)).await;
    let run = begun(&*journal, &of, &lease).await;
    let yes = |actor: &str, of, seconds| Approval {
        of,
        actor: actor.to_owned(),
        at: at(seconds),
        reason: "seen and agreed".to_owned(),
    };
    let before = (subject.audited)().len();
    for (person, allows, seconds) in [
        ("ann", ApprovalOf::Start, 1),
        ("ann", ApprovalOf::Start, 2),
        ("ann", ApprovalOf::Start, 2),
        ("ann", ApprovalOf::Start, 1),
        ("bob", ApprovalOf::Start, 3),
        ("ann", ApprovalOf::Prune, 4),
    ] {
        let event = event("rotation.approve", of.as_str());
        journal.approve(run, yes(person, allows, seconds), event).await.expect("approved");
    }
    let found = (subject.open)().approvals(run).await.expect("asked");
    let expected =
        [yes("ann", ApprovalOf::Start, 2), yes("bob", ApprovalOf::Start, 3), yes("ann", ApprovalOf::Prune, 4)];
    assert_eq!(found, expected, "one person counts once for the same thing, with the newest yes");
    assert_eq!((subject.audited)().len() - before, 4, "a later yes is an event, one that is not later is none");
    let unknown = new_id();
    let refused = journal.approve(unknown, yes("ann", ApprovalOf::Start, 1), event("rotation.approve", "")).await;
    assert!(matches!(refused, Err(JournalError::NotFound(id)) if id == unknown), "{refused:?}");
    let mut last = next(run, 2, &lease);
    last.ends = true;
    journal.append(last).await.expect("the end");
    let late = journal.approve(run, yes("eve", ApprovalOf::Start, 9), event("rotation.approve", "")).await;
    assert!(matches!(late, Err(JournalError::MovedOn(_))), "an ended run needs no approval: {late:?}");
}

fn fingerprint(text: &str) -> Fingerprint {
    Fingerprint::try_from(text.repeat(16)).expect("16 hex digits")
}

async fn sightings_keep_the_newest(subject: &Subject<'_>) {
    let journal = (subject.open)();
    let of = credential("sight");
    let seen = |consumer: &str, secret: &str, grade, seconds| Sighting {
        credential: of.clone(),
        consumer: consumer.to_owned(),
        fingerprint: fingerprint(secret),
        version: Some(VersionId(format!("v{seconds}"))),
        grade,
        at: at(seconds),
        alive_until: at(seconds + 60),
    };
    let (old, newer) = (seen("gateway", "a", Grade::Used, 1), seen("gateway", "a", Grade::Used, 5));
    for sighting in [&newer, &old, &seen("gateway", "b", Grade::Used, 2), &seen("gateway", "a", Grade::Fetched, 9)] {
        journal.sight(sighting.clone()).await.expect("seen");
    }
    journal.sight(seen("exec/host/7", "a", Grade::Ttl, 3)).await.expect("seen");
    let found = (subject.open)().sightings(&of).await.expect("asked");
    let expected = [
        seen("exec/host/7", "a", Grade::Ttl, 3),
        seen("gateway", "b", Grade::Used, 2),
        newer,
        seen("gateway", "a", Grade::Fetched, 9),
    ];
    assert_eq!(found, expected, "the newest of each consumer, secret and grade; a late one hides nothing");
    assert_eq!(journal.sightings(&credential("nobody")).await.expect("asked"), []);
}

/// The change of the escrow that keeps `sealed`.
fn keep(name: &'static str, sealed: &[u8]) -> EscrowChange {
    EscrowChange::Keep { name, sealed: sealed.to_vec() }
}
