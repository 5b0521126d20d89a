//! Many rotations and many credentials: what they leave behind, and how much is looked at.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kh_core::{
    Clock,
    port::{ManageError, RotationJournal, SecretManagement, Strategy, secret_management::Rotator},
    rotation::{Marker, RunId, WriteToken},
};
use kh_rotation::{End, Level, Order, State};
use kh_rotator::{Limits, Overview, Scheduler, Standing, Subject, Wanted, open};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    platform::Unlisted,
    world::{Act, START, World},
};

/// Rotations without and with `KEYHOLDER_LONG=1`.
const ROTATIONS: u64 = 100;
const ROTATIONS_LONG: u64 = 1000;

/// What the journal's file may take after a thousand rotations.
const STATE_MAX: u64 = 20 * 1024 * 1024;

#[tokio::test]
async fn rotations_one_after_the_other_leave_a_small_state() {
    let rotations = if std::env::var("KEYHOLDER_LONG").is_ok() { ROTATIONS_LONG } else { ROTATIONS };
    let mut world = World::new(Strategy::Pair, 21);
    world.policy.budget.per_day = 10_000;
    let mut sizes = Vec::new();
    for generation in 2..rotations + 2 {
        world.until_generation.store(generation, Ordering::SeqCst);
        *world.patience_from.lock().unwrap() = world.now();
        world.clock.advance(Duration::from_hours(12));
        let (standing, _) = world.until_standing(&Wanted::scheduled()).await;
        assert_eq!(standing, Standing::Ended(End::Completed { unknown: Vec::new() }), "rotation {generation}");
        let rows = world.platform.state.lock().unwrap().rows.len();
        assert_eq!(rows, 1, "nothing is left over");
        let size: u64 =
            std::fs::read_dir(world.folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        sizes.push(size);
    }
    assert_eq!(*world.failures.lock().unwrap(), <[String; 0]>::default());
    let (half, last) = (sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    println!(
        "{rotations} rotations with {} logins of consumers: the state has {} KiB, halfway it had {} KiB",
        world.logins.load(Ordering::SeqCst),
        last / 1024,
        half / 1024
    );
    assert!(last < STATE_MAX, "{last} bytes");
    assert!(last <= half + half / 4, "it does not grow: {half} and then {last} bytes");
}

fn named(subject: &Subject, number: usize) -> Arc<Subject> {
    let mut other = subject.clone();
    other.credential = format!("credential-{number}").parse().unwrap();
    other.platform = format!("platform-{}", number % 3).parse().unwrap();
    Arc::new(other)
}

/// One look of the schedule, to the ends of its tasks.
async fn look(scheduler: &Arc<Scheduler>) {
    let tasks = TaskTracker::new();
    tasks.close();
    scheduler.round(&tasks, &CancellationToken::new()).await.unwrap();
    tasks.wait().await;
}

/// What is known of the only credential.
fn only(scheduler: &Scheduler) -> Overview {
    scheduler.overview().borrow().values().next().unwrap().clone()
}

/// A thousand credentials are looked at once each, and are due at times of their own, which a restart does not move.
#[tokio::test]
async fn a_thousand_credentials_are_planned_with_one_look_each() {
    let world = World::new(Strategy::Overlap, 22);
    let mut document = world.platform.first();
    let run = RunId(uuid::Uuid::from_u128(1));
    document.marker = Some(Marker {
        run,
        write: WriteToken::of(run, "one", "promote"),
        generation: 4,
        fingerprint: document.fingerprint(&kh_core::Fingerprinter::new(b"installation")),
        created_at: START,
    });
    world.stores[0].write_by_hand(&document);
    let subject = world.subject();
    let subjects: Vec<_> = (0..1000).map(|number| named(&subject, number)).collect();
    let plan = async |boot| {
        let services = world.boot();
        let scheduler = Scheduler::new(services, subjects.clone(), Limits { working_max: 500, ..Limits::default() });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.close();
        scheduler.round(&tasks, &stop).await.unwrap();
        tasks.wait().await;
        let next = scheduler.round(&tasks, &stop).await.unwrap();
        assert!(next > world.now(), "boot {boot}: there is nothing to do");
        assert!(scheduler.working().is_empty(), "boot {boot}: and nobody works");
        let overview = scheduler.overview().borrow().clone();
        overview.values().map(|known| (known.due_at.unwrap(), known.generation)).collect::<Vec<_>>()
    };
    let before = world.stores[0].reads();
    let first = plan(1).await;
    assert_eq!(world.stores[0].reads() - before, 1000, "one look each");
    assert_eq!(first.len(), 1000);
    let distinct: BTreeSet<_> = first.iter().map(|(due, _)| *due).collect();
    assert!(distinct.len() > 990, "they are spread: {}", distinct.len());
    let (latest, earliest) = (distinct.last().unwrap(), distinct.first().unwrap());
    assert!(*latest <= START.plus(Duration::from_hours(75 * 24)), "the interval less the lead");
    assert!(latest.since(*earliest) > Duration::from_hours(60), "over the whole jitter");
    world.clock.advance(Duration::from_hours(1));
    assert_eq!(plan(2).await, first, "a restart moves nothing");
}

/// The schedule begins what is due, comes back to what waits, and ends it; a second process beside it changes nothing.
#[tokio::test]
async fn a_schedule_rotates_what_is_due_and_then_rests() {
    let world = World::new(Strategy::Pair, 23);
    world.clock.advance(Duration::from_hours(80 * 24));
    *world.patience_from.lock().unwrap() = world.now();
    let mut subject = (*world.subject()).clone();
    subject.policy.interval = Duration::from_hours(90 * 24);
    let subject = Arc::new(subject);
    let limits = Limits::default();
    let both = [(); 2].map(|()| Scheduler::new(world.boot(), vec![Arc::clone(&subject)], limits));
    let mut rounds = 0;
    loop {
        rounds += 1;
        assert!(rounds < 1000, "it never ends");
        for scheduler in &both {
            look(scheduler).await;
        }
        let run = world.newest().await;
        if run.is_some_and(|run| run.state() == State::Completed) {
            break;
        }
        world.pass_until(world.now().plus(Duration::from_secs(30))).await;
    }
    let (creates, failures) = {
        let state = world.platform.state.lock().unwrap();
        (state.calls.len(), world.failures.lock().unwrap().clone())
    };
    assert_eq!(failures, <[String; 0]>::default());
    assert_eq!(creates, 3, "one create, one stop, one delete");
    for _ in 0..4 {
        for scheduler in &both {
            look(scheduler).await;
        }
        world.clock.advance(Duration::from_hours(1));
    }
    assert_eq!(world.side.runs(None, 10).await.unwrap().len(), 1, "it is not due again");
    let known = only(&both[0]);
    assert_eq!(known.generation, Some(2));
    assert!(known.due_at.unwrap() > world.clock.now().wall.plus(Duration::from_hours(70 * 24)));
}

/// A person who gives a run up need not be quicker than the schedule with a hold.
#[tokio::test]
async fn a_run_that_was_given_up_is_not_begun_again_at_once() {
    for (order, seed) in [(Order::Abort, 24), (Order::Rollback, 25), (Order::Abandon, 26)] {
        let world = World::new(Strategy::Pair, seed);
        world.clock.advance(Duration::from_hours(80 * 24));
        *world.patience_from.lock().unwrap() = world.now();
        let session = open(&world.boot(), &world.subject(), Some(Wanted::scheduled())).await.unwrap().unwrap();
        session.release().await;
        world.act(Act::Order(order.clone())).await.unwrap();
        let (standing, _) = world.until_standing(&Wanted::scheduled()).await;
        assert!(matches!(standing, Standing::Ended(_)), "{order:?}: {standing:?}");
        let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
        for (hours, runs) in [(0, 1), (23, 1), (2, 2)] {
            world.clock.advance(Duration::from_hours(hours));
            look(&scheduler).await;
            assert_eq!(world.side.runs(None, 10).await.unwrap().len(), runs, "{order:?}: {hours} hours later");
        }
    }
}

/// What a person killed was not to be replaced: nobody is told to make it active again, until another one is there.
#[tokio::test]
async fn a_killed_secret_is_left_alone_until_another_one_is_in_its_store() {
    let world = World::new(Strategy::Pair, 32);
    let old = world.platform.first();
    let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
    look(&scheduler).await;
    assert!(only(&scheduler).created_at.is_some());
    world.clock.advance(Duration::from_hours(100 * 24));
    *world.patience_from.lock().unwrap() = world.now();
    let leaked = Wanted { level: Level::Kill, actor: "cli:ops".to_owned(), reason: "leaked".to_owned() };
    let (standing, _) = world.until_standing(&leaked).await;
    assert_eq!(standing, Standing::Ended(End::Killed));
    for _ in 0..30 * 4 {
        look(&scheduler).await;
        world.clock.advance(Duration::from_hours(6));
    }
    assert_eq!(world.side.runs(None, 10).await.unwrap().len(), 1, "{:?}", only(&scheduler));
    let known = only(&scheduler);
    assert_eq!((known.due_at, known.created_at, known.failures), (None, None, 0));
    let told: Vec<_> = world.notifier.0.lock().unwrap().iter().map(|notice| notice.kind.clone()).collect();
    assert!(!told.iter().any(|kind| kind == "rotation.needs_operator" || kind == "rotation.age"), "{told:?}");

    let another = world.platform.create(&old, "by hand", Rotator::First).await.unwrap();
    for store in &world.stores {
        store.write_by_hand(&another.document);
    }
    look(&scheduler).await;
    assert!(only(&scheduler).due_at.is_some_and(|due_at| due_at > world.now()), "{:?}", only(&scheduler));
    world.clock.advance(Duration::from_hours(80 * 24));
    look(&scheduler).await;
    assert_eq!(world.side.runs(None, 10).await.unwrap().len(), 2, "{:?}", only(&scheduler));
}

/// keyholder's own clients, and a secrets API: the last secret of a client is not deleted, so that a person is told to
/// disable the client and to end the run, here by `order`.
async fn kill_left_to_a_person(order: Order, seed: u64) -> World {
    let world = World::new(Strategy::Overlap, seed);
    world.platform.state.lock().unwrap().no_stop = true;
    world.clock.advance(Duration::from_hours(100 * 24));
    *world.patience_from.lock().unwrap() = world.now();
    let leaked = Wanted { level: Level::Kill, actor: "cli:ops".to_owned(), reason: "leaked".to_owned() };
    let (standing, _) = world.until_standing(&leaked).await;
    let Standing::NeedsOperator(need) = standing else { panic!("{standing:?}") };
    assert!(need.next.ends_with(" --leave"), "{need:?}");
    world.act(Act::Order(order)).await.unwrap();
    let (standing, _) = world.until_standing(&leaked).await;
    assert!(matches!(standing, Standing::Ended(End::Abandoned { .. } | End::Aborted { .. })), "{standing:?}");
    world
}

/// Nobody is told to enable the client again.
#[tokio::test]
async fn a_kill_that_is_left_to_a_person_is_not_begun_again_as_a_plain_run() {
    for (order, seed) in [(Order::Abandon, 33), (Order::Abort, 35)] {
        let world = kill_left_to_a_person(order.clone(), seed).await;
        world.platform.state.lock().unwrap().switched_off = true;
        let told_before = world.notifier.0.lock().unwrap().len();
        let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
        for _ in 0..30 * 4 {
            look(&scheduler).await;
            world.clock.advance(Duration::from_hours(6));
        }
        assert_eq!(world.side.runs(None, 10).await.unwrap().len(), 1, "{order:?}: {:?}", only(&scheduler));
        assert_eq!((only(&scheduler).due_at, only(&scheduler).failures), (None, 0), "{order:?}");
        let told: Vec<_> = world.notifier.0.lock().unwrap()[told_before..].iter().map(|one| one.kind.clone()).collect();
        assert_eq!(told, <[String; 0]>::default(), "{order:?}");

        world.platform.state.lock().unwrap().switched_off = false;
        look(&scheduler).await;
        assert_eq!(world.side.runs(None, 10).await.unwrap().len(), 2, "{order:?}: enabled again");
    }
}

/// It was a false alarm, or the platform refused: the secret lives, and its age counts.
#[tokio::test]
async fn a_kill_that_nobody_carried_out_is_forgotten_after_a_day() {
    let world = kill_left_to_a_person(Order::Abandon, 36).await;
    // which has nothing to do with the kill, and is told by the run that meets it
    world.platform.state.lock().unwrap().obstacles = vec!["the rotator lacks permissions".to_owned()];
    let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
    for (hours, runs) in [(0, 1), (23, 1), (2, 2)] {
        world.clock.advance(Duration::from_hours(hours));
        look(&scheduler).await;
        assert_eq!(world.side.runs(None, 10).await.unwrap().len(), runs, "{hours} hours later");
    }
}

/// It is asked again, and neither is a run begun meanwhile nor the credential left alone for good.
#[tokio::test]
async fn a_platform_that_does_not_tell_whether_a_kill_was_carried_out_is_asked_again() {
    let world = kill_left_to_a_person(Order::Abandon, 37).await;
    let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
    world.clock.advance(Duration::from_hours(25));
    world.platform.state.lock().unwrap().unchecked = Some(ManageError::NotDone { reason: "503".to_owned() });
    for (failures, runs) in [(1, 1), (0, 2)] {
        look(&scheduler).await;
        assert_eq!(world.side.runs(None, 10).await.unwrap().len(), runs, "{:?}", only(&scheduler));
        assert_eq!(only(&scheduler).failures, failures, "{:?}", only(&scheduler));
        world.clock.advance(world.policy.backoff.first);
    }
}

/// A kill that a person took back is no kill: the secret works, and its age counts.
#[tokio::test]
async fn a_kill_that_was_given_up_before_it_stood_still_is_forgotten() {
    let world = World::new(Strategy::Overlap, 34);
    world.platform.state.lock().unwrap().no_stop = true;
    world.clock.advance(Duration::from_hours(100 * 24));
    *world.patience_from.lock().unwrap() = world.now();
    let leaked = Wanted { level: Level::Kill, actor: "cli:ops".to_owned(), reason: "leaked".to_owned() };
    let session = open(&world.boot(), &world.subject(), Some(leaked.clone())).await.unwrap().unwrap();
    session.release().await;
    world.act(Act::Order(Order::Abandon)).await.unwrap();
    let (standing, _) = world.until_standing(&leaked).await;
    assert_eq!(standing, Standing::Ended(End::Abandoned { left: Vec::new() }));
    let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
    world.clock.advance(Duration::from_hours(25));
    look(&scheduler).await;
    assert_eq!(world.side.runs(None, 10).await.unwrap().len(), 2, "{:?}", only(&scheduler));
}

/// A command that began a run and did not stay is followed at the next look at the journal, however young the secret is.
#[tokio::test]
async fn a_run_that_another_process_began_is_seen_while_the_credential_rests() {
    let world = World::new(Strategy::Pair, 27);
    let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
    look(&scheduler).await;
    assert!(only(&scheduler).next_at > world.now().plus(Limits::default().poll), "it rests");
    let leaked = Wanted { level: Level::Revoke, actor: "cli:ops".to_owned(), reason: "leaked".to_owned() };
    let session = open(&world.boot(), &world.subject(), Some(leaked)).await.unwrap().unwrap();
    let began = session.run().seq();
    session.release().await;
    world.clock.advance(Limits::default().poll);
    look(&scheduler).await;
    let run = world.newest().await.unwrap();
    assert!(run.seq() > began, "nobody went on with it: {:?}", only(&scheduler));
}

/// Nobody else wrote to it, so that its pauses are kept.
#[tokio::test]
async fn a_run_that_does_not_fit_is_tried_again_after_its_pause_and_not_at_every_look() {
    let world = World::new(Strategy::Pair, 28);
    let session = open(&world.boot(), &world.subject(), Some(Wanted::scheduled())).await.unwrap().unwrap();
    session.release().await;
    let mut subject = (*world.subject()).clone();
    subject.stores.truncate(1);
    subject.policy.backoff.first = Duration::from_mins(1);
    let scheduler = Scheduler::new(world.boot(), vec![Arc::new(subject)], Limits::default());
    for (pause, failures) in [(Duration::ZERO, 1), (Limits::default().poll, 1), (Duration::from_mins(1), 2)] {
        world.clock.advance(pause);
        look(&scheduler).await;
        assert_eq!(only(&scheduler).failures, failures, "{pause:?} later");
    }
}

/// A platform that cannot be asked says nothing of the age: it is asked again, and no secret is replaced meanwhile.
#[tokio::test]
async fn a_listing_that_fails_makes_no_secret_due() {
    let reason = || "503".to_owned();
    let denied = ManageError::Denied { platform_code: "no.right".to_owned(), hint: String::new() };
    for fault in [
        Unlisted::Hangs,
        Unlisted::Refused(ManageError::Throttled { retry_after: None }),
        Unlisted::Refused(ManageError::NotDone { reason: reason() }),
        Unlisted::Refused(ManageError::Unknown { reason: reason() }),
        Unlisted::Refused(denied),
    ] {
        let mut world = World::new(Strategy::Pair, 29);
        // what hangs is given up at once
        world.policy.call_bound = Duration::ZERO;
        *world.platform.unlisted.lock().unwrap() = Some(fault.clone());
        let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
        for failures in [1, 0] {
            look(&scheduler).await;
            let known = only(&scheduler);
            assert_eq!(known.failures, failures, "{fault:?}: {known:?}");
            assert_eq!(known.due_at.is_some_and(|due_at| due_at > world.now()), failures == 0, "{fault:?}: {known:?}");
            world.clock.advance(world.policy.backoff.first);
        }
        assert_eq!(world.side.runs(None, 10).await.unwrap().len(), 0, "{fault:?}");
    }
}

/// A run that a person ended is told as ended, also while the age of its secret cannot be told.
#[tokio::test]
async fn a_run_that_is_over_is_not_told_as_unfinished() {
    let world = World::new(Strategy::Pair, 31);
    world.act(Act::Hold).await.unwrap();
    let session = open(&world.boot(), &world.subject(), Some(Wanted::scheduled())).await.unwrap().unwrap();
    session.release().await;
    let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
    look(&scheduler).await;
    assert!(only(&scheduler).run.is_some(), "{:?}", only(&scheduler));
    world.act(Act::Order(Order::Abandon)).await.unwrap();
    world.until_standing(&Wanted::scheduled()).await;
    let denied = ManageError::Denied { platform_code: "no.right".to_owned(), hint: String::new() };
    *world.platform.unlisted.lock().unwrap() = Some(Unlisted::Refused(denied));
    look(&scheduler).await;
    let known = only(&scheduler);
    assert_eq!((known.run, known.failures), (None, 1), "{known:?}");
}

/// Where nobody can know the age, nothing says that the secret is young.
#[tokio::test]
async fn a_secret_is_due_whose_age_the_platform_does_not_tell() {
    let world = World::new(Strategy::Pair, 30);
    *world.platform.unlisted.lock().unwrap() = Some(Unlisted::Refused(ManageError::Unsupported));
    let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
    look(&scheduler).await;
    assert_eq!(world.side.runs(None, 10).await.unwrap().len(), 1, "{:?}", only(&scheduler));
}
