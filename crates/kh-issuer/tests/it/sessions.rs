//! Sessions: how they end, and what the clocks do to them.

use std::{sync::Arc, time::Duration};

use kh_core::{Clock, SystemEntropy, UnixMillis};
use kh_issuer::{Issuer, NewClient};
use proptest::prelude::*;
use tokio::sync::OnceCell;

use crate::{
    support::{START, World, add, bytes, login, new_client},
    unsteady::{Slow, Unsteady},
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_token_ends_at_its_end() {
    let world = World::new();
    let issuer = world.issuer().await;
    let new = NewClient { ttl: Some(SECOND * 10), ..new_client("short") };
    let (client, secret) = issuer.add_client(new, "cli:test").await.unwrap();
    let login = login(&issuer, &client, &secret).await;
    world.clock.advance(Duration::from_millis(9_999));
    assert!(issuer.session(bytes(&login)).is_some());
    world.clock.advance(Duration::from_millis(1));
    assert!(issuer.session(bytes(&login)).is_none());
    assert!(issuer.session_or_load(bytes(&login)).await.unwrap().is_none());
}

#[tokio::test]
async fn setting_the_wall_clock_back_lengthens_no_life_and_ahead_by_mistake_destroys_nothing() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, secret) = add(&issuer, "reports").await;
    let login = login(&issuer, &client, &secret).await;

    world.clock.jump_wall(START.plus(Duration::from_hours(48)));
    assert!(issuer.session_or_load(bytes(&login)).await.unwrap().is_none(), "expired as far as anybody knows");
    // a client added elsewhere makes everything load again, without the token
    let (other, _) = add(&*world.issuer().await, "other").await;
    issuer.refresh().await.unwrap();
    assert!(issuer.client(other.name.as_str()).is_some());
    assert_eq!(issuer.live_sessions(), 0);
    world.clock.jump_wall(START);
    assert!(
        issuer.session_or_load(bytes(&login)).await.unwrap().is_some(),
        "the clock was wrong, the token is not lost"
    );

    world.clock.advance(Duration::from_hours(23));
    world.clock.jump_wall(UnixMillis(START.0 - 86_400_000));
    assert!(issuer.session(bytes(&login)).is_some());
    world.clock.advance(Duration::from_hours(1));
    assert!(issuer.session(bytes(&login)).is_none(), "24 hours passed, whatever the wall clock says");
    assert!(issuer.session_or_load(bytes(&login)).await.unwrap().is_none());
}

#[tokio::test]
async fn revoked_means_revoked_also_after_a_restart() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, secret) = add(&issuer, "reports").await;
    let (gone, kept) = (login(&issuer, &client, &secret).await, login(&issuer, &client, &secret).await);
    assert!(issuer.revoke(bytes(&gone)).await.unwrap());
    assert!(!issuer.revoke(bytes(&gone)).await.unwrap(), "there is none any more");
    assert!(!issuer.revoke(b"nonsense").await.unwrap());
    assert!(issuer.session(bytes(&gone)).is_none());
    assert!(issuer.session_or_load(bytes(&gone)).await.unwrap().is_none());
    drop(issuer);
    let issuer = world.issuer().await;
    assert!(issuer.session_or_load(bytes(&gone)).await.unwrap().is_none());
    assert!(issuer.session(bytes(&kept)).is_some(), "the others survive the restart");
}

#[tokio::test]
async fn a_disable_a_change_and_a_removal_reach_existing_sessions_at_once() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, secret) = add(&issuer, "reports").await;
    let login = login(&issuer, &client, &secret).await;
    let digest = issuer.session(bytes(&login)).unwrap().digest;
    let is_live = || issuer.is_live(digest, world.clock.now());
    assert!(is_live());
    issuer.set_enabled("reports", false, "cli:test").await.unwrap();
    assert!(issuer.session(bytes(&login)).is_none() && !is_live());
    assert!(issuer.session_or_load(bytes(&login)).await.unwrap().is_none());
    issuer.set_enabled("reports", true, "cli:test").await.unwrap();
    assert!(issuer.session(bytes(&login)).is_some() && is_live(), "enabling gives the tokens back");
    issuer.remove_client("reports", "cli:test").await.unwrap();
    assert!(issuer.session(bytes(&login)).is_none() && !is_live());
    assert!(issuer.session_or_load(bytes(&login)).await.unwrap().is_none());
    assert_eq!(issuer.live_sessions(), 0);
}

/// Half a revocation would be a token that is gone from the disk and good in memory.
#[tokio::test]
async fn a_revocation_whose_caller_hangs_up_is_carried_out() {
    let world = World::new();
    let state = Arc::new(Unsteady { slow_removal: Some(Slow::default()), ..Unsteady::over(world.state()) });
    let Slow { done: removed, gate } = state.slow_removal.as_ref().unwrap();
    let (clock, entropy) = (Arc::new(world.clock.clone()), Arc::new(SystemEntropy));
    let issuer = Issuer::open(Arc::<Unsteady>::clone(&state), clock, entropy).await.unwrap();
    let (client, secret) = add(&issuer, "reports").await;
    let login = login(&issuer, &client, &secret).await;
    tokio::select! {
        biased;
        _ = issuer.revoke(bytes(&login)) => panic!("the state has not answered"),
        removed = removed.acquire() => removed.unwrap().forget(),
    }
    assert!(issuer.session(bytes(&login)).is_some(), "it hung up in between");
    gate.add_permits(1);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(issuer.session(bytes(&login)).is_none());
    assert!(issuer.session_or_load(bytes(&login)).await.unwrap().is_none());
}

/// A token is in the state before it is in memory, and the state tells of it no second time.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_revoked_before_its_login_ends_is_not_good() {
    let world = World::new();
    let state = Arc::new(Unsteady { slow_issue: Some(Slow::default()), ..Unsteady::over(world.state()) });
    let Slow { done: written, gate } = state.slow_issue.as_ref().unwrap();
    let (clock, entropy) = (Arc::new(world.clock.clone()), Arc::new(SystemEntropy));
    let issuer = Issuer::open(Arc::<Unsteady>::clone(&state), clock, entropy).await.unwrap();
    let (client, secret) = add(&issuer, "reports").await;
    let revocation = async {
        written.acquire().await.unwrap().forget();
        let revoked = issuer.revoke_tokens_of(&client.id).await.unwrap();
        gate.add_permits(1);
        revoked
    };
    let (late, revoked) = tokio::join!(login(&issuer, &client, &secret), revocation);
    assert_eq!(revoked, 1, "it was in the state");
    assert!(issuer.session(bytes(&late)).is_none());
    assert!(issuer.session_or_load(bytes(&late)).await.unwrap().is_none());
    assert_eq!(issuer.live_sessions(), 0);
    gate.add_permits(1);
    let next = login(&issuer, &client, &secret).await;
    assert!(issuer.session(bytes(&next)).is_some(), "what is issued afterwards is good");
}

proptest! {
    /// Whatever bytes come as a token: no panic, no session, and no question to the state unless it looks like ours.
    #[test]
    fn arbitrary_bytes_open_nothing(token in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..120),
        "kht_[0-9A-Za-z]{46}".prop_map(String::into_bytes),
        "kht_\\PC{0,60}".prop_map(String::into_bytes),
    ]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let issuer = shared().await;
            prop_assert!(issuer.session(&token).is_none());
            prop_assert!(issuer.session_or_load(&token).await.unwrap().is_none());
            prop_assert!(!issuer.revoke(&token).await.unwrap());
            Ok(())
        })?;
    }
}

/// One issuer for all cases of the property.
async fn shared() -> Arc<Issuer> {
    static SHARED: OnceCell<(World, Arc<Issuer>)> = OnceCell::const_new();
    let (_, issuer) = SHARED
        .get_or_init(|| async {
            let world = World::new();
            let issuer = world.issuer().await;
            (world, issuer)
        })
        .await;
    Arc::clone(issuer)
}
