//! Many callers at once: one fetch, one refetch, nobody stranded.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Barrier, atomic::Ordering},
    task::{Context, Waker},
    time::Duration,
};

use kh_core::Sha256;
use kh_token::TokenPolicy;
use tokio::task::JoinSet;

use crate::fakes::{Answer, Bench, tokio_clock};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_first_callers_cause_one_fetch() {
    let bench = Arc::new(Bench::new(&[]));
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let bench = Arc::clone(&bench);
        callers.spawn(async move { bench.lease().await.map(|lease| lease.generation()) });
    }
    for outcome in callers.join_all().await {
        assert_eq!(outcome.unwrap(), 1);
    }
    assert_eq!(bench.endpoint.calls(), 1);
    assert_eq!(bench.credential.status().fetches.ok, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_reports_of_one_revoked_token_cause_one_refetch() {
    let bench = Arc::new(Bench::new(&[]));
    let revoked = bench.lease().await.unwrap().sha256();
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let bench = Arc::clone(&bench);
        callers.spawn(async move {
            bench.credential.invalidate(revoked);
            bench.lease().await.map(|lease| lease.sha256())
        });
    }
    let fresh = Sha256::of(b"token-2");
    for outcome in callers.join_all().await {
        assert_eq!(outcome.unwrap(), fresh);
    }
    assert_eq!(bench.endpoint.calls(), 2);
    let counts = bench.credential.status().fetches;
    assert_eq!((counts.invalidations, counts.stale_reports), (1, 999));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_dropped_at_any_await_point_strands_nobody() {
    let mut reached_waiting = false;
    for polls in 0..8 {
        let bench = Bench::new(&[]);
        {
            let mut leader = pin!(bench.credential.lease(Duration::ZERO));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if leader.as_mut().poll(&mut context).is_ready() {
                    break;
                }
                reached_waiting = true;
                tokio::task::yield_now().await;
            }
        }
        let lease = tokio::time::timeout(Duration::from_secs(30), bench.lease()).await.expect("nobody is stranded");
        assert_eq!(lease.unwrap().generation(), 1, "after {polls} polls");
        assert_eq!(bench.endpoint.calls(), 1, "after {polls} polls");
    }
    assert!(reached_waiting);
}

#[tokio::test(start_paused = true)]
async fn followers_of_a_dropped_leader_get_the_leaders_token() {
    let bench = Arc::new(Bench::new(&[]));
    bench.endpoint.gate.forget_permits(usize::MAX);
    let leader = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { bench.lease().await.map(|lease| lease.generation()) }
    });
    tokio::task::yield_now().await;
    let mut followers = JoinSet::new();
    for _ in 0..50 {
        let bench = Arc::clone(&bench);
        followers.spawn(async move { bench.lease().await.map(|lease| lease.generation()) });
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    bench.endpoint.gate.add_permits(1);
    for outcome in followers.join_all().await {
        assert_eq!(outcome.unwrap(), 1);
    }
    assert_eq!(bench.endpoint.calls(), 1);
}

#[test]
fn waiters_on_other_runtimes_are_woken() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bench = {
        let _inside = home.enter();
        Arc::new(Bench::with(&[], "right", TokenPolicy::default(), tokio_clock(), home.handle().clone()))
    };
    bench.endpoint.gate.forget_permits(usize::MAX);
    let barrier = Arc::new(Barrier::new(5));
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let (bench, barrier) = (Arc::clone(&bench), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                barrier.wait();
                own.block_on(bench.lease()).map(|lease| lease.generation())
            })
        })
        .collect();
    barrier.wait();
    while bench.credential.status().fetches.waits < 4 {
        std::thread::yield_now();
    }
    bench.endpoint.gate.add_permits(1);
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap().unwrap(), 1);
    }
    assert_eq!(bench.endpoint.calls(), 1);
}

#[test]
fn a_runtime_that_is_gone_is_an_error_and_not_a_hang() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bench = {
        let _inside = home.enter();
        Bench::with(&[], "right", TokenPolicy::default(), tokio_clock(), home.handle().clone())
    };
    home.shutdown_background();
    let own = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    assert!(own.block_on(bench.lease()).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_early_refresh_happens_once_and_nobody_waits_for_it() {
    let bench = Bench::new(&[Answer::Token { life: 1000 }]);
    assert_eq!(bench.lease().await.unwrap().generation(), 1);
    tokio::time::advance(Duration::from_secs(850)).await;
    bench.endpoint.gate.forget_permits(usize::MAX);
    for _ in 0..100 {
        assert_eq!(bench.credential.current().unwrap().generation(), 1);
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.credential.current().unwrap().generation(), 1);
    assert_eq!(bench.endpoint.calls(), 2, "one login, one refresh in flight");
    bench.endpoint.gate.add_permits(1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.credential.current().unwrap().generation(), 2);
    assert_eq!(bench.endpoint.calls(), 2);
    assert!(!bench.endpoint.overlapped.load(Ordering::SeqCst));
}
