//! Runs, their records and what goes with them.

use kh_core::port::{
    JournalError,
    rotation_journal::{EscrowChange, Hold, NewRun},
};

use super::{Subject, at, begun, credential, event, keep, lease_name, leased, new_id, next};

pub(super) async fn run(subject: &Subject<'_>) {
    records_come_back_in_order_after_a_restart(subject).await;
    a_credential_has_one_unfinished_run(subject).await;
    a_record_is_the_next_one_or_refused(subject).await;
    an_earlier_owner_writes_nothing(subject).await;
    a_hold_is_read_in_the_transaction_that_it_stops(subject).await;
    escrow_changes_with_its_record(subject).await;
    what_is_refused_leaves_no_trace(subject).await;
    two_writers_of_one_position_have_one_winner(subject).await;
}

async fn records_come_back_in_order_after_a_restart(subject: &Subject<'_>) {
    let journal = (subject.open)();
    let (of, other) = (credential("order"), credential("other"));
    let lease = leased(&*journal, &of, "one", at(0)).await;
    let run = begun(&*journal, &of, &lease).await;
    for seq in 2..=12 {
        journal.append(next(run, seq, &lease)).await.expect("appended");
    }
    drop(journal);
    let journal = (subject.open)();
    let stored = journal.run(run).await.expect("there");
    assert_eq!((stored.id, &stored.credential, stored.began_at, stored.ended_at), (run, &of, at(0), None));
    let records: Vec<_> = stored.records.iter().map(|one| (one.seq, one.fence, one.record.clone())).collect();
    let expected: Vec<_> = (1..=12).map(|seq| (seq, lease.fence, format!("{{\"n\":{seq}}}"))).collect();
    assert_eq!(records, expected);
    assert!(journal.unfinished().await.expect("asked").contains(&stored));
    let mut last = next(run, 13, &lease);
    last.ends = true;
    journal.append(last).await.expect("the end");
    assert_eq!(journal.run(run).await.expect("there").ended_at, Some(at(13)));
    assert!(journal.unfinished().await.expect("asked").iter().all(|one| one.id != run));
    let second = begun(&*journal, &of, &lease).await;
    let others_lease = leased(&*journal, &other, "one", at(0)).await;
    let others = begun(&*journal, &other, &others_lease).await;
    let ids = |runs: Vec<kh_core::port::rotation_journal::StoredRun>| runs.iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(journal.runs(Some(&of), 9).await.expect("asked")), [second, run], "newest first");
    assert_eq!(ids(journal.runs(Some(&of), 1).await.expect("asked")), [second]);
    assert_eq!(ids(journal.runs(None, 2).await.expect("asked")), [others, second]);
    let unknown = new_id();
    assert!(matches!(journal.run(unknown).await, Err(JournalError::NotFound(id)) if id == unknown));
}

async fn a_credential_has_one_unfinished_run(subject: &Subject<'_>) {
    let journal = (subject.open)();
    let of = credential("one");
    let lease = leased(&*journal, &of, "one", at(0)).await;
    let first = begun(&*journal, &of, &lease).await;
    let begin = |id| {
        let run = NewRun { id, credential: of.clone(), at: at(1), record: "{}".to_owned() };
        journal.begin(run, lease.clone(), event("rotation.begin", of.as_str()))
    };
    let refused = begin(new_id()).await;
    assert!(matches!(refused, Err(JournalError::Unfinished(_, id)) if id == first), "{refused:?}");
    let mut last = next(first, 2, &lease);
    last.ends = true;
    journal.append(last).await.expect("the end");
    begin(first).await.expect_err("an id is used once");
    begin(new_id()).await.expect("the next one");
}

async fn a_record_is_the_next_one_or_refused(subject: &Subject<'_>) {
    let journal = (subject.open)();
    let of = credential("next");
    let lease = leased(&*journal, &of, "one", at(0)).await;
    let run = begun(&*journal, &of, &lease).await;
    for wrong in [0, 1, 3, u64::MAX] {
        let refused = journal.append(next(run, wrong, &lease)).await;
        assert!(matches!(refused, Err(JournalError::MovedOn(id)) if id == run), "{wrong}: {refused:?}");
    }
    let mut last = next(run, 2, &lease);
    last.ends = true;
    journal.append(last).await.expect("the end");
    let refused = journal.append(next(run, 3, &lease)).await;
    assert!(matches!(refused, Err(JournalError::MovedOn(_))), "nothing follows the end: {refused:?}");
    let refused = journal.append(next(new_id(), 1, &lease)).await;
    assert!(matches!(refused, Err(JournalError::NotFound(_))), "{refused:?}");
}

async fn an_earlier_owner_writes_nothing(subject: &Subject<'_>) {
    let (one, two) = ((subject.open)(), (subject.open)());
    let of = credential("fence");
    let stale = leased(&*one, &of, "one", at(0)).await;
    let run = begun(&*one, &of, &stale).await;
    one.append(next(run, 2, &stale)).await.expect("the owner writes, its lease over or not");
    let newest = leased(&*two, &of, "two", at(60)).await;
    let refused = one.append(next(run, 3, &stale)).await;
    assert!(matches!(&refused, Err(JournalError::Fenced(name)) if *name == lease_name(&of)), "{refused:?}");
    let mut forged = stale.clone();
    forged.fence = newest.fence;
    assert!(matches!(one.append(next(run, 3, &forged)).await, Err(JournalError::Fenced(_))), "the fence of another");
    let elsewhere = leased(&*one, &credential("elsewhere"), "one", at(0)).await;
    assert!(
        matches!(one.append(next(run, 3, &elsewhere)).await, Err(JournalError::Fenced(_))),
        "a lease of something else does not let anybody write this run"
    );
    let begins = NewRun { id: new_id(), credential: of.clone(), at: at(1), record: "{}".to_owned() };
    let refused = one.begin(begins, stale, event("rotation.begin", of.as_str())).await;
    assert!(matches!(refused, Err(JournalError::Fenced(_))), "{refused:?}");
    two.append(next(run, 3, &newest)).await.expect("the newest owner goes on");
    two.release(&newest).await.expect("given back");
    let refused = two.append(next(run, 4, &newest)).await;
    assert!(matches!(refused, Err(JournalError::Fenced(_))), "what was given back is gone: {refused:?}");
    assert_eq!(one.run(run).await.expect("there").records.len(), 3);
}

async fn a_hold_is_read_in_the_transaction_that_it_stops(subject: &Subject<'_>) {
    let journal = (subject.open)();
    let of = credential("held");
    let lease = leased(&*journal, &of, "one", at(0)).await;
    let run = begun(&*journal, &of, &lease).await;
    let hold = Hold { since: at(1), actor: "cli:ops".to_owned(), reason: "wait".to_owned() };
    // placed by another process after the owner looked last
    (subject.open)().set_hold(&of, Some(hold.clone()), event("rotation.hold", of.as_str())).await.expect("placed");
    let mut guarded = next(run, 2, &lease);
    guarded.unless_held = true;
    let refused = journal.append(guarded.clone()).await;
    assert!(
        matches!(&refused, Err(JournalError::Held { credential, hold: found }) if *credential == of && *found == hold),
        "{refused:?}"
    );
    journal.append(next(run, 2, &lease)).await.expect("what does no harm goes on");
    journal.set_hold(&of, None, event("rotation.unhold", of.as_str())).await.expect("lifted");
    guarded.seq = 3;
    journal.append(guarded).await.expect("the hold is gone");
}

async fn escrow_changes_with_its_record(subject: &Subject<'_>) {
    let journal = (subject.open)();
    let of = credential("escrow");
    let lease = leased(&*journal, &of, "one", at(0)).await;
    let run = begun(&*journal, &of, &lease).await;
    let mut created = next(run, 2, &lease);
    created.escrow = vec![keep("new", b"sealed \0 new"), keep("old", b"sealed old")];
    journal.append(created).await.expect("appended");
    let held = |name| {
        let open = (subject.open)();
        async move { open.escrow(run, name).await.expect("asked") }
    };
    assert_eq!(held("new").await.as_deref(), Some(&b"sealed \0 new"[..]));
    assert_eq!(held("token").await, None);
    let mut refused = next(run, 9, &lease);
    refused.escrow = vec![keep("new", b"other"), EscrowChange::Forget { name: "old" }];
    journal.append(refused).await.expect_err("not the next one");
    assert_eq!(held("new").await.as_deref(), Some(&b"sealed \0 new"[..]), "a refused record changes no escrow");
    let mut pruned = next(run, 3, &lease);
    pruned.escrow =
        vec![keep("new", b"newer"), EscrowChange::Forget { name: "old" }, EscrowChange::Forget { name: "token" }];
    journal.append(pruned).await.expect("appended");
    assert_eq!((held("new").await.as_deref(), held("old").await), (Some(&b"newer"[..]), None));
    assert_eq!(journal.escrow(new_id(), "new").await.expect("asked"), None);
}

async fn what_is_refused_leaves_no_trace(subject: &Subject<'_>) {
    let journal = (subject.open)();
    let of = credential("trace");
    let lease = leased(&*journal, &of, "one", at(0)).await;
    let run = begun(&*journal, &of, &lease).await;
    let before = (subject.audited)().len();
    let mut long = next(run, 2, &lease);
    long.record = format!("\"{}\"", "x".repeat(4 * 1024 * 1024));
    long.escrow = vec![keep("new", b"x")];
    journal.append(long).await.expect_err("a record of four megabytes");
    let mut large = next(run, 2, &lease);
    large.escrow = vec![keep("new", &vec![0; 1024 * 1024])];
    journal.append(large).await.expect_err("an escrow of a megabyte");
    journal.append(next(run, 7, &lease)).await.expect_err("not the next one");
    assert_eq!(journal.run(run).await.expect("there").records.len(), 1);
    assert_eq!(journal.escrow(run, "new").await.expect("asked"), None);
    assert_eq!((subject.audited)().len(), before, "what did not happen is no event");
    let good = next(run, 2, &lease);
    let id = good.event.id;
    journal.append(good).await.expect("appended");
    assert_eq!((subject.audited)().iter().filter(|event| event.id == id).count(), 1, "what did happen is one");
}

/// Many at once at the same place: one is written, the others are told.
async fn two_writers_of_one_position_have_one_winner(subject: &Subject<'_>) {
    let journals = [(subject.open)(), (subject.open)()];
    let of = credential("race");
    let lease = leased(&*journals[0], &of, "one", at(0)).await;
    let run = begun(&*journals[0], &of, &lease).await;
    for seq in 2..30 {
        let [one, two] = &journals;
        let both = tokio::join!(one.append(next(run, seq, &lease)), two.append(next(run, seq, &lease)));
        let both: [Result<(), JournalError>; 2] = both.into();
        assert_eq!(both.iter().filter(|verdict| verdict.is_ok()).count(), 1, "{both:?}");
        assert!(both.iter().any(|verdict| matches!(verdict, Err(JournalError::MovedOn(_)))), "{both:?}");
    }
    assert_eq!(journals[1].run(run).await.expect("there").records.len(), 29);
}
