//! Group commit and housekeeping.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use kh_core::{
    UnixMillis,
    port::{StateError, StateStore},
};

use crate::support::{Fixture, START, client, event, token};

#[tokio::test]
async fn a_thousand_writes_share_few_commits() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let owner = client("one");
    state.add_client(owner.clone(), event("client.add")).await.unwrap();
    let before = state.commits();
    let writes = (0..1000).map(|number| state.add_token(token(&owner, &number.to_string(), 1000)));
    for written in join_all(writes).await {
        written.unwrap();
    }
    let commits = state.commits() - before;
    assert!(commits <= 50, "{commits} commits for 1,000 writes");
    assert_eq!(state.live_tokens(START).await.unwrap().len(), 1000);
}

#[tokio::test]
async fn one_refused_change_does_not_fail_its_neighbours() {
    let fixture = Fixture::new();
    let state = Arc::new(fixture.open());
    let (owner, stranger) = (client("one"), client("stranger"));
    state.add_client(owner.clone(), event("client.add")).await.unwrap();
    let before = state.commits();
    let writes = (0..200).map(|number| {
        let owner = if number % 3 == 0 { &stranger } else { &owner };
        state.add_token(token(owner, &number.to_string(), 1000))
    });
    for (number, written) in join_all(writes).await.into_iter().enumerate() {
        match number % 3 {
            0 => assert!(matches!(written, Err(StateError::NoSuchClient(_)))),
            _ => written.unwrap(),
        }
    }
    assert!(state.commits() - before < 20, "they did not share transactions");
    assert_eq!(state.live_tokens(START).await.unwrap().len(), 133);
}

#[tokio::test]
async fn long_expired_tokens_go_in_small_rounds_and_a_clock_that_ran_ahead_destroys_nothing() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let owner = client("one");
    state.add_client(owner.clone(), event("client.add")).await.unwrap();
    let expired = (0..600).map(|number| state.add_token(token(&owner, &number.to_string(), 1000)));
    join_all(expired).await;
    let live = token(&owner, "live", 90 * 86_400_000);
    state.add_token(live.clone()).await.unwrap();
    let stored = || async { state.live_tokens(UnixMillis(0)).await.unwrap().len() };

    fixture.clock.advance(Duration::from_hours(6 * 24));
    for _ in 0..10 {
        state.change_counter().await.unwrap();
    }
    assert_eq!(stored().await, 601, "expired six days ago: kept");

    fixture.clock.advance(Duration::from_hours(2 * 24));
    let mut rounds = vec![601];
    while *rounds.last().unwrap() > 1 && rounds.len() < 1000 {
        state.change_counter().await.unwrap();
        rounds.push(stored().await);
    }
    assert!(rounds.len() > 2, "not all at once: {rounds:?}");
    assert_eq!(state.live_tokens(UnixMillis(0)).await.unwrap(), [live]);
}
