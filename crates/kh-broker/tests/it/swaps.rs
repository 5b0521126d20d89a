//! A secret that is replaced in place: the platform refuses what had worked, and the new document is stored a moment later.
//!
//! Invariant: nobody is sent away for it, and it costs one refused login, however many ask.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kh_core::Code;
use kh_token::TokenPolicy;
use tokio::{runtime::Handle, task::JoinSet, time::Instant};

use crate::fakes::{Answer, Bench, tokio_clock};

/// The platform has another secret from now on, and ends its tokens with the old one.
fn regenerate(bench: &Bench) {
    *bench.endpoint.good_secret.lock().unwrap() = "next".into();
}

/// A broker that asks the store too rarely to help, with a token.
async fn bench(life: u64) -> Arc<Bench> {
    let policy = TokenPolicy { store_poll: Duration::from_hours(1), ..TokenPolicy::default() };
    let bench = Arc::new(Bench::with(&[Answer::Token { life }], "right", policy, tokio_clock(), Handle::current()));
    assert_eq!(bench.lease().await.unwrap().generation(), 1);
    bench
}

/// A call every 5 ms for `span`, each as a task; how many there were and how long the slowest waited.
async fn calls(bench: &Arc<Bench>, span: Duration, mut during: impl FnMut(Duration)) -> (usize, Duration) {
    let (start, mut all) = (Instant::now(), JoinSet::new());
    while start.elapsed() < span {
        during(start.elapsed());
        let bench = Arc::clone(bench);
        all.spawn(async move {
            let from = Instant::now();
            let lease = bench.lease().await.map_err(|error| error.to_string())?;
            // what the gateway does with a token that the platform refuses
            let is_dead = lease.generation() == 1 && *bench.endpoint.good_secret.lock().unwrap() == "next";
            if is_dead && bench.credential.invalidate(lease.sha256()) {
                bench.lease().await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(from.elapsed())
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let told = all.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().expect("no call fails");
    (told.len(), told.into_iter().max().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_ends_the_tokens_fails_nobody() {
    let bench = bench(1000).await;
    let (mut replaced, mut stored) = (false, false);
    let (count, slowest) = calls(&bench, Duration::from_secs(5), |at| {
        if at >= Duration::from_secs(1) && !std::mem::replace(&mut replaced, true) {
            regenerate(&bench);
        }
        if at >= Duration::from_secs(3) && !std::mem::replace(&mut stored, true) {
            bench.store.write("next");
        }
    })
    .await;
    assert!(count > 900, "{count}");
    assert!(slowest >= Duration::from_secs(2) && slowest < Duration::from_secs(4), "{slowest:?}");
    assert_eq!(bench.endpoint.calls(), 3, "the first login, the refused one, the new one");
    assert!(bench.store.reads.load(Ordering::SeqCst) < 12, "{}", bench.store.reads.load(Ordering::SeqCst));
}

/// The same where the token lives on, but only for a moment: whatever is left of its life.
#[tokio::test(start_paused = true)]
async fn a_swap_that_leaves_the_tokens_fails_nobody_whatever_is_left_of_their_life() {
    for left in [50, 500, 1500, 2500] {
        let bench = bench(100).await;
        tokio::time::sleep(Duration::from_millis(100_000 - left)).await;
        // the early refresh was due long ago and nobody asked for it
        regenerate(&bench);
        let mut stored = false;
        let (count, slowest) = calls(&bench, Duration::from_secs(3), |at| {
            if at >= Duration::from_secs(2) && !std::mem::replace(&mut stored, true) {
                bench.store.write("next");
            }
        })
        .await;
        assert!(count > 500 && slowest < Duration::from_secs(4), "{left} ms left: {count} {slowest:?}");
        assert_eq!(bench.endpoint.calls(), 3, "{left} ms left");
    }
}

/// What a rotation in the same process does: the token is renewed before, and the store is looked at once.
#[tokio::test(start_paused = true)]
async fn a_rotation_of_the_same_process_renews_the_token_and_hands_the_new_document_over() {
    let bench = bench(1000).await;
    tokio::time::sleep(Duration::from_secs(700)).await;
    let renewed = bench.credential.renew().await.unwrap();
    assert_eq!((renewed.generation(), bench.lease().await.unwrap().generation()), (2, 2));
    regenerate(&bench);
    bench.store.write("next");
    let at = Instant::now();
    bench.credential.look_for_newer();
    while bench.credential.status().secret_version != 2 || bench.lease().await.unwrap().generation() != 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(at.elapsed() < Duration::from_millis(50), "it is told, not found by chance");
    }
    assert_eq!(bench.endpoint.calls(), 3);
    // a token that cannot be had is told, and the held one stays
    for _ in 0..3 {
        bench.endpoint.then(Answer::Down);
    }
    assert_eq!(bench.credential.renew().await.unwrap_err().code(), Code::UPSTREAM_UNREACHABLE);
    assert_eq!(bench.lease().await.unwrap().generation(), 3);
    bench.broker.shutdown().await;
    assert_eq!(bench.credential.renew().await.unwrap_err().code(), Code::TOKEN_UNAVAILABLE);
}

/// A secret that somebody replaced and never stored: callers wait once, then they are told at once.
#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_document_that_does_not_come() {
    let bench = bench(1000).await;
    regenerate(&bench);
    bench.credential.invalidate(bench.lease().await.unwrap().sha256());
    let from = Instant::now();
    assert_eq!(bench.lease().await.unwrap_err().code(), Code::CREDENTIAL_REJECTED);
    assert_eq!(from.elapsed().as_secs(), 20);
    let reads = bench.store.reads.load(Ordering::SeqCst);
    assert!(reads < 20, "{reads}");
    let from = Instant::now();
    assert_eq!(bench.lease().await.unwrap_err().code(), Code::CREDENTIAL_REJECTED);
    assert_eq!(from.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!((bench.endpoint.calls(), bench.store.reads.load(Ordering::SeqCst)), (2, reads));
}
