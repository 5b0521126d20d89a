//! What callers see when the platform, the store or the secret is bad.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kh_broker::{CredentialState, TokenError};
use kh_core::{Blame, Code, Retry};
use kh_token::TokenPolicy;
use tokio::{runtime::Handle, task::JoinSet};

use crate::fakes::{Answer, Bench, tokio_clock};

async fn crowd(bench: &Arc<Bench>, size: usize) -> Vec<Result<u64, TokenError>> {
    let mut callers = JoinSet::new();
    for _ in 0..size {
        let bench = Arc::clone(bench);
        callers.spawn(async move { bench.lease().await.map(|lease| lease.generation()) });
    }
    callers.join_all().await
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_panics_once_strands_nobody() {
    let bench = Arc::new(Bench::new(&[Answer::Panic]));
    for outcome in crowd(&bench, 100).await {
        assert_eq!(outcome.unwrap(), 1);
    }
    assert_eq!(bench.endpoint.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_always_panics_is_an_error_after_three_tries() {
    let bench = Arc::new(Bench::new(&[Answer::Panic; 9]));
    for outcome in crowd(&bench, 100).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), Code::TOKEN_UNAVAILABLE);
    }
    assert_eq!(bench.endpoint.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_sent_once_and_the_next_one_once() {
    let bench = Arc::new(Bench::with(&[], "wrong", TokenPolicy::default(), tokio_clock(), Handle::current()));
    for outcome in crowd(&bench, 1000).await {
        let error = outcome.unwrap_err();
        assert_eq!((error.code(), error.retry()), (Code::CREDENTIAL_REJECTED, Retry::Never));
        assert_eq!((error.platform_code(), error.correlation_id()), (Some("invalid_client"), Some("corr-1")));
        assert_eq!(error.blame(), Blame::Store);
    }
    assert_eq!(bench.endpoint.calls(), 1);
    assert_eq!(bench.store.reads.load(Ordering::SeqCst), 2, "the store is read once more after a rejection");
    let status = bench.credential.status();
    assert_eq!(status.state, CredentialState::Rejected);
    assert!(status.retry_in_seconds.is_some_and(|rest| (590..=600).contains(&rest)), "{:?}", status.retry_in_seconds);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(bench.endpoint.calls(), 1, "nothing changed, nothing is sent");
    // Written again unchanged: a new version, the same id and secret.
    bench.store.write("wrong");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.endpoint.calls(), 1);
    bench.store.write("right");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.endpoint.calls(), 2, "the new version is tried without being asked for");
    for outcome in crowd(&bench, 1000).await {
        assert_eq!(outcome.unwrap(), 1);
    }
    assert_eq!(bench.endpoint.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_document_that_comes_back_is_told_as_refused() {
    let bench = Bench::with(&[], "wrong", TokenPolicy::default(), tokio_clock(), Handle::current());
    bench.lease().await.unwrap_err();
    bench.store.write("right");
    tokio::time::sleep(Duration::from_mins(1)).await;
    let lease = bench.lease().await.unwrap();
    assert_eq!(bench.credential.status().last_error, None);
    bench.store.write("wrong");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(bench.credential.invalidate(lease.sha256()));
    let error = bench.lease().await.unwrap_err();
    assert_eq!((error.code(), error.retry()), (Code::CREDENTIAL_REJECTED, Retry::Never));
    assert_eq!(bench.credential.status().last_error, Some(Code::CREDENTIAL_REJECTED));
    assert_eq!(bench.endpoint.calls(), 2, "it is not sent again");
}

#[tokio::test(start_paused = true)]
async fn a_store_outage_serves_the_cached_token_until_it_dies_and_never_after() {
    let bench = Bench::new(&[Answer::Token { life: 1000 }]);
    bench.lease().await.unwrap();
    bench.store.is_down.store(true, Ordering::SeqCst);
    let mut served = 0;
    for _ in 0..99 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(bench.lease().await.unwrap().generation(), 1);
        served += 1;
    }
    assert_eq!(served, 99);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(bench.credential.current().is_none());
    let error = bench.lease().await.unwrap_err();
    assert_eq!((error.code(), error.blame()), (Code::STORE_UNAVAILABLE, Blame::Store));
    assert_eq!(bench.endpoint.calls(), 1);
    bench.store.is_down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.lease().await.unwrap().generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_out_up_to_three_minutes() {
    let bench = Bench::new(&[Answer::RateLimited { retry_after: 30 }]);
    let start = tokio::time::Instant::now();
    assert_eq!(bench.lease().await.unwrap().generation(), 1);
    assert_eq!(start.elapsed().as_secs(), 30);

    let bench = Bench::new(&[Answer::RateLimited { retry_after: 7200 }]);
    let start = tokio::time::Instant::now();
    let error = bench.lease().await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 0);
    assert_eq!(error.code(), Code::TOKEN_RATE_LIMITED);
    assert!(matches!(error.retry(), Retry::After(wait) if wait.as_secs() >= 7199), "{error:?}");
    assert_eq!(bench.endpoint.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_is_down_is_tried_three_times_per_caller() {
    let bench = Bench::new(&[Answer::Down; 9]);
    let error = bench.lease().await.unwrap_err();
    assert_eq!((error.code(), error.blame()), (Code::UPSTREAM_UNREACHABLE, Blame::Platform));
    assert_eq!(bench.endpoint.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hangs_meets_the_deadline() {
    let bench = Bench::new(&[Answer::Hang]);
    assert_eq!(bench.lease().await.unwrap().generation(), 1);
    let counts = bench.credential.status().fetches;
    assert_eq!((counts.ok, counts.failed, bench.endpoint.calls()), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_no_header_can_carry_is_a_failure() {
    let bench = Bench::new(&[Answer::BadBytes; 9]);
    let error = bench.lease().await.unwrap_err();
    assert!(matches!(error, TokenError::NoToken { .. }), "{error:?}");
    assert!(bench.credential.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_refused_refresh_token_falls_back_to_a_login() {
    let bench = Bench::new(&[Answer::TokenWithRefresh { life: 100 }, Answer::TokenWithRefresh { life: 100 }]);
    assert_eq!(bench.lease().await.unwrap().generation(), 1);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.lease().await.unwrap().generation(), 2);
    assert_eq!(bench.endpoint.refreshes.load(Ordering::SeqCst), 1);
    bench.endpoint.then(Answer::RefreshRefused);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.lease().await.unwrap().generation(), 3);
    assert_eq!((bench.endpoint.refreshes.load(Ordering::SeqCst), bench.endpoint.calls()), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_works_no_more_costs_one_login_and_not_the_document() {
    for (answer, refreshes) in [
        (Answer::Refuses("http_401"), 1),
        (Answer::Refuses("invalid_scope"), 1),
        (Answer::Refuses("unauthorized_client"), 1),
        (Answer::Broken, 1),
        (Answer::Down, 2),
    ] {
        let bench = Bench::new(&[Answer::TokenWithRefresh { life: 100 }, answer]);
        assert_eq!(bench.lease().await.unwrap().generation(), 1);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(bench.lease().await.unwrap().generation(), 2);
        assert_eq!((bench.endpoint.refreshes.load(Ordering::SeqCst), bench.endpoint.calls()), (refreshes, 3));
    }
    let bench = Bench::new(&[Answer::TokenWithRefresh { life: 100 }, Answer::Refuses("invalid_client")]);
    bench.lease().await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.lease().await.unwrap_err().code(), Code::CREDENTIAL_REJECTED);
    assert_eq!(bench.endpoint.calls(), 2, "a client that is refused is not tried again with its document");
}

#[tokio::test(start_paused = true)]
async fn where_the_document_is_a_refresh_token_the_one_that_followed_it_is_kept() {
    let follows = Answer::TokenWithRefresh { life: 100 };
    let bench = Bench::new(&[follows, Answer::Broken, follows, Answer::RefreshRefused]);
    let document = r#"{"client_id":"id","client_secret":"right","refresh_token":"own"}"#;
    bench.store.write_document(document.to_owned());
    bench.lease().await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.lease().await.unwrap().generation(), 2);
    assert_eq!((bench.endpoint.refreshes.load(Ordering::SeqCst), bench.endpoint.calls()), (2, 3));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.lease().await.unwrap_err().code(), Code::CREDENTIAL_REJECTED);
    assert_eq!(bench.endpoint.calls(), 4, "the older token is not sent in its place");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_during_a_refresh_keeps_the_good_token() {
    let bench = Bench::new(&[Answer::Token { life: 1000 }, Answer::Rejected]);
    bench.lease().await.unwrap();
    for _ in 0..99 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(bench.lease().await.unwrap().generation(), 1);
    }
    assert_eq!(bench.endpoint.calls(), 2);
}
