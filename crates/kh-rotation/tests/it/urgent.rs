//! Runs in place, urgent ones, and the rotator's own.
//!
//! Invariant: as in the other stories, each ends with what is alive.

use std::time::Duration;

use kh_core::{
    Fingerprint,
    port::{
        Strategy,
        rotation_journal::{ApprovalOf, Grade, Hold},
        secret_management::Rotator,
    },
};
use kh_rotation::{
    Acting, Decision, Effect, End, Escrow, Level, Order, Outcome, Record, State, Step, Why, policy::Reads, settle,
};

use super::{
    sim::{Fault, Sim, begin_of, consumer},
    world::{Secret, fp},
};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

fn regenerates(sim: &Sim) -> Vec<Acting> {
    sim.sent
        .iter()
        .filter_map(|effect| match effect {
            Effect::Regenerate { by, .. } => Some(*by),
            _ => None,
        })
        .collect()
}

#[test]
fn a_swap_mints_first_and_learns_what_becomes_of_old_tokens() {
    for alive in [true, false] {
        let mut sim = Sim::of(Strategy::Swap);
        sim.old_tokens = alive;
        assert_eq!(sim.drive(DAY), Decision::Ended);
        assert_eq!(sim.sent(), ["mint", "regenerate", "stage", "promote"]);
        assert_eq!(sim.run.old_tokens_alive(), Some(alive));
        assert_eq!(sim.world.stores[0].value, 2);
        assert!(sim.world.platform.accepts(2));
    }
}

fn verified(sim: &Sim) -> Vec<u32> {
    let records = sim.journal.iter().filter_map(|record| match record.step {
        Step::Verified { successes } => Some(successes),
        _ => None,
    });
    records.collect()
}

/// Nobody can log in from the regeneration to the promotion, so nothing is waited for in between.
#[test]
fn a_swap_promotes_after_one_login_and_makes_the_others_afterwards() {
    let mut sim = Sim::of(Strategy::Swap);
    while sim.run.promoted_at().is_none() {
        assert!(sim.turn().is_none(), "it waits before the promotion");
    }
    assert_eq!((verified(&sim), sim.run.gap()), (vec![1], Some((sim.now, Some(sim.now)))));
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(verified(&sim), [1, 2], "the policy asks for three");
    let mut sim = Sim::of(Strategy::Swap);
    sim.policy.verification.successes = 1;
    assert_eq!((sim.drive(DAY), verified(&sim)), (Decision::Ended, vec![1]));
}

#[test]
fn a_regenerated_secret_that_stops_working_after_its_promotion_needs_a_person() {
    let mut sim = Sim::of(Strategy::Swap);
    while sim.run.promoted_at().is_none() {
        assert!(sim.turn().is_none());
    }
    sim.new_works = false;
    let decision = sim.drive(DAY);
    assert!(matches!(&decision, Decision::NeedsOperator(need) if need.why.contains("worked once")), "{decision:?}");
    assert!(sim.run.order(Order::Rollback, "ann", "", sim.now).is_err(), "the old one is dead");
    assert_eq!(regenerates(&sim).len(), 1, "it is not replaced again without being asked");
    sim.new_works = true;
    sim.order(Order::Resume);
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!((sim.world.stores[0].value, verified(&sim)), (2, vec![1, 2]));
}

/// A new secret that the platform takes only after a while is not made live before.
#[test]
fn a_regenerated_secret_that_does_not_work_yet_is_not_promoted() {
    let mut sim = Sim::of(Strategy::Swap);
    sim.new_works = false;
    assert!(matches!(sim.drive(MINUTE), Decision::Wait { why: Why::Verification, .. }));
    assert_eq!((sim.count("promote"), sim.run.gap().map(|(_, until)| until)), (0, Some(None)));
    sim.new_works = true;
    let from = sim.now;
    while sim.run.promoted_at().is_none() {
        sim.drive(Duration::from_secs(1));
    }
    assert!(sim.now.since(from) <= sim.policy.verification.spacing);
    assert_eq!(sim.drive(DAY), Decision::Ended);
}

/// The token that carries applications over is fetched when nothing is waited for any more.
#[test]
fn a_swap_that_has_to_wait_fetches_its_token_afterwards() {
    let mut sim = Sim::of(Strategy::Swap);
    sim.hold = Some(Hold { since: sim.now, actor: "bob".into(), reason: "keep".into() });
    let decision = sim.drive(DAY);
    assert!(matches!(decision, Decision::Wait { why: Why::Hold(_), .. }), "{decision:?}");
    assert!(sim.sent.is_empty(), "{:?}", sim.sent());
    sim.hold = None;
    assert_eq!(sim.drive(DAY), Decision::Ended);
    let at = |name: &str| {
        let of = |record: &&Record| matches!(&record.step, Step::Intended { effect, .. } if effect.as_str() == name);
        sim.journal.iter().find(of).map(|record| record.at)
    };
    assert_eq!(at("mint"), at("regenerate"), "at the same moment of the virtual clock");
}

/// A broker finds out that the old secret is dead by being refused: that is no consumer which was left behind.
#[test]
fn a_login_that_was_refused_during_a_swap_alarms_nobody_and_a_later_one_does() {
    for (after, alarms) in [(1, false), (600, true)] {
        let mut sim = Sim::of(Strategy::Swap);
        while sim.run.promoted_at().is_none() {
            assert!(sim.turn().is_none());
        }
        sim.pass(Duration::from_secs(after));
        sim.see("gateway", 1, Grade::Fetched);
        sim.see("gateway", 2, Grade::Used);
        assert_eq!(sim.drive(DAY), Decision::Ended);
        let alarmed = sim.journal.iter().any(|record| matches!(record.step, Step::Alarmed { .. }));
        assert_eq!(alarmed, alarms, "{after} s after the promotion");
    }
}

/// What `rotate status` tells of the time without a login.
#[test]
fn the_gap_of_a_swap_begins_with_the_first_regenerate_that_may_have_been_carried_out() {
    for (fault, longer) in [(Fault::NotDone, false), (Fault::LostRequest, false), (Fault::LostAnswer, true)] {
        let mut sim = Sim::of(Strategy::Swap);
        sim.faults.push_back(("regenerate", fault));
        assert_eq!(sim.drive(DAY), Decision::Ended, "{fault:?}");
        let (from, until) = sim.run.gap().unwrap();
        let gap = until.unwrap().since(from);
        assert_eq!(gap > sim.policy.call_bound, longer, "{fault:?}: {gap:?}");
    }
    let mut sim = Sim::of(Strategy::Overlap);
    sim.drive(MINUTE);
    assert_eq!(sim.run.gap(), None);
}

#[test]
fn a_lost_regenerate_is_told_by_the_old_secret() {
    for fault in [Fault::LostRequest, Fault::CrashBefore] {
        let mut sim = Sim::of(Strategy::Swap);
        sim.faults.push_back(("regenerate", fault));
        assert_eq!(sim.drive(DAY), Decision::Ended, "{fault:?}");
        assert!(regenerates(&sim).iter().all(|by| *by == Acting::Rotator(Rotator::First)), "{fault:?}");
    }
    for fault in [Fault::LostAnswer, Fault::CrashAfter] {
        let mut sim = Sim::of(Strategy::Swap);
        sim.faults.push_back(("regenerate", fault));
        assert_eq!(sim.drive(DAY), Decision::Ended, "{fault:?}");
        let by = regenerates(&sim);
        assert_eq!(by, [Acting::Rotator(Rotator::First), Acting::Rotator(Rotator::Second)], "{fault:?}");
        assert!(sim.world.platform.accepts(sim.world.stores[0].value));
        // One intent for each that was sent.
        let intents =
            sim.journal.iter().filter(|record| record.to_json().contains("\"intended\":{\"effect\":{\"regenerate\""));
        assert_eq!(intents.count(), by.len());
    }
}

#[test]
fn a_lost_regenerate_without_a_second_identity_needs_a_person() {
    let mut begin = begin_of(Strategy::Swap, Level::Regular, 1);
    begin.platform.second_rotator = false;
    let mut sim = Sim::new(begin);
    sim.faults.push_back(("regenerate", Fault::LostAnswer));
    let decision = sim.drive(DAY);
    assert!(matches!(&decision, Decision::NeedsOperator(need) if need.why.contains("by hand")), "{decision:?}");
    assert_eq!(regenerates(&sim).len(), 1);
}

#[test]
fn a_swap_is_refused_while_somebody_reads_the_secret_itself() {
    let mut sim = Sim::of(Strategy::Swap);
    sim.policy.consumers.push(consumer("cron", Reads::Secret));
    let decision = sim.drive(DAY);
    assert!(matches!(&decision, Decision::NeedsOperator(need) if need.why.contains("cron")), "{decision:?}");
    assert_eq!(regenerates(&sim).len(), 0);
    // Nor while one was seen that nobody declared.
    let mut sim = Sim::of(Strategy::Swap);
    sim.see("exec/host/17", 1, Grade::Used);
    assert!(matches!(sim.drive(HOUR / 2), Decision::NeedsOperator(_)));
    assert_eq!(regenerates(&sim).len(), 0);
    sim.approve(ApprovalOf::Prune, "ann");
    sim.order(Order::Resume);
    assert_eq!(sim.drive(DAY), Decision::Ended);
}

#[test]
fn there_is_no_way_back_from_a_regenerate() {
    let mut sim = Sim::of(Strategy::Swap);
    while regenerates(&sim).is_empty() {
        assert!(sim.turn().is_none());
    }
    assert!(sim.run.order(Order::Rollback, "ann", "", sim.now).is_err());
    assert!(sim.run.order(Order::Abort, "ann", "", sim.now).is_err());
}

#[test]
fn fast_prunes_after_the_pickup_deadline_and_names_who_ordered_it() {
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Fast, 1));
    let decision = sim.drive(4 * MINUTE);
    assert!(matches!(decision, Decision::Wait { why: Why::Consumers(_), .. }), "{decision:?}");
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.run.basis().unwrap().by, ["ann"]);
    assert!(!sim.run.basis().unwrap().overridden.is_empty());
    // With evidence it does not wait for the deadline.
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Fast, 1));
    sim.drive(MINUTE);
    sim.see("gateway", 2, Grade::Used);
    sim.drive(MINUTE);
    assert!(!sim.world.platform.accepts(1));
    assert!(sim.run.basis().unwrap().overridden.is_empty());
}

/// It was the old secret that had to go soon, and not the new one.
#[test]
fn a_fast_run_that_is_rolled_back_takes_its_time_and_waits_for_evidence() {
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Fast, 1));
    sim.drive(MINUTE);
    assert_eq!(sim.run.state(), State::Overlap);
    sim.order(Order::Rollback);
    let decision = sim.drive(3 * DAY);
    assert!(matches!(decision, Decision::Wait { why: Why::Consumers(_), .. }), "{decision:?}");
    assert!(sim.world.platform.accepts(2), "nobody was seen with the old one");
    sim.see("gateway", 1, Grade::Used);
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!((sim.run.state(), sim.world.platform.accepts(2)), (State::RolledBack, false));
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Fast, 1));
    sim.drive(MINUTE);
    sim.order(Order::Rollback);
    sim.drive(MINUTE);
    sim.see("gateway", 1, Grade::Used);
    sim.drive(HOUR);
    assert!(sim.world.platform.accepts(2), "both work for the least overlap");
    assert_eq!(sim.drive(2 * DAY), Decision::Ended);
}

#[test]
fn revoke_replaces_first_when_that_is_quick_and_waits_for_nobody() {
    let mut sim = Sim::new(begin_of(Strategy::Pair, Level::Revoke, 1));
    sim.see("gateway", 1, Grade::Used);
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent(), ["create", "stage", "promote", "stop", "prune", "revoke_tokens"]);
}

#[test]
fn revoke_does_not_wait_for_a_replacement_that_does_not_come() {
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Revoke, 1));
    sim.new_works = false;
    sim.drive(2 * MINUTE);
    assert!(!sim.world.platform.accepts(1), "dead within the deadline");
    sim.new_works = true;
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.end(), Some(&End::Completed { unknown: vec![] }));
}

#[test]
fn revoke_makes_room_by_deleting_the_old_one() {
    let mut begin = begin_of(Strategy::Overlap, Level::Revoke, 1);
    begin.platform.active_max = Some(1);
    let mut sim = Sim::new(begin);
    sim.world.platform.active_max = 1;
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent(), ["prune", "create", "stage", "promote", "revoke_tokens"]);
    // The platform's limit is lower than it said.
    let mut sim = Sim::new(begin_of(Strategy::Overlap, Level::Revoke, 1));
    sim.world.platform.active_max = 1;
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent(), ["create", "prune", "create", "stage", "promote", "revoke_tokens"]);
}

/// At Genesys Cloud and CXone the new one is made after the model of the old one, and Genesys Cloud counts what is stopped.
#[test]
fn revoke_does_not_delete_what_it_can_stop_to_make_room() {
    let mut sim = Sim::new(begin_of(Strategy::Pair, Level::Revoke, 1));
    sim.world.platform.held_max = 1;
    for tried in [2, 3] {
        let decision = sim.drive(DAY);
        assert!(
            matches!(&decision, Decision::NeedsOperator(need)
                if need.why.contains("takes no more") && need.next.contains("rotate resume")),
            "{decision:?}"
        );
        assert_eq!((sim.count("create"), sim.count("stop"), sim.count("prune")), (tried, 1, 0));
        assert_eq!((sim.world.platform.accepts(1), sim.world.platform.secrets.len()), (false, 1));
        assert!(sim.run.order(Order::Rollback, "ann", "", sim.now).is_ok(), "there is a way back");
        sim.order(Order::Resume);
    }
    sim.world.platform.held_max = 2;
    let before = sim.sent().len();
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent().split_off(before), ["create", "stage", "promote", "prune", "revoke_tokens"]);
    // There is room as well when the run deletes one that a person says is its own.
    let mut sim = Sim::new(begin_of(Strategy::Pair, Level::Revoke, 1));
    sim.world.platform.secrets.push(Secret { id: 40, value: 40, active: true, label: None });
    sim.world.platform.held_max = 2;
    assert!(matches!(sim.drive(DAY), Decision::NeedsOperator(_)));
    sim.order(Order::Own { ids: vec![super::world::id(40)] });
    let before = sim.sent().len();
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent().split_off(before), ["cleanup", "create", "stage", "promote", "prune", "revoke_tokens"]);
    // One that counts the active ones alone has room when the old one is stopped.
    let mut sim = Sim::new(begin_of(Strategy::Pair, Level::Revoke, 1));
    sim.world.platform.active_max = 1;
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent(), ["create", "stop", "create", "stage", "promote", "prune", "revoke_tokens"]);
    let mut begin = begin_of(Strategy::Pair, Level::Revoke, 1);
    begin.platform.active_max = Some(1);
    let mut sim = Sim::new(begin);
    sim.world.platform.active_max = 1;
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent(), ["stop", "create", "stage", "promote", "prune", "revoke_tokens"]);
}

/// It names the client: without it nothing is listed and nothing made.
#[test]
fn the_old_document_is_kept_until_the_new_secret_is_live() {
    let prune = Effect::Prune { id: super::world::id(1), by: Acting::Rotator(Rotator::First) };
    let forgotten = |sim: &Sim| settle(&sim.run, &prune, Outcome::Done, sim.now).escrow.forget;
    let mut sim = Sim::of(Strategy::Overlap);
    sim.drive(Duration::ZERO);
    assert!(sim.run.new_secret().is_some() && forgotten(&sim).is_empty());
    sim.drive(MINUTE);
    assert!(sim.run.promoted_at().is_some());
    assert_eq!(forgotten(&sim), [Escrow::Old]);
}

/// keyholder's own clients, and a platform with a secrets API: the last secret of a client is deleted by nobody.
fn keeps_last(level: Level) -> Sim {
    let mut sim = Sim::new(begin_of(Strategy::Overlap, level, 1));
    sim.world.platform.keeps_last = true;
    sim
}

#[test]
fn revoke_makes_a_new_secret_first_where_the_last_one_cannot_be_deleted() {
    let mut sim = keeps_last(Level::Revoke);
    for _ in 0..6 {
        sim.faults.push_back(("create", Fault::NotDone));
    }
    sim.drive(2 * MINUTE);
    assert_eq!(sim.sent(), ["create"; 6], "the deadline is over, and nothing is asked for that is refused");
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent().split_off(6), ["create", "prune", "stage", "promote", "revoke_tokens"]);
    assert_eq!(sim.end(), Some(&End::Completed { unknown: vec![] }));
    // Another one that somebody else made is enough for the old one to die in time.
    let mut sim = keeps_last(Level::Revoke);
    sim.world.platform.secrets.push(Secret { id: 40, value: 40, active: true, label: None });
    for _ in 0..6 {
        sim.faults.push_back(("create", Fault::NotDone));
    }
    sim.drive(2 * MINUTE);
    assert!(!sim.world.platform.accepts(1));
    assert_eq!(sim.drive(DAY), Decision::Ended);
}

/// It was the last one by the time the platform was asked; or an earlier version asked for it, and stood still.
#[test]
fn a_revocation_that_was_refused_the_last_secret_goes_on_with_a_new_one() {
    let mut sim = keeps_last(Level::Revoke);
    sim.world.platform.secrets.push(Secret { id: 40, value: 40, active: true, label: None });
    for _ in 0..6 {
        sim.faults.push_back(("create", Fault::NotDone));
    }
    let pruning = |step: &Step| matches!(step, Step::Intended { effect: Effect::Prune { .. }, .. });
    while !sim.journal.iter().any(|record| pruning(&record.step)) {
        if let Some(Decision::Wait { until, .. }) = sim.turn() {
            sim.now = until;
            sim.view = sim.view.after_wait();
        }
    }
    sim.world.platform.secrets.retain(|secret| secret.id != 40);
    assert!(matches!(sim.drive(MINUTE), Decision::NeedsOperator(_)));
    sim.faults.clear();
    sim.order(Order::Resume);
    let before = sim.sent().len();
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent().split_off(before), ["create", "prune", "stage", "promote", "revoke_tokens"]);
}

/// The first new one never works, and by then the old one is dead.
#[test]
fn what_never_worked_is_deleted_after_its_successor_is_made_where_the_last_one_cannot_be() {
    let mut sim = keeps_last(Level::Revoke);
    sim.new_works = false;
    sim.drive(11 * MINUTE);
    sim.new_works = true;
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent(), ["create", "prune", "create", "cleanup", "stage", "promote", "revoke_tokens"]);
    assert_eq!(sim.world.platform.deleted, [1, 2]);
}

/// There is no way back: the old secret is gone, or was taken away by order.
#[test]
fn a_revocation_that_is_out_of_attempts_is_ended_by_a_command_that_the_run_takes() {
    let pair = Sim::new(begin_of(Strategy::Pair, Level::Revoke, 1));
    for (mut sim, told) in [(keeps_last(Level::Revoke), "is dead: set a new"), (pair, "is stopped: end this run")] {
        sim.new_works = false;
        let decision = sim.drive(DAY);
        let Decision::NeedsOperator(need) = decision else { panic!("{decision:?}") };
        assert!(need.why.contains("2 attempts") && need.why.contains(told), "{need:?}");
        assert!(need.next.ends_with(" --leave"), "{need:?}");
        assert!(!sim.world.platform.accepts(1));
        sim.order(Order::Abandon);
        assert_eq!(sim.drive(MINUTE), Decision::Ended);
    }
}

#[test]
fn kill_changes_nothing_where_the_last_secret_cannot_be_deleted() {
    let mut sim = keeps_last(Level::Kill);
    let decision = sim.drive(DAY);
    assert!(
        matches!(&decision, Decision::NeedsOperator(need)
            if need.why.contains("client disable") && need.next.ends_with(" --leave")),
        "{decision:?}"
    );
    assert!(!sim.journal.iter().any(|record| matches!(record.step, Step::Intended { .. })));
    sim.order(Order::Abandon);
    assert_eq!((sim.drive(MINUTE), sim.run.state()), (Decision::Ended, State::Abandoned));
    let mut sim = keeps_last(Level::Kill);
    sim.world.platform.secrets.push(Secret { id: 40, value: 40, active: true, label: None });
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!((sim.run.state(), sim.world.platform.accepts(1)), (State::Killed, false));
}

/// The old secret leaks while a plain rotation keeps both: it dies now, and not when its overlap is over.
#[test]
fn a_plain_run_that_is_made_urgent_revokes_the_old_secret() {
    let mut sim = Sim::of(Strategy::Pair);
    sim.policy.overlap_min = DAY;
    sim.policy.approvals.revoke = 1;
    sim.drive(HOUR);
    assert_eq!((sim.run.state(), sim.world.platform.accepts(1)), (State::Overlap, true));
    sim.order(Order::Hurry { level: Level::Revoke });
    assert!(matches!(sim.drive(HOUR), Decision::Wait { why: Why::Approval { have: 0, need: 1, .. }, .. }));
    assert!(sim.world.platform.accepts(1), "who agreed to a plain run did not agree to this");
    sim.approve(ApprovalOf::Revoke, "bob");
    sim.drive(MINUTE);
    assert!(!sim.world.platform.accepts(1));
    assert_eq!(sim.run.basis().unwrap().by, ["ann", "bob"]);
    assert_eq!(sim.drive(4 * DAY), Decision::Ended);
    assert_eq!(sim.sent(), ["create", "stage", "promote", "stop", "prune", "revoke_tokens"]);
}

/// Before there is a new secret the deadline counts from the order, not from the run's beginning.
#[test]
fn an_urgent_order_gives_the_new_secret_its_minute() {
    let mut sim = Sim::of(Strategy::Overlap);
    sim.new_works = false;
    sim.drive(5 * MINUTE);
    sim.order(Order::Hurry { level: Level::Revoke });
    sim.drive(MINUTE / 2);
    assert!(sim.world.platform.accepts(1));
    sim.drive(MINUTE);
    assert!(!sim.world.platform.accepts(1));
}

/// Two persons take longer than the minute; it begins when they have agreed.
#[test]
fn a_revocation_that_persons_agreed_to_gives_the_new_secret_its_minute() {
    let agreed = |strategy| {
        let mut sim = Sim::new(begin_of(strategy, Level::Revoke, 1));
        sim.policy.approvals.revoke = 2;
        sim.approve(ApprovalOf::Revoke, "ann");
        let decision = sim.drive(10 * MINUTE);
        assert!(matches!(decision, Decision::Wait { why: Why::Approval { have: 1, need: 2, .. }, .. }), "{decision:?}");
        sim.approve(ApprovalOf::Revoke, "bob");
        sim
    };
    let mut sim = agreed(Strategy::Pair);
    assert_eq!(sim.drive(DAY), Decision::Ended);
    assert_eq!(sim.sent(), ["create", "stage", "promote", "stop", "prune", "revoke_tokens"]);
    // One that does not work in that minute is not waited for.
    let mut sim = agreed(Strategy::Overlap);
    sim.new_works = false;
    sim.drive(MINUTE / 2);
    assert!(sim.world.platform.accepts(1));
    sim.drive(MINUTE);
    assert!(!sim.world.platform.accepts(1));
}

#[test]
fn what_is_over_cannot_be_made_urgent() {
    let mut sim = Sim::of(Strategy::Pair);
    sim.drive(HOUR);
    let hurry = |sim: &Sim, level| sim.run.order(Order::Hurry { level }, "ann", "", sim.now).map_err(|error| error.why);
    assert_eq!(hurry(&sim, Level::Regular).unwrap_err(), "the run is as urgent already");
    assert_eq!(hurry(&sim, Level::Kill).unwrap_err(), "a new secret is being made: revoke the old one");
    sim.order(Order::Rollback);
    assert!(hurry(&sim, Level::Revoke).unwrap_err().contains("goes back"));
    let mut sim = Sim::of(Strategy::Swap);
    while regenerates(&sim).is_empty() {
        assert!(sim.turn().is_none());
    }
    assert!(hurry(&sim, Level::Revoke).unwrap_err().contains("is gone"));
}

#[test]
fn an_emergency_may_need_two_persons() {
    let mut sim = Sim::new(begin_of(Strategy::Pair, Level::Kill, 1));
    sim.policy.approvals.revoke = 2;
    sim.approve(ApprovalOf::Revoke, "ann");
    assert!(matches!(sim.drive(HOUR), Decision::Wait { why: Why::Approval { have: 1, need: 2, .. }, .. }));
    assert!(sim.world.platform.accepts(1));
    sim.approve(ApprovalOf::Revoke, "bob");
    assert_eq!(sim.drive(HOUR), Decision::Ended);
    assert_eq!((sim.run.state(), sim.world.platform.accepts(1)), (State::Killed, false));
    assert_eq!(sim.run.basis().unwrap().by, ["ann", "ann", "bob"]);
}

#[test]
fn a_rotators_own_secret_is_replaced_by_the_other_rotator() {
    let mut begin = begin_of(Strategy::Pair, Level::Regular, 1);
    begin.own = true;
    let mut sim = Sim::new(begin);
    sim.drive(MINUTE);
    let by = sim.sent.iter().find_map(|effect| match effect {
        Effect::Create { by, .. } => Some(*by),
        _ => None,
    });
    assert_eq!(by, Some(Acting::Rotator(Rotator::Second)));
}

#[test]
fn a_lone_rotator_rides_on_an_escrowed_token_and_proves_the_new_secret() {
    let mut begin = begin_of(Strategy::Overlap, Level::Regular, 1);
    begin.own = true;
    begin.platform.second_rotator = false;
    let mut sim = Sim::new(begin);
    sim.drive(MINUTE);
    sim.see("gateway", 2, Grade::Used);
    assert_eq!(sim.drive(2 * DAY), Decision::Ended);
    let acting: Vec<_> = sim
        .sent
        .iter()
        .filter_map(|effect| match effect {
            Effect::Create { by, .. } | Effect::Prune { by, .. } => Some((effect.as_str(), *by)),
            _ => None,
        })
        .collect();
    assert_eq!(sim.sent()[0], "mint");
    assert_eq!(acting, [("create", Acting::EscrowedToken), ("prune", Acting::NewSecret)]);
    // In place it would saw off its own branch.
    let mut begin = begin_of(Strategy::Swap, Level::Regular, 1);
    begin.own = true;
    begin.platform.second_rotator = false;
    let mut sim = Sim::new(begin);
    assert!(matches!(sim.drive(DAY), Decision::NeedsOperator(_)));
    assert!(sim.sent.is_empty());
}

#[test]
fn the_old_secret_is_the_one_that_an_earlier_run_recorded() {
    // The document names no id, and two secrets are listed.
    let mut begin = begin_of(Strategy::Overlap, Level::Regular, 1);
    let run = kh_core::rotation::RunId(uuid::Uuid::from_u128(3));
    let created: Vec<(_, Option<Fingerprint>)> = vec![(super::world::id(1), Some(fp(1)))];
    begin.earlier = vec![kh_rotation::Earlier { run, created, intents: vec![] }];
    let mut sim = Sim::new(begin);
    sim.world.platform.secrets.push(Secret { id: 40, value: 40, active: true, label: None });
    sim.drive(MINUTE);
    assert_eq!(sim.run.baseline().unwrap().old_id, Some(super::world::id(1)));
}
