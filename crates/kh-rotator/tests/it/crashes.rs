//! A crash at every boundary of every strategy, and at pairs of boundaries: before a call, after it was applied and its
//! answer lost, before and after each record.

use kh_core::{Entropy, SeededEntropy, port::Strategy};
use kh_rotation::End;
use kh_rotator::{Standing, Wanted};

use crate::world::World;

/// Pairs tried without `KEYHOLDER_LONG=1`, per strategy.
const PAIRS: u64 = 120;

async fn completes(strategy: Strategy, crashes: Vec<u64>) -> (u32, Vec<String>) {
    let world = World::new(strategy, 1);
    world.gate.crash_at(crashes.clone());
    let (standing, lives) = world.until_standing(&Wanted::scheduled()).await;
    let completed = Standing::Ended(End::Completed { unknown: Vec::new() });
    assert_eq!(standing, completed, "{strategy:?} with crashes at {crashes:?}: {:#?}", world.gate.trace());
    world.check(&End::Completed { unknown: Vec::new() }).await;
    (lives, world.gate.trace())
}

async fn every_boundary(strategy: Strategy, least: usize) {
    let (lives, trace) = completes(strategy, Vec::new()).await;
    assert_eq!(lives, 1);
    for what in ["stage", "promote", "hook", "rotation.intend", "rotation.settle", "rotation.end"] {
        assert!(trace.iter().any(|passed| passed.starts_with(what)), "{what} is no boundary of {trace:?}");
    }
    let boundaries = trace.len() as u64;
    assert!(boundaries as usize >= least, "only {boundaries} boundaries: {trace:?}");
    for at in 1..=boundaries {
        let (lives, _) = completes(strategy, vec![at]).await;
        assert_eq!(lives, 2, "the crash at {at} ({}) was one", trace[at as usize - 1]);
    }
    let random = SeededEntropy::new(9);
    let all = std::env::var("KEYHOLDER_LONG").is_ok();
    let mut pairs = 0_u64;
    for first in 1..=boundaries {
        for second in first + 1..=boundaries + 8 {
            let chosen = random.below(boundaries * (boundaries + 15) / 2) < PAIRS;
            if !all && !chosen {
                continue;
            }
            completes(strategy, vec![first, second]).await;
            pairs += 1;
        }
    }
    println!("{strategy:?}: a crash at each of {boundaries} boundaries, and at {pairs} pairs of them");
    assert!(pairs >= PAIRS / 2, "only {pairs} pairs");
}

#[tokio::test]
async fn a_crash_at_every_boundary_of_an_overlap_loses_nothing() {
    every_boundary(Strategy::Overlap, 40).await;
}

#[tokio::test]
async fn a_crash_at_every_boundary_of_a_pair_loses_nothing() {
    every_boundary(Strategy::Pair, 40).await;
}

#[tokio::test]
async fn a_crash_at_every_boundary_of_a_swap_ends_with_a_secret_that_works() {
    every_boundary(Strategy::Swap, 30).await;
}
