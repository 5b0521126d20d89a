//! Users' sessions over a real state: crowds, lost answers, kills, two processes, ends of every kind.

mod looking;
mod paused;
mod refusals;
mod tending;
mod world;

use std::{sync::Arc, time::Duration};

use kh_broker::{SessionError, SessionPolicy};
use kh_core::{Code, Sha256, port::SessionStore, session::SessionEnd};
use tokio::task::JoinSet;

use self::world::{Alone, DUE, Fault, LIFE, Process, World, instance, until};

const ALL: usize = tokio::sync::Semaphore::MAX_PERMITS;

/// The access token that a caller is handed.
async fn access(process: &Process, token: Sha256) -> String {
    process.lease(token).await.unwrap().token().expose().to_owned()
}

fn ended(outcome: Result<Arc<kh_broker::Lease>, SessionError>) -> SessionEnd {
    match outcome {
        Err(SessionError::Ended(end)) => end,
        other => panic!("it has not ended: {:?}", other.map(|lease| lease.generation())),
    }
}

/// Callers of one session, all at once; what each was handed.
async fn crowd(process: &Process, token: Sha256) -> Vec<String> {
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let sessions = Arc::clone(&process.sessions);
        callers.spawn_on(
            async move { sessions.lease(token).await.unwrap().token().expose().to_owned() },
            &process.spawn(async { tokio::runtime::Handle::current() }).await.unwrap(),
        );
    }
    callers.join_all().await
}

#[tokio::test]
async fn in_the_threshold_a_crowd_goes_on_with_the_old_token_and_causes_one_renewal() {
    let world = World::new();
    let (process, token) = world.begun().await;
    world.clock.advance(DUE);
    world.platform.gate.forget_permits(ALL);
    assert_eq!(crowd(&process, token).await, vec!["access-1"; 64], "nobody waits for the renewal");
    until("the renewal is under way", || world.platform.waiting() == 1).await;
    assert_eq!(crowd(&process, token).await, vec!["access-1"; 64]);
    world.platform.gate.add_permits(ALL);
    until("the fresh token is handed out", || process.sessions.counts().renewed == 1).await;
    assert_eq!(crowd(&process, token).await, vec!["access-2"; 64]);
    assert_eq!((world.platform.uses(), world.platform.most_at_once()), (1, 1));
}

#[tokio::test]
async fn a_crowd_with_a_dead_token_waits_for_one_renewal() {
    let world = World::new();
    let (process, token) = world.begun().await;
    for round in 2..6 {
        world.clock.advance(LIFE);
        assert_eq!(crowd(&process, token).await, vec![format!("access-{round}"); 64]);
    }
    assert_eq!((world.platform.uses(), world.platform.most_uses_of_one()), (4, 1));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_all_who_report_it() {
    let world = World::new();
    let (process, token) = world.begun().await;
    let refused = process.lease(token).await.unwrap().sha256();
    let reports = [(); 5].map(|()| process.sessions.invalidate(token, refused));
    assert_eq!(reports, [true, false, false, false, false]);
    assert_eq!(crowd(&process, token).await, vec!["access-2"; 64]);
    assert!(!process.sessions.invalidate(token, refused), "an old report is nobody's token");
    assert_eq!(world.platform.uses(), 1);
    let fresh = process.lease(token).await.unwrap().sha256();
    process.sessions.doubt(token, fresh);
    assert!(process.sessions.is_doubted(token, fresh) && !process.sessions.is_doubted(token, refused));
    world.clock.advance(Duration::from_mins(1));
    assert!(!process.sessions.is_doubted(token, fresh));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_once_more_where_the_platform_repeats_it() {
    let world = World::at(true, 2);
    let (process, token) = world.begun().await;
    world.platform.next(Fault::LostAfter);
    world.clock.advance(DUE);
    assert_eq!(access(&process, token).await, "access-1");
    until("the answer is lost", || process.sessions.counts().lost == 1).await;
    world.clock.advance(Duration::from_secs(15));
    assert_eq!(access(&process, token).await, "access-3");
    assert_eq!((world.platform.uses(), world.platform.most_uses_of_one()), (2, 2));
    world.clock.advance(LIFE);
    assert_eq!(access(&process, token).await, "access-4", "the session goes on");
}

#[tokio::test]
async fn where_it_counts_as_reuse_the_session_ends_and_says_so_after_a_restart_too() {
    let world = World::new();
    let (process, token) = world.begun().await;
    world.platform.next(Fault::LostAfter);
    world.clock.advance(LIFE);
    assert_eq!(ended(process.lease(token).await), SessionEnd::RefreshLost);
    assert_eq!(world.platform.most_uses_of_one(), 2, "the one retry that is permitted");
    let counts = process.sessions.counts();
    assert_eq!((counts.lost, counts.refused, counts.renewed), (1, 1, 0));
    assert_eq!(process.sessions.ends().find(|(end, _)| *end == SessionEnd::RefreshLost).unwrap().1, 1);
    process.kill();
    let process = world.start();
    let error = process.lease(token).await.unwrap_err();
    assert_eq!(error.code(), Code::SESSION_ENDED);
    assert_eq!(ended(Err(error)), SessionEnd::RefreshLost);
    assert_eq!(world.actions(), ["client.add", "session.end"], "its end is audited, once");
    assert_eq!(world.platform.most_uses_of_one(), 2);
}

#[tokio::test]
async fn without_the_retry_a_lost_answer_costs_the_session_when_its_access_token_ends() {
    let mut world = World::new();
    world.policy = SessionPolicy { retry_lost: false, ..world.policy };
    let (process, token) = world.begun().await;
    world.platform.next(Fault::LostAfter);
    world.clock.advance(DUE);
    assert_eq!(access(&process, token).await, "access-1");
    until("the answer is lost", || process.sessions.counts().lost == 1).await;
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(access(&process, token).await, "access-1", "good until its end");
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(ended(process.lease(token).await), SessionEnd::RefreshLost);
    assert_eq!(world.platform.most_uses_of_one(), 1, "the refresh token was never used again");
}

#[tokio::test]
async fn what_was_not_carried_out_is_tried_again_and_never_counts_as_lost() {
    let world = World::new();
    let (process, token) = world.begun().await;
    for fault in [Fault::Limited(Some(Duration::from_millis(10))), Fault::NotSent] {
        world.platform.next(fault);
    }
    world.clock.advance(LIFE);
    assert_eq!(access(&process, token).await, "access-2");
    let counts = process.sessions.counts();
    assert_eq!((counts.failed, counts.lost, counts.renewed), (2, 0, 1));
    assert_eq!(world.platform.most_uses_of_one(), 1);
}

#[tokio::test]
async fn a_task_that_panics_counts_as_lost_and_strands_nobody() {
    let world = World::at(true, 2);
    let (process, token) = world.begun().await;
    world.platform.next(Fault::Panic);
    world.clock.advance(LIFE);
    assert_eq!(access(&process, token).await, "access-2");
    let record = process.state.session(token).await.unwrap().unwrap();
    assert_eq!(record.journal.lost, 0, "a token that came settles it");
}

#[tokio::test]
async fn a_platform_that_repeats_its_refresh_token_may_lose_any_number_of_answers() {
    let world = World::at(false, 0);
    let (process, token) = world.begun().await;
    world.clock.advance(LIFE);
    assert_eq!(access(&process, token).await, "access-2");
    for _ in 0..3 {
        world.platform.next(Fault::LostAfter);
        world.clock.advance(DUE);
        access(&process, token).await;
        until("the answer is lost", || world.platform.waiting() == 0).await;
        world.clock.advance(LIFE);
        access(&process, token).await;
    }
    let record = process.state.session(token).await.unwrap().unwrap();
    assert_eq!((record.end, record.journal.refresh), (None, kh_core::session::RefreshUse::Again));
    assert_eq!(process.sessions.counts().lost, 3);
}

#[tokio::test]
async fn a_login_that_is_revoked_at_the_platform_ends_the_session() {
    let world = World::new();
    let (process, token) = world.begun().await;
    world.platform.revoke();
    world.clock.advance(LIFE);
    assert_eq!(ended(process.lease(token).await), SessionEnd::RefreshRefused);
    assert_eq!(world.platform.most_uses_of_one(), 1, "a refusal is not repeated");
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_token_and_asks_the_platform_nothing() {
    let world = World::new();
    let (process, token) = world.begun().await;
    process.kill();
    let process = world.start();
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(access(&process, token).await, "access-1");
    assert_eq!(process.sessions.in_memory(), 1);
    world.clock.advance(LIFE);
    assert_eq!(access(&process, token).await, "access-2");
    let unknown = process.lease(Sha256::of(b"nobody")).await.unwrap_err();
    assert!(matches!(unknown, SessionError::Unknown) && unknown.code() == Code::SESSION_ENDED);
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_while_it_is_down_lengthens_no_life() {
    let world = World::new();
    world.clock.jump(Duration::from_hours(1));
    let (process, token) = world.begun().await;
    process.kill();
    let behind = World { clock: Arc::default(), ..world };
    let process = behind.start();
    assert_eq!(access(&process, token).await, "access-1");
    behind.clock.advance(LIFE);
    assert_eq!(access(&process, token).await, "access-2");
}

/// Killed while the platform acts: the record says that it may have been sent, and by whom.
#[tokio::test]
async fn a_kill_between_sending_and_recording_costs_one_retry_and_no_more() {
    for (takes, expected) in [(2, None), (1, Some(SessionEnd::RefreshLost))] {
        let world = World::at(true, takes);
        let (process, token) = world.begun().await;
        world.clock.advance(DUE);
        world.platform.gate.forget_permits(ALL);
        access(&process, token).await;
        until("it is sent", || world.platform.waiting() == 1).await;
        // the platform carries it out, and nobody is there to hear of it
        process.kill();
        let used = world.platform.use_newest();
        assert_eq!(used, 1);
        world.platform.gate.add_permits(ALL);
        let process = world.start();
        world.clock.advance(LIFE);
        match (process.lease(token).await, expected) {
            (Ok(_), None) => {}
            (outcome, Some(end)) => assert_eq!(ended(outcome), end),
            (Err(error), None) => panic!("{error}"),
        }
        assert_eq!(world.platform.most_uses_of_one(), 2, "once before the kill and once after it");
    }
}

#[tokio::test]
async fn two_processes_never_renew_at_once_and_both_go_on_with_the_newest_token() {
    let world = World::new();
    let (one, token) = world.begun().await;
    let two = world.start();
    assert_eq!(access(&two, token).await, "access-1");
    for round in 2..5 {
        world.clock.advance(LIFE);
        world.platform.gate.forget_permits(ALL);
        let crowds = (crowd(&one, token), crowd(&two, token));
        let opened = async {
            until("it is sent", || world.platform.waiting() > 0).await;
            tokio::time::sleep(Duration::from_millis(250)).await;
            world.platform.gate.add_permits(ALL);
        };
        let (of_one, of_two, ()) = tokio::join!(crowds.0, crowds.1, opened);
        assert_eq!((of_one, of_two), (vec![format!("access-{round}"); 64], vec![format!("access-{round}"); 64]));
    }
    assert_eq!(
        (world.platform.uses(), world.platform.most_uses_of_one(), world.platform.most_at_once()),
        (3, 1, 1),
        "one renewal a round"
    );
}

/// The control of the test above: with a belief that others are gone, the same two processes break the session.
#[tokio::test]
async fn who_takes_a_process_for_gone_that_is_there_is_caught() {
    let world = World::new();
    let one = world.start_as(|| Arc::new(Alone(instance(1))));
    let client = world.client(&one, "app").await;
    let token = world.login(&one, &client.id).await.unwrap();
    let two = world.start_as(|| Arc::new(Alone(instance(2))));
    assert_eq!(access(&two, token).await, "access-1");
    world.clock.advance(LIFE);
    world.platform.gate.forget_permits(ALL);
    let sessions = [Arc::clone(&one.sessions), Arc::clone(&two.sessions)];
    let callers = sessions.map(|sessions| one.spawn(async move { sessions.lease(token).await.is_ok() }));
    until("both have sent it", || world.platform.waiting() == 2).await;
    world.platform.gate.add_permits(ALL);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(world.platform.most_uses_of_one() > 1 && world.platform.most_at_once() == 2);
}

#[tokio::test]
async fn a_session_without_a_refresh_token_lasts_as_long_as_its_access_token() {
    let world = World::at(false, 0);
    let (process, token) = world.begun().await;
    let record = process.state.session(token).await.unwrap().unwrap();
    let journal = kh_core::session::RefreshJournal::begin(false);
    process.state.renew_session(token, record.version, journal, record.sealed.unwrap()).await.unwrap();
    process.kill();
    let process = world.start();
    world.clock.advance(DUE);
    assert_eq!(access(&process, token).await, "access-1");
    world.clock.advance(LIFE);
    assert_eq!(ended(process.lease(token).await), SessionEnd::NotRenewable);
    assert_eq!(world.platform.uses(), 0);
}

#[tokio::test]
async fn limits_refuse_a_login_and_give_its_token_back() {
    let mut world = World::new();
    world.policy = SessionPolicy { per_client: 1, ..world.policy };
    let (process, _) = world.begun().await;
    let refused = world.login(&process, &"app".parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::OVERLOADED);
    assert_eq!(world.platform.given_back(), ["access-2"]);
    let other = world.client(&process, "other").await;
    world.login(&process, &other.id).await.unwrap();
}

#[tokio::test]
async fn a_credential_for_sessions_has_no_token_that_all_share() {
    let world = World::new();
    let (process, _) = world.begun().await;
    let error = process.shared_lease().await.unwrap_err();
    assert!(matches!(error, kh_broker::TokenError::PerSession), "{error:?}");
    assert_eq!(error.code(), Code::CREDENTIAL_UNUSABLE);
}
