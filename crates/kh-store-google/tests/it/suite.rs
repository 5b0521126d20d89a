//! The suite that every store passes.

use kh_store::conformance::target;
use serde_json::json;

use crate::support::Google;

#[tokio::test]
async fn secret_manager_keeps_the_port_of_rotation() {
    let google = Google::start().await;
    target::run(&google.target().await, &google).await;
}

#[tokio::test]
async fn the_permissions_that_the_guide_names_suffice() {
    let guide = include_str!("../../../../docs/guide/google-secret-manager.md");
    let block = guide.split("```text").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let permissions: Vec<&str> = block.split_whitespace().collect();
    assert!(permissions.len() == 10 && permissions.iter().all(|name| name.starts_with("secretmanager.")));
    let google = Google::start().await;
    google.command("permissions", &json!({ "permissions": permissions }));
    target::run(&google.target().await, &google).await;
}

#[tokio::test]
async fn also_where_every_list_has_many_pages() {
    let google = Google::start().await;
    google.command("page", &json!({"count": 2}));
    target::run(&google.target().await, &google).await;
}
