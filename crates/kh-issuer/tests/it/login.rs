//! Logging in: what is answered to whom, and at what cost.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use kh_core::{SecretString, issued};
use kh_issuer::{LoginError, SecretOverlap};

use crate::support::{World, add, bytes, login};

#[tokio::test]
async fn a_login_answers_a_well_formed_token_that_opens_a_session() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, secret) = add(&issuer, "reports").await;
    let login = login(&issuer, &client, &secret).await;
    assert!(issued::is_well_formed(issued::IssuedKind::Token, login.access_token.expose()));
    assert_eq!(login.expires_in, Duration::from_hours(24));
    let session = issuer.session(bytes(&login)).unwrap();
    assert_eq!(session.client.record.name.as_str(), "reports");
    assert_eq!(session.expires_at.since(session.issued_at), Duration::from_hours(24));
    assert!(!session.client.allow.is_empty());
    assert!(!format!("{login:?} {session:?} {issuer:?}").contains(login.access_token.expose()));
}

#[tokio::test]
async fn unknown_client_and_wrong_secret_get_the_same_answer_and_a_disable_is_told_to_its_owner_only() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, secret) = add(&issuer, "reports").await;
    let (_, others) = add(&issuer, "other").await;
    issuer.set_enabled("reports", false, "cli:test").await.unwrap();
    let id = client.id.as_str();
    let wrong = SecretString::copied("khs_wrong");
    let empty = SecretString::copied("");
    let zeros = SecretString::new("\0".repeat(32));
    let mut answers = Vec::new();
    for (id, secret) in [
        (id, &wrong),
        (id, &others),
        (id, &empty),
        (id, &zeros),
        ("nobody", &secret),
        ("", &secret),
        ("\u{e4} b\n", &wrong),
    ] {
        let error = issuer.login(id, secret).await.unwrap_err();
        assert!(matches!(error, LoginError::Rejected), "{id:?}");
        answers.push((error.to_string(), format!("{error:?}"), error.code(), error.oauth_error()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(matches!(issuer.login(id, &secret).await, Err(LoginError::Disabled(name)) if name == client.name));
    issuer.set_enabled(id, true, "cli:test").await.unwrap();
    login(&issuer, &client, &secret).await;
}

#[tokio::test]
async fn a_thousand_logins_share_few_commits_and_are_all_durable() {
    let world = World::new();
    let state = world.state();
    let issuer = world.issuer_over(Arc::clone(&state)).await;
    let (client, secret) = add(&issuer, "reports").await;
    let before = state.commits();
    let logins = join_all((0..1000).map(|_| login(&issuer, &client, &secret))).await;
    let commits = state.commits() - before;
    assert!(commits <= 50, "{commits} commits for 1,000 logins");
    drop((issuer, state));
    let issuer = world.issuer().await;
    assert_eq!(issuer.live_sessions(), 1000);
    assert!(logins.iter().all(|login| issuer.session(bytes(login)).is_some()));
}

#[tokio::test]
async fn a_rotated_secret_replaces_the_old_one_at_once_or_after_the_overlap() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, first) = add(&issuer, "reports").await;
    let id = client.id.as_str();
    let kept = login(&issuer, &client, &first).await;
    let (_, second) = issuer.rotate_secret(id, SecretOverlap::None, "cli:test").await.unwrap();
    assert!(matches!(issuer.login(id, &first).await, Err(LoginError::Rejected)));
    login(&issuer, &client, &second).await;

    let overlap = SecretOverlap::For(Duration::from_mins(10));
    let (record, third) = issuer.rotate_secret(id, overlap, "cli:test").await.unwrap();
    assert_eq!(record.secret_digests.len(), 2);
    login(&issuer, &client, &second).await;
    login(&issuer, &client, &third).await;
    world.clock.advance(Duration::from_mins(10));
    assert!(matches!(issuer.login(id, &second).await, Err(LoginError::Rejected)));
    login(&issuer, &client, &third).await;

    let (record, fourth) = issuer.rotate_secret(id, overlap, "cli:test").await.unwrap();
    assert_eq!(record.secret_digests.len(), 2, "never more than two");
    assert!(matches!(issuer.login(id, &second).await, Err(LoginError::Rejected)), "an ended overlap is not revived");
    login(&issuer, &client, &fourth).await;
    assert!(issuer.session(bytes(&kept)).is_some(), "tokens outlive the secret that fetched them");
    let too_long = SecretOverlap::For(SecretOverlap::MAX + Duration::from_secs(1));
    issuer.rotate_secret(id, too_long, "cli:test").await.unwrap_err();
}

#[tokio::test]
async fn at_the_limit_the_longest_idle_token_makes_room_and_used_ones_stay() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, secret) = add(&issuer, "reports").await;
    let (neighbour, neighbours) = add(&issuer, "neighbour").await;
    let other = login(&issuer, &neighbour, &neighbours).await;
    let logins = join_all((0..kh_issuer::CLIENT_TOKENS_MAX).map(|_| login(&issuer, &client, &secret))).await;
    let full = issuer.login(client.id.as_str(), &secret).await;
    assert!(matches!(full, Err(LoginError::TooManyTokens { .. })), "all were used lately: {full:?}");

    world.clock.advance(kh_issuer::EVICT_IDLE);
    let idle = 4321;
    assert!(logins.iter().all(|login| issuer.session(bytes(login)).is_some()));
    let full = issuer.login(client.id.as_str(), &secret).await;
    assert!(matches!(full, Err(LoginError::TooManyTokens { .. })), "all were used a moment ago");

    world.clock.advance(kh_issuer::EVICT_IDLE);
    for (number, login) in logins.iter().enumerate() {
        if number != idle {
            issuer.session(bytes(login)).unwrap();
        }
    }
    let newest = login(&issuer, &client, &secret).await;
    assert!(issuer.session(bytes(&newest)).is_some());
    assert!(issuer.session(bytes(&logins[idle])).is_none(), "the idle one made room");
    assert!(issuer.session_or_load(bytes(&logins[idle])).await.unwrap().is_none(), "for good");
    let kept = logins.iter().filter(|login| issuer.session(bytes(login)).is_some()).count();
    assert_eq!(kept, logins.len() - 1);
    assert!(issuer.session(bytes(&other)).is_some(), "one client's flood does not touch another");
}

/// The bounds themselves are tried in the unit tests, under a clock of their own.
#[tokio::test]
async fn wrong_logins_have_to_wait_and_a_right_one_ends_that() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, _) = add(&issuer, "reports").await;
    let id = client.id.as_str();
    let address = Some("192.0.2.1".parse().unwrap());
    let mut waits = None;
    while waits.is_none() {
        issuer.admit_login(id, address).unwrap();
        waits = issuer.login_ended(id, address, true);
    }
    let refused = issuer.admit_login(id, address).unwrap_err();
    assert_eq!((refused.code().0, refused.oauth_error()), ("keyholder.login.throttled", "temporarily_unavailable"));
    assert!(matches!(refused.retry(), kh_core::Retry::After(left) if left == waits.unwrap().left));
    issuer.admit_login(id, Some("192.0.2.2".parse().unwrap())).unwrap();
    world.clock.advance(waits.unwrap().left);
    issuer.admit_login(id, address).unwrap();
    assert_eq!(issuer.login_ended(id, address, false), None);
    issuer.admit_login(id, address).unwrap();
}
