//! JWTs: what is served from memory and what must not be, keys that rotate, issuers that fail.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use kh_core::Now;
use kh_inbound::{AnswerRules, Bounds, DeniedKind, DenyReason, IssuerSpec, SpecError, Verifier, VerifierConfig};
use kh_verify::Reason;
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Authority, ISS, Keys, START, Says, Signer, TokioClock, World, by_authority, by_keys, refused, respelled, state_in,
    until,
};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

async fn world(keys: &Arc<Keys>) -> World {
    World::new(vec![by_keys(Arc::<Keys>::clone(keys), Bounds::REMOTE)]).await
}

#[tokio::test(start_paused = true)]
async fn a_good_token_is_verified_once_and_then_known() {
    let signer = Signer::new("k1");
    let world = world(&Keys::holding(&[&signer])).await;
    let token = signer.token("c", "1", 3600);
    assert!(world.known(&token).is_none());
    let identity = world.verify(&token).await.unwrap();
    assert_eq!((&**identity.issuer(), identity.client(), identity.token_id()), (ISS, Some("c"), Some("1")));
    assert!(Arc::ptr_eq(&identity, &world.known(&token).unwrap()));
    assert!(Arc::ptr_eq(&identity, &world.verify(&token).await.unwrap()));
    let stats = world.verifier.stats();
    assert_eq!((stats.misses, stats.hits, stats.cached), (1, 2, 1));
    assert_eq!(world.verifier.values_of_iss("jwt"), [Arc::from(ISS)]);
}

/// What is kept is what the token says. The same identity serves a route that takes it and one that does not; there is
/// no place in it for what a route decided.
#[tokio::test(start_paused = true)]
async fn memory_holds_who_somebody_is_and_no_verdict() {
    let signer = Signer::new("k1");
    let world = world(&Keys::holding(&[&signer])).await;
    let token = signer.token("c", "1", 3600);
    world.verify(&token).await.unwrap();
    let known = world.known(&token).unwrap();
    let may = |scope: &str| known.scopes().contains(scope);
    assert!(may("read") && !may("admin"), "each route asks anew");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_past_the_end_of_the_token() {
    let signer = Signer::new("k1");
    let world = world(&Keys::holding(&[&signer])).await;
    let token = signer.token("c", "1", 60);
    world.verify(&token).await.unwrap();
    let at = |seconds: u64| Now { wall: START.plus(SECONDS(seconds)), mono: SECONDS(seconds) };
    let known = |now| world.verifier.known(token.as_bytes(), now).is_some();
    // with the policy's leeway of 30 s, as for a token that is new
    assert!(known(at(89)));
    for late in [at(90), Now { mono: SECONDS(1), ..at(90) }, Now { wall: START, ..at(90) }] {
        assert!(!known(late), "{late:?}");
        world.verify(&token).await.unwrap();
    }
    tokio::time::advance(SECONDS(90)).await;
    assert_eq!(world.verify(&token).await.unwrap_err().reason, refused(Reason::Expired));
    assert!(world.known(&token).is_none());
}

#[tokio::test(start_paused = true)]
async fn only_the_issuer_that_a_token_names_verifies_it() {
    let (ours, theirs) = (Signer::new("k"), Signer::new("k"));
    let other = IssuerSpec {
        name: "other".into(),
        issuers: vec!["https://other.example".into()],
        ..by_keys(Keys::holding(&[&theirs]), Bounds::REMOTE)
    };
    let world = World::new(vec![by_keys(Keys::holding(&[&ours]), Bounds::REMOTE), other]).await;
    assert_eq!(world.code(&ours.token("c", "1", 60)).await, "ok");
    let stranger = world.verify(&theirs.token("c", "1", 60)).await.unwrap_err();
    assert_eq!(stranger.reason, refused(Reason::SignatureInvalid), "a key of the same name elsewhere does not count");
    assert_eq!(stranger.issuer.as_deref(), Some("jwt"));
    let claims = json!({"iss": "https://nobody.example", "aud": "api", "exp": START.as_secs() + 60});
    let nobody = world.verify(&ours.sign(&claims)).await.unwrap_err();
    assert_eq!((nobody.reason, nobody.kind, nobody.issuer), (DenyReason::IssuerUnknown, DeniedKind::Invalid, None));
    let anonymous = ours.sign(&json!({"aud": "api", "exp": START.as_secs() + 60}));
    assert_eq!(world.verify(&anonymous).await.unwrap_err().reason, refused(Reason::IssuerMissing));
    for broken in ["", "abc", "a.b.c", "a.b.c.d.e", &"x".repeat(100_000)] {
        assert!(world.verify(broken).await.is_err(), "{broken:.20}");
    }
    assert_eq!(world.code("opaque").await, "unrecognised");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_fetched_once_per_interval() {
    let (old, new, forged) = (Signer::new("old"), Signer::new("new"), Signer::new("made-up"));
    let keys = Keys::holding(&[&old]);
    let world = world(&keys).await;
    assert_eq!(keys.count(), 1, "at the start");
    tokio::time::advance(SECONDS(10)).await;
    keys.put(&[&old, &new]);
    assert_eq!(world.code(&new.token("c", "1", 3600)).await, "ok", "the new key was fetched for it");
    assert_eq!(keys.count(), 2);
    for number in 0..200 {
        let token = forged.token("c", &number.to_string(), 3600);
        assert_eq!(world.code(&token).await, "key_unknown");
    }
    assert_eq!(keys.count(), 2, "the interval has not passed");
    tokio::time::advance(SECONDS(10)).await;
    let tokens: Vec<String> = (0..200).map(|number| forged.token("c", &format!("again-{number}"), 3600)).collect();
    let crowd = join_all(tokens.iter().map(|token| world.code(token))).await;
    assert!(crowd.into_iter().all(|code| code == "key_unknown"));
    assert_eq!(keys.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_token_without_kid_outlives_a_rotation() {
    let (old, new) = (Signer::new(""), Signer::new(""));
    let keys = Keys::holding(&[&old]);
    let world = world(&keys).await;
    assert_eq!(world.code(&old.token("c", "1", 3600)).await, "ok");
    keys.put(&[&new]);
    assert_eq!(world.code(&new.token("c", "2", 3600)).await, "signature_unmatched", "too early for a fetch");
    tokio::time::advance(SECONDS(10)).await;
    assert_eq!(world.code(&new.token("c", "3", 3600)).await, "ok");
    assert_eq!(world.code(&old.token("c", "4", 3600)).await, "signature_unmatched");
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_takes_its_tokens_out_of_memory() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let keys = Keys::holding(&[&old, &new]);
    let world = world(&keys).await;
    let (by_old, by_new) = (old.token("c", "1", 3600), new.token("c", "2", 3600));
    world.verify(&by_old).await.unwrap();
    world.verify(&by_new).await.unwrap();
    tokio::time::advance(SECONDS(300)).await;
    world.verifier.renew_keys().await;
    assert_eq!(keys.count(), 2);
    assert!(world.known(&by_old).is_some(), "the same document again changes nothing");
    keys.put(&[&new]);
    tokio::time::advance(SECONDS(300)).await;
    world.verifier.renew_keys().await;
    assert!(world.known(&by_old).is_none());
    assert_eq!(world.code(&by_old).await, "key_unknown");
    assert_eq!(world.code(&by_new).await, "ok");
    assert!(world.known(&by_new).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_last_good_set_serves_while_the_issuer_fails_and_not_for_ever() {
    let signer = Signer::new("k");
    let keys = Keys::holding(&[&signer]);
    let world = world(&keys).await;
    let token = signer.token("c", "1", 30 * 24 * 3600);
    world.verify(&token).await.unwrap();
    let broken = ["", "{}", "<html>", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AA"}]}"#];
    for text in broken {
        keys.put_text(text);
        tokio::time::advance(SECONDS(3600)).await;
        world.verifier.renew_keys().await;
        assert_eq!(world.code(&signer.token("c", text, 3600 * 24)).await, "ok", "{text} replaced nothing");
    }
    keys.break_down();
    tokio::time::advance(SECONDS(19 * 3600 - 1)).await;
    world.verifier.renew_keys().await;
    assert!(world.known(&token).is_some());
    tokio::time::advance(SECONDS(1)).await;
    assert!(world.known(&token).is_none(), "also what is in memory");
    let denied = world.verify(&token).await.unwrap_err();
    assert_eq!(denied.reason, DenyReason::KeysUnavailable);
    assert!(matches!(denied.kind, DeniedKind::Unavailable { retry_after } if retry_after >= SECONDS(1)), "{denied:?}");
    assert_eq!(world.verifier.lacking(), [Arc::from("jwt")]);
    keys.put(&[&signer]);
    tokio::time::advance(SECONDS(300)).await;
    assert_eq!(world.code(&token).await, "ok", "a caller's token brings the keys back");
    assert!(world.verifier.lacking().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_keys_nobody_knows() {
    let signer = Signer::new("k");
    let keys = Keys::holding(&[]);
    keys.break_down();
    let world = world(&keys).await;
    let fetched = keys.count();
    for _ in 0..50 {
        let denied = world.verify(&signer.token("c", "1", 60)).await.unwrap_err();
        assert_eq!(denied.reason, DenyReason::KeysUnavailable);
        assert!(matches!(denied.kind, DeniedKind::Unavailable { .. }), "never a 401: {denied:?}");
    }
    assert_eq!(keys.count(), fetched, "callers do not hammer an issuer that is down");
}

/// The issuer has turned its keys, and its key set cannot be read: the good set that is there does not tell a new key
/// from an invented one.
#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_no_fault_of_the_token_while_the_issuer_fails() {
    let (old, new, forged) = (Signer::new("old"), Signer::new("new"), Signer::new("made-up"));
    let keys = Keys::holding(&[&old]);
    let world = world(&keys).await;
    keys.break_down();
    tokio::time::advance(SECONDS(10)).await;
    let fetched = keys.count();
    for id in ["1", "2", "3"] {
        let denied = world.verify(&new.token("c", id, 3600)).await.unwrap_err();
        assert_eq!(denied.reason, DenyReason::KeysUnavailable);
        assert!(matches!(denied.kind, DeniedKind::Unavailable { .. }), "never a 401: {denied:?}");
        assert_eq!(keys.count(), fetched + 1, "and one fetch for all of them");
    }
    assert_eq!(world.code(&forged.token("c", "4", 3600)).await, "keys_unavailable");
    assert_eq!(world.code(&old.token("c", "5", 3600)).await, "ok", "with the last good set");
    tokio::time::advance(SECONDS(30)).await;
    assert_eq!(world.code(&old.token("c", "6", 1)).await, "expired", "no key could make it good");
    keys.put(&[&old, &new]);
    assert_eq!(world.code(&new.token("c", "1", 3600)).await, "ok");
    assert_eq!(keys.count(), fetched + 2);
    assert_eq!(world.code(&forged.token("c", "7", 3600)).await, "key_unknown", "too early for a fetch");
    tokio::time::advance(SECONDS(10)).await;
    assert_eq!(world.code(&forged.token("c", "8", 3600)).await, "key_unknown", "the issuer has no such key");
    assert_eq!(keys.count(), fetched + 3);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_strands_nobody() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let keys = Keys::holding(&[&old]);
    let world = Arc::new(world(&keys).await);
    tokio::time::advance(SECONDS(10)).await;
    keys.put(&[&new]);
    keys.gate.close();
    let ask = |id: &str| {
        let (world, token) = (Arc::clone(&world), new.token("c", id, 3600));
        tokio::spawn(async move { world.code(&token).await })
    };
    let leader = ask("1");
    until(|| keys.count() == 2).await;
    let waiter = ask("2");
    tokio::task::yield_now().await;
    leader.abort();
    keys.gate.reopen();
    assert_eq!(waiter.await.unwrap(), "ok");
    assert_eq!(keys.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_outlives_the_memory_of_revocations_is_refused() {
    let signer = Signer::new("k");
    let world = world(&Keys::holding(&[&signer])).await;
    assert_eq!(world.code(&signer.token("c", "1", 31 * 24 * 3600)).await, "ok");
    let denied = world.verify(&signer.token("c", "2", 31 * 24 * 3600 + 1)).await.unwrap_err();
    assert_eq!((denied.reason, denied.client.as_deref()), (DenyReason::LifeTooLong, Some("c")));
}

#[tokio::test(start_paused = true)]
async fn both_spellings_of_a_signature_are_good() {
    let signer = Signer::new("k");
    let world = world(&Keys::holding(&[&signer])).await;
    let token = signer.token("c", "1", 3600);
    let other = respelled(&token);
    assert_ne!(token, other);
    assert_eq!((world.code(&token).await, world.code(&other).await), ("ok", "ok"));
}

#[tokio::test]
async fn issuers_do_not_share_tokens() {
    let signer = Signer::new("k");
    let jwt = || by_keys(Keys::holding(&[&signer]), Bounds::REMOTE);
    let named = |name: &str, iss: &str| IssuerSpec { name: name.into(), issuers: vec![iss.into()], ..jwt() };
    let opaque = |name: &str, iss: &str, prefix: Option<&str>| {
        let rules = AnswerRules { prefix: prefix.map(str::to_owned), ..AnswerRules::default() };
        let spec = by_authority(&Authority::saying(Says::Inactive), rules);
        IssuerSpec { name: name.into(), issuers: vec![iss.into()], ..spec }
    };
    let wrong = |issuers| {
        let folder = tempfile::tempdir().unwrap();
        let clock = TokioClock::start();
        let store = state_in(folder.path(), clock);
        Verifier::new(VerifierConfig::new(issuers), store, Arc::new(clock), Handle::current()).err()
    };
    assert!(matches!(wrong(vec![jwt(), named("jwt", "x")]), Some(SpecError::SameName(_))));
    assert!(matches!(wrong(vec![jwt(), named("b", ISS)]), Some(SpecError::SameIss(..))));
    assert!(matches!(wrong(vec![named("b", "")]), Some(SpecError::NoIss(_))));
    assert!(matches!(wrong(vec![opaque("a", "x", None), opaque("b", "y", None)]), Some(SpecError::SamePrefix(..))));
    let twice = vec![opaque("a", "x", Some("p_")), opaque("b", "y", Some("p_"))];
    assert!(matches!(wrong(twice), Some(SpecError::SamePrefix(..))));
    let fine = vec![jwt(), opaque("a", "x", Some("p_")), opaque("b", "y", Some("p_q_")), opaque("c", "z", None)];
    assert_eq!(wrong(fine), None);
}

#[tokio::test(start_paused = true)]
async fn the_background_renews_the_keys() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let keys = Keys::holding(&[&old]);
    let world = world(&keys).await;
    let cancel = CancellationToken::new();
    let running = tokio::spawn({
        let (verifier, cancel) = (Arc::clone(&world.verifier), cancel.clone());
        async move { verifier.run(cancel).await }
    });
    keys.put(&[&new]);
    tokio::time::sleep(SECONDS(299)).await;
    assert_eq!(keys.count(), 1, "not before it is due");
    tokio::time::sleep(SECONDS(2)).await;
    assert_eq!(keys.count(), 2);
    assert_eq!(world.code(&new.token("c", "1", 3600)).await, "ok");
    assert_eq!(keys.count(), 2, "nobody had to ask");
    cancel.cancel();
    running.await.unwrap();
}
