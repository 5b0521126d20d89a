//! Two processes on one journal, with leases that end while their owners still work.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Entropy, SeededEntropy,
    port::{Strategy, rotation_journal::LEASE_MAX},
};
use kh_rotation::{End, Policy};
use kh_rotator::{
    Halt, NotBegun, Patience, Services, Session, Standing, Subject, Wanted, drive, lease_name, open,
    session::{call_timeout, lease_life},
};
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// Histories.
const HISTORIES: u64 = 24;

struct Process {
    services: Arc<Services>,
    subject: Arc<Subject>,
    session: Option<Session>,
}

/// What happened in one history.
#[derive(Default)]
struct Seen {
    taken_over: u32,
    busy: u32,
}

async fn turn(process: &mut Process, world: &World, seen: &mut Seen) -> Option<End> {
    let Some(session) = &mut process.session else {
        if let Some(end) = world.newest().await.and_then(|run| run.end().cloned()) {
            return Some(end);
        }
        match open(&process.services, &process.subject, Some(Wanted::scheduled())).await {
            Ok(session) => process.session = session,
            Err(NotBegun::Halt(Halt::Busy(_))) => seen.busy += 1,
            Err(NotBegun::Halt(Halt::Journal(kh_core::port::JournalError::Fenced(_)))) => seen.taken_over += 1,
            Err(error) => panic!("{error}"),
        }
        return None;
    };
    match session.step().await {
        Ok(None) => None,
        Ok(Some(Standing::Ended(end))) => Some(end),
        Ok(Some(Standing::NeedsOperator(need))) => panic!("{need:?}"),
        Ok(Some(Standing::Waiting { until, .. })) => {
            world.pass_until(until.min(world.now().plus(Duration::from_mins(2)))).await;
            if let Err(Halt::TakenOver(_)) = session.waited().await {
                seen.taken_over += 1;
                process.session = None;
            }
            None
        }
        Err(Halt::TakenOver(_)) => {
            seen.taken_over += 1;
            process.session = None;
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn two_rotators_that_overtake_each_other_do_what_one_would() {
    let (mut overtaken, mut kept_out) = (0, 0);
    for seed in 0..HISTORIES {
        let strategy = [Strategy::Overlap, Strategy::Pair, Strategy::Swap][usize::try_from(seed % 3).unwrap()];
        let world = World::new(strategy, 100 + seed);
        let random = SeededEntropy::new(seed);
        let mut both = [(); 2].map(|()| Process { services: world.boot(), subject: world.subject(), session: None });
        let mut seen = Seen::default();
        let mut turns = 0;
        let end = loop {
            turns += 1;
            assert!(turns < 20_000, "seed {seed}: it never ends");
            let process = &mut both[usize::try_from(random.below(2)).unwrap()];
            if let Some(end) = turn(process, &world, &mut seen).await {
                break end;
            }
            // a pause, as of a machine that was suspended: the lease may be over
            if random.below(6) == 0 {
                let pause = Duration::from_secs(random.below(200));
                world.pass_until(world.now().plus(pause)).await;
            }
        };
        assert_eq!(end, End::Completed { unknown: Vec::new() }, "seed {seed}");
        world.check(&end).await;
        overtaken += seen.taken_over;
        kept_out += seen.busy;
    }
    println!("{HISTORIES} histories of two rotators: {overtaken} takeovers, {kept_out} times kept out");
    assert!(overtaken >= 10 && kept_out >= 10, "{overtaken} takeovers, {kept_out} times kept out");
}

#[test]
fn no_policy_asks_for_a_lease_that_the_journal_takes_for_one_of_a_wrong_clock() {
    for minutes in [0, 1, 2, 60, 61, 60 * 24 * 365] {
        let policy = Policy { call_bound: Duration::from_mins(minutes), ..Policy::default() };
        assert!(lease_life(&policy) <= LEASE_MAX, "{minutes} min");
        assert!(2 * call_timeout(&policy) <= lease_life(&policy), "{minutes} min");
    }
}

/// A command with `--wait` beside `serve`: whoever has the lease when the wait is over is waited for.
#[tokio::test]
async fn who_stays_until_the_end_waits_for_another_process_that_has_the_lease() {
    let world = World::new(Strategy::Overlap, 31);
    let (command, serve) = (world.boot(), world.boot());
    let mut session = open(&command, &world.subject(), Some(Wanted::scheduled())).await.unwrap().unwrap();
    let stop = CancellationToken::new();
    let other = async {
        let (name, life) = (lease_name(&world.credential), Duration::from_mins(10));
        while serve.journal.lease(&name, &serve.owner, world.now(), life).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        // longer than the command waits by itself
        let over = world.now().plus(life + Duration::from_mins(1));
        while world.now() < over {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    let driven = tokio::select! {
        driven = drive(&mut session, &command, Patience::UntilEnd, &stop) => driven,
        () = other => panic!("it waits for ever"),
    };
    assert!(matches!(driven, Ok(None)), "it ended before it was stopped: {driven:?}");
    assert!(session.run().promoted_at().is_some());
}

#[tokio::test]
async fn who_stays_until_the_end_goes_on_after_another_process_took_over() {
    let world = World::new(Strategy::Overlap, 32);
    let (command, serve) = (world.boot(), world.boot());
    let mut session = open(&command, &world.subject(), Some(Wanted::scheduled())).await.unwrap().unwrap();
    world.clock.advance(Duration::from_mins(5));
    let name = lease_name(&world.credential);
    let taken = serve.journal.lease(&name, &serve.owner, world.now(), Duration::from_secs(30)).await.unwrap();
    assert!(taken.is_some(), "the lease of the command was over");
    let stop = CancellationToken::new();
    let other = async {
        while world.newest().await.is_none_or(|run| run.promoted_at().is_none()) {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    let driven = tokio::select! {
        driven = drive(&mut session, &command, Patience::UntilEnd, &stop) => driven,
        () = other => panic!("it waits for ever"),
    };
    assert!(matches!(driven, Ok(None)), "it ended before it was stopped: {driven:?}");
}
