//! What persons do to a run: abort, roll back, approve, and the emergency levels.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kh_core::{
    port::{
        BoxFuture, HookError, JournalError, ManageError, SecretManagement, Strategy,
        rotation_journal::{ApprovalOf, LEASE_MAX},
        secret_management::Rotator,
    },
    rotation::ManagedId,
};
use kh_rotation::{End, Level, Order};
use kh_rotator::{
    AtRest, Halt, NotBegun, NotTaken, OldTokens, Revoked, Session, Standing, TokenRevoker, Wanted, at_rest, join, open,
    orders,
};
use tokio_util::sync::CancellationToken;

use crate::{
    platform::Call,
    world::{Act, START, World},
};

fn wanted(level: Level) -> Wanted {
    Wanted { level, actor: "cli:ops".to_owned(), reason: "leaked".to_owned() }
}

async fn ends(world: &World, wanted: &Wanted) -> End {
    match world.until_standing(wanted).await.0 {
        Standing::Ended(end) => end,
        other => panic!("{other:?}: {:#?}", world.gate.trace()),
    }
}

#[tokio::test]
async fn a_rollback_in_the_overlap_brings_the_old_secret_back() {
    for strategy in [Strategy::Overlap, Strategy::Pair] {
        let world = World::new(strategy, 11);
        let old = world.platform.first();
        world.acts.lock().unwrap().push((START.plus(Duration::from_mins(10)), Act::Order(Order::Rollback)));
        let end = ends(&world, &Wanted::scheduled()).await;
        assert_eq!(end, End::RolledBack { unknown: Vec::new() }, "{strategy:?}");
        world.check(&end).await;
        assert!(world.platform.accepts(&old));
        assert!(
            world
                .audit
                .0
                .lock()
                .unwrap()
                .iter()
                .any(|event| { event.action == "rotation.order" && event.actor == "cli:ops" })
        );
        assert!(world.act(Act::Order(Order::Rollback)).await.is_err(), "a run that is over takes no order");
    }
}

#[tokio::test]
async fn a_hook_that_fails_blocks_the_prune_until_a_person_says_otherwise() {
    let world = World::new(Strategy::Pair, 12);
    *world.hook.refuses.lock().unwrap() = Some(HookError::Refused("403".to_owned()));
    let old = world.platform.first();
    world.acts.lock().unwrap().push((START.plus(Duration::from_hours(8 * 24)), Act::Order(Order::SkipHooks)));
    let due = Wanted::scheduled();
    let before = tokio::select! {
        standing = world.live(&due) => Err(standing),
        () = async {
            while world.now() < START.plus(Duration::from_hours(7 * 24 + 1)) {
                tokio::task::yield_now().await;
            }
        } => Ok(()),
    };
    assert_eq!(before, Ok(()));
    assert!(world.platform.accepts(&old), "a week later it still works");
    world.clock.advance(Duration::from_mins(5));
    let standing = world.until_standing(&Wanted::scheduled()).await.0;
    assert_eq!(standing, Standing::Ended(End::Completed { unknown: Vec::new() }));
    assert!(!world.platform.accepts(&old));
}

#[tokio::test]
async fn two_persons_must_agree_where_two_are_asked() {
    let mut world = World::new(Strategy::Overlap, 13);
    world.policy.approvals.start = 2;
    let minutes = |minutes| START.plus(Duration::from_mins(minutes));
    *world.acts.lock().unwrap() = vec![
        (minutes(20), Act::Approve(ApprovalOf::Start, "ann")),
        (minutes(40), Act::Approve(ApprovalOf::Start, "ann")),
        (minutes(120), Act::Approve(ApprovalOf::Start, "bob")),
    ];
    let end = ends(&world, &Wanted::scheduled()).await;
    world.check(&end).await;
    let audit = world.audit.0.lock().unwrap().clone();
    let made = audit.iter().find(|event| event.detail.contains(&("effect".to_owned(), "create".to_owned()))).unwrap();
    assert!(made.at >= minutes(120), "nothing is made before the second person agreed");
    let approved = audit.iter().find(|event| event.action == "rotation.approved").unwrap();
    assert!(approved.detail.contains(&("by".to_owned(), "cli:ann, cli:bob".to_owned())), "{approved:?}");
}

#[tokio::test]
async fn without_evidence_a_prune_needs_a_person_on_record() {
    let world = World::new(Strategy::Overlap, 14);
    let mut world = world;
    world.policy.consumers[1].name = "a-batch-job-that-never-runs".to_owned();
    world.acts.lock().unwrap().push((START.plus(Duration::from_hours(5)), Act::Approve(ApprovalOf::Prune, "ann")));
    let end = ends(&world, &Wanted::scheduled()).await;
    world.check(&end).await;
    assert!(world.now() >= START.plus(Duration::from_hours(5)), "not before");
    let audit = world.audit.0.lock().unwrap().clone();
    let stop = audit.iter().find(|event| event.detail.contains(&("effect".to_owned(), "stop".to_owned()))).unwrap();
    assert!(stop.detail.contains(&("overridden_by".to_owned(), "cli:ann".to_owned())), "{stop:?}");
    assert!(stop.detail.iter().any(|(key, why)| key == "overridden" && why.contains("a-batch-job")), "{stop:?}");
}

#[tokio::test]
async fn a_leaked_secret_dies_in_the_time_of_its_level() {
    for (level, within) in [(Level::Fast, 60), (Level::Revoke, 20)] {
        let world = World::new(Strategy::Overlap, 15);
        let old = world.platform.first();
        let end = ends(&world, &wanted(level)).await;
        assert_eq!(end, End::Completed { unknown: Vec::new() }, "{level:?}");
        assert!(!world.platform.accepts(&old));
        let audit = world.audit.0.lock().unwrap().clone();
        let dead = audit.iter().find(|event| {
            event.detail.iter().any(|(key, value)| key == "effect" && (value == "stop" || value == "prune"))
        });
        let after = dead.unwrap().at.since(START);
        assert!(after <= Duration::from_mins(within), "{level:?}: {after:?}");
    }
    let world = World::new(Strategy::Pair, 16);
    let end = ends(&world, &wanted(Level::Kill)).await;
    assert_eq!(end, End::Killed);
    let state = world.platform.state.lock().unwrap();
    assert!(state.rows.iter().all(|row| !row.active), "nothing logs in any more");
    assert!(!state.calls.iter().any(|call| matches!(call, Call::Create(_))), "and nothing replaces it");
}

/// The platform counts every client, also one that is stopped: somebody has to make room, and the new one is then made
/// after the model of the old one.
#[tokio::test]
async fn a_leaked_secret_is_stopped_and_kept_while_the_platform_is_full() {
    let world = World::new(Strategy::Pair, 23);
    let old = world.platform.first();
    world.platform.state.lock().unwrap().rows_max = Some(1);
    let standing = world.until_standing(&wanted(Level::Revoke)).await.0;
    let Standing::NeedsOperator(need) = standing else { panic!("{standing:?}") };
    assert!(need.why.contains("takes no more secrets") && need.next.contains("rotate resume"), "{need:?}");
    assert!(!world.platform.accepts(&old));
    let calls = world.platform.state.lock().unwrap().calls.clone();
    assert!(matches!(&calls[..], [Call::Stop(_)]), "{calls:?}");
    world.platform.state.lock().unwrap().rows_max = Some(2);
    world.act(Act::Order(Order::Resume)).await.unwrap();
    let end = ends(&world, &wanted(Level::Revoke)).await;
    assert_eq!(end, End::Completed { unknown: Vec::new() });
    assert!(world.stores.iter().all(|store| world.platform.accepts(&store.document())));
    let calls = world.platform.state.lock().unwrap().calls.clone();
    assert!(matches!(&calls[..], [Call::Stop(_), Call::Create(_), Call::Delete(_)]), "{calls:?}");
}

/// Where none can be stopped the old one is deleted to make room; its document names the client until the end.
#[tokio::test]
async fn a_leaked_secret_that_is_deleted_to_make_room_is_replaced() {
    let world = World::new(Strategy::Overlap, 24);
    {
        let mut state = world.platform.state.lock().unwrap();
        (state.no_stop, state.rows_max) = (true, Some(2));
        state.new_row(Some("made by a person".to_owned()), START);
    }
    let end = ends(&world, &wanted(Level::Revoke)).await;
    assert_eq!(end, End::Completed { unknown: Vec::new() });
    assert!(world.stores.iter().all(|store| world.platform.accepts(&store.document())));
    let calls = world.platform.state.lock().unwrap().calls.clone();
    assert!(matches!(&calls[..], [Call::Delete(_), Call::Create(_)]), "{calls:?}");
}

/// The schedule may begin a plain run right before a person says that the secret leaked.
#[tokio::test]
async fn a_plain_run_is_not_taken_for_the_urgent_one_that_is_wanted() {
    let world = World::new(Strategy::Pair, 20);
    let plain = open(&world.boot(), &world.subject(), Some(Wanted::scheduled())).await.unwrap().unwrap();
    let id = plain.run().began().run;
    plain.release().await;
    let services = world.boot();
    let refused = open(&services, &world.subject(), Some(wanted(Level::Revoke))).await.unwrap_err();
    assert!(matches!(refused, NotBegun::LessUrgent(run) if run == id), "{refused}");
    world.act(Act::Order(Order::Hurry { level: Level::Revoke })).await.unwrap();
    assert_eq!(world.now(), START, "nobody waited for a lease");
    let session = open(&services, &world.subject(), Some(wanted(Level::Fast))).await.unwrap().unwrap();
    let began = session.run().began();
    assert_eq!((began.run, began.level), (id, Level::Revoke));
}

/// A command that stays until the end is there while another process, such as a schedule, is at work.
#[tokio::test]
async fn who_stays_until_the_end_waits_for_the_process_at_work() {
    let world = World::new(Strategy::Pair, 22);
    let (subject, stop) = (world.subject(), CancellationToken::new());
    let working = open(&world.boot(), &subject, Some(Wanted::scheduled())).await.unwrap().unwrap();
    let id = working.run().began().run;
    let other = world.boot();
    let busy = |refused: &NotBegun| matches!(refused, NotBegun::Halt(Halt::Busy(_)));
    assert!(busy(&open(&other, &subject, None).await.unwrap_err()));
    assert!(busy(&join(&other, &subject, Level::Revoke, &stop).await.unwrap_err()), "a plain run is not what it wants");
    let (joined, ()) = tokio::join!(join(&other, &subject, Level::Regular, &stop), working.release());
    let session = joined.unwrap().unwrap();
    assert_eq!(session.run().began().run, id);
    stop.cancel();
    let stopped = join(&world.boot(), &subject, Level::Regular, &stop).await.unwrap_err();
    assert!(busy(&stopped), "{stopped}");
}

/// What was written stands, and what was refused is told, whatever becomes of the lease: it ends by itself.
#[tokio::test]
async fn a_lease_that_cannot_be_given_back_changes_no_answer() {
    let world = World::new(Strategy::Pair, 23);
    let (services, subject, due) = (world.boot(), world.subject(), Wanted::scheduled());
    let keep_next = || *world.traps.kept_lease.lock().unwrap() = true;
    let kept = || !*world.traps.kept_lease.lock().unwrap();

    keep_next();
    assert!(open(&services, &subject, None).await.unwrap().is_none(), "there is no run");
    assert!(kept());

    let session = open(&services, &subject, Some(due.clone())).await.unwrap().unwrap();
    let id = session.run().began().run;
    session.release().await;

    let (_, person) = world.person("ops");
    keep_next();
    let taken = orders::order(&services, &world.credential, Order::Abort, &person).await.unwrap();
    assert!(kept());
    assert_eq!((taken, world.newest().await.unwrap().seq()), (id, 2), "the order is in the journal");
    let again = orders::order(&services, &world.credential, Order::Abort, &person).await.unwrap_err();
    assert!(matches!(again, NotTaken::Refused(_)), "{again}");

    keep_next();
    let refused = Session::begin(&services, &subject, due).await.unwrap_err();
    assert!(kept());
    let unfinished = matches!(&refused, NotBegun::Halt(Halt::Journal(JournalError::Unfinished(_, run))) if *run == id);
    assert!(unfinished, "{refused}");

    let other = world.boot();
    let busy = open(&other, &subject, None).await.unwrap_err();
    assert!(matches!(busy, NotBegun::Halt(Halt::Busy(_))), "{busy}");
    world.clock.advance(LEASE_MAX);
    assert!(open(&other, &subject, None).await.unwrap().is_some(), "it ended by itself");
}

/// Kinds and summaries of what people were told about hooks and tokens.
fn told(world: &World, about: &str) -> Vec<(String, String)> {
    let notices = world.notifier.0.lock().unwrap();
    let these = notices.iter().filter(|notice| notice.kind.starts_with(about));
    these.map(|notice| (notice.kind.clone(), notice.summary.clone())).collect()
}

#[tokio::test]
async fn people_are_told_once_when_a_hook_fails_and_once_when_it_works_again() {
    for (error, refused) in
        [(HookError::Transient("503".to_owned()), false), (HookError::Refused("410".to_owned()), true)]
    {
        let world = World::new(Strategy::Pair, 17);
        *world.hook.refuses.lock().unwrap() = Some(error);
        let due = Wanted::scheduled();
        let failing = async {
            while world.now() < START.plus(Duration::from_hours(9)) {
                tokio::task::yield_now().await;
            }
        };
        let before = tokio::select! {
            standing = world.live(&due) => Some(standing),
            () = failing => None,
        };
        assert_eq!(before, None, "the old secret stays");
        let failed = told(&world, "rotation.hook");
        assert_eq!(failed.len(), 1, "however often it is called: {failed:?}");
        let (kind, summary) = &failed[0];
        assert_eq!(kind, "rotation.hook_failed");
        assert!(summary.contains("the hook hook failed, and the old secret stays until it succeeds"), "{summary}");
        assert_eq!(summary.contains("it is not called again by itself"), refused, "{summary}");
        // a person orders it to be called again before it works: nothing new is told
        world.clock.advance(Duration::from_mins(5));
        world.act(Act::Order(Order::Resume)).await.unwrap();
        let mut session = open(&world.boot(), &world.subject(), None).await.unwrap().unwrap();
        session.work().await.unwrap();
        session.release().await;
        assert_eq!(told(&world, "rotation.hook").len(), 1, "{:?}", told(&world, "rotation.hook"));
        *world.hook.refuses.lock().unwrap() = None;
        world.act(Act::Order(Order::Resume)).await.unwrap();
        let standing = world.until_standing(&due).await.0;
        assert_eq!(standing, Standing::Ended(End::Completed { unknown: Vec::new() }));
        let all = told(&world, "rotation.hook");
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[1].0, "rotation.hook_recovered");
    }
}

/// Remembers what it was asked, and answers what it was told to.
struct Revoker {
    answer: Result<Revoked, ManageError>,
    asked: Mutex<Vec<(Option<ManagedId>, bool)>>,
}

impl TokenRevoker for Revoker {
    fn revoke<'a>(&'a self, tokens: OldTokens<'a>) -> BoxFuture<'a, Result<Revoked, ManageError>> {
        self.asked.lock().unwrap().push((tokens.id.cloned(), tokens.deleted));
        Box::pin(async { self.answer.clone() })
    }
}

#[tokio::test]
async fn tokens_of_a_leaked_secret_are_revoked_or_told_to_live_on() {
    let why = || Revoked::LiveOn("nobody revokes them here".to_owned());
    let denied = ManageError::Denied { platform_code: "no.right".to_owned(), hint: String::new() };
    for (level, deleted) in [(Level::Fast, true), (Level::Revoke, true), (Level::Kill, false)] {
        let answers = [
            (Some(Ok(Revoked::All)), "revoked", 0),
            (Some(Ok(why())), "nobody revokes them here: those made with the old secret live on until 2026-01-01T", 1),
            (Some(Err(ManageError::Unsupported)), "the platform revokes no tokens: those made with the old", 1),
            (None, "the platform revokes no tokens: those made with the old secret live on until 2026", 1),
            (Some(Err(denied.clone())), "the rotator may not do this (no.right)", 1),
        ];
        for (answer, tokens, notices) in answers {
            let mut world = World::new(Strategy::Pair, 18);
            let old = world.platform.first();
            let revoker = answer.map(|answer| Arc::new(Revoker { answer, asked: Mutex::default() }));
            world.revoker = revoker.clone().map(|revoker| revoker as Arc<dyn TokenRevoker>);
            let end = ends(&world, &wanted(level)).await;
            assert!(matches!(end, End::Completed { .. } | End::Killed), "{level:?}: the run goes on: {end:?}");
            let run = world.newest().await.unwrap();
            let status = kh_rotation::status::status(&run, None, &[]);
            let said = status.tokens.unwrap();
            assert!(said.starts_with(tokens), "{level:?}: {said}");
            let told = told(&world, "rotation.tokens");
            assert_eq!(told.len(), notices, "{level:?}: {told:?}");
            assert!(told.iter().all(|(_, summary)| summary.contains(&said)), "{told:?}");
            assert!(!world.platform.accepts(&old));
            if let Some(revoker) = revoker {
                let asked = revoker.asked.lock().unwrap().clone();
                assert_eq!(asked, [(run.baseline().unwrap().old_id.clone(), deleted)], "{level:?}");
            }
        }
    }
    // a rotation that is not urgent leaves tokens alone
    let world = World::new(Strategy::Pair, 19);
    let end = ends(&world, &Wanted::scheduled()).await;
    world.check(&end).await;
    let status = kh_rotation::status::status(&world.newest().await.unwrap(), None, &[]);
    assert_eq!((status.tokens, told(&world, "rotation.tokens").len()), (None, 0));
}

/// Its tokens could not be revoked; the secret is dead all the same, and the schedule replaces it not.
#[tokio::test]
async fn a_killed_secret_stays_killed_however_its_run_is_ended() {
    let mut world = World::new(Strategy::Overlap, 38);
    let old = world.platform.first();
    world.platform.state.lock().unwrap().no_stop = true;
    world.platform.create(&old, "by hand", Rotator::First).await.unwrap();
    let answer = Err(ManageError::NotDone { reason: "503".to_owned() });
    world.revoker = Some(Arc::new(Revoker { answer, asked: Mutex::default() }));
    let (standing, _) = world.until_standing(&wanted(Level::Kill)).await;
    assert!(matches!(standing, Standing::NeedsOperator(_)), "{standing:?}");
    world.act(Act::Order(Order::Abandon)).await.unwrap();
    let (standing, _) = world.until_standing(&wanted(Level::Kill)).await;
    assert!(matches!(standing, Standing::Ended(End::Abandoned { .. })), "{standing:?}");
    assert_eq!(at_rest(&world.boot(), &world.subject(), &old).await.unwrap(), Some(AtRest::Killed));
}
