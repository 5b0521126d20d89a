//! At least 200 seeded SIGKILLs during writes and traffic, at least 50 of them inside a write: nothing acknowledged is
//! lost, nothing is there in part.
//!
//! A kill is inside a write when the write's answer had not come and the files that only this write touches had
//! changed since it was asked for (or its journal or a torn line was left behind, or it is there after all).

use super::round::{Arena, Tally};

/// Installations under fire at the same time: one per core of a small CI machine.
const ARENAS: u64 = 2;

/// SIGKILLs for each installation.
const KILLS: usize = 100;

/// The same with `KEYHOLDER_LONG=1`.
const KILLS_LONG: usize = 1_000;

/// Of all kills, at least this share must have fallen inside a write: one of four.
const INSIDE_SHARE: usize = 4;

const SEED: u64 = 20_261_121;

/// No limit of the platform may hide a lost token behind a 429.
const SANDBOX: &str = "\
[limits]
requests_per_token = 10000000
requests_per_client_minute = 10000000
logins_per_minute = 10000000
";

#[test]
fn nothing_acknowledged_is_lost_by_kills_during_writes_and_traffic() {
    let kills = if std::env::var_os("KEYHOLDER_LONG").is_some() { KILLS_LONG } else { KILLS };
    println!("sandbox limits raised for this test:\n{SANDBOX}");
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let arenas: Vec<_> = (0..ARENAS).map(|number| scope.spawn(move || fight(SEED + number, kills))).collect();
        arenas.into_iter().map(|arena| arena.join().expect("the arena held")).collect()
    });
    let total: usize = tallies.iter().map(|tally| tally.kills).sum();
    let inside: usize = tallies.iter().map(Tally::inside).sum();
    println!("seed {SEED}: {total} kills, {inside} of them inside a write");
    assert!(total >= 200, "{total} kills");
    assert!(inside >= 50 && inside * INSIDE_SHARE >= total, "only {inside} of {total} kills fell inside a write");
    for tally in &tallies {
        assert!(tally.inside_a_login > 0 && tally.inside_a_command > 0 && tally.calls > 0, "{tally:?}");
    }
}

fn fight(seed: u64, kills: usize) -> Tally {
    let mut arena = Arena::new(seed, SANDBOX);
    while arena.tally.kills < kills {
        arena.round();
    }
    arena.check_all();
    let ledger = &arena.ledger;
    println!(
        "seed {seed}: {:?}; all there: {} clients, {} tokens, {} revocations, {} secret versions, {} audit entries",
        arena.tally,
        ledger.clients.len(),
        ledger.tokens.len(),
        ledger.revoked.len(),
        ledger.secrets.values().sum::<u64>(),
        ledger.audit.values().sum::<usize>()
    );
    arena.tally
}
