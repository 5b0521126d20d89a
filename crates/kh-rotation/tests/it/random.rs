//! Random histories: every one ends or needs a person, and on the way nothing in use dies.
//!
//! Invariant: after each thing that happens the safety properties hold; at the end, with the world in order again, the
//! run comes to rest.

use std::time::Duration;

use kh_core::{
    port::{
        Strategy,
        rotation_journal::{ApprovalOf, Grade, Hold},
    },
    rotation::{ManagedId, VersionId},
};
use kh_rotation::{Begin, Decision, Effect, Level, Order, Record, Run, Step};
use proptest::prelude::*;

use super::{
    sim::{Fault, Sim, begin_of},
    world::{id, number},
};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Turns(usize),
    Fault(Option<Fault>),
    Crash,
    Pass(u64),
    Read,
    StillOld,
    Hold(bool),
    Order(Order),
    NewWorks(bool),
    Unreachable(bool),
    Approve,
}

fn event() -> impl Strategy_<Value = Event> {
    let fault = prop_oneof![
        Just(Fault::NotDone),
        Just(Fault::LostRequest),
        Just(Fault::LostAnswer),
        Just(Fault::CrashBefore),
        Just(Fault::CrashAfter),
    ];
    let order = prop_oneof![
        Just(Order::Resume),
        Just(Order::SkipHooks),
        Just(Order::Rollback),
        Just(Order::Abort),
        Just(Order::Hurry { level: Level::Fast }),
        Just(Order::Hurry { level: Level::Revoke }),
        Just(Order::Hurry { level: Level::Kill }),
        Just(Order::Own { ids: vec![id(2)] }),
        Just(Order::Foreign { ids: vec![id(3)] }),
    ];
    prop_oneof![
        6 => (1_usize..12).prop_map(Event::Turns),
        4 => proptest::option::of(fault).prop_map(Event::Fault),
        2 => Just(Event::Crash),
        4 => (1_u64..3000).prop_map(Event::Pass),
        3 => Just(Event::Read),
        1 => Just(Event::StillOld),
        1 => any::<bool>().prop_map(Event::Hold),
        2 => order.prop_map(Event::Order),
        1 => any::<bool>().prop_map(Event::NewWorks),
        1 => any::<bool>().prop_map(Event::Unreachable),
        1 => Just(Event::Approve),
    ]
}

use proptest::strategy::Strategy as Strategy_;

fn happen(sim: &mut Sim, event: &Event) {
    match event {
        Event::Turns(count) => {
            for _ in 0..*count {
                if let Some(Decision::Wait { until, .. }) = sim.turn() {
                    sim.now = sim.now.max(until);
                    sim.view = sim.view.after_wait();
                }
            }
        }
        Event::Fault(fault) => sim.script.push_back(*fault),
        Event::Crash => sim.crash(),
        Event::Pass(minutes) => sim.pass(Duration::from_secs(minutes * 60)),
        Event::Read => {
            let live = sim.world.stores[0].value;
            sim.see("gateway", live, Grade::Used);
        }
        Event::StillOld => sim.see("gateway", 1, Grade::Used),
        Event::Hold(held) => {
            let hold = Hold { since: sim.now, actor: "bob".into(), reason: "keep".into() };
            sim.hold = held.then_some(hold);
        }
        Event::Order(order) => match sim.run.order(order.clone(), "ann", "", sim.now) {
            Ok(_) => sim.order(order.clone()),
            // One that is refused changes nothing.
            Err(refused) => {
                assert!(refused.next.as_ref().is_none_or(|next| takes(&sim.run, next)), "{order:?}: {refused:?}");
            }
        },
        Event::NewWorks(works) => sim.new_works = *works,
        Event::Unreachable(down) => sim.unreachable = *down,
        Event::Approve => sim.approve(ApprovalOf::Prune, "ann"),
    }
}

/// Whether the run takes what a person is told to type.
fn takes(run: &Run, typed: &str) -> bool {
    let words: Vec<&str> = typed.split(' ').collect();
    let Some(["keyholder", "rotate", verb, of]) = words.get(..4) else { return false };
    if *of != run.began().run.to_string() {
        return false;
    }
    let order = match (*verb, &words[4..]) {
        ("resume", []) => Order::Resume,
        ("resume", ["--own", id]) => Order::Own { ids: vec![ManagedId((*id).to_owned())] },
        ("resume", ["--adopt", adopted]) => {
            let Some((store, version)) = adopted.rsplit_once('=') else { return false };
            Order::Adopt { store: store.to_owned(), version: VersionId(version.to_owned()) }
        }
        ("rollback", []) => Order::Rollback,
        ("abort", []) => Order::Abort,
        ("abort", ["--leave"]) => Order::Abandon,
        // agreement is no order, and is always taken
        ("approve", [_, "--reason", "TEXT"]) => return true,
        _ => return false,
    };
    run.takes(&order)
}

fn safe(sim: &Sim, level: Level) -> Result<(), TestCaseError> {
    let platform = &sim.world.platform;
    let strategy = sim.run.began().strategy;
    if level == Level::Regular && strategy != Strategy::Swap {
        for store in &sim.world.stores {
            prop_assert!(platform.accepts(store.value), "a store serves a dead secret: {:?}", sim.world);
        }
    }
    let named = |dead: u32| {
        sim.journal.iter().any(|record| match &record.step {
            Step::Intended { effect: Effect::Prune { id, .. } | Effect::Cleanup { id, .. }, .. } => number(id) == dead,
            _ => false,
        })
    };
    prop_assert!(platform.deleted.iter().all(|dead| named(*dead)), "deleted without a record");
    let intents = |name: &str| {
        let of = |record: &&Record| matches!(&record.step, Step::Intended { effect, .. } if effect.as_str() == name);
        sim.journal.iter().filter(of).count()
    };
    for once in ["create", "regenerate"] {
        prop_assert!(sim.count(once) <= intents(once), "{once} was sent without an intent of its own");
    }
    prop_assert!(platform.next <= 4, "more secrets were made than the budget allows");
    Ok(())
}

/// The world is in order again: faults are over and consumers read what is live.
fn settle_down(sim: &mut Sim) -> Decision {
    sim.script.clear();
    sim.hold = None;
    sim.new_works = true;
    sim.unreachable = false;
    let mut resumed = 0;
    for _ in 0..40 {
        let decision = sim.drive(Duration::from_hours(12));
        match &decision {
            Decision::Ended => return decision,
            Decision::NeedsOperator(_) if resumed < 2 => {
                resumed += 1;
                sim.order(Order::Resume);
            }
            Decision::NeedsOperator(need) => {
                assert!(takes(&sim.run, &need.next), "{need:?}: {:?}", sim.journal);
                return decision;
            }
            _ => {}
        }
        let live = sim.world.stores[0].value;
        sim.see("gateway", live, Grade::Used);
    }
    panic!("the run neither ends nor needs a person: {:?}", sim.journal.last());
}

/// Where a client has several secrets, nobody deletes its last one.
fn sim_of(begin: Begin) -> Sim {
    let mut sim = Sim::new(begin);
    sim.policy.backoff.poll = Duration::from_mins(10);
    sim.world.platform.keeps_last = sim.run.began().strategy == Strategy::Overlap;
    sim
}

fn strategies() -> impl Strategy_<Value = Strategy> {
    prop_oneof![Just(Strategy::Overlap), Just(Strategy::Pair), Just(Strategy::Swap)]
}

fn levels() -> impl Strategy_<Value = Level> {
    prop_oneof![4 => Just(Level::Regular), 1 => Just(Level::Fast), 1 => Just(Level::Revoke), 1 => Just(Level::Kill)]
}

fn cases() -> ProptestConfig {
    let long = std::env::var_os("KEYHOLDER_LONG").is_some_and(|value| value == "1");
    ProptestConfig { cases: if long { 100_000 } else { 3_000 }, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_run_ends_or_needs_a_person(
        strategy in strategies(),
        level in levels(),
        stores in 1_usize..3,
        hooks in 0_usize..2,
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let mut begin = begin_of(strategy, level, stores);
        begin.hooks = (0..hooks).map(|index| format!("hook-{index}")).collect();
        let mut sim = sim_of(begin);
        for event in &events {
            happen(&mut sim, event);
            safe(&sim, sim.run.began().level)?;
        }
        settle_down(&mut sim);
        safe(&sim, sim.run.began().level)?;
        prop_assert_eq!(&Run::replay(&sim.journal).unwrap(), &sim.run);
    }

    /// A journal with a line lost, doubled or moved is an error or another history that is possible; never a panic.
    #[test]
    fn a_damaged_journal_is_an_error(
        strategy in strategies(),
        events in proptest::collection::vec(event(), 1..30),
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
        how in 0_u8..3,
    ) {
        let mut sim = sim_of(begin_of(strategy, Level::Regular, 1));
        for event in &events {
            happen(&mut sim, event);
        }
        settle_down(&mut sim);
        let mut damaged = sim.journal.clone();
        let (one, two) = (first.index(damaged.len()), second.index(damaged.len()));
        let intent = matches!(damaged[one].step, Step::Intended { .. } | Step::Begun(_));
        let answer = matches!(damaged[one].step, Step::Settled { outcome: kh_rotation::Outcome::Created { .. } | kh_rotation::Outcome::Promoted { .. } });
        match how {
            0 => drop(damaged.remove(one)),
            1 => damaged.insert(one, damaged[one].clone()),
            _ => damaged.swap(one, two),
        }
        let replayed = Run::replay(&damaged);
        let last = sim.journal.len() - 1;
        if how < 2 && (intent || answer) && one < last {
            prop_assert!(replayed.is_err(), "record {} of {:?} is not missed: {how}", one, sim.journal);
        }
    }
}
