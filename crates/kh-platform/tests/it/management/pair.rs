//! The strategy `pair`: a second client with the same rights, its stop, its end.

use http::Method;
use kh_core::{
    port::{SecretManagement, secret_management::Rotator::First},
    rotation::ManagedId,
};
use kh_sandbox::SandboxConfig;
use serde_json::json;

use super::rig::{Rig, SECOND, TARGET, word};

const CLIENTS: &str = "/api/v2/oauth/clients";

#[tokio::test]
async fn a_second_client_may_do_what_the_first_may_and_unknown_members_survive() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let id = genesys.id_of(&current).unwrap();
    let mut edited = rig.shown(&id.0).await;
    edited["someFutureField"] = json!({"deep": [1, null, "x"]});
    edited["description"] = json!("pays");
    let path = format!("{CLIENTS}/{id}");
    assert_eq!(rig.api(Method::PUT, &path, edited).await.0, 200);

    let made = genesys.create(&current, "run-1", First).await.unwrap();
    assert_ne!(made.id, id);
    assert!(rig.login(&made.document).await.is_some(), "the new one logs in");
    assert!(rig.login(&current).await.is_some(), "and so does the old one");
    let (old, new) = (rig.shown(&id.0).await, rig.shown(&made.id.0).await);
    for name in ["roleDivisions", "allowedIps", "someFutureField", "authorizedGrantType", "accessTokenValiditySeconds"]
    {
        assert_eq!(old[name], new[name], "{name}");
    }
    assert_eq!(new["allowedIps"], json!(["127.0.0.0/8"]));
    assert_eq!(new["name"], "billing [keyholder run-1]");
    let rights = genesys.rights(&id, First).await.unwrap();
    assert_eq!(rights, genesys.rights(&made.id, First).await.unwrap());
    assert!(rights.lines.contains(&"role role-a in division *".to_owned()), "{rights:?}");
    assert!(rights.lines.contains(&"address 127.0.0.0/8".to_owned()), "{rights:?}");

    // both sides see the same pair, and nobody else
    let mut expected = vec![id.clone(), made.id.clone()];
    expected.sort();
    for document in [&current, &made.document] {
        let mut listed: Vec<ManagedId> =
            genesys.list(document, First).await.unwrap().into_iter().map(|one| one.id).collect();
        listed.sort();
        assert_eq!(listed, expected);
    }
    let alone = genesys.list(&rig.document(SECOND), First).await.unwrap();
    assert_eq!(alone.len(), 1);
    assert_eq!(genesys.inventory(First).await.unwrap().len(), 5);

    // the third belongs to the pair of the first two
    let third = genesys.create(&made.document, "run-2", First).await.unwrap();
    assert_eq!(genesys.list(&current, First).await.unwrap().len(), 3);
    assert_eq!(rig.shown(&third.id.0).await["name"], "billing [keyholder run-2]");
    assert_eq!(rig.shown(&third.id.0).await["description"], format!("pays [keyholder pair {id}]"));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_stop_can_be_taken_back_and_a_deletion_needs_it() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let id = genesys.id_of(&current).unwrap();
    let before = rig.shown(&id.0).await;

    let early = genesys.delete(&current, &id, First).await;
    assert_eq!(word(&early), "denied cannot.delete.client");
    genesys.set_active(&current, &id, false, First).await.unwrap();
    assert!(rig.login(&current).await.is_none());
    assert!(!genesys.list(&current, First).await.unwrap()[0].active);
    let sent = rig.changes().len();
    genesys.set_active(&current, &id, false, First).await.unwrap();
    assert_eq!(rig.changes().len(), sent, "it is so already: nothing is sent");
    genesys.set_active(&current, &id, true, First).await.unwrap();
    assert!(rig.login(&current).await.is_some());
    let mut after = rig.shown(&id.0).await;
    for made in ["dateModified", "modifiedBy"] {
        after[made] = before[made].clone();
    }
    assert_eq!(after, before, "stop and start leave no trace");

    genesys.set_active(&current, &id, false, First).await.unwrap();
    genesys.delete(&current, &id, First).await.unwrap();
    let again = genesys.delete(&current, &id, First).await;
    assert_eq!(word(&again), "not found");
    assert_eq!(word(&genesys.set_active(&current, &id, true, First).await), "not found");
    assert_eq!(word(&genesys.rights(&id, First).await), "not found");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn an_organisation_that_is_full_says_so() {
    let mut config = SandboxConfig::default();
    config.behaviours.max_clients = 4;
    let rig = Rig::start(config).await;
    let full = rig.genesys().create(&rig.document(TARGET), "run-1", First).await;
    assert_eq!(word(&full), "full auth.too.many.clients");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_client_that_support_disabled_is_left_alone() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let id = genesys.id_of(&current).unwrap();
    let mut disabled = rig.shown(&id.0).await;
    disabled["state"] = json!("disabled");
    assert_eq!(rig.api(Method::PUT, &format!("{CLIENTS}/{id}"), disabled).await.0, 200);
    for active in [true, false] {
        assert_eq!(word(&genesys.set_active(&current, &id, active, First).await), "denied bad.client.state");
    }
    assert_eq!(word(&genesys.regenerate(&current, First).await), "denied bad.client.state");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn ids_that_are_none_are_never_sent() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    for id in ["", "..", "a/secret", "x?y=z"] {
        let id = ManagedId(id.to_owned());
        assert_eq!(word(&genesys.delete(&current, &id, First).await), "not done");
        assert_eq!(word(&genesys.rights(&id, First).await), "not done");
    }
    assert!(rig.changes().is_empty());
    rig.sandbox.shutdown().await;
}
