//! Stores that somebody else changed in the middle of a run.
//!
//! Invariant: each command that a person is told is one that the run takes, and that leads on.

use std::time::Duration;

use kh_core::port::{Strategy, rotation_journal::Grade};
use kh_rotation::{Decision, End, Level, Need, Order, State, Step};

use super::{
    sim::{Fault, Sim, begin_of},
    world::version,
};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

fn alive(sim: &Sim) -> Vec<u32> {
    sim.world.platform.secrets.iter().filter(|secret| secret.active).map(|secret| secret.value).collect()
}

fn need(decision: Decision) -> Need {
    match decision {
        Decision::NeedsOperator(need) => need,
        other => panic!("{other:?}"),
    }
}

/// Somebody deleted the old secret on the platform: no resume brings it back.
#[test]
fn a_rollback_to_a_secret_that_is_gone_is_told_how_to_end() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.drive(MINUTE);
    assert_eq!(sim.run.state(), State::Overlap);
    sim.world.platform.secrets.retain(|secret| secret.id != 1);
    sim.order(Order::Rollback);
    let gone = need(sim.drive(HOUR));
    assert!(gone.why.contains("rotate abort") && gone.why.contains("--leave"), "{gone:?}");
    assert!(gone.why.ends_with("every store keeps the new one"), "{gone:?}");
    sim.order(Order::Abandon);
    assert_eq!(sim.drive(MINUTE), Decision::Ended);
    assert_eq!((sim.world.stores[0].value, alive(&sim)), (2, vec![2]));
}

/// The only secret that works is in escrow, which the end of the run forgets.
#[test]
fn a_rollback_to_a_secret_that_is_gone_tells_of_stores_that_serve_it() {
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Regular, 2));
    while sim.count("promote") < 2 {
        if sim.count("promote") == 1 && sim.faults.is_empty() {
            sim.faults.push_back(("promote", Fault::NotDone));
        }
        if let Some(Decision::Wait { until, .. }) = sim.turn() {
            sim.now = until;
            sim.view = sim.view.after_wait();
        }
    }
    assert_eq!((sim.world.stores[0].value, sim.world.stores[1].value), (2, 1));
    sim.world.platform.secrets.retain(|secret| secret.id != 1);
    sim.order(Order::Rollback);
    let gone = need(sim.drive(HOUR));
    assert!(gone.why.contains("--leave") && gone.why.contains("set by hand"), "{gone:?}");
}

/// A document that somebody removed has no version that could be adopted.
#[test]
fn a_store_whose_document_was_removed_is_a_persons_to_fill() {
    let mut sim = Sim::of(Strategy::Overlap);
    while !sim.journal.iter().any(|record| matches!(record.step, Step::Verified { .. })) {
        if let Some(Decision::Wait { until, .. }) = sim.turn() {
            sim.now = until;
            sim.view = sim.view.after_wait();
        }
    }
    sim.world.stores[0].version = 0;
    let resume = format!("keyholder rotate resume {}", sim.run.began().run);
    let empty = need(sim.drive(MINUTE));
    assert!(empty.why.contains("a has no document any more"), "{empty:?}");
    assert_eq!(empty.next, resume);
    sim.order(Order::Resume);
    assert_eq!(need(sim.drive(MINUTE)), empty, "it is still empty");
    // where a document is made anew, what was staged beside the one before it is gone
    sim.world.stores[0].version = 12;
    sim.world.stores[0].staged.clear();
    sim.order(Order::Resume);
    assert_eq!(need(sim.drive(MINUTE)).next, format!("{resume} --adopt a=12"));
    sim.order(Order::Adopt { store: "a".into(), version: version(12) });
    sim.drive(MINUTE);
    assert_eq!(sim.sent().split_off(1), ["stage", "promote", "stage", "promote"]);
    assert_eq!((sim.run.state(), alive(&sim)), (State::Overlap, vec![1, 2]));
    // on the way back it is the old one that is wanted
    sim.world.stores[0].version = 0;
    sim.order(Order::Rollback);
    let empty = need(sim.drive(MINUTE));
    assert!(empty.why.contains("write the old one there again, or end the run with `keyholder"), "{empty:?}");
    assert_eq!(empty.next, resume);
    (sim.world.stores[0].version, sim.world.stores[0].value) = (20, 1);
    sim.order(Order::Resume);
    sim.drive(HOUR);
    sim.see("gateway", 1, Grade::Used);
    assert_eq!(sim.drive(3 * DAY), Decision::Ended);
    assert_eq!((alive(&sim), sim.end()), (vec![1], Some(&End::RolledBack { unknown: vec![] })));
}
