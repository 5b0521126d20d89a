//! The suite that every store passes.

use kh_store::conformance::target;
use serde_json::json;

use crate::support::Azure;

#[tokio::test]
async fn key_vault_keeps_the_port_of_rotation() {
    let azure = Azure::start().await;
    target::run(&azure.target(), &azure).await;
}

#[tokio::test]
async fn also_where_every_list_has_many_pages() {
    let azure = Azure::start().await;
    azure.command("page", &json!({"count": 2}));
    target::run(&azure.target(), &azure).await;
    let next = azure.vault.control.journal().iter().filter(|entry| entry.operation == "secrets.versions").count();
    assert!(next > 200, "the lists were read page by page: {next}");
}
