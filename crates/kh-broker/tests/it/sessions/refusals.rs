//! Renewals that the platform refuses: how long it is left alone, on a paused clock.

use std::{sync::Arc, time::Duration};

use kh_broker::{Lease, SessionError, TokenError};
use kh_core::{Code, Retry};
use tokio::time::{Instant, sleep};

use super::{LIFE, paused::Bench, world::Fault};

/// What a caller is told who gets no token: the code, and until when.
fn refused(outcome: Result<Arc<Lease>, SessionError>) -> (Code, Duration) {
    match outcome {
        Err(SessionError::Token(TokenError::Endpoint { source, retry_in })) => (source.code(), retry_in),
        other => panic!("the platform refused nothing: {:?}", other.map(|lease| lease.generation())),
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_out_for_as_long_as_the_platform_asks() {
    let bench = Bench::new();
    let process = bench.start(1);
    let token = bench.login(&process).await;
    sleep(LIFE).await;
    bench.platform.next(Fault::Limited(Some(Duration::from_mins(2))));
    let error = process.1.lease(token).await.unwrap_err();
    assert!(matches!(error.retry(), Retry::After(wait) if wait.as_secs() == 120), "{error:?}");
    for left in (1..12).rev() {
        sleep(Duration::from_secs(10)).await;
        let (code, retry_in) = refused(process.1.lease(token).await);
        assert_eq!(code, Code::TOKEN_RATE_LIMITED);
        assert!(retry_in.as_secs().abs_diff(10 * left) <= 1, "{retry_in:?}");
        assert_eq!(bench.platform.requests(), 1);
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(process.1.lease(token).await.unwrap().token().expose(), "access-2");
    assert_eq!(bench.platform.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_without_a_time_is_waited_out_for_seconds() {
    let bench = Bench::new();
    let process = bench.start(1);
    let token = bench.login(&process).await;
    sleep(LIFE).await;
    bench.platform.next(Fault::Limited(None));
    let start = Instant::now();
    assert_eq!(process.1.lease(token).await.unwrap().token().expose(), "access-2");
    assert!((2..=4).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(bench.platform.requests(), 2);
}
