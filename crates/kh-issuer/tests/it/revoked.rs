//! Sessions that end because everything of their client, or of everybody, was revoked up to a moment.

use std::{sync::Arc, time::Duration};

use kh_core::{
    UnixMillis,
    port::RevocationStore,
    revocation::{RevocationRecord, RevocationTarget},
};
use kh_issuer::Issuer;

use crate::support::{ISSUER, START, World, add, bytes, jwt_client, login};

fn record(target: RevocationTarget, before: UnixMillis) -> RevocationRecord {
    let (issuer, client, subject) = (None, None, None);
    let expires_at = before.plus(Duration::from_hours(24 * 400));
    RevocationRecord { target, before, revoked_at: before, expires_at, issuer, client, subject }
}

async fn revoke(world: &World, issuer: &Arc<Issuer>, target: RevocationTarget) {
    let before = UnixMillis(kh_core::Clock::now(&world.clock).wall.0);
    world.state().add_revocations(vec![record(target, before)], None).await.unwrap();
    issuer.refresh().await.unwrap();
}

#[tokio::test]
async fn a_revocation_of_many_ends_sessions_at_once_and_for_good_and_later_logins_work() {
    let name = || Some(ISSUER.to_owned());
    for (target, ends_other) in [
        (RevocationTarget::Client { issuer: None, client: String::new() }, false),
        (RevocationTarget::Client { issuer: name(), client: String::new() }, false),
        (RevocationTarget::Subject { issuer: None, subject: String::new() }, false),
        (RevocationTarget::Subject { issuer: name(), subject: String::new() }, false),
        (RevocationTarget::Everything { issuer: None }, true),
        (RevocationTarget::Everything { issuer: name() }, true),
    ] {
        let world = World::new();
        let issuer = world.authority().await;
        let (client, secret) = add(&issuer, "reports").await;
        let (other, other_secret) = add(&issuer, "billing").await;
        let ours = login(&issuer, &client, &secret).await;
        let theirs = login(&issuer, &other, &other_secret).await;
        let id = client.id.to_string();
        let target = match target {
            RevocationTarget::Client { issuer, .. } => RevocationTarget::Client { issuer, client: id },
            RevocationTarget::Subject { issuer, .. } => RevocationTarget::Subject { issuer, subject: id },
            all => all,
        };
        assert!(issuer.session(bytes(&ours)).is_some());
        revoke(&world, &issuer, target.clone()).await;
        for issuer in [&issuer, &world.authority().await] {
            assert!(issuer.session(bytes(&ours)).is_none(), "{target:?}");
            assert!(issuer.session_or_load(bytes(&ours)).await.unwrap().is_none(), "{target:?}, nor from the disk");
            assert_eq!(issuer.session(bytes(&theirs)).is_none(), ends_other, "{target:?}");
        }
        world.clock.advance(Duration::from_millis(1));
        let again = login(&issuer, &client, &secret).await;
        assert!(issuer.session(bytes(&again)).is_some(), "{target:?}: what is issued later is good");
    }
}

#[tokio::test]
async fn nobody_elses_issuer_and_no_order_to_ask_anew_end_a_session() {
    let world = World::new();
    let issuer = world.authority().await;
    let (client, secret) = add(&issuer, "reports").await;
    let login = login(&issuer, &client, &secret).await;
    let id = client.id.to_string();
    let stranger = || "https://login.example".to_owned();
    for target in [
        RevocationTarget::Client { issuer: Some(stranger()), client: id.clone() },
        RevocationTarget::Everything { issuer: Some(stranger()) },
        RevocationTarget::Answers { issuer: ISSUER.to_owned(), client: Some(id) },
        RevocationTarget::Answers { issuer: ISSUER.to_owned(), client: None },
    ] {
        revoke(&world, &issuer, target.clone()).await;
        assert!(issuer.session(bytes(&login)).is_some(), "{target:?}");
    }
}

/// A JWT names its time in whole seconds: one of the second in which all others were revoked would be one of them.
#[tokio::test]
async fn a_jwt_that_is_issued_right_after_all_others_were_revoked_is_good() {
    let world = World::new();
    let issuer = world.authority().await;
    let mut new = jwt_client("reports", &["events"]);
    new.tokens.audience = vec![ISSUER.to_owned()];
    let (client, secret) = issuer.add_client(new, "cli:test").await.unwrap();
    world.clock.advance(Duration::from_millis(900));
    for enabled in [false, true] {
        issuer.set_enabled("reports", enabled, "cli:test").await.unwrap();
    }
    let goes_on = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.clock.advance(Duration::from_secs(2));
    };
    let (jwt, ()) = tokio::join!(login(&issuer, &client, &secret), goes_on);
    assert!(issuer.presented(bytes(&jwt)).await.unwrap().is_some());
}

/// At keyholder's own endpoints a JWT that was made for somebody's API is nothing.
#[tokio::test]
async fn what_is_presented_to_keyholder_itself_is_meant_for_it() {
    let world = World::new();
    let issuer = world.authority().await;
    let (client, secret) = add(&issuer, "reports").await;
    let opaque = login(&issuer, &client, &secret).await;
    assert_eq!(issuer.presented(bytes(&opaque)).await.unwrap().unwrap().client, client.id);
    for (audience, taken) in [("https://api.example", false), (ISSUER, true)] {
        let mut new = jwt_client(&format!("jwt-{taken}"), &["events"]);
        new.tokens.audience = vec![audience.to_owned()];
        let (client, secret) = issuer.add_client(new, "cli:test").await.unwrap();
        let jwt = login(&issuer, &client, &secret).await;
        assert_eq!(issuer.presented(bytes(&jwt)).await.unwrap().is_some(), taken, "{audience}");
        issuer.revoke_own(&client.id, bytes(&jwt)).await.unwrap();
        assert!(issuer.presented(bytes(&jwt)).await.unwrap().is_none());
    }
    issuer.revoke(bytes(&opaque)).await.unwrap();
    assert!(issuer.presented(bytes(&opaque)).await.unwrap().is_none());
    assert!(issuer.presented(b"khs_nothing").await.unwrap().is_none());
    assert_eq!(START, kh_core::Clock::now(&world.clock).wall);
}
