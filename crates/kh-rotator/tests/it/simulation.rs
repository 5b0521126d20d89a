//! Seeded histories: crashes, lost requests, lost answers, refusals, and persons who act, on the real core, the real
//! journal and every strategy. Each seed is one history; a failing one is run again by its number.

use std::{collections::BTreeMap, time::Duration};

use kh_core::{
    Entropy, SeededEntropy,
    port::{RotationJournal, Strategy},
};
use kh_rotation::{End, Finding, Order, Outcome, Record, Step};
use kh_rotator::{Standing, Wanted};

use crate::world::{Act, START, World};

/// Histories without and with `KEYHOLDER_LONG=1`.
const HISTORIES: u64 = 240;
const HISTORIES_LONG: u64 = 5000;

/// What must have been met, or the simulation proves nothing.
const INTERESTING: [&str; 14] = [
    "killed",
    "killed twice",
    "an orphan was found",
    "a create was found not done",
    "a regenerated secret was lost",
    "a regenerate was found not done",
    "an answer of a store was lost",
    "an answer of a delete was lost",
    "a hook was called again",
    "rolled back",
    "aborted",
    "completed",
    "held",
    "a person was needed",
];

type Counts = BTreeMap<String, u64>;

async fn history(seed: u64, counts: &mut Counts) {
    let random = SeededEntropy::new(seed);
    let strategy = [Strategy::Overlap, Strategy::Pair, Strategy::Swap][usize::try_from(random.below(3)).unwrap()];
    let world = World::new(strategy, seed);
    let crashes = (0..random.below(4)).map(|_| 1 + random.below(70)).collect();
    world.gate.crash_at(crashes);
    // mostly a call in six goes wrong; sometimes nearly everything does, until a person is needed
    if random.below(10) == 0 {
        world.gate.with_faults(seed, 2, 16);
    } else {
        world.gate.with_faults(seed, 6, u32::try_from(random.below(5)).unwrap());
    }
    let minutes = |minutes| START.plus(Duration::from_mins(minutes));
    let aborted = random.below(6);
    if aborted > 1 && random.below(4) == 0 {
        let at = random.below(60);
        let lifted = at + random.below(120);
        world.acts.lock().unwrap().extend([(minutes(at), Act::Hold), (minutes(lifted), Act::Unhold)]);
    }
    match aborted {
        0 => world.acts.lock().unwrap().push((minutes(random.below(60)), Act::Order(Order::Rollback))),
        1 => {
            // held before anything is promoted, so that there is something to give up
            let act = (minutes(10 + random.below(60)), Act::Order(Order::Abort));
            world.act(Act::Hold).await.unwrap();
            world.acts.lock().unwrap().extend([act, (minutes(120), Act::Unhold)]);
        }
        _ => {}
    }
    let mut needed = 0;
    let mut lives = 0;
    let end = loop {
        let (standing, lived) = world.until_standing(&Wanted::scheduled()).await;
        lives += lived;
        match standing {
            Standing::Ended(end) => break end,
            Standing::Waiting { .. } => panic!("seed {seed}: it does not wait for itself"),
            Standing::NeedsOperator(need) => {
                needed += 1;
                assert!(needed < 6, "seed {seed}: {need:?} again and again");
                world.pass_until(world.now().plus(Duration::from_mins(30))).await;
                // the person types what the run says; where that is not taken any more, the run is left as it stands
                let said = if need.next.contains(" abort ") { Order::Abort } else { Order::Resume };
                if world.act(Act::Order(said)).await.is_err() {
                    world.act(Act::Order(Order::Abandon)).await.unwrap();
                }
            }
        }
    };
    println!("seed {seed}: {strategy:?}, {lives} lives, {end:?}");
    if matches!(end, End::Abandoned { .. }) {
        assert_eq!(world.gate.broken(), <[String; 0]>::default(), "seed {seed}");
    } else {
        world.check(&end).await;
    }
    count(&world, &end, lives, needed, counts).await;
}

async fn count(world: &World, end: &End, lives: u32, needed: u32, counts: &mut Counts) {
    let mut met = |what: &str, so: bool| *counts.entry(what.to_owned()).or_default() += u64::from(so);
    met("killed", lives > 1);
    met("killed twice", lives > 2);
    met("a person was needed", needed > 0);
    met("completed", matches!(end, End::Completed { .. }));
    met("rolled back", matches!(end, End::RolledBack { .. }));
    met("aborted", matches!(end, End::Aborted { .. }));
    let stored = world.side.runs(Some(&world.credential), 1).await.unwrap().remove(0);
    let mut effect = String::new();
    let mut hooks = 0;
    for stored in &stored.records {
        match Record::parse(&stored.record).unwrap().step {
            Step::Intended { effect: intended, .. } => {
                effect = intended.as_str().to_owned();
                hooks += u32::from(effect == "hook");
            }
            Step::Resolved { finding: Finding::Orphans { .. } } | Step::Orphaned { .. } => {
                met("an orphan was found", true);
            }
            Step::Resolved { finding: Finding::Lost } => met("a regenerated secret was lost", true),
            Step::Resolved { finding: Finding::NotDone } if effect == "create" => {
                met("a create was found not done", true);
            }
            Step::Resolved { finding: Finding::NotDone } => met("a regenerate was found not done", true),
            Step::Settled { outcome: Outcome::Unknown { .. } } if effect == "prune" || effect == "cleanup" => {
                met("an answer of a delete was lost", true);
            }
            Step::Settled { outcome: Outcome::Unknown { .. } } if effect == "promote" || effect == "stage" => {
                met("an answer of a store was lost", true);
            }
            _ => {}
        }
    }
    met("a hook was called again", hooks > 1);
    let audit = world.audit.0.lock().unwrap();
    met("held", audit.iter().any(|event| event.action == "rotation.hold"));
}

#[tokio::test]
async fn seeded_histories_end_well_and_reach_the_interesting_cases() {
    let long = std::env::var("KEYHOLDER_LONG").is_ok();
    let one: Option<u64> = std::env::var("KEYHOLDER_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut counts = Counts::new();
    if let Some(seed) = one {
        history(seed, &mut counts).await;
        return;
    }
    let histories = if long { HISTORIES_LONG } else { HISTORIES };
    for seed in 0..histories {
        history(seed, &mut counts).await;
    }
    println!("{histories} histories, seeds 0 to {}: {counts:#?}", histories - 1);
    for what in INTERESTING {
        assert!(counts.get(what).copied().unwrap_or(0) > 0, "it never happened that {what}");
    }
}
