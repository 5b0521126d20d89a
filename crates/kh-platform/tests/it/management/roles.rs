//! The superset rule: seen by the check, refused by the platform, proven for two rotators.

use kh_core::{
    port::{
        SecretManagement, Strategy,
        secret_management::Rotator::{First, Second},
    },
    rotation::ManagedId,
};
use kh_sandbox::{ClientConfig, SandboxConfig};

use super::rig::{FIRST, Rig, SECOND, TARGET, WEAK, organisation, word};

#[tokio::test]
async fn what_the_check_refuses_the_platform_refuses() {
    let rig = Rig::with_rotators(organisation(SandboxConfig::default()), Some(FIRST), Some(WEAK)).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let id = genesys.id_of(&current).unwrap();
    for strategy in [Strategy::Pair, Strategy::Swap] {
        let good = genesys.check(&current, strategy, First).await.unwrap();
        // the weak one is needed where the answer to a swap is lost, and never for a pair
        let (needed, told) = match strategy {
            Strategy::Swap => (1, &good.obstacles),
            _ => (0, &good.warnings),
        };
        assert_eq!(good.obstacles.len(), needed, "{good:?}");
        let weak = "the second rotator lacks roles of the client billing";
        assert!(
            told.iter().any(|one| one.contains(weak) && one.ends_with("grant it a (role-a), b (role-b)")),
            "{good:?}"
        );
        assert_eq!(good.free, None, "the platform does not tell");
        let weak = genesys.check(&current, strategy, Second).await.unwrap();
        assert_eq!(weak.obstacles.len(), 1, "{weak:?}");
        assert!(weak.obstacles[0].contains("role-a, role-b"), "{weak:?}");
    }
    assert!(rig.changes().is_empty(), "a check changes nothing");
    assert_eq!(word(&genesys.regenerate(&current, Second).await), "denied bad.client.role");
    assert_eq!(word(&genesys.create(&current, "x", Second).await), "denied bad.client.role");
    assert_eq!(word(&genesys.set_active(&current, &id, false, Second).await), "denied bad.client.role");
    assert!(rig.login(&current).await.is_some());
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn missing_permissions_are_seen_where_roles_can_be_read() {
    let mut config = organisation(SandboxConfig::default());
    let mut reader = ClientConfig::with_permissions("reader", &["oauth:client:view", "authorization:role:view"]);
    reader.roles = vec!["a".to_owned(), "b".to_owned()];
    let mut blind = ClientConfig::with_permissions("blind", &["oauth:client:view"]);
    blind.roles = vec!["a".to_owned(), "b".to_owned()];
    config.genesys.clients.extend([reader, blind]);
    let rig = Rig::with_rotators(config, Some(4), Some(5)).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let reader = genesys.check(&current, Strategy::Pair, First).await.unwrap();
    assert_eq!(reader.obstacles.len(), 1, "{reader:?}");
    assert!(reader.obstacles[0].ends_with("oauth:client:add, oauth:client:edit, oauth:client:delete"), "{reader:?}");
    let blind = genesys.check(&current, Strategy::Swap, Second).await.unwrap();
    assert!(blind.obstacles.is_empty(), "{blind:?}");
    assert!(blind.warnings.iter().any(|warning| warning.contains("3 of its roles cannot be read")), "{blind:?}");
    let denied = genesys.regenerate(&current, First).await;
    assert_eq!(word(&denied), "denied missing.any.permissions");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_rotator_does_not_rotate_itself() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let genesys = rig.genesys();
    for strategy in [Strategy::Pair, Strategy::Swap] {
        let own = genesys.check(&rig.document(FIRST), strategy, First).await.unwrap();
        assert!(own.obstacles.iter().any(|one| one.contains("let the other rotator do it")), "{own:?}");
        let other = genesys.check(&rig.document(FIRST), strategy, Second).await.unwrap();
        assert!(other.obstacles.is_empty() && !format!("{other:?}").contains("lacks roles"), "{other:?}");
    }
    rig.sandbox.shutdown().await;
    // the second one holds every role of the first one but not the other way round: it could be replaced once
    let mut config = organisation(SandboxConfig::default());
    config.genesys.clients[FIRST].roles.retain(|role| role != "b");
    let rig = Rig::with_rotators(config, Some(FIRST), Some(SECOND)).await;
    let own = rig.genesys().check(&rig.document(FIRST), Strategy::Swap, Second).await.unwrap();
    assert!(own.obstacles.is_empty(), "{own:?}");
    assert!(
        own.warnings.iter().any(|one| one.starts_with("the rotator lacks roles of the client rotator two")),
        "{own:?}"
    );
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_second_rotator_that_cannot_log_in_is_an_obstacle_to_a_swap_alone() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let second = rig.document(SECOND);
    let id = rig.genesys().id_of(&second).unwrap();
    rig.genesys().set_active(&second, &id, false, First).await.unwrap();
    rig.revoke(&id.0).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let pair = genesys.check(&current, Strategy::Pair, First).await.unwrap();
    assert!(
        pair.obstacles.is_empty() && pair.warnings.iter().any(|one| one.contains("the second rotator")),
        "{pair:?}"
    );
    let swap = genesys.check(&current, Strategy::Swap, First).await;
    assert_eq!(word(&swap), "not done", "{swap:?}");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn clients_that_cannot_be_paired_are_named() {
    let mut config = organisation(SandboxConfig::default());
    let mut code = ClientConfig::with_permissions("portal", &[]);
    code.grant_type = "CODE".to_owned();
    code.scopes = vec!["users".to_owned()];
    config.genesys.clients.push(code);
    let rig = Rig::with_rotators(config, Some(FIRST), None).await;
    let genesys = rig.genesys();
    let portal = rig.document(4);
    let pair = genesys.check(&portal, Strategy::Pair, First).await.unwrap();
    assert!(pair.obstacles[0].contains("use the strategy swap"), "{pair:?}");
    assert!(genesys.check(&portal, Strategy::Swap, First).await.unwrap().obstacles.is_empty());
    assert!(!genesys.check(&portal, Strategy::Overlap, First).await.unwrap().obstacles.is_empty());
    let current = rig.document(TARGET);
    genesys.set_active(&current, &genesys.id_of(&current).unwrap(), false, First).await.unwrap();
    let stopped = genesys.check(&current, Strategy::Swap, First).await.unwrap();
    assert!(stopped.obstacles[0].contains("the client is inactive") && stopped.switched_off, "{stopped:?}");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn two_rotators_are_proven_against_every_client_and_each_other() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let target = ManagedId(rig.sandbox.clients[TARGET].id.clone());
    assert_eq!(rig.genesys().prove_rotators(std::slice::from_ref(&target)).await.unwrap(), []);
    let gone = ManagedId("5e1f0a3c-0000-4000-8000-000000000001".to_owned());
    let gaps = rig.genesys().prove_rotators(std::slice::from_ref(&gone)).await.unwrap();
    assert_eq!(gaps.len(), 2, "a client that is not listed is not covered: {gaps:?}");
    rig.sandbox.shutdown().await;

    let rig = Rig::with_rotators(organisation(SandboxConfig::default()), Some(SECOND), Some(WEAK)).await;
    let gaps = rig.genesys().prove_rotators(std::slice::from_ref(&target)).await.unwrap();
    let told: Vec<_> = gaps.iter().map(|gap| (gap.rotator, gap.name.as_deref().unwrap_or_default())).collect();
    assert_eq!(told, [(First, "weak"), (Second, "billing"), (Second, "rotator two")], "{gaps:?}");
    rig.sandbox.shutdown().await;
}
