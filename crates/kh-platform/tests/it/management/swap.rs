//! The strategy `swap`: one secret made anew in place, sent once; and probes of tokens.

use std::sync::atomic::Ordering;

use kh_core::port::{
    ManageError, SecretManagement,
    secret_management::Rotator::{First, Second},
};
use kh_sandbox::SandboxConfig;

use super::rig::{FIRST, Rig, SECOND, TARGET, word};

#[tokio::test]
async fn a_secret_is_made_anew_once_and_the_old_one_is_dead() {
    for survive in [true, false] {
        let mut config = SandboxConfig::default();
        config.behaviours.tokens_survive_regeneration = survive;
        let rig = Rig::start(config).await;
        let (genesys, current) = (rig.genesys(), rig.document(TARGET));
        let token = rig.login(&current).await.unwrap();
        assert!(genesys.probe(&token).await.unwrap());
        let next = genesys.regenerate(&current, First).await.unwrap();
        assert_eq!(next.client_id, current.client_id);
        assert!(rig.login(&current).await.is_none(), "the old secret is dead");
        assert!(rig.login(&next).await.is_some(), "the new one logs in");
        assert_eq!(genesys.probe(&token).await.unwrap(), survive, "what became of the old token is seen by a probe");
        let path = format!("POST /api/v2/oauth/clients/{}/secret", current.client_id.as_ref().unwrap());
        assert_eq!(rig.changes(), [path]);
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn the_second_rotator_makes_another_when_the_first_answer_is_lost() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    rig.fault("POST", "/api/v2/oauth/clients/*/secret", serde_json::json!({"kind": "drop_after"})).await;
    assert_eq!(word(&genesys.regenerate(&current, First).await), "unknown");
    assert!(rig.login(&current).await.is_none(), "it was applied: the old secret is dead and the new one lost");
    let next = genesys.regenerate(&current, Second).await.unwrap();
    assert!(rig.login(&next).await.is_some());
    assert_eq!(rig.changes().len(), 2, "one request for each call, and no more");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_rotators_dead_token_is_reported_and_changes_nothing() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    rig.revoke(&rig.sandbox.clients[FIRST].id).await;
    assert_eq!(word(&genesys.regenerate(&current, First).await), "not done");
    assert_eq!(rig.tokens.refused.load(Ordering::SeqCst), 1);
    assert!(rig.login(&current).await.is_some());
    assert!(genesys.regenerate(&current, Second).await.is_ok(), "the other one still may");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_probe_tells_a_dead_token_from_a_refused_address() {
    let mut config = SandboxConfig::default();
    config.behaviours.enforce_allowed_ips = true;
    let mut config = super::rig::organisation(config);
    config.genesys.clients[TARGET].allowed_ips = vec!["127.0.0.0/8".to_owned()];
    let rig = Rig::with_rotators(config, Some(0), None).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let token = rig.login(&current).await.unwrap();
    assert!(genesys.probe(&token).await.unwrap());
    let id = current.client_id.clone().unwrap();
    rig.allow_only(&id, "192.0.2.0/24").await;
    let refused = genesys.probe(&token).await;
    assert_eq!(word(&refused), "denied ip.not.authorized", "the token is not dead");
    rig.revoke(&id).await;
    assert!(!genesys.probe(&token).await.unwrap(), "now it is");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_refused_address_leaves_the_rotators_token_alone() {
    let mut config = SandboxConfig::default();
    config.behaviours.enforce_allowed_ips = true;
    let rig = Rig::start(config).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let second = rig.sandbox.clients[SECOND].id.clone();
    rig.allow_only(&second, "192.0.2.0/24").await;
    for _ in 0..2 {
        assert_eq!(word(&genesys.list(&current, Second).await), "denied ip.not.authorized");
        assert_eq!(word(&genesys.regenerate(&current, Second).await), "denied ip.not.authorized");
    }
    assert_eq!(rig.tokens.refused.load(Ordering::SeqCst), 0, "it is as good as before");
    rig.revoke(&second).await;
    assert_eq!(word(&genesys.list(&current, Second).await), "not done");
    assert_eq!(rig.tokens.refused.load(Ordering::SeqCst), 1, "now it is dead");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_probe_does_not_keep_a_token_from_idling() {
    let mut config = SandboxConfig::default();
    config.genesys.idle_timeout_seconds = Some(300);
    let rig = Rig::start(config).await;
    rig.freeze().await;
    let (genesys, token) = (rig.genesys(), rig.login(&rig.document(TARGET)).await.unwrap());
    rig.pass(299).await;
    assert!(genesys.probe(&token).await.unwrap());
    rig.pass(1).await;
    assert!(!genesys.probe(&token).await.unwrap(), "the look a second ago did not count as a use");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn limits_are_told_with_their_wait() {
    let mut config = SandboxConfig::default();
    config.limits.requests_per_token = 2;
    let rig = Rig::start(config).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let id = genesys.id_of(&current).unwrap();
    // the platform lets two through, and keyholder leaves some of what it lets through to others
    let mut asked = 0;
    while genesys.rights(&id, First).await.is_ok() {
        asked += 1;
        assert!(asked <= 2, "the limit is not kept");
    }
    assert!(asked > 0);
    let limited = genesys.regenerate(&current, First).await;
    assert!(matches!(&limited, Err(ManageError::Throttled { retry_after: Some(wait) }) if wait.as_secs() >= 1));
    assert!(rig.login(&current).await.is_some(), "nothing happened");

    let oauth = r#"{"error":"invalid_request","description":"rate limit exceeded; at most 60"}"#;
    let effect = serde_json::json!({"kind": "status", "status": 400, "body": oauth});
    rig.fault("POST", "/api/v2/oauth/clients/*/secret", effect).await;
    assert_eq!(word(&genesys.regenerate(&current, Second).await), "throttled");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_limit_stops_the_next_request_whatever_its_status_and_for_an_hour_at_most() {
    let body = r#"{"code":"bad.request","message":"rate limit exceeded"}"#;
    for (effect, wait) in [
        (serde_json::json!({"kind": "status", "status": 400, "body": body}), 3),
        (serde_json::json!({"kind": "status", "status": 400, "body": body, "retry_after": "60"}), 60),
        (serde_json::json!({"kind": "status", "status": 429, "retry_after": "60"}), 60),
        (serde_json::json!({"kind": "status", "status": 429, "retry_after": "604800"}), 3600),
    ] {
        let rig = Rig::start(SandboxConfig::default()).await;
        let genesys = rig.genesys();
        let id = genesys.id_of(&rig.document(TARGET)).unwrap();
        rig.fault("GET", "/api/v2/oauth/clients/*", effect.clone()).await;
        let first = genesys.rights(&id, First).await;
        let Err(ManageError::Throttled { retry_after }) = &first else { panic!("{effect}: {first:?}") };
        assert!(retry_after.is_none_or(|told| told.as_secs() == wait), "{effect}: {retry_after:?}");
        let next = genesys.rights(&id, First).await;
        let Err(ManageError::Throttled { retry_after: Some(told) }) = &next else { panic!("{effect}: {next:?}") };
        assert_eq!(told.as_secs(), wait, "{effect}");
        let sent = rig.sandbox.requests().iter().filter(|entry| entry.path.contains("/oauth/clients/")).count();
        assert_eq!(sent, 1, "{effect}: the next one was not sent");
        assert!(genesys.rights(&id, Second).await.is_ok(), "{effect}: the limit is one identity's");
        rig.clock.advance(*told);
        assert!(genesys.rights(&id, First).await.is_ok(), "{effect}");
        rig.sandbox.shutdown().await;
    }
}
