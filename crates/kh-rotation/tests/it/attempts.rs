//! Runs whose attempts to make a secret come to nothing, told as stories.
//!
//! Invariant: what was made and is not used is deleted again, or told to a person.

use std::time::Duration;

use kh_core::port::Strategy;
use kh_rotation::{Decision, End, Level, Order, Why};

use super::{
    scenarios::alive,
    sim::{Fault, Sim, begin_of},
    world::id,
};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

#[test]
fn a_lost_create_is_found_by_the_list_and_deleted() {
    for (fault, creates) in
        [(Fault::LostAnswer, 2), (Fault::CrashAfter, 2), (Fault::LostRequest, 2), (Fault::CrashBefore, 1)]
    {
        let mut sim = Sim::of(Strategy::Overlap);
        sim.faults.push_back(("create", fault));
        let decision = sim.drive(10 * MINUTE);
        assert!(matches!(decision, Decision::Wait { why: Why::Consumers(_), .. }), "{fault:?}: {decision:?}");
        assert_eq!(sim.count("create"), creates, "{fault:?}");
        assert_eq!(alive(&sim).len(), 2, "{fault:?}: nothing is left over");
        let orphaned = matches!(fault, Fault::LostAnswer | Fault::CrashAfter);
        assert_eq!(sim.count("cleanup"), usize::from(orphaned), "{fault:?}");
        assert_eq!(sim.world.platform.deleted, if orphaned { vec![2] } else { vec![] }, "{fault:?}");
    }
}

#[test]
fn a_nameless_secret_after_a_lost_create_is_a_persons_to_judge() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.names = false;
    sim.faults.push_back(("create", Fault::LostAnswer));
    let decision = sim.drive(10 * MINUTE);
    let Decision::NeedsOperator(need) = decision else { panic!("{decision:?}") };
    assert_eq!(need.next, format!("keyholder rotate resume {} --own s2", sim.run.began().run));
    assert_eq!(alive(&sim), [1, 2]);
    sim.order(Order::Own { ids: vec![id(2)] });
    sim.drive(10 * MINUTE);
    assert_eq!(alive(&sim), [1, 3]);
}

#[test]
fn the_budget_ends_a_loop_of_creates() {
    let mut sim = Sim::of(Strategy::Overlap);
    for _ in 0..9 {
        sim.faults.push_back(("create", Fault::LostAnswer));
        sim.faults.push_back(("cleanup", Fault::LostAnswer));
    }
    let decision = sim.drive(10 * DAY);
    let Decision::NeedsOperator(need) = decision else { panic!("{decision:?}") };
    assert!(need.why.contains("2 attempts"), "{need:?}");
    assert_eq!(sim.count("create"), 2);
    assert_eq!(alive(&sim), [1]);
    sim.order(Order::Abort);
    assert_eq!(sim.drive(HOUR), Decision::Ended);
    assert_eq!(sim.end(), Some(&End::Aborted { unknown: vec![] }));
}

#[test]
fn a_swap_whose_every_answer_was_lost_is_given_up_by_a_command_that_the_run_takes() {
    let mut sim = Sim::of(Strategy::Swap);
    for _ in 0..9 {
        sim.faults.push_back(("regenerate", Fault::LostAnswer));
    }
    let decision = sim.drive(10 * DAY);
    let Decision::NeedsOperator(need) = decision else { panic!("{decision:?}") };
    assert!(need.why.contains("2 attempts") && need.why.contains("the old secret is dead"), "{need:?}");
    assert!(need.next.ends_with(" --leave"), "there is nothing to go back to: {need:?}");
    sim.order(Order::Abandon);
    assert_eq!(sim.drive(HOUR), Decision::Ended);
}

#[test]
fn a_secret_that_never_works_is_deleted_again() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.new_works = false;
    let decision = sim.drive(DAY);
    assert!(matches!(decision, Decision::NeedsOperator(_)), "{decision:?}");
    assert_eq!((alive(&sim), sim.count("promote")), (vec![1], 0));
    assert_eq!(sim.world.platform.deleted, [2, 3]);
}

#[test]
fn orphans_of_earlier_runs_are_reaped_and_nobody_elses() {
    let mut begin = begin_of(Strategy::Overlap, Level::Regular, 1);
    let lost = kh_core::rotation::RunId(uuid::Uuid::from_u128(5));
    let other = kh_core::rotation::RunId(uuid::Uuid::from_u128(6));
    begin.earlier = vec![kh_rotation::Earlier { run: lost, created: vec![], intents: vec![] }];
    let mut sim = Sim::new(begin);
    let secret = |n, label| super::world::Secret { id: n, value: n, active: true, label: Some(label) };
    sim.world.platform.secrets.push(secret(50, kh_rotation::label(lost, 1)));
    sim.world.platform.secrets.push(secret(51, kh_rotation::label(other, 1)));
    sim.world.platform.next = 60;
    sim.world.platform.active_max = 9;
    sim.drive(MINUTE);
    assert_eq!(sim.world.platform.deleted, [50]);
    assert!(alive(&sim).contains(&51), "another credential's run made it");
}
