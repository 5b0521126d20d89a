//! CXone access keys: overlap with a stop that can be taken back.

use std::sync::{Arc, atomic::AtomicUsize};

use kh_core::{
    SecretString, UnixMillis,
    credential::CredentialDocument,
    port::{ManageError, RotatorTokens, SecretManagement, Strategy, secret_management::Rotator::First},
    rotation::ManagedId,
};
use kh_platform::management::CxoneManagement;
use kh_sandbox::SandboxConfig;
use serde_json::json;

use super::rig::{Rig, Tokens, word};

const KEYS: &str = "/access-key-management/v1/access-keys";

fn key(rig: &Rig) -> CredentialDocument {
    let key = &rig.sandbox.access_keys[0];
    CredentialDocument {
        client_id: Some("application".to_owned()),
        client_secret: Some(SecretString::copied("application secret")),
        access_key_id: Some(key.id.clone()),
        access_key_secret: Some(SecretString::copied(key.secret.expose())),
        ..CredentialDocument::default()
    }
}

async fn tenant(config: SandboxConfig) -> (Rig, CredentialDocument) {
    let mut rig = Rig::with_rotators(config, None, None).await;
    let current = key(&rig);
    let first = rig.key_login(&current).await;
    let auth_base = Some(rig.sandbox.cxone_url.clone());
    rig.tokens = Arc::new(Tokens { first, second: None, auth_base, refused: AtomicUsize::new(0) });
    (rig, current)
}

#[tokio::test]
async fn a_second_key_a_stop_and_an_end() {
    let mut config = SandboxConfig::default();
    config.cxone.behaviours.key_deactivation_kills_tokens = false;
    let (rig, current) = tenant(config).await;
    let cxone = rig.cxone();
    let look = cxone.check(&current, Strategy::Overlap, First).await.unwrap();
    assert!(look.obstacles.is_empty(), "{look:?}");
    assert!(!cxone.check(&current, Strategy::Swap, First).await.unwrap().obstacles.is_empty());
    let made = cxone.create(&current, "run-1", First).await.unwrap();
    assert_eq!(made.document.access_key_id.as_deref(), Some(made.id.0.as_str()));
    assert_eq!(made.document.client_secret, current.client_secret, "the application's own secret stays");
    let token = rig.key_login(&made.document).await.expect("the new key logs in");
    assert!(rig.key_login(&current).await.is_some());
    assert!(cxone.probe(&token).await.unwrap());
    assert!(!cxone.probe(&SecretString::copied("no.such.token")).await.unwrap());
    let old = cxone.id_of(&current).unwrap();
    assert_eq!(cxone.rights(&old, First).await.unwrap(), cxone.rights(&made.id, First).await.unwrap());
    let listed = cxone.list(&made.document, First).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(cxone.inventory(First).await.unwrap().len(), 2);

    for active in [false, true, false, false] {
        cxone.set_active(&current, &old, active, First).await.unwrap();
        assert_eq!(rig.key_login(&current).await.is_some(), active);
    }
    let stopped = cxone.check(&current, Strategy::Overlap, First).await.unwrap();
    assert!(stopped.obstacles.len() == 1 && stopped.switched_off, "{stopped:?}");
    cxone.delete(&current, &old, First).await.unwrap();
    assert_eq!(word(&cxone.delete(&current, &old, First).await), "not found");
    assert_eq!(word(&cxone.set_active(&current, &old, true, First).await), "not found");
    assert_eq!(word(&cxone.regenerate(&current, First).await), "unsupported");
    let told = format!("{made:?} {listed:?} {look:?}");
    assert!(!told.contains(made.document.access_key_secret.as_ref().unwrap().expose()), "{told}");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn the_last_use_is_the_platforms() {
    let (rig, current) = tenant(SandboxConfig::default()).await;
    let cxone = rig.cxone();
    let made = cxone.create(&current, "run-1", First).await.unwrap();
    let old = cxone.id_of(&current).unwrap();
    let last = cxone.list(&current, First).await.unwrap().into_iter().find(|key| key.id == old).unwrap();
    let last = last.last_used_at.unwrap();
    assert_eq!(cxone.used_since(&old, last, First).await.unwrap(), Some(0));
    assert_eq!(cxone.used_since(&old, UnixMillis(last.0 - 1), First).await.unwrap(), Some(1));
    assert_eq!(cxone.used_since(&made.id, UnixMillis(0), First).await.unwrap(), None, "never used: not told");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let mut config = SandboxConfig::default();
    config.cxone.behaviours.access_keys_per_page = Some(2);
    let (rig, current) = tenant(config).await;
    let cxone = rig.cxone();
    for _ in 0..4 {
        cxone.create(&current, "x", First).await.unwrap();
    }
    let mut ids: Vec<ManagedId> = cxone.list(&current, First).await.unwrap().into_iter().map(|key| key.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_user_with_as_many_keys_as_it_may_have_says_so() {
    let mut config = SandboxConfig::default();
    config.cxone.behaviours.max_access_keys_per_user = 1;
    let (rig, current) = tenant(config).await;
    assert_eq!(word(&rig.cxone().create(&current, "x", First).await), "full too_many_access_keys");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn lost_answers_are_unknown_and_never_repeated() {
    for (kind, applied) in [("drop_before", false), ("drop_after", true), ("empty_body", true)] {
        let (rig, current) = tenant(SandboxConfig::default()).await;
        let cxone = rig.cxone();
        rig.fault("POST", KEYS, json!({"kind": kind})).await;
        assert_eq!(word(&cxone.create(&current, "x", First).await), "unknown", "{kind}");
        assert_eq!(rig.changes(), [format!("POST {KEYS}")], "{kind}");
        let listed = cxone.list(&current, First).await.unwrap();
        assert_eq!(listed.len(), 1 + usize::from(applied), "{kind}");
        if kind != "empty_body" {
            let old = cxone.id_of(&current).unwrap();
            rig.fault("PATCH", KEYS, json!({"kind": kind})).await;
            assert_eq!(word(&cxone.set_active(&current, &old, false, First).await), "unknown", "{kind}");
            assert_eq!(rig.changes().len(), 1, "{kind}");
            rig.fault("DELETE", "/access-key-management/v1/access-keys/*", json!({"kind": kind})).await;
            assert_eq!(word(&cxone.delete(&current, &old, First).await), "unknown", "{kind}");
            assert_eq!(rig.changes().len(), 1, "{kind}");
        }
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn the_host_may_be_the_one_that_the_rotators_login_told() {
    let (mut rig, current) = tenant(SandboxConfig::default()).await;
    let tokens = Arc::clone(&rig.tokens) as Arc<dyn RotatorTokens>;
    let cxone = CxoneManagement::discovered(rig.http.clone(), tokens);
    assert_eq!(cxone.list(&current, First).await.unwrap().len(), 1);
    assert!(cxone.probe(rig.tokens.first.as_ref().unwrap()).await.unwrap());
    for told in [None, Some("http://regional.example".to_owned()), Some("nonsense".to_owned())] {
        let first = rig.tokens.first.as_ref().map(SecretString::duplicate);
        rig.tokens = Arc::new(Tokens { first, second: None, auth_base: told, refused: AtomicUsize::new(0) });
        let tokens = Arc::clone(&rig.tokens) as Arc<dyn RotatorTokens>;
        let listed = CxoneManagement::discovered(rig.http.clone(), tokens).list(&current, First).await;
        assert!(matches!(&listed, Err(ManageError::NotDone { reason }) if reason.contains("host")), "{listed:?}");
    }
    rig.sandbox.shutdown().await;
}
