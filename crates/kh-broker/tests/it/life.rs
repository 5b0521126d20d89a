//! Lives, clocks, `min_ttl`, new secret versions, shutdown, and what is told about a credential.

use std::{sync::Arc, time::Duration};

use kh_broker::{CredentialState, TokenError};
use kh_core::{Code, ManualClock, UnixMillis};
use kh_token::TokenPolicy;
use tokio::runtime::Handle;

use crate::fakes::{Answer, Bench};

fn manual(script: &[Answer], policy: TokenPolicy) -> (Bench, ManualClock) {
    let clock = ManualClock::at(UnixMillis(1_800_000_000_000));
    (Bench::with(script, "right", policy, Arc::new(clock.clone()), Handle::current()), clock)
}

#[tokio::test(start_paused = true)]
async fn min_ttl_above_a_fresh_life_is_refused_without_a_loop() {
    let bench = Bench::new(&[Answer::Token { life: 1000 }]);
    for _ in 0..100 {
        let error = bench.credential.lease(Duration::from_secs(2000)).await.unwrap_err();
        assert_eq!(error.code(), Code::TOKEN_TTL_UNSATISFIABLE);
        assert!(matches!(error, TokenError::TtlUnsatisfiable { longest, .. } if longest.as_secs() == 950));
    }
    assert_eq!(bench.endpoint.calls(), 1);
    tokio::time::sleep(Duration::from_mins(5)).await;
    let lease = bench.credential.lease(Duration::from_mins(15)).await.unwrap();
    assert_eq!((lease.generation(), bench.endpoint.calls()), (2, 2));
    // The short one is still a good token for those who want less, so nobody is told otherwise.
    assert_eq!(bench.lease().await.unwrap().generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_never_revives_a_token() {
    let (bench, clock) = manual(&[], TokenPolicy::default());
    let start = UnixMillis(1_800_000_000_000);
    assert_eq!(bench.lease().await.unwrap().generation(), 1);
    clock.jump_wall(start.minus(Duration::from_secs(5000)));
    assert_eq!(bench.lease().await.unwrap().generation(), 1, "the monotonic clock still counts");
    clock.jump_wall(start.plus(Duration::from_secs(1000)));
    assert!(bench.credential.current().is_none());
    assert_eq!(bench.lease().await.unwrap().generation(), 2);
    clock.jump_wall(start);
    clock.advance(Duration::from_secs(999));
    assert_eq!(bench.credential.current().unwrap().generation(), 2);
    clock.advance(Duration::from_secs(1));
    assert!(bench.credential.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_idle_token_is_presumed_dead() {
    let policy = TokenPolicy { idle_ttl: Some(Duration::from_mins(5)), ..TokenPolicy::default() };
    let (bench, clock) = manual(&[Answer::Token { life: 86_400 }], policy);
    bench.lease().await.unwrap();
    for _ in 0..10 {
        clock.advance(Duration::from_secs(280));
        assert_eq!(bench.credential.current().unwrap().generation(), 1);
        bench.credential.note_used();
    }
    clock.advance(Duration::from_secs(285));
    assert!(bench.credential.current().is_none());
    assert_eq!(bench.lease().await.unwrap().generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_version_is_logged_in_with_in_the_background() {
    let bench = Bench::new(&[]);
    bench.lease().await.unwrap();
    bench.store.write("newer");
    *bench.endpoint.good_secret.lock().unwrap() = "newer".into();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let status = bench.credential.status();
    assert_eq!((status.generation, status.secret_version, bench.endpoint.calls()), (2, 2, 2));
}

/// Nobody asks for a token, and a rotation wants to see the new document in use.
#[tokio::test(start_paused = true)]
async fn a_new_version_that_nobody_uses_is_logged_in_with_once_when_it_is_wanted() {
    let bench = Bench::new(&[]);
    bench.store.write("newer");
    *bench.endpoint.good_secret.lock().unwrap() = "newer".into();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(bench.endpoint.calls(), 0, "an idle credential does not log in by itself");
    assert!(!bench.credential.use_newest());
    assert!(!bench.credential.use_newest(), "one login is under way, and no second one is begun");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(bench.credential.use_newest() && bench.credential.current().is_some());
    assert_eq!(bench.endpoint.calls(), 1);
    tokio::time::sleep(Duration::from_hours(30)).await;
    assert!(bench.credential.current().is_none(), "the token is over");
    assert!(bench.credential.use_newest(), "one login for each version, also when its token is over");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(bench.endpoint.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_wakes_waiters_and_ends_the_tasks() {
    let bench = Arc::new(Bench::new(&[Answer::Hang]));
    let waiter = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { bench.lease().await.map(|lease| lease.generation()) }
    });
    while bench.endpoint.calls() == 0 {
        tokio::task::yield_now().await;
    }
    bench.broker.shutdown().await;
    assert!(matches!(waiter.await.unwrap(), Err(TokenError::Closed)));
    assert!(matches!(bench.lease().await, Err(TokenError::Closed)));
    assert_eq!(bench.endpoint.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_wakes_those_who_wait_out_a_pause() {
    let bench = Arc::new(Bench::new(&[Answer::RateLimited { retry_after: 170 }]));
    let start = tokio::time::Instant::now();
    let waiter = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { bench.lease().await.map(|lease| lease.generation()) }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.credential.status().state, CredentialState::Waiting);
    bench.broker.shutdown().await;
    assert!(matches!(waiter.await.unwrap(), Err(TokenError::Closed)));
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_dropped_and_not_kept_for_later() {
    let bench = Bench::new(&[Answer::Token { life: 100 }, Answer::RateLimited { retry_after: 999 }]);
    let lease = bench.lease().await.unwrap();
    let trace = Arc::downgrade(&lease);
    drop(lease);
    assert!(trace.upgrade().is_some());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(bench.lease().await.is_err());
    assert!(trace.upgrade().is_none(), "a dead token's bytes stay in memory");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_broker_wakes_waiters_too() {
    let Bench { broker, credential, endpoint, store: _store } = Bench::new(&[Answer::Hang]);
    let waiter = tokio::spawn(async move { credential.lease(Duration::ZERO).await.map(|lease| lease.generation()) });
    while endpoint.calls() == 0 {
        tokio::task::yield_now().await;
    }
    drop(broker);
    assert!(matches!(waiter.await.unwrap(), Err(TokenError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn what_is_told_names_no_secret() {
    let bench = Bench::new(&[]);
    assert_eq!(bench.credential.status().state, CredentialState::Empty);
    let lease = bench.lease().await.unwrap();
    assert_eq!((lease.authorization().as_bytes(), lease.token().expose()), (&b"Bearer token-1"[..], "token-1"));
    let status = bench.credential.status();
    assert_eq!((status.state, status.generation, status.age_seconds), (CredentialState::Ready, 1, Some(0)));
    assert_eq!(status.expires_at, Some(lease.expires_at()));
    let told =
        format!("{} {lease:?} {:?} {:?}", serde_json::to_string(&status).unwrap(), bench.credential, bench.broker);
    assert!(!told.contains("token-1") && !told.contains("right"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_digest_changes_nothing() {
    let bench = Bench::new(&[]);
    let lease = bench.lease().await.unwrap();
    assert!(!bench.credential.invalidate(kh_core::Sha256::of(b"another")));
    assert_eq!(bench.lease().await.unwrap().generation(), 1);
    assert!(bench.credential.invalidate(lease.sha256()));
    assert!(!bench.credential.invalidate(lease.sha256()));
    assert_eq!(bench.lease().await.unwrap().generation(), 2);
}
