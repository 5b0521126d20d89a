//! Every history of a small world, explored: two rotators, crashes at every point, leases that run out, answers and
//! requests that are lost, calls that arrive arbitrarily late, consumers that read when they like, a hold, a rollback.
//!
//! Invariant: the rotators are the real core. What is weakened for the negative controls is the world around it.

mod properties;
mod space;

use kh_core::port::Strategy;
use stateright::{Checker, HasDiscoveries, Model};

use self::space::Setup;
use crate::world::Cas;

/// Above this many steps a model has grown without end; the long form has about a fifth of it.
const STATES_MAX: usize = 100_000_000;

/// Explores everything and tells how many states there were. Fails on a violation, and when an interesting case was
/// never reached.
fn holds(name: &str, setup: Setup) {
    let checker = setup
        .checker()
        .threads(2)
        .target_state_count(STATES_MAX)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!("{name}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    assert!(checker.state_count() < STATES_MAX, "{name}: stopped before everything was explored");
    checker.assert_properties();
}

/// The names of the safety properties that some history violates, until `expected` is among them.
fn violations(name: &str, setup: Setup, expected: &'static str) -> Vec<&'static str> {
    let until = HasDiscoveries::AllOf([expected].into());
    let checker = setup.checker().threads(2).target_state_count(STATES_MAX).finish_when(until).spawn_bfs().join();
    let model = checker.model();
    let found: Vec<_> = checker
        .discoveries()
        .into_keys()
        .filter(|found| {
            model.properties().iter().any(|p| p.name == *found && p.expectation == stateright::Expectation::Always)
        })
        .collect();
    println!("{name}: {} states, violated: {found:?}", checker.unique_state_count());
    found
}

fn long() -> bool {
    std::env::var_os("KEYHOLDER_LONG").is_some_and(|value| value == "1")
}

/// The protections that are switched off one by one. Each must be missed by some history.
fn broken(name: &str, setup: Setup, expected: &'static str) {
    let found = violations(name, setup, expected);
    assert!(found.contains(&expected), "{name}: {found:?} is violated, not {expected:?}");
}

#[test]
fn overlap_survives_every_history() {
    let extra = u8::from(long());
    let setup = Setup { crashes: 1 + extra, expiries: 1, losses: 1, ..Setup::of(Strategy::Overlap) };
    holds("overlap", setup);
}

#[test]
fn a_rollback_survives_every_history() {
    let extra = u8::from(long());
    let setup = Setup { crashes: 1, expiries: extra, rollbacks: 1, losses: 1, ..Setup::of(Strategy::Overlap) };
    holds("overlap, rollback after a crash", setup);
    let setup = Setup { expiries: 1, rollbacks: 1, losses: 1, ..Setup::of(Strategy::Overlap) };
    holds("overlap, rollback under a stale rotator", setup);
}

#[test]
fn a_hold_is_kept_in_every_history() {
    let extra = u8::from(long());
    let setup = Setup { holds: 1, crashes: 1, expiries: 1, losses: extra, ..Setup::of(Strategy::Overlap) };
    holds("overlap, hold", setup);
}

#[test]
fn several_stores_survive_every_history() {
    let extra = u8::from(long());
    let setup = Setup { stores: 2, crashes: 1, expiries: 1, losses: extra, ..Setup::of(Strategy::Overlap) };
    holds("overlap, two stores", setup);
}

#[test]
fn pair_survives_every_history_with_bounded_stops() {
    let extra = u8::from(long());
    let setup = Setup { crashes: 1, expiries: 1, losses: extra, ..Setup::of(Strategy::Pair) };
    holds("pair", setup);
    let setup = Setup { crashes: extra, expiries: 1, rollbacks: 1, ..Setup::of(Strategy::Pair) };
    holds("pair, rollback", setup);
}

#[test]
fn swap_survives_every_history_with_bounded_calls() {
    let extra = u8::from(long());
    let setup = Setup { crashes: 1 + extra, expiries: 1, losses: 1 + extra, ..Setup::of(Strategy::Swap) };
    holds("swap", setup);
}

#[test]
fn without_the_fence_a_secret_in_use_is_lost() {
    let setup = Setup { fenced: false, expiries: 1, rollbacks: 1, ..Setup::of(Strategy::Overlap) };
    broken("no fence", setup, properties::LIVE);
}

#[test]
fn without_compare_and_set_a_store_serves_a_dead_secret() {
    let setup = Setup { cas: Cas::Off, expiries: 1, rollbacks: 1, ..Setup::of(Strategy::Overlap) };
    broken("no compare-and-set", setup, properties::LIVE);
}

#[test]
fn a_store_without_compare_and_set_survives_with_bounded_calls() {
    let setup = Setup {
        cas: Cas::Off,
        bounded_stores: true,
        crashes: 1,
        expiries: 1,
        rollbacks: 1,
        ..Setup::of(Strategy::Overlap)
    };
    holds("no compare-and-set, calls bounded", setup);
}

#[test]
fn an_expected_version_that_is_read_again_serves_a_dead_secret() {
    let setup = Setup { cas: Cas::Reread, expiries: 1, rollbacks: 1, ..Setup::of(Strategy::Overlap) };
    broken("expected version read again", setup, properties::LIVE);
}

#[test]
fn a_prune_by_time_fails_a_consumer() {
    let setup = Setup { forged: true, ..Setup::of(Strategy::Overlap) };
    broken("prune by time", setup, properties::CONSUMER);
}

#[test]
fn deletes_that_are_not_journalled_kill_what_is_live() {
    let setup = Setup { deletes_journalled: false, expiries: 1, rollbacks: 1, ..Setup::of(Strategy::Overlap) };
    broken("deletes not journalled", setup, properties::LIVE);
}

#[test]
fn a_hold_that_the_journal_does_not_check_is_broken() {
    let setup = Setup { hold_checked: false, holds: 1, ..Setup::of(Strategy::Overlap) };
    broken("hold not checked", setup, properties::HELD);
}

#[test]
fn swap_without_bounded_calls_forgets_the_valid_secret() {
    let setup = Setup { bounded: false, expiries: 1, losses: 1, ..Setup::of(Strategy::Swap) };
    broken("swap, calls not bounded", setup, properties::KNOWN);
}
