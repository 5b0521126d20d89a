//! SIGKILL of a rotating process, anywhere: the next one ends what it began.
//!
//! Invariants, looked at after every kill: what the store serves logs in, no secret is made without an intent of its own,
//! and at the end of a run the platform holds one secret, the live one. Rounds go on until kills fell where they should.

use std::{collections::BTreeMap, time::Duration};

use kh_core::{Entropy, SeededEntropy};
use serde_json::json;

use super::rig::{Journalled, Rig, Way};

/// Kills of one run.
const KILLS_PER_RUN: usize = 3;

/// Runs that may be made, in multiples of the usual, until kills have landed where they should.
const RUNS_MAX: usize = 4;

/// A process is killed within this time after the record that it is aimed at, in microseconds: calls to the sandbox take
/// some milliseconds, so that kills fall before, into and after them.
const AIM_MICROS: u64 = 12_000;

fn runs(usual: usize) -> usize {
    if std::env::var_os("KEYHOLDER_LONG").is_some() { usual * 20 } else { usual }
}

/// Where kills fell.
#[derive(Default, Debug)]
struct Tally {
    kills: usize,
    /// The last record was an intent: the call was not sent yet, under way, or answered and not recorded.
    in_call: usize,
    /// The platform had made a secret, and nobody recorded the answer.
    lost: usize,
    runs: usize,
    places: BTreeMap<String, usize>,
}

impl Tally {
    fn enough(&self) -> bool {
        self.kills >= 6 && self.in_call >= 2 && self.lost >= 1
    }
}

/// What a process is killed at.
enum Aim {
    /// So many records after those that were there, and a little later.
    Records(usize),
    /// While the answer that holds the new secret is on its way.
    Answer,
}

/// Starts a process and kills it where it is aimed; false where it ended before.
fn kill(rig: &Rig, aim: &Aim, delay: Duration) -> bool {
    let before = rig.recorded();
    let mut process = rig.rotate();
    let reached = |run: &Journalled| match aim {
        Aim::Records(more) => rig.recorded() >= before + more,
        Aim::Answer => run.attempts() > run.made() && ["in create", "in regenerate"].contains(&run.place().as_str()),
    };
    if let Aim::Answer = aim {
        let slow = json!({ "match": { "method": "POST", "endpoint": rig.way.making() },
                           "effect": { "kind": "slow_body", "bytes": 1, "ms": 50 } });
        rig.faults(&json!([slow]));
    }
    let alive = rig.watch(&mut process, reached);
    if let (Aim::Answer, true) = (aim, alive) {
        let lost = rig.lost();
        // the platform carries it out, and begins to answer
        rig.watch(&mut process, |_| rig.lost() > lost || lost > 0);
    }
    std::thread::sleep(delay);
    let killed = process.cut();
    rig.faults(&json!([]));
    killed
}

/// One rotation that is killed again and again.
fn killed_run(rig: &Rig, entropy: &SeededEntropy, tally: &mut Tally) {
    for number in 0..KILLS_PER_RUN {
        let run = rig.newest();
        let fresh = number == 0;
        if !fresh && run.over {
            break;
        }
        // a run makes at most two secrets: after a kill within the first call the second one is left alone
        if !fresh && run.attempts() > run.made() {
            break;
        }
        let unmade = fresh || run.attempts() == 0;
        let aim = if unmade && entropy.below(2) == 0 {
            Aim::Answer
        } else {
            Aim::Records(usize::try_from(entropy.below(8)).unwrap() + 1)
        };
        let lost = rig.lost();
        let killed = kill(rig, &aim, Duration::from_micros(entropy.below(AIM_MICROS)));
        let run = rig.newest();
        if killed {
            tally.kills += 1;
            let place = run.place();
            tally.in_call += usize::from(place.starts_with("in "));
            tally.lost += usize::from(rig.lost() > lost);
            *tally.places.entry(place).or_default() += 1;
        }
        rig.lease_over();
        rig.is_sound();
    }
    if !rig.newest().over {
        rig.to_the_end();
    }
    rig.is_completed();
    tally.runs += 1;
    rig.next_day();
}

fn killed(way: Way, seed: u64) {
    let rig = Rig::new(way);
    let entropy = SeededEntropy::new(seed);
    let mut tally = Tally::default();
    let all = runs(3);
    for number in 0..all * RUNS_MAX {
        if number >= all && tally.enough() {
            break;
        }
        killed_run(&rig, &entropy, &mut tally);
    }
    rig.run(&["audit", "verify"]).done();
    println!("{way:?}, seed {seed}: {tally:?}");
    assert!(tally.enough(), "the kills missed: {tally:?}");
}

/// All run at the same time, because each mostly waits.
#[test]
fn a_rotation_that_is_killed_anywhere_is_ended_by_the_next_process() {
    std::thread::scope(|scope| {
        for (way, seed) in [(Way::Pair, 81), (Way::Swap, 82), (Way::Overlap, 83), (Way::Keys, 85)] {
            scope.spawn(move || killed(way, seed));
        }
    });
}

/// Two processes at a time, of which one is killed: the other one is refused, or goes on, and nothing is done twice.
#[test]
fn rivals_of_which_one_is_killed_do_not_get_in_each_others_way() {
    let rig = Rig::new(Way::Pair);
    let entropy = SeededEntropy::new(84);
    let (mut kills, mut refused, mut done) = (0, 0, 0);
    let all = runs(2);
    for number in 0..all * RUNS_MAX {
        if number >= all && kills >= 2 && refused >= 2 {
            break;
        }
        for _ in 0..2 {
            let (mut one, mut two) = (rig.rotate(), rig.rotate());
            let (there, more) = (rig.recorded(), usize::try_from(entropy.below(10)).unwrap() + 1);
            rig.watch(&mut one, |_| rig.recorded() >= there + more);
            std::thread::sleep(Duration::from_micros(entropy.below(AIM_MICROS)));
            kills += usize::from(one.cut());
            rig.watch(&mut two, |_| false);
            let code = two.end();
            assert!([Some(0), Some(3)].contains(&code), "{}", two.said());
            refused += usize::from(two.said().contains("keyholder.rotation.fenced"));
            done += usize::from(code == Some(0));
            rig.lease_over();
            rig.is_sound();
            if rig.newest().attempts() > rig.newest().made() {
                break;
            }
        }
        if !rig.newest().over {
            rig.to_the_end();
        }
        rig.is_completed();
        rig.next_day();
    }
    println!("rivals: {kills} killed, {refused} refused, {done} ended the run");
    assert!(kills >= 2 && refused >= 2, "{kills} killed, {refused} refused");
}
