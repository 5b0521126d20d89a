//! What a run asks of whoever holds a token, while it goes on.

use kh_core::{
    Fingerprint, UnixMillis,
    port::{Strategy, secret_management::Rotator},
    rotation::{ManagedId, RunId, VersionId},
};
use kh_rotation::{
    Acting, Baseline, Basis, Begin, Effect, End, Level, Order, Outcome, Place, PlatformFacts, Record, Run, Step,
};

use super::{Asked, asked};

fn id() -> ManagedId {
    ManagedId("s1".to_owned())
}

/// A run whose old secret is known and that has changed nothing so far.
fn run(level: Level) -> Run {
    let begin = Begin {
        run: RunId(uuid::Uuid::from_u128(7)),
        credential: "acme".parse().unwrap(),
        strategy: Strategy::Pair,
        level,
        generation: 2,
        by: Rotator::First,
        own: false,
        places: vec![Place { store: "a".to_owned(), path: "acme".parse().unwrap() }],
        hooks: Vec::new(),
        platform: PlatformFacts {
            reversible_stop: true,
            active_max: None,
            settles_within_ms: 0,
            token_life_max_ms: 0,
            second_rotator: false,
        },
        earlier: Vec::new(),
        actor: "ann".to_owned(),
        reason: "test".to_owned(),
    };
    let mut run = Run::begin(&Record::new(UnixMillis(0), Step::Begun(Box::new(begin)))).unwrap();
    let base = Baseline {
        old: Fingerprint::try_from("a".repeat(16)).unwrap(),
        old_id: Some(id()),
        listed: vec![id()],
        expected: vec![Some(VersionId("1".to_owned()))],
    };
    happens(&mut run, Step::Preflighted(Box::new(base)));
    run
}

fn happens(run: &mut Run, step: Step) {
    run.apply(&Record::new(UnixMillis(1), step)).unwrap();
}

fn stopped(run: &mut Run) {
    let basis = Basis { evidence: Vec::new(), overridden: vec!["leaked".to_owned()], by: vec!["ann".to_owned()] };
    let effect = Effect::Stop { id: id(), by: Acting::Rotator(Rotator::First) };
    happens(run, Step::Intended { effect, basis: Some(Box::new(basis)) });
    happens(run, Step::Settled { outcome: Outcome::Done });
}

#[test]
fn a_plain_run_that_is_made_urgent_later_still_takes_the_token_out_of_use() {
    let mut run = run(Level::Regular);
    assert_eq!(asked(&run), Asked::NothingYet, "it is looked at again");
    let order = Order::Hurry { level: Level::Kill };
    happens(&mut run, Step::Ordered { order, actor: "ann".to_owned(), reason: "leaked".to_owned() });
    assert_eq!(asked(&run), Asked::NothingYet, "the secret lives");
    stopped(&mut run);
    assert_eq!(asked(&run), Asked::Drop);
}

#[test]
fn until_the_new_secret_is_live_the_old_token_serves() {
    let mut run = run(Level::Revoke);
    stopped(&mut run);
    assert_eq!(asked(&run), Asked::NothingYet);
}

#[test]
fn a_run_that_is_over_asks_nothing_more() {
    let mut run = run(Level::Regular);
    happens(&mut run, Step::Ordered { order: Order::Abandon, actor: "ann".to_owned(), reason: "test".to_owned() });
    happens(&mut run, Step::Ended { end: End::Abandoned { left: Vec::new() } });
    assert_eq!(asked(&run), Asked::Nothing);
}
