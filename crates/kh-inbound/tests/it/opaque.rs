//! Opaque tokens: one question for a crowd, what is believed for how long, authorities that fail.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use kh_core::{
    Clock, Hashed, SystemEntropy,
    issued::{IssuedKind, issue},
};
use kh_inbound::{AnswerRules, Bounds, DeniedKind, DenyReason, IssuerSpec};
use parking_lot::Mutex;
use serde_json::json;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::support::{Authority, ISS, Keys, OPAQUE, START, Says, Signer, World, by_authority, by_keys, until};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

async fn world(authority: &Arc<Authority>) -> World {
    World::new(vec![by_authority(authority, AnswerRules::default())]).await
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_with_one_new_token_ask_once() {
    let authority = Authority::saying(Says::Active(None));
    let world = world(&authority).await;
    authority.gate.close();
    let crowd = join_all((0..1000).map(|_| world.verify("opaque-token")));
    let (answers, ()) = tokio::join!(crowd, async {
        until(|| world.verifier.stats().asking == 1).await;
        authority.gate.reopen();
    });
    let first = answers.first().unwrap().as_ref().unwrap();
    assert!(answers.iter().all(|answer| Arc::ptr_eq(answer.as_ref().unwrap(), first)));
    assert_eq!(authority.count(), 1);
}

/// A request that looks into memory just before an answer comes, and asks just after, finds the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_on_all_cores_ask_once_for_each_token() {
    const TOKENS: u32 = 1000;
    let hour = Duration::from_hours(1);
    let rules = AnswerRules { max_age: hour, negative_age: hour, ..AnswerRules::default() };
    for says in [Says::Active(None), Says::Inactive] {
        let authority = Authority::saying(says);
        let world = Arc::new(World::new(vec![by_authority(&authority, rules.clone())]).await);
        for round in 0..TOKENS {
            let crowd = (0..8).map(|_| {
                let world = Arc::clone(&world);
                tokio::spawn(async move { world.code(&format!("token-{round}")).await })
            });
            let answers: Vec<_> = join_all(crowd).await.into_iter().map(Result::unwrap).collect();
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        }
        assert_eq!(authority.count(), TOKENS, "{says:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_yes_is_believed_for_max_age_or_until_the_tokens_end() {
    let authority = Authority::saying(Says::Active(None));
    let world = world(&authority).await;
    assert_eq!(world.code("a").await, "ok");
    tokio::time::advance(SECONDS(59)).await;
    assert!(world.known("a").is_some());
    tokio::time::advance(SECONDS(1)).await;
    assert!(world.known("a").is_none(), "no end was told: a minute");
    authority.say(Says::Active(Some(70)));
    assert_eq!(world.code("b").await, "ok");
    tokio::time::advance(SECONDS(39)).await;
    assert!(world.known("b").is_some(), "70 s and 30 s of leeway after the start");
    tokio::time::advance(SECONDS(1)).await;
    assert!(world.known("b").is_none());
    assert_eq!(world.code("b").await, "expired", "whatever its authority says");
    authority.say(Says::Active(Some(1_000_000)));
    assert_eq!(world.code("c").await, "life_too_long");
    authority.say(Says::Aged(20));
    assert_eq!(world.code("d").await, "ok");
    tokio::time::advance(SECONDS(39)).await;
    assert!(world.known("d").is_some());
    tokio::time::advance(SECONDS(1)).await;
    assert!(world.known("d").is_none(), "what it rests on was 20 s old");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_taken_until_their_end_and_the_leeway_of_their_issuer() {
    let authority = Authority::saying(Says::Active(Some(70)));
    let signer = Signer::new("k");
    let jwt = by_keys(Keys::holding(&[&signer]), Bounds::REMOTE);
    let rules = AnswerRules { leeway: SECONDS(5), ..AnswerRules::default() };
    let world = World::new(vec![by_authority(&authority, rules), jwt]).await;
    let opaque = world.verify("a").await.unwrap();
    assert_eq!(world.verifier.taken_until(&opaque), Some(START.plus(SECONDS(75))));
    let jwt = world.verify(&signer.token("c", "1", 60)).await.unwrap();
    assert_eq!(world.verifier.taken_until(&jwt), Some(START.plus(SECONDS(90))));
    authority.say(Says::Active(None));
    let endless = world.verify("b").await.unwrap();
    assert_eq!(world.verifier.taken_until(&endless), None);
}

/// The age of an answer counts from the question: one that took long is not believed longer for it.
#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_no_younger() {
    let authority = Authority::saying(Says::Active(None));
    let world = Arc::new(world(&authority).await);
    authority.gate.close();
    let asking = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.code("a").await }
    });
    until(|| authority.count() == 1).await;
    let asked = world.clock.now().mono;
    tokio::time::advance(SECONDS(10)).await;
    authority.gate.reopen();
    assert_eq!(asking.await.unwrap(), "ok");
    assert!(world.known("a").is_some());
    until(|| world.known("a").is_none()).await;
    assert!(world.clock.now().mono <= asked + SECONDS(61));
}

#[tokio::test(start_paused = true)]
async fn a_no_is_remembered_briefly() {
    let authority = Authority::saying(Says::Inactive);
    let world = world(&authority).await;
    for _ in 0..100 {
        let denied = world.verify("a").await.unwrap_err();
        assert_eq!((denied.reason, denied.kind), (DenyReason::Inactive, DeniedKind::Invalid));
        assert_eq!(denied.issuer.as_deref(), Some("opaque"));
    }
    assert_eq!(authority.count(), 1);
    authority.say(Says::Active(None));
    tokio::time::advance(SECONDS(5)).await;
    assert_eq!(world.code("a").await, "ok");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_no() {
    let authority = Authority::saying(Says::Active(None));
    let world = world(&authority).await;
    assert_eq!(world.code("known").await, "ok");
    authority.say(Says::Down);
    let denied = world.verify("new").await.unwrap_err();
    assert_eq!(denied.reason, DenyReason::IssuerUnavailable);
    assert_eq!(denied.kind, DeniedKind::Unavailable { retry_after: SECONDS(7) }, "as its authority asks");
    tokio::time::advance(SECONDS(59)).await;
    assert_eq!(world.code("known").await, "ok", "until its real end");
    tokio::time::advance(SECONDS(1)).await;
    assert_eq!(world.code("known").await, "issuer_unavailable");
    authority.say(Says::Panic);
    assert_eq!(world.code("panics").await, "issuer_unavailable");
    authority.say(Says::Active(None));
    assert_eq!(world.code("new").await, "ok", "nothing of the outage is remembered");
    authority.gate.close();
    assert_eq!(world.code("hangs").await, "issuer_unavailable");
}

/// Keeps the level of each line about an authority.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Level>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "kh_inbound::remote"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        self.0.lock().push(*event.metadata().level());
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Some tokens of an authority may be without an answer for as long as others have one.
#[tokio::test(start_paused = true)]
async fn an_authority_that_fails_for_every_other_token_is_told_of_once_a_minute() {
    let authority = Authority::saying(Says::Active(None));
    let world = world(&authority).await;
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    for round in 0..100 {
        for (says, expected) in [(Says::Down, "issuer_unavailable"), (Says::Active(None), "ok")] {
            authority.say(says);
            assert_eq!(world.code(&format!("{expected}-{round}")).await, expected);
        }
    }
    assert_eq!(*lines.0.lock(), [Level::ERROR, Level::INFO]);
    // an outage that lasts is told, if it began soon after a line
    authority.say(Says::Down);
    for (wait, expected) in [(1, 2), (50, 2), (10, 3), (100, 3)] {
        tokio::time::advance(SECONDS(wait)).await;
        assert_eq!(world.code(&format!("down-{wait}")).await, "issuer_unavailable");
        assert_eq!(lines.0.lock().len(), expected, "after {wait} s more");
    }
    authority.say(Says::Active(None));
    assert_eq!(world.code("up-again").await, "ok");
    assert_eq!(*lines.0.lock(), [Level::ERROR, Level::INFO, Level::ERROR, Level::INFO]);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_holds_up_no_other() {
    let (slow, well) = (Authority::saying(Says::Active(None)), Authority::saying(Says::Active(None)));
    let prefixed = AnswerRules { prefix: Some("slow_".to_owned()), ..AnswerRules::default() };
    let hanging = IssuerSpec {
        name: "slow".into(),
        issuers: vec!["https://else.example".into()],
        ..by_authority(&slow, prefixed)
    };
    let world = World::new(vec![hanging, by_authority(&well, AnswerRules::default())]).await;
    slow.gate.close();
    let made_up = |number: u32| {
        let (world, token) = (&world, format!("slow_{number}"));
        async move { world.code(&token).await }
    };
    let crowd = join_all((0..5000).map(made_up));
    let asked = async {
        until(|| world.verifier.stats().asking >= 4096).await;
        (world.code("slow_one-more").await, world.code("well").await)
    };
    tokio::select! {
        biased;
        _ = crowd => unreachable!("the slow one does not answer"),
        heard = asked => assert_eq!(heard, ("issuer_overloaded", "ok")),
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_shown_to_their_own_authority_alone() {
    let (ours, theirs) = (Authority::saying(Says::Active(None)), Authority::saying(Says::Active(None)));
    let signer = Signer::new("k");
    let prefixed = AnswerRules { prefix: Some("kht_".to_owned()), ..AnswerRules::default() };
    let own = IssuerSpec { name: "own".into(), ..by_authority(&ours, prefixed) };
    let other =
        IssuerSpec { issuers: vec!["https://else.example".into()], ..by_authority(&theirs, AnswerRules::default()) };
    let world = World::new(vec![own, other, by_keys(Keys::holding(&[&signer]), Bounds::REMOTE)]).await;
    assert_eq!(world.code("kht_abc").await, "ok");
    assert_eq!((ours.count(), theirs.count()), (1, 0));
    // the fake answers for an issuer that this one may not speak for
    assert_eq!(world.code("abc").await, "issuer_refused");
    assert_eq!((ours.count(), theirs.count()), (1, 1));
    for jwt in [signer.token("c", "1", 60), "a.b.c".to_owned(), "a.b.c.d.e".to_owned()] {
        world.code(&jwt).await;
    }
    for unprintable in ["", "a b", "a\nb", "ä", &"x".repeat(20_000)] {
        assert_ne!(world.code(unprintable).await, "ok");
    }
    assert_eq!((ours.count(), theirs.count()), (1, 1), "a JWT, even a broken one, is shown to nobody");
    for kind in [IssuedKind::ClientSecret, IssuedKind::Guard] {
        let whole = issue(kind, &SystemEntropy);
        let (whole, damaged) = (whole.expose(), format!("{}abc", kind.prefix()));
        assert_eq!((world.code(whole).await, world.code(&damaged).await), ("unrecognised", "unrecognised"));
    }
    assert_eq!((ours.count(), theirs.count()), (1, 1), "nor is a secret of keyholder's own");
    world.code(&format!("khs_{}", "a".repeat(82))).await;
    assert_eq!((ours.count(), theirs.count()), (1, 2), "a longer one that begins alike may be theirs");
}

/// `ok`, or the code of the refusal and the issuer that it names, at a place that takes tokens with this `iss` alone.
async fn code_at(world: &World, iss: &str, token: &str) -> (&'static str, Option<String>) {
    match world.verifier.verify_for(&[iss.into()], Hashed::of(token.as_bytes()), world.clock.now()).await {
        Ok(_) => ("ok", None),
        Err(denied) => {
            assert_eq!(denied.kind, DeniedKind::Invalid);
            (denied.reason.as_str(), denied.issuer.as_deref().map(str::to_owned))
        }
    }
}

/// APIs share a verifier: a token goes to an authority only from one that takes its tokens, and what one of them was told
/// is not held against the other.
#[tokio::test(start_paused = true)]
async fn tokens_are_shown_to_no_authority_whose_tokens_are_not_taken() {
    let (prefixed, other) = (Authority::saying(Says::Inactive), Authority::saying(Says::Down));
    let rules = AnswerRules { prefix: Some("pre_".to_owned()), ..AnswerRules::default() };
    let with_prefix =
        IssuerSpec { name: "prefixed".into(), issuers: vec!["p".into()], ..by_authority(&prefixed, rules) };
    let signer = Signer::new("k");
    let issuers = vec![
        with_prefix,
        by_authority(&other, AnswerRules::default()),
        by_keys(Keys::holding(&[&signer]), Bounds::REMOTE),
    ];
    let world = World::new(issuers).await;
    let of_other = signer.sign(&json!({ "iss": OPAQUE, "sub": "a", "exp": START.as_secs() + 60 }));
    let named = |name: &str| Some(name.to_owned());
    for _ in 0..2 {
        assert_eq!(code_at(&world, ISS, "a").await, ("issuer_not_of_route", None), "whose it is, nobody knows");
        assert_eq!(code_at(&world, ISS, "pre_a").await, ("issuer_not_of_route", named("prefixed")));
        assert_eq!(code_at(&world, ISS, &of_other).await, ("issuer_not_of_route", named("opaque")));
        assert_eq!(code_at(&world, OPAQUE, "pre_a").await, ("issuer_not_of_route", named("prefixed")));
    }
    assert_eq!((prefixed.count(), other.count()), (0, 0));
    // a question that is under way for another place is not joined
    other.say(Says::Active(None));
    other.gate.close();
    let asking = async { code_at(&world, OPAQUE, "a").await };
    let meanwhile = async {
        until(|| other.count() == 1).await;
        let heard = code_at(&world, ISS, "a").await;
        other.gate.reopen();
        heard
    };
    assert_eq!(tokio::join!(asking, meanwhile), (("ok", None), ("issuer_not_of_route", None)));
    assert_eq!(code_at(&world, ISS, "a").await, ("ok", None), "memory says whose it is, and asks nobody");
    assert_eq!(code_at(&world, OPAQUE, &of_other).await, ("ok", None));
    // a no is remembered for those alone who may ask
    assert_eq!(code_at(&world, "p", "pre_a").await, ("inactive", named("prefixed")));
    assert_eq!(code_at(&world, ISS, "pre_a").await, ("issuer_not_of_route", named("prefixed")));
    assert_eq!((prefixed.count(), other.count()), (1, 2));
    assert_eq!(code_at(&world, OPAQUE, &signer.token("c", "1", 60)).await, ("ok", None), "keys ask nobody");
}
