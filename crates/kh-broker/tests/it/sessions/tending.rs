//! Ends that come from outside: tokens given back, time over, clients disabled; and what the clock may not do.

use std::{sync::Arc, time::Duration};

use kh_broker::SessionError;
use kh_core::{
    Clock, Sha256,
    port::{ClientRecord, SessionStore, StateStore},
    session::SessionEnd,
};
use tokio_util::sync::CancellationToken;

use super::{
    DUE, LIFE, access,
    world::{Process, World, until},
};

/// Tends the sessions from now on.
fn tended(process: &Process) -> CancellationToken {
    let cancel = CancellationToken::new();
    drop(process.spawn(Arc::clone(&process.sessions).run(cancel.clone())));
    cancel
}

async fn closed(process: &Process, token: Sha256) -> Option<SessionEnd> {
    for _ in 0..4000 {
        let record = process.state.session(token).await.unwrap().unwrap();
        if record.sealed.is_none() {
            return record.end;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it was never closed");
}

#[tokio::test]
async fn a_token_that_is_taken_away_ends_its_session_at_the_platform_too() {
    let world = World::new();
    let (process, token) = world.begun().await;
    let _tended = tended(&process);
    process.state.remove_token(token).await.unwrap();
    assert_eq!(closed(&process, token).await, Some(SessionEnd::TokenRevoked));
    assert_eq!(world.platform.given_back(), ["access-1"]);
    until("it leaves the memory", || process.sessions.in_memory() == 0).await;
    let ended = process.sessions.ends().find(|(end, _)| *end == SessionEnd::TokenRevoked).unwrap().1;
    assert_eq!(ended, 1);
}

#[tokio::test]
async fn what_an_operator_ends_is_out_of_memory_when_it_is_answered() {
    let world = World::new();
    let (process, token) = world.begun().await;
    assert_eq!(access(&process, token).await, "access-1");
    let order = || world.event("session.end");
    assert!(process.sessions.end_by_operator(token, order()).await.unwrap());
    assert!(process.sessions.current_at(token, world.clock.now()).is_none(), "at once, before anybody tends");
    let error = process.lease(token).await.unwrap_err();
    assert!(matches!(error, SessionError::Ended(SessionEnd::Operator)), "{error:?}");
    assert!(!process.sessions.end_by_operator(token, order()).await.unwrap(), "it ends once");
    let _tended = tended(&process);
    assert_eq!(closed(&process, token).await, Some(SessionEnd::Operator));
    assert_eq!(world.platform.given_back(), ["access-1"]);
    let ended = process.sessions.ends().find(|(end, _)| *end == SessionEnd::Operator).unwrap().1;
    assert_eq!((ended, world.actions().iter().filter(|action| *action == "session.end").count()), (1, 1));
}

#[tokio::test]
async fn a_disabled_client_loses_its_sessions_and_others_keep_theirs() {
    let world = World::new();
    let (process, token) = world.begun().await;
    let other = world.client(&process, "other").await;
    let others = world.login(&process, &other.id).await.unwrap();
    let _tended = tended(&process);
    let app = process.state.clients().await.unwrap().into_iter().find(|client| client.name.as_str() == "app").unwrap();
    let disabled = ClientRecord { enabled: false, ..app.clone() };
    process.state.update_client(app, disabled, world.event("client.disable")).await.unwrap();
    assert_eq!(closed(&process, token).await, Some(SessionEnd::ClientDisabled));
    assert_eq!(world.platform.given_back(), ["access-1"]);
    assert_eq!(access(&process, others).await, "access-2");
}

#[tokio::test]
async fn a_token_that_comes_for_a_session_which_ended_meanwhile_is_given_back() {
    let world = World::new();
    let (process, token) = world.begun().await;
    world.clock.advance(DUE);
    world.platform.gate.forget_permits(super::ALL);
    access(&process, token).await;
    until("it is sent", || world.platform.waiting() == 1).await;
    process.state.remove_token(token).await.unwrap();
    world.platform.gate.add_permits(super::ALL);
    until("the new token is given back", || world.platform.given_back() == ["access-2"]).await;
    assert!(process.lease(token).await.is_err());
}

#[tokio::test]
async fn time_over_and_idle_sessions_end() {
    let mut world = World::new();
    world.policy.life = Duration::from_hours(3);
    world.policy.idle_life = Duration::from_hours(2);
    let (process, used) = world.begun().await;
    let idle = world.login(&process, &"app".parse().unwrap()).await.unwrap();
    let _tended = tended(&process);
    world.clock.advance(Duration::from_mins(90));
    access(&process, used).await;
    process.lease(used).await.unwrap().note_used(world.clock.now());
    until_stored(&process, used, world.clock.now().wall.minus(Duration::from_mins(2))).await;
    world.clock.advance(Duration::from_mins(40));
    assert_eq!(closed(&process, idle).await, Some(SessionEnd::Idle));
    assert!(process.state.session(used).await.unwrap().unwrap().end.is_none(), "it was used");
    world.clock.advance(Duration::from_hours(1));
    assert_eq!(closed(&process, used).await, Some(SessionEnd::Expired));
    world.clock.advance(Duration::from_hours(2));
    for _ in 0..4000 {
        if process.state.session(idle).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("an old session is forgotten");
}

async fn until_stored(process: &Process, token: Sha256, at: kh_core::UnixMillis) {
    for _ in 0..4000 {
        if process.state.session(token).await.unwrap().unwrap().used_at >= at {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the time of use was never stored");
}

#[tokio::test]
async fn a_wall_clock_that_jumps_ahead_ends_nobodys_session_at_once() {
    let world = World::new();
    let (process, token) = world.begun().await;
    let cancel = tended(&process);
    // the first look sets the mark
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.clock.jump(Duration::from_hours(24 * 365));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(process.state.session(token).await.unwrap().unwrap().end.is_none(), "a look has passed");
    assert_eq!(access(&process, token).await, "access-2", "its token is renewed, which harms nobody");
    world.clock.advance(Duration::from_mins(10) + LIFE);
    until("the clock is right, and the session over", || process.sessions.in_memory() == 0).await;
    assert!(process.lease(token).await.is_err());
    cancel.cancel();
}
