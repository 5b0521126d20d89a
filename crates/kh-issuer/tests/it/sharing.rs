//! Two issuers over two handles of one state, as two processes are.

use std::time::Duration;

use futures_util::future::join_all;
use kh_core::{
    SystemEntropy, issued,
    port::{StateError, TokenBinding},
};
use kh_issuer::{LoginError, SecretOverlap};
use tokio_util::sync::CancellationToken;

use crate::support::{ISSUER, World, add, bytes, jwt_client, login};

#[tokio::test]
async fn what_another_process_adds_works_at_once() {
    let world = World::new();
    let (here, there) = (world.issuer().await, world.issuer().await);
    let (client, secret) = add(&there, "reports").await;
    login(&here, &client, &secret).await;
    let theirs = login(&there, &client, &secret).await;
    assert!(here.session(bytes(&theirs)).is_none(), "memory alone does not know it");
    let found = join_all((0..100).map(|_| here.session_or_load(bytes(&theirs)))).await;
    assert!(found.into_iter().all(|session| session.unwrap().is_some()));
    assert!(here.session(bytes(&theirs)).is_some());
    let (_, newer) = there.rotate_secret("reports", SecretOverlap::None, "cli:test").await.unwrap();
    login(&here, &client, &newer).await;
    assert!(matches!(here.login(client.id.as_str(), &secret).await, Err(LoginError::Rejected)));
}

#[tokio::test]
async fn what_another_process_takes_away_is_gone_with_the_next_refresh_and_no_login_slips_in_before() {
    let world = World::new();
    let (here, there) = (world.issuer().await, world.issuer().await);
    let (client, secret) = add(&there, "reports").await;
    let (one, two) = (login(&here, &client, &secret).await, login(&here, &client, &secret).await);
    assert!(there.revoke(bytes(&one)).await.unwrap());
    assert!(here.refresh().await.unwrap());
    assert!(here.session(bytes(&one)).is_none());
    assert!(here.session(bytes(&two)).is_some());
    assert!(!here.refresh().await.unwrap(), "nothing more to load");

    there.set_enabled("reports", false, "cli:test").await.unwrap();
    let refused = here.login(client.id.as_str(), &secret).await;
    assert!(matches!(refused, Err(LoginError::Disabled(_))), "the state itself decides: {refused:?}");
    assert!(here.session(bytes(&two)).is_none());
    there.remove_client("reports", "cli:test").await.unwrap();
    assert!(matches!(here.login(client.id.as_str(), &secret).await, Err(LoginError::Rejected)));
    assert_eq!((here.clients().len(), here.live_sessions()), (0, 0));
}

/// JWTs are made from memory. One that another process issues after the change, in a later second than that of the
/// revocation, has an `iat` that a revocation up to the change does not reach.
#[tokio::test]
async fn a_jwt_that_another_process_issues_by_what_it_read_before_ends_as_well() {
    for change in ["disable", "bind"] {
        let world = World::new();
        let (here, there) = (world.authority().await, world.authority().await);
        let mut new = jwt_client("reports", &["events"]);
        new.tokens.audience = vec![ISSUER.to_owned()];
        let (client, secret) = there.add_client(new, "cli:test").await.unwrap();
        login(&here, &client, &secret).await;
        world.clock.advance(Duration::from_millis(900));
        match change {
            "disable" => drop(there.set_enabled("reports", false, "cli:test").await.unwrap()),
            _ => drop(there.set_token_binding("reports", TokenBinding::Dpop, "cli:test").await.unwrap()),
        }
        world.clock.advance(Duration::from_millis(200));
        let late = login(&here, &client, &secret).await;
        // what is left is the revocation alone: whether its client may do anything is another question
        match change {
            "disable" => drop(there.set_enabled("reports", true, "cli:test").await.unwrap()),
            _ => drop(there.set_token_binding("reports", TokenBinding::None, "cli:test").await.unwrap()),
        }
        here.refresh().await.unwrap();
        for issuer in [&here, &there] {
            assert!(issuer.presented(bytes(&late)).await.unwrap().is_none(), "{change}");
        }
        if change == "disable" {
            world.clock.advance(Duration::from_secs(2));
            let again = login(&there, &client, &secret).await;
            assert!(there.presented(bytes(&again)).await.unwrap().is_some(), "what is issued later is good");
        }
    }
}

#[tokio::test]
async fn two_people_who_change_one_client_at_once_do_not_undo_each_other() {
    let world = World::new();
    let (here, there) = (world.issuer().await, world.issuer().await);
    let (client, _) = add(&here, "reports").await;
    there.refresh().await.unwrap();
    there.set_enabled("reports", false, "cli:there").await.unwrap();
    let (_, secret) = here.rotate_secret("reports", SecretOverlap::None, "cli:here").await.unwrap();
    let refused = here.login(client.id.as_str(), &secret).await;
    assert!(matches!(refused, Err(LoginError::Disabled(_))), "rotating must not enable: {refused:?}");
    let actions: Vec<_> = world.audit.0.lock().iter().map(|event| event.action.clone()).collect();
    assert_eq!(actions, ["client.add", "client.disable", "client.rotate_secret"]);
}

#[tokio::test]
async fn unknown_tokens_cost_a_bounded_number_of_questions_and_are_never_refused_for_the_rate() {
    let world = World::new();
    let (here, there) = (world.issuer().await, world.issuer().await);
    let (client, secret) = add(&there, "reports").await;
    let invented = issued::issue(issued::IssuedKind::Token, &SystemEntropy);
    for _ in 0..2000 {
        // asked once, remembered afterwards
        assert!(here.session_or_load(invented.expose().as_bytes()).await.unwrap().is_none());
    }
    let mut busy = 0;
    for _ in 0..1000 {
        let invented = issued::issue(issued::IssuedKind::Token, &SystemEntropy);
        match here.session_or_load(invented.expose().as_bytes()).await {
            Ok(session) => assert!(session.is_none()),
            Err(StateError::Unavailable { .. }) => busy += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(busy, 501, "499 of the budget of 500 were left");
    let theirs = login(&there, &client, &secret).await;
    here.session_or_load(bytes(&theirs)).await.expect_err("nobody knows: not a no");
    world.clock.advance(Duration::from_secs(1));
    assert!(here.session_or_load(bytes(&theirs)).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_background_task_follows_other_processes_and_ends_when_told() {
    let world = World::new();
    let (here, there) = (world.issuer().await, world.issuer().await);
    let (client, secret) = add(&here, "reports").await;
    let token = login(&here, &client, &secret).await;
    let cancel = CancellationToken::new();
    let task = tokio::spawn(std::sync::Arc::clone(&here).run(cancel.clone()));
    there.refresh().await.unwrap();
    there.revoke(bytes(&token)).await.unwrap();
    let gone = async {
        while here.session(bytes(&token)).is_some() {
            // paused time: moves on whenever nothing else is to be done
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    gone.await;
    cancel.cancel();
    task.await.unwrap();
}
