//! One token for many local callers, and none that lives shorter than its caller needs.

use std::time::Duration;

use crate::rig::{Surface, start};

const CALLERS: usize = 500;

#[tokio::test]
async fn five_hundred_callers_of_a_cold_token_cause_one_token_request() {
    let rig = std::sync::Arc::new(start(Surface::Broker).await);
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..CALLERS {
        let rig = std::sync::Arc::clone(&rig);
        let path = if number % 2 == 0 { "/v1/token/acme" } else { "/v1/header/acme" };
        callers.spawn(async move { rig.get(path).await });
    }
    let answers = callers.join_all().await;
    assert_eq!(answers.len(), CALLERS);
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains("token-1"), "{answer:?}");
    }
    assert_eq!(rig.platform.fetches(), 1);
}

/// Tokens live 10 minutes and the clock moves between and during the calls, as far as it takes for each of the two
/// ways to lose `min_ttl` to be met: before the broker looks, and while a login is under way.
#[tokio::test]
async fn no_caller_gets_a_token_with_less_life_than_it_needs() {
    let rig = start(Surface::Broker).await;
    *rig.platform.life.lock().unwrap() = Duration::from_mins(10);
    let (mut served, mut refused) = (0, 0);
    for step in 0..200_u64 {
        rig.clock.advance(Duration::from_secs(step * 7 % 100));
        // while a login runs, up to 200 s pass
        let delay = Duration::from_secs(step * 13 % 200);
        *rig.platform.delay.lock().unwrap() = Some((rig.clock.clone(), delay));
        let reply = rig.get("/v1/token/acme?min_ttl=420").await;
        if reply.status == 200 {
            served += 1;
            let left = reply.json()["expires_in"].as_u64().unwrap();
            assert!(left >= 420, "{left} s in step {step}");
        } else {
            refused += 1;
            assert!([422, 503].contains(&reply.status), "{reply:?}");
        }
    }
    assert!(served > 100, "{served} served, {refused} refused");
    assert!(rig.platform.fetches() > 20, "the token had to be renewed again and again: {}", rig.platform.fetches());
}
