//! A renewal by another process, on a paused clock.

use std::{sync::Arc, time::Duration};

use kh_broker::{SessionError, TokenError, UserSessions};
use kh_core::{
    port::SessionStore,
    session::{RefreshJournal, RefreshPhase},
};
use tokio::time::Instant;

use super::{ALL, LIFE, paused::Bench, world::instance};

#[tokio::test(start_paused = true)]
async fn a_renewal_by_another_process_is_waited_for_as_long_as_it_may_take() {
    let bench = Bench::new();
    let (one, (_, two)) = (bench.start(1), bench.start(2));
    let token = bench.login(&one).await;
    two.lease(token).await.unwrap();
    tokio::time::sleep(LIFE).await;
    let platform = &bench.platform;
    platform.gate.forget_permits(ALL);
    let lease_of = |sessions: Arc<UserSessions>| {
        tokio::spawn(async move { sessions.lease(token).await.unwrap().token().expose().to_owned() })
    };
    let renewing = lease_of(one.1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(platform.waiting(), 1);
    let looking = lease_of(two);
    tokio::time::sleep(Duration::from_secs(12)).await;
    platform.gate.add_permits(ALL);
    assert_eq!((renewing.await.unwrap(), looking.await.unwrap()), ("access-2".to_owned(), "access-2".to_owned()));
    assert_eq!((platform.uses(), platform.most_at_once()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_ends_is_given_up() {
    let bench = Bench::new();
    let one = bench.start(1);
    let token = bench.login(&one).await;
    let record = bench.store.session(token).await.unwrap().unwrap();
    let journal = RefreshJournal { phase: RefreshPhase::Sent { by: instance(9) }, ..record.journal };
    bench.store.renew_session(token, record.version, journal, record.sealed.unwrap()).await.unwrap();
    tokio::time::sleep(LIFE).await;
    let start = Instant::now();
    let error = one.1.lease(token).await.unwrap_err();
    assert!(matches!(error, SessionError::Token(TokenError::GaveUp)), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 25, "the deadline of a renewal, and the tries of its record");
    assert_eq!(bench.platform.uses(), 0);
}
