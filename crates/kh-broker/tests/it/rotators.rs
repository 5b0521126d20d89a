//! Tokens of the rotator's identities: in time or not at all, and never the same after a refusal.

use std::{sync::Arc, time::Duration};

use kh_broker::{PATIENCE, RotatorCredentials};
use kh_core::port::{
    ManageError, RotatorTokens,
    secret_management::Rotator::{First, Second},
};

use crate::fakes::{Answer, Bench, spec};

const MIN_TTL: Duration = Duration::from_mins(1);

fn rotators(bench: &Bench, second: Option<&str>) -> RotatorCredentials {
    let second = second.map(|name| name.parse().unwrap());
    RotatorCredentials::new(Arc::clone(&bench.broker), Some("acme".parse().unwrap()), second)
}

#[tokio::test(start_paused = true)]
async fn one_token_serves_many_calls_and_another_comes_after_a_refusal() {
    let bench = Bench::new(&[]);
    let rotators = rotators(&bench, None);
    let first = rotators.token(First, MIN_TTL).await.unwrap();
    assert_eq!(rotators.token(First, MIN_TTL).await.unwrap(), first);
    assert_eq!(bench.endpoint.calls(), 1);
    rotators.refused(First, &first);
    let next = rotators.token(First, MIN_TTL).await.unwrap();
    assert_ne!(next, first);
    rotators.refused(First, &first);
    assert_eq!(rotators.token(First, MIN_TTL).await.unwrap(), next, "an old refusal does no harm");
    assert_eq!(bench.endpoint.calls(), 2);
    assert!(!format!("{rotators:?}").contains(next.expose()));
}

#[tokio::test(start_paused = true)]
async fn there_is_a_second_one_only_where_it_is_configured() {
    let bench = Bench::new(&[]);
    let alone = rotators(&bench, None);
    assert!(alone.has(First) && !alone.has(Second));
    assert!(
        matches!(alone.token(Second, MIN_TTL).await, Err(ManageError::NotDone { reason }) if reason.contains("rotator_second"))
    );
    bench.broker.apply(vec![spec("acme", &bench.endpoint, "1"), spec("other", &bench.endpoint, "1")]);
    let both = rotators(&bench, Some("other"));
    assert!(both.has(Second));
    assert_ne!(both.token(First, MIN_TTL).await.unwrap(), both.token(Second, MIN_TTL).await.unwrap());
    bench.broker.apply(vec![spec("acme", &bench.endpoint, "1")]);
    let gone = both.token(Second, MIN_TTL).await;
    assert!(matches!(&gone, Err(ManageError::NotDone { reason }) if reason.contains("other")), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn why_there_is_no_token_is_told_in_the_ports_words() {
    let refused = rotators(&Bench::new(&[Answer::Rejected; 20]), None).token(First, MIN_TTL).await;
    assert!(
        matches!(&refused, Err(ManageError::Denied { platform_code, .. }) if platform_code == "invalid_client"),
        "{refused:?}"
    );
    let limited =
        rotators(&Bench::new(&[Answer::RateLimited { retry_after: 7200 }; 20]), None).token(First, MIN_TTL).await;
    assert!(matches!(limited, Err(ManageError::Throttled { retry_after: Some(_) })), "{limited:?}");
    let down = rotators(&Bench::new(&[Answer::Down; 20]), None).token(First, MIN_TTL).await;
    assert!(matches!(down, Err(ManageError::NotDone { .. })), "{down:?}");
    let short = rotators(&Bench::new(&[Answer::Token { life: 30 }; 20]), None).token(First, MIN_TTL).await;
    assert!(matches!(short, Err(ManageError::NotDone { .. })), "{short:?}");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_hangs_is_given_up_in_time() {
    let bench = Bench::new(&[Answer::Hang; 20]);
    let began = tokio::time::Instant::now();
    let hung = rotators(&bench, None).token(First, MIN_TTL).await;
    assert!(matches!(hung, Err(ManageError::NotDone { .. })), "{hung:?}");
    assert!(began.elapsed() < PATIENCE + Duration::from_secs(1), "on the paused clock: {:?}", began.elapsed());
}
