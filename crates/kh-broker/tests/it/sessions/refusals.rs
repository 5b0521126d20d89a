//! Renewals that the platform refuses: how long it is left alone, on a paused clock.

use std::{sync::Arc, time::Duration};

use kh_broker::{Broker, Lease, SessionError, TokenError, UserSessions};
use kh_core::{Code, Retry, Sha256, session::SessionEnd};
use tokio::time::{Instant, sleep};

use super::{LIFE, paused::Bench, world::Fault};

/// What a caller is told who gets no token: the code, and until when.
fn refused(outcome: Result<Arc<Lease>, SessionError>) -> (Code, Duration) {
    match outcome {
        Err(SessionError::Token(TokenError::Endpoint { source, retry_in })) => (source.code(), retry_in),
        other => panic!("the platform refused nothing: {:?}", other.map(|lease| lease.generation())),
    }
}

type Process = (Arc<Broker>, Arc<UserSessions>);

/// Three users who are logged in.
async fn three(bench: &Bench, process: &Process) -> [Sha256; 3] {
    let mut users = [Sha256::of(b""); 3];
    for (name, user) in ["one", "two", "three"].iter().zip(&mut users) {
        *user = bench.login_of(name, process).await;
    }
    users
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
async fn a_rate_limit_is_one_for_all_sessions_of_a_credential() {
    let bench = Bench::new();
    let process = bench.start(1);
    let users = three(&bench, &process).await;
    sleep(LIFE).await;
    bench.platform.next(Fault::Limited(Some(Duration::from_mins(2))));
    for user in users {
        let (code, retry_in) = refused(process.1.lease(user).await);
        assert_eq!((code, retry_in.as_secs()), (Code::TOKEN_RATE_LIMITED, 120));
    }
    assert_eq!(bench.platform.requests(), 1);
    sleep(Duration::from_mins(2)).await;
    for user in users {
        process.1.lease(user).await.unwrap();
    }
    assert_eq!(bench.platform.requests(), 4);
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

#[tokio::test(start_paused = true)]
async fn a_session_that_meets_a_rate_limit_again_waits_longer_though_another_one_was_let_through() {
    let bench = Bench::new();
    let process = bench.start(1);
    let [one, two, _] = three(&bench, &process).await;
    sleep(LIFE).await;
    bench.platform.next(Fault::Limited(Some(Duration::from_mins(2))));
    for user in [one, two] {
        refused(process.1.lease(user).await);
    }
    sleep(Duration::from_mins(2)).await;
    process.1.lease(one).await.unwrap();
    bench.platform.next(Fault::Limited(None));
    let start = Instant::now();
    let wait = match process.1.lease(two).await {
        Ok(_) => start.elapsed(),
        told => refused(told).1,
    };
    assert!((4..=8).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_stops_the_sessions_for_an_hour_at_most() {
    let bench = Bench::new();
    let process = bench.start(1);
    let users = three(&bench, &process).await;
    sleep(LIFE).await;
    bench.platform.next(Fault::Limited(Some(Duration::from_hours(7 * 24))));
    for user in users {
        let (code, retry_in) = refused(process.1.lease(user).await);
        assert_eq!((code, retry_in.as_secs()), (Code::TOKEN_RATE_LIMITED, 3600));
    }
    sleep(Duration::from_hours(1)).await;
    for user in users {
        process.1.lease(user).await.unwrap();
    }
    assert_eq!(bench.platform.requests(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_new_secret_that_one_server_does_not_know_yet_costs_the_sessions_seconds() {
    let bench = Bench::new();
    let process = bench.start(1);
    let users = three(&bench, &process).await;
    sleep(LIFE).await;
    bench.source.write("next");
    bench.platform.next(Fault::Refused("invalid_client"));
    let start = Instant::now();
    for user in users {
        process.1.lease(user).await.unwrap();
    }
    assert!((2..=4).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(bench.platform.requests(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_new_secret_that_is_wrong_is_left_alone_after_a_few_tries() {
    let bench = Bench::new();
    let process = bench.start(1);
    let users = three(&bench, &process).await;
    sleep(LIFE).await;
    bench.source.write("next");
    for _ in 0..4 {
        bench.platform.next(Fault::Refused("invalid_client"));
    }
    for user in users.iter().cycle().take(12) {
        assert_eq!(refused(process.1.lease(*user).await).0, Code::CREDENTIAL_REJECTED);
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(bench.platform.requests(), 4, "three tries that do not count, and one that does");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_is_not_sent_again_by_any_session_before_its_document_changes() {
    let bench = Bench::new();
    let process = bench.start(1);
    let users = three(&bench, &process).await;
    sleep(LIFE).await;
    bench.platform.next(Fault::Refused("invalid_client"));
    for user in users.iter().cycle().take(20) {
        assert_eq!(refused(process.1.lease(*user).await).0, Code::CREDENTIAL_REJECTED);
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(bench.platform.requests(), 1, "every user would send it again and again");
    bench.source.write("next");
    sleep(Duration::from_secs(30)).await;
    for user in users {
        process.1.lease(user).await.unwrap();
    }
    assert_eq!(bench.platform.requests(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_client_is_tried_again_after_its_pause_by_one_session_alone() {
    let bench = Bench::new();
    let process = bench.start(1);
    let users = three(&bench, &process).await;
    let [one, two, three] = users;
    sleep(LIFE).await;
    bench.platform.next(Fault::Refused("invalid_client"));
    refused(process.1.lease(one).await);
    sleep(Duration::from_mins(10)).await;
    bench.platform.next(Fault::Refused("invalid_client"));
    let sessions = &process.1;
    let all = tokio::join!(sessions.lease(one), sessions.lease(two), sessions.lease(three));
    for outcome in [all.0, all.1, all.2] {
        refused(outcome);
    }
    assert_eq!(bench.platform.requests(), 2);
    sleep(Duration::from_mins(11)).await;
    refused(sessions.lease(two).await);
    assert_eq!(bench.platform.requests(), 2, "the second pause is twice as long");
    sleep(Duration::from_mins(9)).await;
    for user in users {
        sessions.lease(user).await.unwrap();
    }
    assert_eq!(bench.platform.requests(), 5);
}

/// Where the one renewal that tries the client again is of a user whose login is over, the others need not wait for more.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_refresh_token_tells_that_the_client_is_taken_again() {
    let bench = Bench::new();
    let process = bench.start(1);
    let [one, two, _] = three(&bench, &process).await;
    sleep(LIFE).await;
    bench.platform.next(Fault::Refused("invalid_client"));
    refused(process.1.lease(one).await);
    sleep(Duration::from_mins(10)).await;
    bench.platform.next(Fault::Refused("invalid_grant"));
    let start = Instant::now();
    let over = process.1.lease(one).await;
    assert!(matches!(over, Err(SessionError::Ended(SessionEnd::RefreshRefused))), "{:?}", over.err());
    process.1.lease(two).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(bench.platform.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_login_with_the_client_that_was_refused_lets_the_sessions_renew_again() {
    let bench = Bench::new();
    let process = bench.start(1);
    let [one, two, _] = three(&bench, &process).await;
    sleep(LIFE).await;
    bench.platform.next(Fault::Refused("invalid_client"));
    refused(process.1.lease(one).await);
    refused(process.1.lease(two).await);
    bench.login_of("another", &process).await;
    sleep(Duration::from_secs(30)).await;
    process.1.lease(one).await.unwrap();
    assert_eq!(bench.platform.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_may_be_about_one_refresh_token_stops_nobody_else() {
    let bench = Bench::new();
    let process = bench.start(1);
    let [one, two, _] = three(&bench, &process).await;
    sleep(LIFE).await;
    for _ in 0..3 {
        bench.platform.next(Fault::Refused("http_401"));
    }
    assert_eq!(refused(process.1.lease(one).await).0, Code::CREDENTIAL_REJECTED);
    process.1.lease(two).await.unwrap();
    assert_eq!(bench.platform.requests(), 4);
}
