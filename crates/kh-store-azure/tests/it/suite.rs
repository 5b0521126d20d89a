//! The suite that every store passes.

use kh_core::port::{SecretTarget, TargetError};
use kh_store::conformance::target::{self, Bench};
use serde_json::json;

use crate::support::{Azure, write};

#[tokio::test]
async fn key_vault_keeps_the_port_of_rotation() {
    let azure = Azure::start().await;
    target::run(&azure.target(), &azure).await;
}

/// The permissions of an access policy that each data action of a role stands for (learn.microsoft.com/azure/
/// role-based-access-control/permissions/security and .../key-vault/general/rbac-migration: `set` is setSecret and
/// update, `list` is readMetadata).
const PERMISSIONS: [(&str, &str); 4] =
    [("getSecret", "get"), ("readMetadata", "list"), ("setSecret", "set"), ("update", "set")];

#[tokio::test]
async fn the_rights_that_the_guide_names_suffice_and_each_is_needed() {
    let guide = include_str!("../../../../docs/guide/azure-key-vault.md");
    let block = guide.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let shown: serde_json::Value = serde_json::from_str(block).unwrap();
    let actions = PERMISSIONS.map(|(action, _)| json!(format!("Microsoft.KeyVault/vaults/secrets/{action}/action")));
    assert_eq!(shown, json!({ "DataActions": actions }));
    let mut rights = PERMISSIONS.map(|(_, permission)| permission).to_vec();
    rights.dedup();
    assert!(guide.contains("`get`, `list` and `set` on secrets") && rights == ["get", "list", "set"]);
    let azure = Azure::start().await;
    azure.command("rights", &json!({ "rights": rights }));
    target::run(&azure.target(), &azure).await;

    for missing in rights.iter().copied() {
        let left: Vec<&str> = rights.iter().copied().filter(|right| *right != missing).collect();
        azure.command("rights", &json!({ "rights": left }));
        let (target, at) = (azure.target(), azure.fresh_path());
        let (token, document) = write(7, "s");
        let staged = target.stage(&at, token, &document).await;
        assert!(matches!(staged, Err(TargetError::Denied(_))), "without {missing}: {staged:?}");
    }
}

#[tokio::test]
async fn also_where_every_list_has_many_pages() {
    let azure = Azure::start().await;
    azure.command("page", &json!({"count": 2}));
    target::run(&azure.target(), &azure).await;
    let next = azure.vault.control.journal().iter().filter(|entry| entry.operation == "secrets.versions").count();
    assert!(next > 200, "the lists were read page by page: {next}");
}
