//! Seeded histories of the real adapters, the real store and the real journal against the sandbox. Each seed is one
//! history; `KEYHOLDER_SEED=n` runs one again.
//!
//! Negative controls: with a rule taken away (compare-and-set, the lease, the evidence, the bound on calls) the same
//! simulation finds a violation.

use std::{sync::Arc, time::Duration};

use kh_core::{Entropy, SeededEntropy, port::RotationJournal};
use kh_rotation::{End, Finding, Outcome, Step};

use super::{
    organisation::{Organisation, Temper, WAYS, Way},
    processes::{Act, Slot, acts, jumps},
    relay::{Counts, Weather},
    world::{RealWorld, Setting, Without, parsed},
};

/// Histories without and with `KEYHOLDER_LONG=1`.
const HISTORIES: u64 = 200;
const HISTORIES_LONG: u64 = 4000;

/// Histories within which a negative control must be noticed.
const CONTROLS: u64 = 60;

/// No history takes longer, in virtual time.
const PATIENCE: Duration = Duration::from_hours(5 * 24);

/// What must have been met, or the simulation proves nothing.
const INTERESTING: [&str; 33] = [
    "killed",
    "killed twice",
    "kept out",
    "taken over",
    "lost",
    "answerlost",
    "late",
    "slowrequest",
    "slowanswer",
    "refused",
    "answeredwrongly",
    "garbled",
    "a late request was applied",
    "a late creation or regeneration was applied",
    "an answer of the store was lost",
    "a clock was set",
    "held",
    "written by hand",
    "a version was adopted",
    "an orphan was found",
    "a create was found not done",
    "a regenerated secret was lost",
    "a regenerate was found not done",
    "an answer of a delete was lost",
    "tokens outlived their secret",
    "tokens died with their secret",
    "completed by pair",
    "completed by swap",
    "completed by keys",
    "completed by secrets",
    "rolled back",
    "aborted",
    "a person was needed",
];

/// What a history was, and what was wrong with it.
pub(crate) struct Report {
    pub(crate) counts: Counts,
    pub(crate) broken: Vec<String>,
    told: String,
}

fn plan_of_people(world: &Arc<RealWorld>, random: &SeededEntropy) {
    let minutes = |minutes: u64| Duration::from_mins(minutes);
    match random.below(6) {
        0 => acts(world, minutes(random.below(60)), Act::Rollback),
        1 => {
            // held before anything is promoted, so that there is something to give up
            acts(world, Duration::ZERO, Act::Hold);
            acts(world, minutes(10 + random.below(60)), Act::Abort);
            acts(world, minutes(120), Act::Unhold);
        }
        2 => {
            let at = random.below(60);
            acts(world, minutes(at), Act::Hold);
            acts(world, minutes(at + random.below(120)), Act::Unhold);
        }
        3 => {
            let place = usize::try_from(random.below(2)).unwrap();
            acts(world, Duration::from_secs(random.below(90)), Act::Rewrite(place));
        }
        _ => {}
    }
}

fn plan_of_machines(world: &Arc<RealWorld>, random: &SeededEntropy) {
    let alone = world.machines.len() == 1;
    for machine in 0..world.machines.len() {
        // two machines differ by less than the skew that is allowed for
        for _ in 0..random.below(3) {
            let at = Duration::from_secs(random.below(3600));
            let far = random.below(3) == 0 && alone;
            let by = if far { 3_600_000 } else { 2_000 };
            let by = i64::try_from(random.below(by)).unwrap();
            jumps(world, at, machine, if random.below(2) == 0 { by } else { -by });
            if !far {
                break;
            }
        }
    }
}

fn boundaries(slot: &Slot, random: &SeededEntropy, without: Without) {
    let crashes = (0..random.below(4)).map(|_| 1 + random.below(60)).collect();
    slot.gate.crash_at(crashes);
    let (one_in, most) = if random.below(10) == 0 { (2, 12) } else { (8, 3) };
    slot.gate.with_faults(random.below(u64::MAX), one_in, most);
    // a machine that is suspended, or a process that is stopped, at a record: the lease may be over when it goes on
    let stage = Arc::clone(&slot.world.stage);
    let pauses = SeededEntropy::new(random.below(u64::MAX));
    // a control is about exactly this, so that it happens more often there
    let (at, one_in, most) =
        if without == Without::Lease { ("rotation.intend, after", 5, 900) } else { ("rotation.", 12, 260) };
    slot.gate.pause(Box::new(move |what| {
        if !what.starts_with(at) || pauses.below(one_in) != 0 {
            return None;
        }
        let (stage, span) = (Arc::clone(&stage), Duration::from_secs(pauses.below(most)));
        Some(Box::pin(async move { stage.rest(span).await }))
    }));
}

async fn history(organisation: &Arc<Organisation>, seed: u64, way: Way, without: Without) -> Report {
    let random = SeededEntropy::new(seed);
    let processes = if without == Without::Lease { 2 } else { 1 + usize::try_from(random.below(2)).unwrap() };
    let late_max = RealWorld::late_max(without);
    // mostly a change in four goes wrong; sometimes nearly everything does, until a person is needed
    let weather = if random.below(10) == 0 {
        Weather::new(seed, 2, 20, late_max)
    } else {
        Weather::new(seed, 4, 1 + u32::try_from(random.below(5)).unwrap(), late_max)
    };
    let setting = Setting { seed, way, without, processes, weather };
    let world = RealWorld::new(organisation, setting).await;
    for number in 0..processes {
        let slot = Slot::new(&world, number).await;
        boundaries(&slot, &random, without);
        world.stage.enter(Duration::from_secs(random.below(20)), slot.live());
    }
    plan_of_people(&world, &random);
    plan_of_machines(&world, &random);
    world.stage.enter(Duration::ZERO, Arc::clone(&world).consume());
    let over = Arc::clone(&world);
    let done = move || over.over.load(std::sync::atomic::Ordering::SeqCst) && over.on_their_way(0) == 0;
    if !world.stage.play(PATIENCE, done).await {
        world.wrong("it never ends".to_owned());
    }
    world.stage.clear();
    let end = world.end.lock().unwrap().clone();
    count(&world, end.as_ref()).await;
    world.settle().await;
    let counts = world.tally.0.lock().unwrap().clone();
    let broken = world.broken.lock().unwrap().clone();
    let lives = world.boots.load(std::sync::atomic::Ordering::SeqCst);
    let told = format!("seed {seed}: {way:?}, {processes} rotators, {lives} lives, {end:?}");
    Report { counts, broken, told }
}

async fn count(world: &RealWorld, end: Option<&End>) {
    let tally = &world.tally;
    match end {
        Some(End::Completed { .. }) => tally.add(&format!("completed by {:?}", world.way).to_lowercase()),
        Some(End::RolledBack { .. }) => tally.add("rolled back"),
        Some(End::Aborted { .. }) => tally.add("aborted"),
        Some(End::Killed | End::Abandoned { .. }) | None => {}
    }
    for stored in world.side.runs(Some(&world.credential), 10).await.unwrap() {
        let mut effect = String::new();
        for record in parsed(&stored) {
            match record.step {
                Step::Intended { effect: intended, .. } => intended.as_str().clone_into(&mut effect),
                Step::Resolved { finding: Finding::Orphans { .. } } | Step::Orphaned { .. } => {
                    tally.add("an orphan was found");
                }
                Step::Resolved { finding: Finding::Lost } => tally.add("a regenerated secret was lost"),
                Step::Resolved { finding: Finding::NotDone } if effect == "create" => {
                    tally.add("a create was found not done");
                }
                Step::Resolved { finding: Finding::NotDone } if effect == "regenerate" => {
                    tally.add("a regenerate was found not done");
                }
                Step::Settled { outcome: Outcome::Unknown { .. } } if effect == "prune" || effect == "cleanup" => {
                    tally.add("an answer of a delete was lost");
                }
                Step::OldTokens { alive: true } => tally.add("tokens outlived their secret"),
                Step::OldTokens { alive: false } => tally.add("tokens died with their secret"),
                _ => {}
            }
        }
    }
}

fn temper(seed: u64) -> Temper {
    if seed.is_multiple_of(2) { Temper::Prompt } else { Temper::Lagging }
}

fn way(seed: u64) -> Way {
    WAYS[usize::try_from(seed / 2 % 4).unwrap()]
}

/// Runs seeds of one temper on a thread of its own, with a sandbox of its own.
fn seeds(temper: Temper, seeds: Vec<u64>) -> Vec<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let organisation = Arc::new(Organisation::start(temper).await);
        let mut reports = Vec::new();
        for seed in seeds {
            reports.push(history(&organisation, seed, way(seed), Without::Nothing).await);
        }
        reports
    })
}

#[test]
fn histories_of_the_real_adapters_end_well_and_reach_the_interesting_cases() {
    let one: Option<u64> = std::env::var("KEYHOLDER_SEED").ok().and_then(|seed| seed.parse().ok());
    let long = std::env::var("KEYHOLDER_LONG").is_ok();
    let histories = if long { HISTORIES_LONG } else { HISTORIES };
    let all: Vec<u64> = one.map_or_else(|| (0..histories).collect(), |seed| vec![seed]);
    let threads = [Temper::Prompt, Temper::Lagging].map(|which| {
        let mine: Vec<_> = all.iter().copied().filter(|seed| temper(*seed) == which).collect();
        std::thread::spawn(move || seeds(which, mine))
    });
    let reports: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let mut counts = Counts::new();
    let mut broken = Vec::new();
    for report in &reports {
        for (what, many) in &report.counts {
            *counts.entry(what.clone()).or_default() += many;
        }
        broken.extend(report.broken.iter().map(|what| format!("{}: {what}", report.told)));
    }
    if one.is_some() {
        for report in &reports {
            println!("{}: {:#?}", report.told, report.counts);
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    if one.is_none() {
        println!("{histories} histories, seeds 0 to {}: {counts:#?}", histories - 1);
        let missed: Vec<_> = INTERESTING.iter().filter(|what| !counts.contains_key(**what)).collect();
        assert!(missed.is_empty(), "it never happened that {missed:?}: {counts:#?}");
    }
}

/// Whether the simulation notices that a rule is missing.
async fn noticed(organisation: &Arc<Organisation>, without: Without, way: Way, word: &str) {
    for seed in 0..CONTROLS {
        let report = history(organisation, 50_000 + seed, way, without).await;
        if let Some(found) = report.broken.iter().find(|broken| broken.contains(word)) {
            println!("without {without:?}: history {seed} shows that {found}");
            return;
        }
    }
    panic!("{CONTROLS} histories without {without:?} show nothing wrong");
}

#[tokio::test]
async fn without_one_of_its_rules_the_simulation_finds_a_violation() {
    let organisation = Arc::new(Organisation::start(Temper::Prompt).await);
    noticed(&organisation, Without::CompareAndSet, Way::Pair, "was looked at").await;
    noticed(&organisation, Without::Lease, Way::Swap, "").await;
    noticed(&organisation, Without::Evidence, Way::Secrets, "could not log in").await;
    noticed(&organisation, Without::BoundOnCalls, Way::Swap, "").await;
}
