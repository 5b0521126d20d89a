//! A platform with a secrets API: several live secrets of one client.

use kh_core::{
    port::{
        SecretManagement, Strategy,
        secret_management::Rotator::{First, Second},
    },
    rotation::ManagedId,
};
use kh_sandbox::SandboxConfig;
use serde_json::json;

use super::rig::{FIRST, Rig, TARGET, WEAK, organisation, word};

fn config() -> SandboxConfig {
    let mut config = SandboxConfig::default();
    config.behaviours.secrets_api = true;
    organisation(config)
}

#[tokio::test]
async fn two_secrets_live_side_by_side() {
    let rig = Rig::with_rotators(config(), Some(FIRST), Some(WEAK)).await;
    let (api, current) = (rig.secrets_api(), rig.document(TARGET));
    let look = api.check(&current, Strategy::Overlap, First).await.unwrap();
    assert_eq!((look.obstacles.len(), look.free), (0, Some(1)), "{look:?}");
    assert!(!api.check(&current, Strategy::Overlap, Second).await.unwrap().obstacles.is_empty());
    let old = api.list(&current, First).await.unwrap();
    assert_eq!(old.len(), 1);
    let made = api.create(&current, "run-1", First).await.unwrap();
    assert_eq!(made.document.client_id, current.client_id);
    assert!(rig.login(&current).await.is_some() && rig.login(&made.document).await.is_some());
    assert_eq!(api.rights(&made.id, First).await.unwrap(), api.rights(&old[0].id, First).await.unwrap());
    assert_eq!(word(&api.create(&current, "run-2", First).await), "full too.many.secrets");
    assert!(!api.check(&current, Strategy::Overlap, First).await.unwrap().obstacles.is_empty(), "no place is free");
    assert_eq!(word(&api.delete(&current, &old[0].id, Second).await), "denied bad.client.role");
    api.delete(&current, &old[0].id, First).await.unwrap();
    assert!(rig.login(&current).await.is_none() && rig.login(&made.document).await.is_some());
    assert_eq!(word(&api.delete(&current, &old[0].id, First).await), "not found");
    assert_eq!(word(&api.delete(&current, &made.id, First).await), "denied last.secret");
    let others = ManagedId(format!("{}/x", rig.sandbox.clients[FIRST].id));
    assert_eq!(word(&api.delete(&current, &others, First).await), "not done", "another client's");
    assert_eq!(word(&api.regenerate(&current, First).await), "unsupported");
    assert_eq!(word(&api.set_active(&current, &made.id, false, First).await), "unsupported");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn lost_answers_are_unknown_and_never_repeated() {
    for (kind, applied) in [("drop_before", false), ("drop_after", true), ("bad_json", true)] {
        let rig = Rig::with_rotators(config(), Some(FIRST), None).await;
        let (api, current) = (rig.secrets_api(), rig.document(TARGET));
        rig.fault("POST", "/api/v2/oauth/clients/*/secrets", json!({"kind": kind})).await;
        assert_eq!(word(&api.create(&current, "run-1", First).await), "unknown", "{kind}");
        assert_eq!(rig.changes().len(), 1, "{kind}");
        assert_eq!(api.list(&current, First).await.unwrap().len(), 1 + usize::from(applied), "{kind}");
        assert!(rig.login(&current).await.is_some(), "{kind}");
        rig.sandbox.shutdown().await;
    }
}
