//! What a look before a rotation says.

use kh_core::port::{SecretTarget, TargetError, secret_target::Right};
use serde_json::json;

use crate::world::{RIGHTS, place, world, write};

#[tokio::test]
async fn missing_rights_are_told_before_anything_is_changed() {
    let world = world().await;
    let (token, document) = write(1);
    let store = world.store();
    store.stage(&place("acme"), token, &document).await.unwrap();
    store.promote(&place("acme"), token, None).await.unwrap();
    let cases: &[(&str, &[&str], Right, Right)] = &[
        ("secret/data/*", &["create", "update"], Right::Denied, Right::Denied),
        ("secret/data/*", &["read"], Right::Granted, Right::Denied),
        ("secret/data/*", &["read", "create"], Right::Granted, Right::Denied),
        ("secret/data/*", &["read", "create", "update"], Right::Granted, Right::Granted),
        ("secret/data/*", &["deny"], Right::Denied, Right::Denied),
    ];
    for (number, (path, can, read, right)) in cases.iter().enumerate() {
        let name = format!("policy-{number}");
        world.policy(&name, &[(*path, *can)]).await;
        let store = world.store_with(world.token_file(&[&name]));
        let changes = world.running.control.changes();
        let found = store.check(&place("acme")).await.unwrap();
        assert_eq!((found.read, found.write), (*read, *right), "{can:?}");
        assert_eq!(found.live.is_some(), *read == Right::Granted);
        assert!(found.warnings.iter().any(|text| text.contains("staged copies")), "{:?}", found.warnings);
        assert_eq!(world.running.control.changes(), changes);
    }
    let narrow = world.store_with(world.token_file(&["policy-1"]));
    let refused = narrow.stage(&place("acme"), write(2).0, &write(2).1).await;
    assert!(matches!(refused, Err(TargetError::Denied(_))), "what was told is what happens: {refused:?}");
}

#[tokio::test]
async fn settings_that_could_lose_a_version_are_warned_of() {
    let world = world().await;
    let store = world.store();
    let warnings = async || store.check(&place("acme")).await.unwrap().warnings.join("\n");
    let told = warnings().await;
    assert!(told.contains("10 versions are kept") && told.contains("cas_required is off"), "{told}");
    let settings = json!({"max_versions": 5, "cas_required": true, "delete_version_after": "24h"});
    world.root("POST", "secret/metadata/acme", &[], &settings).await;
    let told = warnings().await;
    assert!(told.contains("5 versions are kept") && told.contains("delete themselves"), "{told}");
    assert!(!told.contains("cas_required is off"), "{told}");
    world.root("POST", "secret/config", &[], &json!({"max_versions": 20})).await;
    assert!(!warnings().await.contains("versions are kept"), "the larger of both holds");
    let blind: Vec<_> = RIGHTS.iter().copied().filter(|(path, _)| path.starts_with("secret/data")).collect();
    world.policy("blind", &blind).await;
    let store = world.store_with(world.token_file(&["blind"]));
    let told = store.check(&place("acme")).await.unwrap().warnings.join("\n");
    assert!(told.contains("history's length is unknown"), "{told}");
}

#[tokio::test]
async fn the_version_is_told_also_without_the_right_to_metadata() {
    let world = world().await;
    world.policy("blind", &[("secret/data/*", &["create", "read", "update"])]).await;
    let store = world.store_with(world.token_file(&["blind"]));
    let (token, document) = write(1);
    store.stage(&place("acme"), token, &document).await.unwrap();
    let version = store.promote(&place("acme"), token, None).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.live_version(&place("acme")).await.unwrap(), version);
    }
    let asked = world.asked();
    assert_eq!(asked.iter().filter(|asked| *asked == "kv.metadata").count(), 1, "it is not asked for again");
    let listed = store.list("", 10).await;
    assert!(matches!(listed, Err(TargetError::Denied(_))), "{listed:?}");
}

#[tokio::test]
async fn places_that_an_address_would_change_are_refused() {
    let world = world().await;
    let store = world.store();
    for bad in ["a/./b", ".", "x.kh-next"] {
        let refused = store.live(&place(bad)).await;
        assert!(matches!(refused, Err(TargetError::Unusable(_))), "{bad}: {refused:?}");
    }
    let odd = place("a.b/c_d+e=f@g-h");
    let (token, document) = write(1);
    store.stage(&odd, token, &document).await.unwrap();
    store.promote(&odd, token, None).await.unwrap();
    assert_eq!(store.list("a.b/c_d+", 5).await.unwrap(), std::slice::from_ref(&odd));
    assert_eq!(store.list("a.b/c_d+x", 5).await.unwrap(), []);
    assert!(store.live(&odd).await.is_ok());
}

/// All tests of this adapter run with [`RIGHTS`], the suite of all stores included: so what the guide says suffices.
#[test]
fn the_guide_shows_the_rights_that_suffice() {
    let guide = include_str!("../../../../docs/guide/vault.md");
    let block = guide.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let shown: serde_json::Value = serde_json::from_str(block).unwrap();
    let paths: serde_json::Map<_, _> =
        RIGHTS.iter().map(|(path, can)| ((*path).to_owned(), json!({"capabilities": can}))).collect();
    assert_eq!(shown, json!({ "path": paths }));
}
