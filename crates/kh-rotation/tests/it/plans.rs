//! Plans: what would happen is what happens, and what is in the way is said.
//!
//! Invariant: a plan is compared with a run of the same beginning.

use std::time::Duration;

use kh_core::port::{
    Strategy,
    rotation_journal::{Grade, Hold},
};
use kh_rotation::{
    Decision, Level, Look, Plan,
    plan::{Weight, plan},
    policy::Reads,
};

use super::sim::{START, Sim, begin_of, consumer};

/// What a plan is made from.
fn looked(sim: &mut Sim) {
    let by = kh_rotation::Acting::Rotator(kh_core::port::secret_management::Rotator::First);
    sim.look(&Look::Check { by });
    sim.look(&Look::List { by });
    sim.look(&Look::Journal);
    for place in sim.run.began().places.clone() {
        sim.look(&Look::Live { store: place.store });
    }
}

fn planned(sim: &mut Sim) -> Plan {
    looked(sim);
    let plan = plan(sim.run.began(), &sim.view, &sim.policy, sim.now);
    sim.view = kh_rotation::View::default();
    plan
}

fn texts(plan: &Plan, weight: Weight) -> Vec<&str> {
    plan.findings.iter().filter(|found| found.weight == weight).map(|found| found.text.as_str()).collect()
}

#[test]
fn a_plan_is_what_happens() {
    for strategy in [Strategy::Overlap, Strategy::Pair, Strategy::Swap] {
        for level in [Level::Regular, Level::Fast, Level::Revoke, Level::Kill] {
            // Where none can be stopped the last one is not taken away.
            if strategy != Strategy::Pair && level == Level::Kill {
                continue;
            }
            let mut begin = begin_of(strategy, level, 2);
            begin.hooks = vec!["restart".into()];
            let mut sim = Sim::new(begin);
            let plan = planned(&mut sim);
            assert_eq!(texts(&plan, Weight::Obstacle), Vec::<&str>::new(), "{strategy:?} {level:?}");
            let mut last = None;
            for _ in 0..200 {
                sim.see("gateway", sim.world.stores[0].value, Grade::Used);
                last = Some(sim.drive(Duration::from_mins(30)));
                if last == Some(Decision::Ended) {
                    break;
                }
            }
            assert_eq!(last, Some(Decision::Ended), "{strategy:?} {level:?}");
            let words: Vec<_> = plan.effects.iter().map(|effect| effect.effect).collect();
            assert_eq!(words, sim.sent(), "{strategy:?} {level:?}");
            assert!(plan.ends_at.unwrap() <= sim.now);
        }
    }
}

#[test]
fn obstacles_are_told_before_anything_is_changed() {
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Regular, 2));
    sim.obstacles = vec!["the rotator lacks a role".into(), "the store may not be written".into()];
    sim.world.stores[1].value = 9;
    let plan = planned(&mut sim);
    let obstacles = texts(&plan, Weight::Obstacle);
    assert!(obstacles.contains(&"the rotator lacks a role") && obstacles.contains(&"the store may not be written"));
    assert!(obstacles.iter().any(|text| text.starts_with("b serves another secret")), "{obstacles:?}");
    assert!(plan.effects.is_empty());

    let plan = planned(&mut Sim::new(begin_of(Strategy::Overlap, Level::Kill, 1)));
    assert!(texts(&plan, Weight::Obstacle).iter().any(|text| text.contains("the last secret")), "{plan:?}");
    assert!(plan.effects.is_empty());

    let mut begin = begin_of(Strategy::Overlap, Level::Regular, 1);
    begin.platform.active_max = Some(1);
    let plan = planned(&mut Sim::new(begin));
    assert!(texts(&plan, Weight::Obstacle)[0].contains("takes no more"), "{plan:?}");

    let mut sim = Sim::of(Strategy::Swap);
    sim.policy.consumers.push(consumer("cron", Reads::Secret));
    let plan = planned(&mut sim);
    assert!(texts(&plan, Weight::Obstacle)[0].contains("cron reads the secret itself"), "{plan:?}");
}

#[test]
fn warnings_are_told_and_do_not_stop_the_plan() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.policy.consumers.clear();
    sim.policy.approvals.start = 2;
    sim.hold = Some(Hold { since: START, actor: "bob".into(), reason: "migration".into() });
    sim.behind = vec!["eu-west-1".into()];
    let plan = planned(&mut sim);
    let warnings = texts(&plan, Weight::Warning).join("\n");
    for word in ["no consumer is expected", "2 persons", "migration", "eu-west-1"] {
        assert!(warnings.contains(word), "{word}: {warnings}");
    }
    assert!(texts(&plan, Weight::Obstacle).is_empty(), "{plan:?}");
    assert!(plan.effects.iter().any(|effect| effect.what == "delete the old secret s1"));
    assert!(plan.effects.iter().any(|effect| effect.what.ends_with("in a in place of version 10")));
}

#[test]
fn what_was_not_looked_at_is_an_obstacle() {
    let sim = Sim::of(Strategy::Overlap);
    let plan = plan(sim.run.began(), &kh_rotation::View::default(), &sim.policy, sim.now);
    assert!(texts(&plan, Weight::Obstacle)[0].contains("was not read"), "{plan:?}");
}

#[test]
fn a_thousand_credentials_are_planned_with_few_decisions() {
    let mut begin = begin_of(Strategy::Pair, Level::Regular, 3);
    begin.platform.token_life_max_ms = 48 * 3_600_000;
    let mut sim = Sim::new(begin.clone());
    looked(&mut sim);
    for n in 0..1000 {
        begin.credential = format!("credential-{n}").parse().unwrap();
        let plan = plan(&begin, &sim.view, &sim.policy, sim.now);
        assert!(plan.ends_at.is_some());
    }
}
