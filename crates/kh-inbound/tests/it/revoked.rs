//! Revoked tokens: at once, in both spellings, after a restart, in other processes, at the cap, and when the disk fails.

use std::{path::Path, sync::Arc, time::Duration};

use kh_core::{
    Clock, ManualClock, SecretString, Sha256, UnixMillis,
    audit::AuditEvent,
    port::{BoxFuture, RevocationStore, StateError, inbound::PlacedRevocation},
    revocation::{Digest, RevocationRecord, RevocationTarget},
};
use kh_inbound::{
    AnswerRules, Bounds, Caps, REMEMBERED, RevocationOrder, Revocations, Verifier, VerifierConfig, answers_record,
};
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Authority, ISS, Keys, OPAQUE, START, Says, Signer, World, against, by_authority, by_keys, carry_out, respelled,
    state_in, until,
};

fn config(signer: &Signer) -> VerifierConfig {
    let authority = Authority::saying(Says::Active(None));
    let jwt = by_keys(Keys::holding(&[signer]), Bounds::REMOTE);
    VerifierConfig::new(vec![jwt, by_authority(&authority, AnswerRules::default())])
}

async fn world(signer: &Signer) -> World {
    World::in_folder(Arc::new(tempfile::tempdir().unwrap()), config(signer)).await
}

/// A token of `client` without `jti`.
fn nameless(signer: &Signer, subject: &str, issued: u64) -> String {
    let (iat, exp) = (START.as_secs() + issued, START.as_secs() + 3600);
    signer.sign(&json!({"iss": ISS, "aud": "api", "sub": subject, "iat": iat, "exp": exp}))
}

/// An ECDSA signature has a second valid spelling, so a list of tokens' hashes lets a revoked one back in.
#[tokio::test(start_paused = true)]
async fn a_revoked_jwt_stays_revoked_in_both_spellings() {
    let signer = Signer::new("k");
    let world = world(&signer).await;
    let anonymous =
        signer.sign(&json!({"iss": ISS, "aud": "api", "exp": START.as_secs() + 3600, "client_id": "nobody"}));
    for token in [signer.token("c", "1", 3600), nameless(&signer, "s", 0), anonymous] {
        let other = respelled(&token);
        assert_eq!((world.code(&token).await, world.code(&other).await), ("ok", "ok"), "both are good at first");
        world.revoke_token(&token).await;
        assert!(world.known(&token).is_none() && world.known(&other).is_none());
        assert_eq!((world.code(&token).await, world.code(&other).await), ("revoked", "revoked"));
    }
    assert_eq!(world.code(&signer.token("c", "2", 3600)).await, "ok", "another token of the same client is not hit");
}

#[tokio::test(start_paused = true)]
async fn each_way_of_revoking_works_at_once_for_known_and_for_new_tokens() {
    let signer = Signer::new("k");
    let subject = || "user-of-c".to_owned();
    let issuer = || Some(ISS.to_owned());
    for target in [
        RevocationTarget::TokenId { issuer: ISS.to_owned(), id: "1".to_owned() },
        RevocationTarget::Issued { issuer: ISS.to_owned(), subject: subject(), at: START },
        RevocationTarget::Client { issuer: issuer(), client: "c".to_owned() },
        RevocationTarget::Client { issuer: None, client: "c".to_owned() },
        RevocationTarget::Subject { issuer: issuer(), subject: subject() },
        RevocationTarget::Everything { issuer: issuer() },
        RevocationTarget::Everything { issuer: None },
    ] {
        let world = world(&signer).await;
        let (known, new) = (signer.token("c", "1", 3600), signer.token("c", "1", 3601));
        assert_eq!(world.code(&known).await, "ok");
        world.revoke(target.clone()).await;
        assert!(world.known(&known).is_none(), "{target:?}");
        assert_eq!((world.code(&known).await, world.code(&new).await), ("revoked", "revoked"), "{target:?}");
        let denied = world.verify(&known).await.unwrap_err();
        assert_eq!((denied.issuer.as_deref(), denied.client.as_deref()), (Some("jwt"), Some("c")));
        tokio::time::advance(Duration::from_secs(5)).await;
        let later = signer.sign(&json!({
            "iss": ISS, "aud": "api", "sub": subject(), "client_id": "c", "jti": "9", "iat": START.as_secs() + 5,
            "exp": START.as_secs() + 3600,
        }));
        assert_eq!(world.code(&later).await, "ok", "{target:?} does not hit a later login");
    }
}

#[tokio::test(start_paused = true)]
async fn opaque_tokens_are_revoked_by_digest_and_by_client() {
    let world = world(&Signer::new("k")).await;
    for token in ["one", "two", "three"] {
        assert_eq!(world.code(token).await, "ok");
    }
    world.revoke_token("one").await;
    let digest = Digest(Sha256::of(b"never-seen"));
    world.revoke(RevocationTarget::Token { digest }).await;
    // the fake's tokens are their own clients, and do not tell when they were issued
    let client = RevocationTarget::Client { issuer: Some(OPAQUE.to_owned()), client: "two".to_owned() };
    world.revoke(client).await;
    for token in ["one", "two", "never-seen"] {
        assert_eq!(world.code(token).await, "revoked");
    }
    assert_eq!(world.code("three").await, "ok");
}

/// A verifier of opaque tokens, which live for 48 hours or for nobody knows how long, after an order against the client
/// `t`.
async fn after_an_order(
    (authority, untold_life): (&Arc<Authority>, Option<Duration>),
    folder: &Path,
    clock: &ManualClock,
) -> Verifier {
    let rules = AnswerRules { untold_life, ..AnswerRules::default() };
    let config = VerifierConfig::new(vec![by_authority(authority, rules)]);
    let store = state_in(folder, clock.clone());
    let verifier = Verifier::new(config, store, Arc::new(clock.clone()), Handle::current()).unwrap();
    let client = RevocationTarget::Client { issuer: Some(OPAQUE.to_owned()), client: "t".to_owned() };
    let order = RevocationOrder::Of(client, clock.now().wall);
    let records = order.records(clock.now().wall, Some(REMEMBERED)).unwrap();
    verifier.revocations().revoke(records, None).await.unwrap();
    verifier
}

const TWO_DAYS: Option<Duration> = Some(Duration::from_hours(48));

/// The fake's tokens are their own clients, and do not tell when they were issued.
async fn code(verifier: &Verifier, clock: &ManualClock) -> &'static str {
    match verifier.verify(b"t", clock.now()).await {
        Ok(_) => "ok",
        Err(denied) => denied.reason.as_str(),
    }
}

/// An order is remembered for longer than a client may be kept out: its new tokens are taken when no old one can be alive.
#[tokio::test]
async fn a_token_that_tells_no_time_is_refused_for_as_long_as_it_can_be_older_than_the_order() {
    let (clock, folder) = (ManualClock::at(START), tempfile::tempdir().unwrap());
    let authority = Authority::saying(Says::Active(None));
    let verifier = after_an_order((&authority, TWO_DAYS), folder.path(), &clock).await;
    assert_eq!(code(&verifier, &clock).await, "revoked");
    clock.advance(Duration::from_hours(71));
    assert_eq!(code(&verifier, &clock).await, "revoked", "its life, and a day for a clock that runs ahead");
    clock.advance(Duration::from_hours(2));
    authority.say(Says::Active(Some(74 * 3600)));
    assert_eq!(code(&verifier, &clock).await, "revoked", "one that tells its end may have lived for any time before");
    authority.say(Says::Active(None));
    assert_eq!(code(&verifier, &clock).await, "ok");
    clock.advance(Duration::from_secs(1));
    let later = RevocationTarget::Client { issuer: None, client: "somebody-else".to_owned() };
    let records = RevocationOrder::Of(later, START).records(START, Some(REMEMBERED)).unwrap();
    verifier.revocations().revoke(records, None).await.unwrap();
    assert!(verifier.known(b"t", clock.now()).is_some(), "looked at anew in memory, it is as good");
}

/// SCIM tokens of Genesys Cloud live for up to 450 days.
#[tokio::test]
async fn where_nobody_can_tell_how_long_tokens_live_they_are_refused_while_the_order_is_remembered() {
    let (clock, folder) = (ManualClock::at(START), tempfile::tempdir().unwrap());
    let authority = Authority::saying(Says::Active(None));
    let verifier = after_an_order((&authority, None), folder.path(), &clock).await;
    for _ in 0..399 {
        assert_eq!(code(&verifier, &clock).await, "revoked");
        clock.advance(Duration::from_hours(24));
    }
}

#[tokio::test]
async fn a_wall_clock_that_ran_ahead_makes_no_token_younger_than_an_order() {
    let (clock, folder) = (ManualClock::at(START), tempfile::tempdir().unwrap());
    let authority = Authority::saying(Says::Active(None));
    let verifier = after_an_order((&authority, TWO_DAYS), folder.path(), &clock).await;
    assert_eq!(code(&verifier, &clock).await, "revoked");
    clock.jump_wall(START.plus(Duration::from_hours(30 * 24)));
    assert_eq!(code(&verifier, &clock).await, "revoked");
    clock.advance(Duration::from_mins(9));
    assert_eq!(code(&verifier, &clock).await, "revoked");
    clock.advance(Duration::from_mins(1));
    assert_eq!(code(&verifier, &clock).await, "ok", "a month that went by is another matter");
}

/// The authority's yes was under way while the token was revoked here: it comes too late.
#[tokio::test]
async fn an_answer_that_was_under_way_does_not_undo_a_revocation() {
    let authority = Authority::saying(Says::Active(None));
    let world = Arc::new(World::new(vec![by_authority(&authority, AnswerRules::default())]).await);
    authority.gate.close();
    let asking = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.code("t").await }
    });
    until(|| authority.count() == 1).await;
    world.revoke_token("t").await;
    authority.gate.reopen();
    assert_eq!(asking.await.unwrap(), "revoked");
    assert!(world.known("t").is_none());
}

#[tokio::test(start_paused = true)]
async fn revocations_survive_a_restart() {
    let signer = Signer::new("k");
    let before = world(&signer).await;
    let (one, two) = (signer.token("c", "1", 3600), signer.token("d", "2", 3600));
    before.revoke_token(&one).await;
    let client = RevocationTarget::Client { issuer: None, client: "d".to_owned() };
    before.revoke(client).await;
    let folder = Arc::clone(&before.folder);
    drop(before);
    let after = World::in_folder(folder, config(&signer)).await;
    assert_eq!(after.code(&one).await, "revoked");
    assert_eq!(after.code(&respelled(&one)).await, "revoked");
    assert_eq!(after.code(&two).await, "revoked");
    assert_eq!(after.code(&signer.token("e", "3", 3600)).await, "ok");
}

/// Another process (a second verifier on the same database) revokes; this one looks every [`kh_inbound::POLL_EVERY`].
#[tokio::test(start_paused = true)]
async fn revocations_by_another_process_are_seen() {
    let signer = Signer::new("k");
    let serving = world(&signer).await;
    let other = World::in_folder(Arc::clone(&serving.folder), config(&signer)).await;
    let (token, kept) = (signer.token("c", "1", 360_000), signer.token("c", "2", 360_000));
    assert_eq!((serving.code(&token).await, serving.code(&kept).await), ("ok", "ok"));
    let cancel = CancellationToken::new();
    let running = tokio::spawn({
        let (verifier, cancel) = (Arc::clone(&serving.verifier), cancel.clone());
        async move { verifier.run(cancel).await }
    });
    other.revoke_token(&token).await;
    until(|| serving.verifier.stats().revoked_tokens > 0).await;
    assert!(serving.known(&token).is_none());
    assert_eq!((serving.code(&token).await, serving.code(&kept).await), ("revoked", "ok"));
    cancel.cancel();
    running.await.unwrap();
    assert!(kh_inbound::POLL_EVERY <= Duration::from_millis(250), "what the guide says");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_revocations_takes_bounded_memory_and_lets_nothing_through() {
    let signer = Signer::new("k");
    let mut config = config(&signer);
    config.revocations = Caps { tokens: 30, classes: 10 };
    let world = World::in_folder(Arc::new(tempfile::tempdir().unwrap()), config).await;
    let tokens: Vec<String> = (0..60).map(|n| signer.token(&format!("c{}", n % 5), &n.to_string(), 3600)).collect();
    for token in &tokens {
        world.revoke_token(token).await;
        assert_eq!(world.code(token).await, "revoked");
    }
    for token in &tokens {
        assert_eq!(world.code(token).await, "revoked");
    }
    let stats = world.verifier.stats();
    assert!(stats.revoked_tokens <= 30 && stats.revoked_classes <= 10, "{stats:?}");
    assert_eq!(world.code(&signer.token("other", "x", 3600)).await, "ok", "only the clients that had no room are hit");
}

/// A store that cannot write.
struct ReadOnly;

impl RevocationStore for ReadOnly {
    fn add_revocations(
        &self,
        _records: Vec<RevocationRecord>,
        _event: Option<AuditEvent>,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async { Err(StateError::Unavailable { reason: "the disk is full".to_owned(), source: None }) })
    }

    fn revocations_after(&self, _: u64, _: u32) -> BoxFuture<'_, Result<Vec<PlacedRevocation>, StateError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn forget_revocations(&self, _: UnixMillis, _: u32) -> BoxFuture<'_, Result<usize, StateError>> {
        Box::pin(async { Ok(0) })
    }
}

#[tokio::test]
async fn a_revocation_that_cannot_be_written_is_told_and_holds_here() {
    let signer = Signer::new("k");
    let clock = ManualClock::at(START);
    let verifier = Verifier::new(config(&signer), Arc::new(ReadOnly), Arc::new(clock.clone()), Handle::current());
    let verifier = verifier.unwrap();
    verifier.renew_keys().await;
    let token = signer.token("c", "1", 3600);
    verifier.verify(token.as_bytes(), clock.now()).await.unwrap();
    let told = carry_out(&verifier, &against(&token), START).await;
    assert!(matches!(told, Err(StateError::Unavailable { .. })), "{told:?}");
    verifier.revocations().refresh(clock.now()).await.unwrap();
    assert!(verifier.known(token.as_bytes(), clock.now()).is_none());
    assert!(verifier.verify(token.as_bytes(), clock.now()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_no_issuer_made_is_revoked_and_hits_nothing_else() {
    let signer = Signer::new("k");
    let world = world(&signer).await;
    for nonsense in [".", "..", "a.b.c", &".".repeat(100)] {
        world.revoke_token(nonsense).await;
    }
    assert_eq!(world.verifier.stats().revoked_classes, 0);
    assert_eq!(world.code(&signer.token("c", "1", 3600)).await, "ok");
}

/// Old revocations are forgotten when no token that they hit can be alive.
#[tokio::test(start_paused = true)]
async fn revocations_leave_memory_with_their_tokens() {
    let signer = Signer::new("k");
    let world = world(&signer).await;
    world.revoke_token(&signer.token("c", "1", 3600)).await;
    assert!(world.verifier.stats().revoked_tokens > 0);
    let sweep = async |hours: u64| {
        let now = world.clock.now().plus(Duration::from_hours(hours));
        world.verifier.revocations().sweep(now).await.unwrap();
        world.verifier.stats().revoked_tokens
    };
    assert!(sweep(24).await > 0, "a clock that ran ahead brings nothing back");
    assert_eq!(sweep(28).await, 0);
    let reopened = World::in_folder(Arc::clone(&world.folder), config(&signer)).await;
    assert!(reopened.verifier.stats().revoked_tokens > 0, "the database keeps them a week longer");
    assert_eq!(sweep(9 * 24).await, 0);
    let reopened = World::in_folder(Arc::clone(&world.folder), config(&signer)).await;
    assert_eq!(reopened.verifier.stats().revoked_tokens, 0);
}

/// What is forgotten in memory is not read again, and what is deleted is gone: so neither happens under a clock that jumped.
#[tokio::test]
async fn a_wall_clock_that_ran_ahead_forgets_no_revocation() {
    let signer = Signer::new("k");
    let (clock, folder) = (ManualClock::at(START), tempfile::tempdir().unwrap());
    let open = async || {
        let store = state_in(folder.path(), clock.clone());
        let verifier = Verifier::new(config(&signer), store, Arc::new(clock.clone()), Handle::current()).unwrap();
        verifier.load().await.unwrap();
        verifier.renew_keys().await;
        verifier
    };
    let verifier = open().await;
    let sweep = async || verifier.revocations().sweep(clock.now()).await.unwrap();
    let token = signer.token("c", "1", 20 * 3600);
    verifier.verify(token.as_bytes(), clock.now()).await.unwrap();
    carry_out(&verifier, &against(&token), START).await.unwrap();
    sweep().await;
    clock.jump_wall(START.plus(Duration::from_hours(30 * 24)));
    sweep().await;
    for _ in 0..9 {
        clock.advance(Duration::from_mins(1));
        sweep().await;
    }
    clock.jump_wall(START.plus(Duration::from_mins(9)));
    sweep().await;
    for verifier in [&verifier, &open().await] {
        let denied = verifier.verify(token.as_bytes(), clock.now()).await.unwrap_err();
        assert_eq!(denied.reason.as_str(), "revoked", "in memory, and in the database");
    }
    // a month that went by is another matter
    clock.advance(Duration::from_hours(30 * 24));
    sweep().await;
    for verifier in [&verifier, &open().await] {
        assert_eq!(verifier.stats().revoked_tokens, 0);
    }
}

/// The record of one token of the client `c`, which ends so many hours after the start.
fn of_token(id: &str, hours: u64) -> RevocationRecord {
    let issuer = || ISS.to_owned();
    RevocationRecord {
        target: RevocationTarget::TokenId { issuer: issuer(), id: id.to_owned() },
        before: START,
        revoked_at: START,
        expires_at: START.plus(Duration::from_hours(hours)),
        issuer: Some(issuer()),
        client: Some("c".to_owned()),
        subject: None,
    }
}

/// The database keeps what ended for a week: a start that took all of it in would revoke whole clients for want of room.
#[tokio::test]
async fn what_ended_long_ago_takes_no_room_after_a_restart() {
    let signer = Signer::new("k");
    let (clock, folder) = (ManualClock::at(START), tempfile::tempdir().unwrap());
    let store = state_in(folder.path(), clock.clone());
    let records = (0..50).map(|id| of_token(&id.to_string(), 1));
    store.add_revocations(records.collect(), None).await.unwrap();
    let kept = vec![of_token("today", 2), of_token("gone", 100)];
    store.add_revocations(kept, None).await.unwrap();
    clock.advance(Duration::from_hours(25));
    let mut config = config(&signer);
    config.revocations = Caps { tokens: 2, classes: 1 };
    let verifier = Verifier::new(config, store, Arc::new(clock.clone()), Handle::current()).unwrap();
    verifier.load().await.unwrap();
    verifier.renew_keys().await;
    assert_eq!(verifier.revocations().sizes(), (2, 0), "nothing was widened");
    for (id, revoked) in [("today", true), ("gone", true), ("other", false)] {
        let heard = verifier.verify(signer.token("c", id, 48 * 3600).as_bytes(), clock.now()).await;
        assert_eq!(heard.err().map(|denied| denied.reason.as_str()), revoked.then_some("revoked"), "{id}");
    }
}

/// At the first look after a start nothing tells that the clock runs ahead.
#[tokio::test]
async fn what_a_clock_that_ran_ahead_at_the_start_passed_over_is_read_when_it_is_set_right() {
    let (clock, folder) = (ManualClock::at(START), tempfile::tempdir().unwrap());
    let store = state_in(folder.path(), clock.clone());
    store.add_revocations(vec![of_token("gone", 2)], None).await.unwrap();
    let revocations = Revocations::new(store, Caps::default());
    clock.jump_wall(START.plus(Duration::from_hours(30 * 24)));
    for read in [1, 0] {
        assert_eq!(revocations.refresh(clock.now()).await.unwrap(), read);
        assert_eq!(revocations.sizes(), (0, 0));
    }
    clock.jump_wall(START.plus(Duration::from_mins(1)));
    for read in [1, 0] {
        assert_eq!(revocations.refresh(clock.now()).await.unwrap(), read);
        assert_eq!(revocations.sizes(), (1, 0));
    }
}

/// The first look is that of the watch as it begins, and not that of its first sweep.
#[tokio::test]
async fn a_wall_clock_that_jumps_before_the_first_sweep_forgets_no_revocation() {
    let (clock, folder) = (ManualClock::at(START), tempfile::tempdir().unwrap());
    let revocations = Arc::new(Revocations::new(state_in(folder.path(), clock.clone()), Caps::default()));
    let watching = tokio::spawn({
        let (revocations, clock) = (Arc::clone(&revocations), Arc::new(clock.clone()));
        async move { revocations.watch(clock).await }
    });
    tokio::task::yield_now().await;
    let order = RevocationOrder::Token(SecretString::copied(&Signer::new("k").token("c", "1", 3600)));
    let records = order.records(START, Some(Duration::from_hours(1))).unwrap();
    revocations.revoke(records, None).await.unwrap();
    let known = revocations.sizes();
    assert!(known.0 > 0);
    clock.jump_wall(START.plus(Duration::from_hours(30 * 24)));
    revocations.sweep(clock.now()).await.unwrap();
    assert_eq!(revocations.sizes(), known);
    watching.abort();
}

/// A platform that revokes by itself tells of it: what it said before is not believed any more, and it is asked anew.
#[tokio::test(start_paused = true)]
async fn an_order_to_ask_anew_takes_answers_out_of_memory_and_refuses_no_token() {
    let authority = Authority::saying(Says::Active(None));
    let config = || VerifierConfig::new(vec![by_authority(&authority, AnswerRules::default())]);
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let world = World::in_folder(Arc::clone(&folder), config()).await;
    let second = World::in_folder(folder, config()).await;
    for issuer in [&world, &second] {
        assert_eq!(issuer.code("opaque-token").await, "ok");
        assert_eq!(issuer.code("opaque-token").await, "ok");
    }
    assert_eq!(authority.count(), 2, "once for each of two processes");
    tokio::time::advance(Duration::from_secs(2)).await;
    let now = world.clock.now().wall;
    let forget = |client: Option<&str>| answers_record(OPAQUE.to_owned(), client.map(str::to_owned), now).unwrap();
    world.verifier.revocations().revoke(vec![forget(Some("somebody-else"))], None).await.unwrap();
    assert!(world.known("opaque-token").is_some(), "another client's");
    for client in [Some("opaque-token"), None] {
        tokio::time::advance(Duration::from_secs(2)).await;
        let now = world.clock.now().wall;
        let record = answers_record(OPAQUE.to_owned(), client.map(str::to_owned), now).unwrap();
        let before = authority.count();
        world.verifier.revocations().revoke(vec![record], None).await.unwrap();
        assert!(world.known("opaque-token").is_none(), "{client:?}");
        assert_eq!(world.code("opaque-token").await, "ok", "asked anew, it is good");
        assert_eq!(authority.count(), before + 1);
        second.verifier.revocations().refresh(second.clock.now()).await.unwrap();
        assert!(second.known("opaque-token").is_none(), "in the other process as well");
        tokio::time::advance(Duration::from_secs(2)).await;
        for issuer in [&world, &second] {
            assert_eq!(issuer.code("opaque-token").await, "ok");
            assert!(issuer.known("opaque-token").is_some(), "believed again");
        }
    }
    authority.say(Says::Inactive);
    tokio::time::advance(Duration::from_secs(2)).await;
    let record = answers_record(OPAQUE.to_owned(), None, world.clock.now().wall).unwrap();
    world.verifier.revocations().revoke(vec![record], None).await.unwrap();
    assert_eq!(
        world.code("opaque-token").await,
        "inactive",
        "what the platform revoked is refused with the next request"
    );
}

/// A request with the token `t`, as a task of its own.
fn request(world: &Arc<World>) -> tokio::task::JoinHandle<&'static str> {
    let world = Arc::clone(world);
    tokio::spawn(async move { world.code("t").await })
}

/// Orders to ask anew about `client`, or about everybody.
async fn ask_anew(world: &World, client: Option<&str>) {
    let record = answers_record(OPAQUE.to_owned(), client.map(str::to_owned), world.clock.now().wall).unwrap();
    world.verifier.revocations().revoke(vec![record], None).await.unwrap();
}

/// The platform's yes was under way while it told that it had revoked: it is the answer of who had asked, and not that of
/// a request which began after the order and joined the question.
#[tokio::test]
async fn an_answer_that_an_order_to_ask_anew_has_overtaken_is_asked_for_once_more_for_who_began_after_it() {
    for (client, expected, questions) in [(Some("t"), "inactive", 2), (None, "inactive", 2), (Some("else"), "ok", 1)] {
        let authority = Authority::saying(Says::Active(None));
        let world = Arc::new(World::new(vec![by_authority(&authority, AnswerRules::default())]).await);
        authority.gate.close();
        let before = request(&world);
        until(|| authority.count() == 1).await;
        authority.say(Says::Inactive);
        ask_anew(&world, client).await;
        let after = request(&world);
        until(|| world.verifier.stats().misses == 2).await;
        assert_eq!((authority.count(), world.verifier.stats().asking), (1, 1), "it has joined: {client:?}");
        authority.gate.reopen();
        assert_eq!((before.await.unwrap(), after.await.unwrap()), ("ok", expected), "{client:?}");
        assert_eq!(authority.count(), questions, "{client:?}");
        assert_eq!(world.known("t").is_some(), expected == "ok", "{client:?}");
    }
}

/// A platform may tell of something every moment. Each request has an answer that was asked for after it began, at the
/// latest, and nothing is remembered that an order has overtaken.
#[tokio::test]
async fn orders_that_overtake_each_answer_hold_nobody_up() {
    let authority = Authority::saying(Says::Active(None));
    let world = Arc::new(World::new(vec![by_authority(&authority, AnswerRules::default())]).await);
    authority.gate.close();
    let first = request(&world);
    until(|| authority.count() == 1).await;
    ask_anew(&world, Some("t")).await;
    let second = request(&world);
    until(|| world.verifier.stats().misses == 2).await;
    authority.gate.let_one_through();
    assert_eq!(first.await.unwrap(), "ok");
    until(|| authority.count() == 2).await;
    ask_anew(&world, None).await;
    authority.gate.reopen();
    assert_eq!(second.await.unwrap(), "ok", "asked for after it began, though another order came since");
    assert_eq!(authority.count(), 2);
    assert!(world.known("t").is_none());
    assert_eq!(world.code("t").await, "ok");
    assert_eq!(authority.count(), 3, "asked after both orders");
}

/// What one writer revokes through the shared revocations is in force for every verifier over them.
#[tokio::test(start_paused = true)]
async fn verifiers_over_the_same_revocations_refuse_at_once() {
    let signer = Signer::new("k");
    let world = world(&signer).await;
    let shared = Arc::clone(world.verifier.revocations());
    let clock: Arc<dyn Clock> = Arc::new(world.clock);
    let other = Verifier::over(config(&signer), Arc::clone(&shared), clock, Handle::current()).unwrap();
    let (token, now) = (signer.token("c", "1", 3600), world.clock.now());
    world.verifier.verify(token.as_bytes(), now).await.unwrap();
    other.verify(token.as_bytes(), now).await.unwrap();
    let order = RevocationOrder::Token(SecretString::copied(&respelled(&token)));
    let records = order.records(now.wall, Some(Duration::from_hours(1))).unwrap();
    RevocationStore::add_revocations(&*shared, records, None).await.unwrap();
    for verifier in [&world.verifier, &other] {
        assert!(verifier.known(token.as_bytes(), now).is_none());
        assert_eq!(verifier.verify(token.as_bytes(), now).await.unwrap_err().reason.as_str(), "revoked");
    }
}
