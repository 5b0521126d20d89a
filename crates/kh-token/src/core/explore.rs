//! Every sequence of a small set of events up to a depth, breadth first, each reached state once, against the model's
//! invariants; and proof that the interesting states were reached.

use std::collections::{BTreeSet, HashSet};

use super::{
    model::{Event, Model},
    *,
};

const EVENTS: &[Event] = &[
    Event::Ask { min_ttl: 0 },
    Event::Ask { min_ttl: 96 },
    Event::Read,
    Event::Ok { life: 100, refresh: true },
    Event::OkSameToken,
    Event::Fail(Failure::Rejected),
    Event::Fail(Failure::RefreshRefused),
    Event::Fail(Failure::RateLimited { retry_after: Some(Duration::from_secs(200)) }),
    Event::Fail(Failure::Transient { retry_after: Some(Duration::from_secs(10)) }),
    Event::LateOk,
    Event::KillCurrent,
    Event::KillPrevious,
    Event::ChangeSecret,
    Event::NoticeVersion,
    Event::Renew,
    Event::Pass(85),
    Event::WallOnly(-85),
    Event::WallOnly(50),
];

const DEPTH: usize = 6;

/// Plays every sequence after `prefix` and returns what was seen, with the number of states.
fn explore(policy: TokenPolicy, prefix: &[Event]) -> (BTreeSet<&'static str>, usize) {
    let mut start = Model::new(policy);
    for event in prefix {
        start.play(*event);
    }
    let mut known = HashSet::from([start.key()]);
    let (mut layer, mut seen) = (vec![start], BTreeSet::new());
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for model in &layer {
            for event in EVENTS {
                let mut after = model.clone();
                after.play(*event);
                seen.append(&mut after.seen.clone());
                if known.insert(after.key()) {
                    next.push(after);
                }
            }
        }
        layer = next;
    }
    (seen, known.len())
}

fn check(policy: TokenPolicy, prefix: &[Event], reached: &[&str]) {
    let (seen, states) = explore(policy, prefix);
    for name in reached {
        assert!(seen.contains(name), "{name:?} was not reached; seen {seen:?}");
    }
    assert!(states > 1_000, "only {states} states");
}

const FETCH: [Event; 3] = [Event::Ask { min_ttl: 0 }, Event::Read, Event::Ok { life: 100, refresh: true }];

#[test]
fn from_nothing() {
    check(
        TokenPolicy::default(),
        &[],
        &[
            "fetch",
            "wait",
            "serve",
            "login",
            "accepted",
            "early refresh",
            "fetch after death",
            "hold",
            "rate limited",
            "unavailable",
            "struck",
            "kept from sending",
            "rejected",
            "removed",
            "ttl refused",
            "late result ignored",
            "dead on arrival",
        ],
    );
}

#[test]
fn from_a_token_that_is_due() {
    let prefix = [FETCH[0], FETCH[1], FETCH[2], Event::Pass(85), Event::Ask { min_ttl: 0 }];
    check(
        TokenPolicy::default(),
        &prefix,
        &["serve", "refresh grant", "known bad", "fetch after death", "removed", "old report ignored", "login"],
    );
}

#[test]
fn from_a_secret_that_worked_and_was_replaced() {
    let refused = [Event::KillCurrent, FETCH[0], FETCH[1], Event::Fail(Failure::Rejected)];
    let prefix = [FETCH[0], FETCH[1], Event::Ok { life: 100, refresh: false }];
    check(
        TokenPolicy::default(),
        &[prefix.as_slice(), refused.as_slice()].concat(),
        &["waits for a replaced secret", "too new", "rejected", "login", "accepted", "serve", "renewed"],
    );
}

#[test]
fn from_a_platform_that_kills_tokens() {
    let mut prefix = Vec::new();
    for _ in 0..6 {
        prefix.extend(FETCH);
        prefix.push(Event::KillCurrent);
        prefix.push(Event::Pass(20));
    }
    prefix.extend(FETCH);
    check(TokenPolicy::default(), &prefix, &["removed", "hold", "serve", "storm"]);
}

#[test]
fn with_an_idle_timeout() {
    let policy = TokenPolicy { idle_ttl: Some(Duration::from_mins(1)), ..TokenPolicy::default() };
    check(policy, &FETCH, &["fetch after death", "serve", "early refresh"]);
}
