//! Credentials replaced while callers go on: what stays, what starts anew, what ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kh_broker::{Applied, CredentialSpec, TokenError};
use kh_core::{Code, CredentialName, Retry};
use kh_token::TokenPolicy;
use tokio::task::JoinSet;

use crate::fakes::{Answer, Bench, FakeEndpoint, spec};

fn name(text: &str) -> CredentialName {
    text.parse().unwrap()
}

fn names(texts: &[&str]) -> Vec<CredentialName> {
    texts.iter().map(|text| name(text)).collect()
}

/// A caller that waits for a token; started when `before` requests were at the endpoint and one more is.
async fn waiter(bench: &Bench) -> tokio::task::JoinHandle<Result<u64, TokenError>> {
    let credential = Arc::clone(&bench.credential);
    let before = bench.endpoint.calls();
    let waiter = tokio::spawn(async move { credential.lease(Duration::ZERO).await.map(|lease| lease.generation()) });
    while bench.endpoint.calls() == before {
        tokio::task::yield_now().await;
    }
    waiter
}

#[tokio::test(start_paused = true)]
async fn what_is_the_same_keeps_its_token_and_its_counts() {
    let bench = Bench::new(&[]);
    let lease = bench.lease().await.unwrap();
    let applied = bench.broker.apply(vec![spec("acme", &bench.endpoint, "1"), spec("late", &bench.endpoint, "1")]);
    let expected = Applied { added: names(&["late"]), kept: names(&["acme"]), ..Applied::default() };
    assert_eq!(applied, expected);
    let kept = bench.broker.credential(&name("acme")).unwrap();
    assert!(Arc::ptr_eq(&kept, &bench.credential));
    assert_eq!(kept.current().unwrap().sha256(), lease.sha256());
    assert_eq!((kept.status().fetches.ok, bench.endpoint.calls()), (1, 1));
    assert_eq!(bench.broker.status().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_different_starts_anew_and_the_old_finishes_what_it_began() {
    let bench = Bench::new(&[]);
    bench.endpoint.gate.forget_permits(usize::MAX);
    let waiter = waiter(&bench).await;
    let elsewhere = FakeEndpoint::playing(&[]);
    let applied = bench.broker.apply(vec![spec("acme", &elsewhere, "2")]);
    assert_eq!(applied, Applied { changed: names(&["acme"]), ..Applied::default() });
    let fresh = bench.broker.credential(&name("acme")).unwrap();
    assert_eq!(fresh.lease(Duration::ZERO).await.unwrap().generation(), 1);
    assert_eq!((bench.endpoint.calls(), elsewhere.calls(), fresh.status().fetches.ok), (1, 1, 1));
    bench.endpoint.gate.add_permits(1);
    assert_eq!(waiter.await.unwrap().unwrap(), 1, "a caller that waited gets the token that it waited for");
    assert_eq!((bench.endpoint.calls(), elsewhere.calls()), (1, 1));
    // A request that heals a 401 under the old configuration still can.
    let held = bench.credential.current().unwrap();
    assert!(bench.credential.invalidate(held.sha256()));
    bench.endpoint.gate.add_permits(1);
    assert_eq!(bench.lease().await.unwrap().generation(), 2);
    assert_eq!(fresh.current().unwrap().generation(), 1, "nobody's report of the old token touches the new one");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_tells_its_waiters_and_leaves_held_leases_alone() {
    let bench = Bench::new(&[Answer::Token { life: 1000 }]);
    let held = bench.lease().await.unwrap();
    assert!(bench.credential.invalidate(held.sha256()));
    bench.endpoint.gate.forget_permits(usize::MAX);
    let waiter = waiter(&bench).await;
    let applied = bench.broker.apply(Vec::new());
    assert_eq!(applied, Applied { removed: names(&["acme"]), ..Applied::default() });
    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(error, TokenError::Removed), "{error:?}");
    assert_eq!((error.code(), error.retry()), (Code::CREDENTIAL_UNUSABLE, Retry::Never));
    assert!(bench.broker.credential(&name("acme")).is_none() && bench.broker.status().is_empty());
    assert!(matches!(bench.lease().await, Err(TokenError::Removed)), "whoever still knows it gets nothing more");
    bench.endpoint.gate.add_permits(9);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(bench.endpoint.calls(), 2, "nothing is fetched for it any more");
    assert_eq!((held.token().expose(), held.generation()), ("token-1", 1));
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_removed_credential_leaves_memory_with_its_last_lease() {
    let bench = Bench::new(&[]);
    let lease = bench.lease().await.unwrap();
    let trace = Arc::downgrade(&lease);
    bench.broker.apply(Vec::new());
    assert!(trace.upgrade().is_some() && bench.credential.current().is_none());
    drop(lease);
    assert!(trace.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_comes_back_is_a_new_one() {
    let bench = Bench::new(&[]);
    bench.lease().await.unwrap();
    bench.broker.apply(Vec::new());
    let applied = bench.broker.apply(vec![spec("acme", &bench.endpoint, "1")]);
    assert_eq!(applied, Applied { added: names(&["acme"]), ..Applied::default() });
    let back = bench.broker.credential(&name("acme")).unwrap();
    assert!(back.current().is_none());
    assert_eq!(back.lease(Duration::ZERO).await.unwrap().generation(), 1);
    assert_eq!(bench.endpoint.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_apply_during_a_fetch_leaves_the_fetch_and_its_waiters_alone() {
    let bench = Bench::new(&[]);
    bench.endpoint.gate.forget_permits(usize::MAX);
    let first = waiter(&bench).await;
    for round in 0..100 {
        let extra = spec(&format!("extra-{round}"), &bench.endpoint, "1");
        assert_eq!(bench.broker.apply(vec![spec("acme", &bench.endpoint, "1"), extra]).kept, names(&["acme"]));
    }
    let second = tokio::spawn({
        let credential = bench.broker.credential(&name("acme")).unwrap();
        async move { credential.lease(Duration::ZERO).await.map(|lease| lease.generation()) }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.endpoint.gate.add_permits(1);
    assert_eq!((first.await.unwrap().unwrap(), second.await.unwrap().unwrap()), (1, 1));
    assert_eq!(bench.endpoint.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_store_is_watched_for_the_new_set() {
    let bench = Bench::new(&[]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.credential.status().secret_version, 1);
    bench.broker.apply(Vec::new());
    bench.store.write("right");
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(bench.credential.status().secret_version, 1, "nobody asks for a removed credential's document");
    let eager = TokenPolicy { store_poll: Duration::from_secs(1), ..TokenPolicy::default() };
    bench.broker.apply(vec![CredentialSpec { policy: eager, ..spec("late", &bench.endpoint, "1") }]);
    let late = bench.broker.credential(&name("late")).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(late.status().secret_version, 2, "the store is asked at once");
    late.lease(Duration::ZERO).await.unwrap();
    bench.store.write("right");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!((late.status().secret_version, late.status().generation), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn an_apply_after_the_shutdown_starts_nothing() {
    let bench = Bench::new(&[]);
    bench.broker.shutdown().await;
    bench.broker.apply(vec![spec("late", &bench.endpoint, "1")]);
    let late = bench.broker.credential(&name("late")).unwrap();
    assert!(matches!(late.lease(Duration::ZERO).await, Err(TokenError::Closed)));
    assert_eq!(bench.endpoint.calls(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_see_no_error_while_the_credentials_change() {
    const ROUNDS: u32 = 200;
    let bench = Arc::new(Bench::new(&[]));
    let changing = FakeEndpoint::playing(&[]);
    let set = |round: u32| {
        let mut specs = vec![spec("acme", &bench.endpoint, "1"), spec("busy", &changing, &round.to_string())];
        // One comes and goes, and nobody uses it.
        specs.extend(round.is_multiple_of(2).then(|| spec("other", &bench.endpoint, "1")));
        specs
    };
    bench.broker.apply(set(0));
    let done = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..1000 {
        let (bench, done) = (Arc::clone(&bench), Arc::clone(&done));
        let wanted = name(if caller % 2 == 0 { "acme" } else { "busy" });
        callers.spawn(async move {
            let mut served = 0_u64;
            while !done.load(Ordering::SeqCst) || served == 0 {
                let credential = bench.broker.credential(&wanted).expect("it is in every configuration");
                credential.lease(Duration::ZERO).await.unwrap();
                served += 1;
                tokio::task::yield_now().await;
            }
            served
        });
    }
    for round in 1..=ROUNDS {
        let before = changing.calls();
        let applied = bench.broker.apply(set(round));
        assert_eq!((applied.kept, applied.changed), (names(&["acme"]), names(&["busy"])));
        while changing.calls() == before {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::SeqCst);
    let served: u64 = callers.join_all().await.into_iter().sum();
    assert!(served > 1000 + u64::from(ROUNDS), "only {served} leases");
    assert_eq!(bench.endpoint.calls(), 1, "what did not change logged in once");
    assert!(!bench.endpoint.overlapped.load(Ordering::SeqCst));
    // Each edition logged in once, but for the first where it was replaced before anybody asked.
    let logins = changing.calls();
    assert!((u64::from(ROUNDS)..=u64::from(ROUNDS) + 1).contains(&logins), "{logins} logins");
}
