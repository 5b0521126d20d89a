//! A verifier in the place of another one: what stays and what must not.

use std::{sync::Arc, time::Duration};

use kh_inbound::{Bounds, DeniedKind, DenyReason, IssuerSpec, VerifierConfig};

use crate::support::{ISS, Keys, Signer, World, by_keys, until};

fn other(keys: Arc<Keys>) -> IssuerSpec {
    IssuerSpec { name: "other".into(), issuers: vec!["https://other.example".into()], ..by_keys(keys, Bounds::REMOTE) }
}

/// Keys and tokens of an issuer that is the same stay, whatever its place in the list; those of one that changed go, and
/// a token that was revoked before is revoked after.
#[tokio::test(start_paused = true)]
async fn what_is_the_same_stays_and_nothing_else() {
    let signer = Signer::new("k");
    let keys = Keys::holding(&[&signer]);
    let world = World::new(vec![by_keys(Arc::<Keys>::clone(&keys), Bounds::REMOTE)]).await;
    let (token, revoked) = (signer.token("c", "1", 3600), signer.token("c", "2", 3600));
    world.verify(&token).await.unwrap();
    world.verify(&revoked).await.unwrap();
    world.revoke_token(&revoked).await;
    let fetches = keys.count();
    // the issuer has another place, and its source would have another key set by now
    keys.put(&[&Signer::new("another")]);
    let specs = || vec![other(Keys::holding(&[])), by_keys(Arc::<Keys>::clone(&keys), Bounds::REMOTE)];
    let config = VerifierConfig::new(specs());
    let next = world.verifier.succeeded_by(config, |name| name == "jwt").unwrap();
    let next = World { verifier: Arc::new(next), clock: world.clock, folder: Arc::clone(&world.folder) };
    assert!(Arc::ptr_eq(&next.known(&token).unwrap(), &world.known(&token).unwrap()));
    assert_eq!(next.code(&signer.token("c", "3", 3600)).await, "ok", "with the keys that were in memory");
    assert_eq!(keys.count(), fetches);
    assert_eq!(next.code(&revoked).await, "revoked");
    assert_eq!(next.verifier.stats().cached, 2);
    // a revocation works in both while requests under way still ask the older one
    next.revoke_token(&token).await;
    assert!(next.known(&token).is_none() && world.known(&token).is_none());
    // an issuer that changed starts anew
    let changed = next.verifier.succeeded_by(VerifierConfig::new(specs()), |_| false).unwrap();
    let changed = World { verifier: Arc::new(changed), clock: world.clock, folder: Arc::clone(&world.folder) };
    changed.verifier.renew_keys().await;
    assert_eq!(changed.verifier.stats().cached, 0);
    assert_eq!(changed.code(&signer.token("c", "4", 3600)).await, "key_unknown");
    assert_eq!(changed.verifier.values_of_iss("jwt"), [Arc::from(ISS)]);
}

/// A token of an issuer that went is not taken for one of the issuer that has its place now.
#[tokio::test(start_paused = true)]
async fn places_are_not_mixed_up() {
    let signer = Signer::new("k");
    let world = World::new(vec![by_keys(Keys::holding(&[&signer]), Bounds::REMOTE)]).await;
    let token = signer.token("c", "1", 3600);
    world.verify(&token).await.unwrap();
    let config = VerifierConfig::new(vec![other(Keys::holding(&[&signer]))]);
    let next = world.verifier.succeeded_by(config, |_| true).unwrap();
    assert!(next.known(token.as_bytes(), kh_core::Clock::now(&world.clock)).is_none());
    assert_eq!(next.stats().cached, 0);
}

/// A fetch goes with the verifier that began it. Who waits for it at the next verifier is not told that the key is unknown,
/// and the keys are fetched soon.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_cut_off_tells_nothing_of_a_key() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let keys = Keys::holding(&[&old]);
    let specs = || vec![by_keys(Arc::<Keys>::clone(&keys), Bounds::REMOTE)];
    let world = Arc::new(World::new(specs()).await);
    let next = world.verifier.succeeded_by(VerifierConfig::new(specs()), |_| true).unwrap();
    let next = Arc::new(World { verifier: Arc::new(next), clock: world.clock, folder: Arc::clone(&world.folder) });
    tokio::time::advance(Duration::from_secs(10)).await;
    keys.put(&[&old, &new]);
    keys.gate.close();
    let ask = |world: &Arc<World>, id: &str| {
        let (world, token) = (Arc::clone(world), new.token("c", id, 3600));
        tokio::spawn(async move { world.verify(&token).await })
    };
    let leader = ask(&world, "1");
    until(|| keys.count() == 2).await;
    let waiter = ask(&next, "2");
    tokio::time::sleep(Duration::from_millis(5)).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    drop(world);
    let denied = waiter.await.unwrap().unwrap_err();
    let retry_after = Duration::from_secs(1);
    assert_eq!((denied.reason, denied.kind), (DenyReason::KeysUnavailable, DeniedKind::Unavailable { retry_after }));
    assert_eq!(keys.count(), 2, "it had joined the fetch of the verifier before");
    keys.gate.reopen();
    tokio::time::advance(retry_after).await;
    assert_eq!(next.code(&new.token("c", "3", 3600)).await, "ok");
    assert_eq!(keys.count(), 3);
}
