//! Whole runs, told as stories.
//!
//! Invariant: each story ends with what is alive on the platform and what the stores serve.

use std::time::Duration;

use kh_core::port::{
    Strategy,
    rotation_journal::{ApprovalOf, Grade, Hold},
};
use kh_rotation::{
    Block, Decision, End, Level, Order, State, Step, Why,
    policy::{Calendar, Reads, Span, Waiver},
};

use super::{
    sim::{Fault, Sim, begin_of, consumer},
    world::id,
};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Until the new secret is live; then the gateway takes it up, a day passes, and the run ends.
fn to_overlap(sim: &mut Sim) {
    let decision = sim.drive(MINUTE);
    assert!(matches!(decision, Decision::Wait { why: Why::Consumers(_), .. }), "{decision:?}");
    assert_eq!(sim.run.state(), State::Overlap);
}

fn blocks(decision: &Decision) -> Vec<Block> {
    match decision {
        Decision::Wait { why: Why::Consumers(blocks), .. } => blocks.clone(),
        other => panic!("not waiting for consumers: {other:?}"),
    }
}

pub(crate) fn alive(sim: &Sim) -> Vec<u32> {
    sim.world.platform.secrets.iter().filter(|secret| secret.active).map(|secret| secret.value).collect()
}

#[test]
fn overlap_from_plan_to_completion() {
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Regular, 2));
    to_overlap(&mut sim);
    assert_eq!(sim.sent(), ["create", "stage", "stage", "promote", "promote"]);
    assert_eq!(alive(&sim), [1, 2]);
    sim.pass(HOUR);
    sim.see("gateway", 2, Grade::Used);
    let decision = sim.drive(HOUR);
    assert!(matches!(blocks(&decision)[..], [Block::Overlap { .. }]), "{decision:?}");
    assert_eq!(sim.drive(2 * DAY), Decision::Ended);
    assert_eq!(sim.sent().split_off(5), ["prune"]);
    assert_eq!(alive(&sim), [2]);
    assert_eq!(sim.end(), Some(&End::Completed { unknown: vec![] }));
    assert_eq!(sim.run.basis().unwrap().evidence[0].consumer, "gateway");
}

#[test]
fn a_pair_is_stopped_watched_and_then_deleted() {
    let mut sim = Sim::of(Strategy::Pair);
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    let decision = sim.drive(DAY + MINUTE);
    assert!(matches!(decision, Decision::Wait { why: Why::Watch, .. }), "{decision:?}");
    assert_eq!(sim.run.state(), State::Stopped);
    assert_eq!(alive(&sim), [2]);
    assert_eq!(sim.world.platform.secrets.len(), 2, "stopped, not deleted");
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent(), ["create", "stage", "promote", "stop", "prune"]);
}

#[test]
fn who_misses_a_stopped_secret_gets_it_back() {
    let mut sim = Sim::of(Strategy::Pair);
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    sim.drive(DAY + MINUTE);
    assert_eq!(sim.run.state(), State::Stopped);
    sim.see("nightly-job", 1, Grade::Fetched);
    let decision = sim.drive(10 * MINUTE);
    assert!(alive(&sim).contains(&1), "started again: {decision:?}");
    assert_eq!(sim.run.state(), State::NeedsOperator);
    assert!(sim.run.need().unwrap().why.contains("nightly-job"));
    assert_eq!(sim.run.need().unwrap().next, format!("keyholder rotate rollback {}", sim.run.began().run));
    assert!(blocks(&decision).iter().any(|block| matches!(block, Block::StillUsed { .. })));
}

/// Cloudflare, 2025-03-21: the new secret went to another environment's store, the old one was deleted by plan.
#[test]
fn a_secret_deployed_to_the_wrong_environment_is_never_pruned() {
    let mut sim = Sim::of(Strategy::Overlap);
    // The store that is configured takes the new secret, and nothing reads it: the gateway goes on with the old one.
    to_overlap(&mut sim);
    for _ in 0..30 {
        sim.see("gateway", 1, Grade::Used);
        let found = blocks(&sim.drive(HOUR));
        assert!(found.iter().any(|block| matches!(block, Block::StillUsed { .. })), "{found:?}");
        let found = blocks(&sim.drive(23 * HOUR));
        assert!(found.contains(&Block::Unseen { consumer: "gateway".into() }), "{found:?}");
    }
    assert_eq!(alive(&sim), [1, 2], "a month later the old secret still works");
    assert_eq!(sim.run.state(), State::NeedsOperator, "and it alarmed");
    assert!(sim.run.need().unwrap().next.contains("rotate approve"), "{:?}", sim.run.need());
    // Deployed to the right place at last, it goes on by itself.
    sim.see("gateway", 2, Grade::Used);
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(alive(&sim), [2]);
}

#[test]
fn silence_is_no_evidence() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.policy.backoff.poll = HOUR / 2;
    to_overlap(&mut sim);
    for _ in 0..100 {
        let blocks = blocks(&sim.drive(DAY));
        assert!(blocks.contains(&Block::NoConsumer), "{blocks:?}");
    }
    assert_eq!(alive(&sim), [1, 2]);
    // Nor is a cache time that has passed, where nobody was ever seen.
    let mut sim = Sim::of(Strategy::Overlap);
    sim.policy.consumers = vec![consumer("cron", Reads::Secret)];
    sim.policy.consumers[0].grade_min = Grade::Ttl;
    to_overlap(&mut sim);
    let blocks = blocks(&sim.drive(9 * DAY));
    assert_eq!(blocks, [Block::NoConsumer]);
    assert_eq!(alive(&sim), [1, 2]);
}

/// A gateway finds the new secret in the first store and logs in with it, then it becomes live in the last one; its token
/// lasts for a day, so that it is not seen again.
#[test]
fn who_moved_over_before_the_last_store_was_written_need_not_log_in_again() {
    let moved = |alive: Duration| {
        let mut sim = Sim::of(Strategy::Overlap);
        to_overlap(&mut sim);
        sim.see("gateway", 2, Grade::Used);
        sim.sightings[0].at = sim.run.promoted_at().unwrap().minus(MINUTE);
        sim.sightings[0].alive_until = sim.now.plus(alive);
        sim
    };
    let mut sim = moved(3 * DAY);
    assert_eq!(sim.drive(2 * DAY), Decision::Ended);
    assert_eq!(alive(&sim), [2]);
    // One that is gone proves nothing, and neither does one that went back.
    let unseen = Block::Unseen { consumer: "gateway".into() };
    assert!(blocks(&moved(HOUR).drive(2 * DAY)).contains(&unseen));
    let mut sim = moved(9 * DAY);
    sim.see("gateway", 1, Grade::Used);
    assert!(blocks(&sim.drive(2 * DAY)).contains(&unseen));
    assert_eq!(alive(&sim), [1, 2]);
}

/// Azure AD, 2021-03-15: automation removed a key that was marked to be kept.
#[test]
fn a_hold_is_never_ignored() {
    let hold = |sim: &Sim| Some(Hold { since: sim.now, actor: "bob".into(), reason: "migration".into() });
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    sim.hold = hold(&sim);
    let decision = sim.drive(30 * DAY);
    assert!(
        matches!(&decision, Decision::Wait { why: Why::Hold(reason), .. } if reason == "migration"),
        "{decision:?}"
    );
    assert_eq!(alive(&sim), [1, 2]);
    // Placed between the look and the write, it is the transaction that refuses.
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    sim.now = sim.now.plus(DAY);
    sim.view = sim.view.after_wait();
    loop {
        let next = kh_rotation::decide(&sim.run, &sim.view, &sim.policy, sim.now);
        if let Decision::Record(entry) = &next
            && entry.intends()
        {
            assert!(entry.unless_held, "the prune's intent is written under the hold's check");
            break;
        }
        assert!(sim.turn().is_none(), "{next:?}");
    }
    sim.hold = hold(&sim);
    assert!(sim.turn().is_none());
    let decision = sim.drive(30 * DAY);
    assert!(matches!(decision, Decision::Wait { why: Why::Hold(_), .. }), "{decision:?}");
    assert_eq!((alive(&sim), sim.count("prune")), (vec![1, 2], 0));
    // An emergency does not pass it either.
    let mut sim = Sim::new(begin_of(Strategy::Pair, Level::Kill, 1));
    sim.hold = hold(&sim);
    let decision = sim.drive(HOUR);
    assert!(matches!(decision, Decision::Wait { why: Why::Hold(_), .. }), "{decision:?}");
    sim.hold = None;
    assert_eq!(sim.drive(HOUR), Decision::Ended);
    assert_eq!((alive(&sim), sim.end()), (vec![], Some(&End::Killed)));
}

#[test]
fn a_person_may_override_missing_evidence_and_it_is_on_record() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.policy.approvals.prune = 2;
    to_overlap(&mut sim);
    sim.drive(2 * DAY);
    sim.approve(ApprovalOf::Prune, "ann");
    sim.approve(ApprovalOf::Prune, "ann");
    assert!(!blocks(&sim.drive(DAY)).is_empty(), "one person twice is one person");
    sim.approve(ApprovalOf::Prune, "bob");
    assert_eq!(sim.drive(DAY), Decision::Ended);
    let basis = sim.run.basis().unwrap();
    assert_eq!(basis.by, ["ann", "bob"]);
    assert!(basis.overridden.iter().any(|line| line.contains("gateway")), "{basis:?}");
}

#[test]
fn what_is_wrong_cannot_be_overridden() {
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    sim.approve(ApprovalOf::Prune, "ann");
    sim.see("gateway", 2, Grade::Used);
    sim.behind = vec!["eu-west-1".into()];
    let found = blocks(&sim.drive(2 * DAY));
    assert!(matches!(&found[..], [Block::Behind { region, .. }] if region == "eu-west-1"), "{found:?}");
    sim.behind.clear();
    sim.world.stores[0].value = 1;
    let found = blocks(&sim.drive(DAY));
    assert!(found.contains(&Block::NotLive { store: "a".into() }), "{found:?}");
    sim.world.stores[0].value = 2;
    sim.new_works = false;
    let found = blocks(&sim.drive(DAY));
    assert!(found.iter().any(|block| matches!(block, Block::Unverified { .. })), "{found:?}");
    sim.new_works = true;
    sim.world.platform.secrets.push(super::world::Secret {
        id: 99,
        value: 99,
        active: true,
        label: Some("by hand".into()),
    });
    let found = blocks(&sim.drive(DAY));
    assert_eq!(found, [Block::Stranger { id: id(99) }]);
    sim.order(Order::Foreign { ids: vec![id(99)] });
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(alive(&sim), [2, 99], "a stranger is left alone");
}

#[test]
fn uses_that_the_platform_counts_block_the_prune() {
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    sim.uses = Some(3);
    assert_eq!(blocks(&sim.drive(2 * DAY)), [Block::Counted { uses: 3 }]);
    sim.uses = None;
    assert_eq!(sim.drive(DAY), Decision::Ended);
}

#[test]
fn a_waiver_stands_for_a_consumer_that_is_never_seen() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.policy.consumers.push(consumer("legacy", Reads::Secret));
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    assert_eq!(blocks(&sim.drive(2 * DAY)), [Block::Unseen { consumer: "legacy".into() }]);
    sim.policy.consumers[1].waived = Some(Waiver { by: "ann".into(), reason: "switched off in May".into() });
    assert_eq!(sim.drive(DAY), Decision::Ended);
}

#[test]
fn one_replica_on_the_old_secret_is_enough_to_wait() {
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    sim.see("gateway/1", 2, Grade::Used);
    sim.see("gateway/2", 1, Grade::Used);
    sim.sightings[1].alive_until = sim.now.plus(3 * DAY);
    let found = blocks(&sim.drive(2 * DAY));
    assert!(matches!(&found[..], [Block::StillUsed { consumer, .. }] if consumer == "gateway/2"), "{found:?}");
    // A replica that is gone, and was not seen for the quiet time, blocks no more.
    assert_eq!(sim.drive(3 * DAY), Decision::Ended);
}

/// When the promotion is sent for the `count`th time.
fn promoted_again(sim: &mut Sim, count: usize) -> kh_core::UnixMillis {
    while sim.count("promote") < count {
        match sim.turn() {
            Some(Decision::Wait { until, .. }) => {
                sim.now = until;
                sim.view = sim.view.after_wait();
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    sim.now
}

/// A proxy before a store counts by the day, or its clock is in another time zone.
#[test]
fn who_asks_for_a_wait_of_days_is_asked_again_within_the_hour() {
    let most = kh_rotation::Policy::default().backoff.most;
    let cases = [
        (Strategy::Overlap, Level::Regular, 7 * DAY, HOUR),
        (Strategy::Overlap, Level::Regular, HOUR / 2, HOUR / 2),
        (Strategy::Overlap, Level::Revoke, 7 * DAY, most),
        // nobody can log in meanwhile
        (Strategy::Swap, Level::Regular, 7 * DAY, most),
        (Strategy::Swap, Level::Regular, MINUTE, MINUTE),
    ];
    for (strategy, level, asked, waited) in cases {
        let mut sim = Sim::new(begin_of(strategy, level, 1));
        sim.faults.push_back(("promote", Fault::Throttled(asked)));
        let refused_at = promoted_again(&mut sim, 1);
        let again_at = promoted_again(&mut sim, 2);
        assert_eq!(again_at.since(refused_at), waited, "{strategy:?}, {level:?}: {asked:?}");
        assert!(sim.run.promoted_at().is_some());
    }
}

#[test]
fn somebody_elses_write_is_a_persons_to_judge() {
    let mut sim = Sim::of(Strategy::Overlap);
    while !sim.journal.iter().any(|record| matches!(record.step, Step::Verified { .. })) {
        if let Some(Decision::Wait { until, .. }) = sim.turn() {
            sim.now = until;
            sim.view = sim.view.after_wait();
        }
    }
    sim.world.stores[0].version = 11;
    let decision = sim.drive(MINUTE);
    let Decision::NeedsOperator(need) = decision else { panic!("{decision:?}") };
    assert!(need.next.ends_with("--adopt a=11"), "{need:?}");
    assert_eq!(alive(&sim), [1, 2], "both work, nobody is hurt");
    sim.order(Order::Adopt { store: "a".into(), version: super::world::version(11) });
    to_overlap(&mut sim);
}

#[test]
fn a_rollback_restores_the_old_secret_and_deletes_the_new_one_behind_the_same_gate() {
    let mut sim = Sim::new(begin_of(Strategy::Pair, Level::Regular, 2));
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    sim.drive(DAY + MINUTE);
    assert_eq!((sim.run.state(), alive(&sim)), (State::Stopped, vec![2]));
    sim.order(Order::Rollback);
    let decision = sim.drive(HOUR);
    assert_eq!(alive(&sim), [1, 2], "the old one works again");
    assert!(sim.world.stores.iter().all(|store| store.value == 1));
    let found = blocks(&decision);
    assert!(found.iter().any(|block| matches!(block, Block::StillUsed { .. } | Block::Unseen { .. })), "{found:?}");
    sim.see("gateway", 1, Grade::Used);
    assert_eq!(sim.drive(3 * DAY), Decision::Ended);
    assert_eq!((alive(&sim), sim.end()), (vec![1], Some(&End::RolledBack { unknown: vec![] })));
}

/// Who agreed that the old secret may go said nothing about the new one.
#[test]
fn an_approval_from_before_a_rollback_does_not_let_the_new_secret_go() {
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    sim.approve(ApprovalOf::Prune, "ann");
    sim.pass(MINUTE);
    sim.order(Order::Rollback);
    sim.see("gateway", 2, Grade::Used);
    sim.sightings[0].alive_until = sim.now.plus(30 * DAY);
    let found = blocks(&sim.drive(3 * DAY));
    assert!(found.iter().any(|block| matches!(block, Block::StillUsed { .. })), "{found:?}");
    assert_eq!(sim.world.stores[0].value, 1);
    assert_eq!(alive(&sim), [1, 2], "the new one works for the consumer that uses it");
    sim.approve(ApprovalOf::Prune, "ann");
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!((alive(&sim), sim.end()), (vec![1], Some(&End::RolledBack { unknown: vec![] })));
}

#[test]
fn there_is_no_way_back_from_a_prune() {
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    sim.faults.push_back(("prune", Fault::LostRequest));
    sim.drive(DAY + MINUTE);
    let refused = sim.run.order(Order::Rollback, "ann", "late", sim.now).unwrap_err();
    assert!(refused.to_string().contains("deleted"), "{refused}");
    assert_eq!(sim.drive(DAY), Decision::Ended);
}

/// Who is refused an order is told another one, which is not refused.
#[test]
fn what_is_told_instead_of_an_order_is_taken() {
    let instead = |sim: &Sim, order| sim.run.order(order, "ann", "", sim.now).unwrap_err().next.unwrap();
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    let run = sim.run.began().run;
    assert_eq!(instead(&sim, Order::Abort), format!("keyholder rotate rollback {run}"));
    sim.order(Order::Rollback);
    for order in [Order::Rollback, Order::Abort] {
        assert_eq!(instead(&sim, order), format!("keyholder rotate resume {run}"));
    }
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    sim.faults.push_back(("prune", Fault::LostRequest));
    sim.drive(DAY + MINUTE);
    for order in [Order::Rollback, Order::Abort] {
        assert_eq!(instead(&sim, order), format!("keyholder rotate abort {run} --leave"));
    }
    // the process that was to end it did not come so far
    sim.order(Order::Abandon);
    for order in [Order::Rollback, Order::Abandon] {
        assert_eq!(instead(&sim, order), format!("keyholder rotate resume {run}"));
    }
    sim.order(Order::Resume);
    assert_eq!(sim.drive(MINUTE), Decision::Ended);
    assert!(matches!(sim.end(), Some(End::Abandoned { .. })), "{:?}", sim.end());
}

#[test]
fn hooks_follow_the_promotion_and_a_failed_one_blocks_the_prune() {
    let mut begin = begin_of(Strategy::Overlap, Level::Regular, 1);
    begin.hooks = vec!["restart".into(), "ping".into()];
    let mut sim = Sim::new(begin);
    for _ in 0..1000 {
        sim.faults.push_back(("hook", Fault::NotDone));
    }
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    let found = blocks(&sim.drive(DAY + MINUTE));
    assert!(found.iter().any(|block| matches!(block, Block::Hook { name, .. } if name == "restart")), "{found:?}");
    let deliveries: std::collections::BTreeSet<_> = sim
        .sent
        .iter()
        .filter_map(|effect| match effect {
            kh_rotation::Effect::Hook { name, delivery, .. } => Some((name.clone(), *delivery)),
            _ => None,
        })
        .collect();
    assert_eq!(deliveries.len(), 2, "each hook has one delivery, however often it is tried");
    sim.faults.clear();
    assert_eq!(sim.drive(2 * DAY), Decision::Ended);
    assert_eq!(sim.world.hooks, ["restart", "ping"]);
}

#[test]
fn nothing_is_promoted_in_a_blackout_or_outside_of_the_windows() {
    let mut sim = Sim::of(Strategy::Overlap);
    let at = |hours: u32| sim.now.plus(hours * HOUR);
    let windows = Some(vec![Span { from: at(5), to: at(9) }]);
    let blackouts = vec![Span { from: at(4), to: at(6) }];
    let opens = at(6);
    sim.policy.calendar = Calendar { windows, blackouts };
    let decision = sim.drive(3 * HOUR);
    assert!(matches!(decision, Decision::Wait { why: Why::Calendar, .. }), "{decision:?}");
    assert_eq!(sim.sent(), ["create", "stage"], "made and verified, not promoted");
    sim.drive(4 * HOUR);
    assert!(sim.run.promoted_at().unwrap() >= opens);
}

#[test]
fn a_start_may_need_persons() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.policy.approvals.start = 2;
    sim.approve(ApprovalOf::Start, "ann");
    let decision = sim.drive(DAY);
    assert!(matches!(decision, Decision::Wait { why: Why::Approval { have: 1, need: 2, .. }, .. }), "{decision:?}");
    assert!(sim.sent.is_empty());
    sim.approve(ApprovalOf::Start, "bob");
    to_overlap(&mut sim);
}

#[test]
fn an_unreachable_platform_alarms_and_is_waited_for() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.unreachable = true;
    let decision = sim.drive(2 * HOUR);
    assert!(matches!(decision, Decision::Wait { why: Why::Failure(_), .. }), "{decision:?}");
    assert_eq!(sim.run.state(), State::NeedsOperator);
    sim.unreachable = false;
    sim.drive(HOUR);
    assert!(sim.run.promoted_at().is_some());
    assert_eq!(sim.run.need(), None, "the alarm is over when the run goes on");
}

#[test]
fn an_obstacle_stops_before_anything_is_changed() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.obstacles = vec!["the rotator lacks oauth:client:edit: grant it".into()];
    let decision = sim.drive(DAY);
    let Decision::NeedsOperator(need) = decision else { panic!("{decision:?}") };
    assert!(need.why.contains("oauth:client:edit"));
    assert!(sim.sent.is_empty());
    sim.obstacles.clear();
    sim.order(Order::Resume);
    to_overlap(&mut sim);
}

#[test]
fn stores_that_disagree_are_not_touched() {
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Regular, 2));
    sim.world.stores[1].value = 44;
    let decision = sim.drive(DAY);
    assert!(
        matches!(&decision, Decision::NeedsOperator(need) if need.why.starts_with("b serves another")),
        "{decision:?}"
    );
    assert!(sim.sent.is_empty());
}

#[test]
fn any_run_can_be_ended_by_a_person() {
    let mut sim = Sim::of(Strategy::Overlap);
    to_overlap(&mut sim);
    sim.order(Order::Abandon);
    assert_eq!(sim.drive(MINUTE), Decision::Ended);
    assert_eq!(sim.end(), Some(&End::Abandoned { left: vec![id(2)] }));
    assert_eq!(alive(&sim), [1, 2]);
}

/// Found by random histories: the deletion was refused for a while, and somebody missed the stopped secret meanwhile.
#[test]
fn what_is_being_deleted_is_not_started_again() {
    let mut sim = Sim::of(Strategy::Pair);
    to_overlap(&mut sim);
    sim.see("gateway", 2, Grade::Used);
    sim.faults.push_back(("prune", Fault::NotDone));
    while sim.count("prune") == 0 {
        if let Some(Decision::Wait { until, .. }) = sim.turn() {
            sim.now = until;
            sim.view = sim.view.after_wait();
        }
    }
    sim.see("nightly-job", 1, Grade::Fetched);
    let found = blocks(&sim.drive(HOUR));
    assert!(found.iter().any(|block| matches!(block, Block::StillUsed { .. })), "{found:?}");
    assert_eq!(sim.count("start"), 0);
}
