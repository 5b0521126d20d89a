//! OAuth clients, roles, audits and usage.

use crate::harness::Rig;
use kh_sandbox::{ClientConfig, RoleConfig, SandboxConfig};
use serde_json::{Value, json};

const CLIENTS: &str = "/api/v2/oauth/clients";

/// An admin with every role of the configuration, and one client that may edit clients but holds only its own role.
async fn rig_with(config: SandboxConfig) -> (Rig, String, String) {
    let mut config = config;
    config.genesys.roles = vec![RoleConfig {
        id: Some("role-a".to_owned()),
        name: "a".to_owned(),
        permissions: vec!["users:*:*".to_owned()],
    }];
    let mut admin = ClientConfig::with_permissions("admin", &[]);
    admin.roles = vec!["admin".to_owned(), "a".to_owned()];
    let editor = ClientConfig::with_permissions("editor", &["oauth:client:*"]);
    config.genesys.clients = vec![admin, editor];
    let rig = Rig::start(config).await;
    let (admin, editor) = (rig.token_of(0).await, rig.token_of(1).await);
    (rig, admin, editor)
}

fn wanted(name: &str) -> Value {
    json!({
        "name": name, "authorizedGrantType": "CLIENT-CREDENTIALS",
        "roleDivisions": [{"roleId": "role-a", "divisionId": "*"}],
    })
}

#[tokio::test]
async fn the_whole_life_of_a_client() {
    let (rig, admin, _) = rig_with(SandboxConfig::default()).await;
    let created = rig.send("POST", CLIENTS, &admin, wanted("x")).await;
    assert_eq!(created.status, 200, "{created:?}");
    let client = created.json();
    let (id, secret) = (client["id"].as_str().unwrap(), client["secret"].as_str().unwrap());
    assert_eq!(
        (secret.len(), &client["accessTokenValiditySeconds"], &client["state"]),
        (43, &json!(86_400), &json!("active"))
    );
    assert_eq!(rig.login(id, secret).await.status, 200);
    let path = format!("{CLIENTS}/{id}");
    for shown in [rig.call("GET", &path, &admin).await, rig.call("GET", CLIENTS, &admin).await] {
        assert_eq!(shown.status, 200);
        assert!(!shown.text.contains(secret) && !shown.text.contains("\"secret\""), "only POST answers show a secret");
    }
    let regenerated = rig.send("POST", &format!("{path}/secret"), &admin, Value::Null).await;
    let second = regenerated.json()["secret"].as_str().unwrap().to_owned();
    assert_ne!(second, secret);
    assert_eq!(
        (rig.login(id, secret).await.status, rig.login(id, &second).await.status),
        (401, 200),
        "one secret only"
    );
    let early = rig.call("DELETE", &path, &admin).await;
    assert_eq!((early.status, early.code().as_str()), (400, "cannot.delete.client"));
    let mut inactive = wanted("x");
    inactive["state"] = json!("inactive");
    let put = rig.send("PUT", &path, &admin, inactive).await;
    assert!(put.json()["dateToDelete"].is_string() && !put.text.contains(&second), "{put:?}");
    assert_eq!(rig.login(id, &second).await.status, 400, "no new tokens of an inactive client");
    assert_eq!(rig.call("DELETE", &path, &admin).await.status, 204);
    let gone = rig.call("GET", &path, &admin).await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "client.not.found"));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn create_refuses_what_the_platform_refuses() {
    let mut config = SandboxConfig::default();
    config.behaviours.max_clients = 3;
    let (rig, admin, _) = rig_with(config).await;
    let with = |field: &str, value: Value| {
        let mut body = wanted("y");
        body[field] = value;
        body
    };
    for (body, code) in [
        (with("state", json!("inactive")), "bad.client.state"),
        (with("authorizedGrantType", Value::Null), "grant.type.required"),
        (with("authorizedGrantType", json!("REFRESH")), "bad.grant.type"),
        (with("roleDivisions", json!([])), "missing.client.roles"),
        (with("authorizedGrantType", json!("CODE")), "missing.client.scope"),
        (json!({"name": "z", "authorizedGrantType": "CODE", "scope": ["offline_access"]}), "auth.invalid.scope"),
        (with("roleDivisions", json!([{"roleId": "nope", "divisionId": "*"}])), "bad.client.role"),
        (with("accessTokenValiditySeconds", json!(299)), "bad.request"),
        (with("accessTokenValiditySeconds", json!(172_801)), "bad.request"),
        (with("name", Value::Null), "bad.request"),
    ] {
        let refused = rig.send("POST", CLIENTS, &admin, body.clone()).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{body}");
    }
    assert_eq!(rig.send("POST", CLIENTS, &admin, wanted("third")).await.status, 200);
    let fourth = rig.send("POST", CLIENTS, &admin, wanted("fourth")).await;
    assert_eq!((fourth.status, fourth.code().as_str()), (400, "auth.too.many.clients"));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn whoever_manages_a_client_must_hold_all_its_roles() {
    let (rig, admin, editor) = rig_with(SandboxConfig::default()).await;
    let created = rig.send("POST", CLIENTS, &admin, wanted("x")).await.json();
    let id = created["id"].as_str().unwrap();
    let path = format!("{CLIENTS}/{id}");
    let secret_path = format!("{path}/secret");
    for refused in [
        rig.send("POST", CLIENTS, &editor, wanted("other")).await,
        rig.send("PUT", &path, &editor, wanted("x")).await,
        rig.send("POST", &secret_path, &editor, Value::Null).await,
    ] {
        assert_eq!((refused.status, refused.code().as_str()), (400, "bad.client.role"));
    }
    assert_eq!(rig.login(id, created["secret"].as_str().unwrap()).await.status, 200, "the secret is still the first");
    let editor_id = rig.sandbox.clients[1].id.clone();
    let grant = format!("/api/v2/authorization/subjects/{editor_id}/divisions/*/roles/role-a");
    assert_eq!(rig.send("POST", &grant, &admin, Value::Null).await.status, 204);
    assert_eq!(rig.send("POST", &secret_path, &editor, Value::Null).await.status, 200, "granted, so it may");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn put_replaces_everything_and_keeps_unknown_members() {
    let (rig, admin, _) = rig_with(SandboxConfig::default()).await;
    let mut body = wanted("x");
    body["description"] = json!("first");
    let id = rig.send("POST", CLIENTS, &admin, body).await.json()["id"].as_str().unwrap().to_owned();
    let mut body = wanted("renamed");
    body["allowedIps"] = json!(["10.0.0.0/8"]);
    body["someFutureField"] = json!({"a": [1]});
    let path = format!("{CLIENTS}/{id}");
    assert_eq!(rig.send("PUT", &path, &admin, body).await.status, 200);
    let shown = rig.call("GET", &path, &admin).await.json();
    assert_eq!((&shown["name"], &shown["someFutureField"]), (&json!("renamed"), &json!({"a": [1]})));
    assert!(shown.get("description").is_none(), "a full replace forgets what is left out");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn tokens_after_regeneration_inactive_and_disabled() {
    for survive in [true, false] {
        let mut config = SandboxConfig::default();
        config.behaviours.tokens_survive_regeneration = survive;
        config.behaviours.tokens_survive_inactive = survive;
        let (rig, admin, _) = rig_with(config).await;
        let alive = if survive { 200 } else { 401 };
        for (change, expected) in [("secret", alive), ("inactive", alive), ("disabled", 401)] {
            let created = rig.send("POST", CLIENTS, &admin, wanted(change)).await.json();
            let (id, secret) = (created["id"].as_str().unwrap(), created["secret"].as_str().unwrap());
            let token = rig.login(id, secret).await.json()["access_token"].as_str().unwrap().to_owned();
            let path = format!("{CLIENTS}/{id}");
            let changed = if change == "secret" {
                rig.send("POST", &format!("{path}/secret"), &admin, Value::Null).await
            } else {
                let mut body = wanted(change);
                body["state"] = json!(change);
                rig.send("PUT", &path, &admin, body).await
            };
            assert_eq!(changed.status, 200, "{changed:?}");
            assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &token).await.status, expected, "{change} {survive}");
            if change == "disabled" {
                let refused = rig.send("PUT", &path, &admin, wanted("x")).await;
                assert_eq!((refused.status, refused.code().as_str()), (400, "bad.client.state"));
            }
        }
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn several_live_secrets_only_when_switched_on() {
    let (rig, admin, _) = rig_with(SandboxConfig::default()).await;
    let path = format!("{CLIENTS}/{}/secrets", rig.sandbox.clients[1].id);
    assert_eq!(rig.call("GET", &path, &admin).await.status, 404, "Genesys Cloud has no such API");
    rig.sandbox.shutdown().await;

    let mut config = SandboxConfig::default();
    config.behaviours.secrets_api = true;
    let rig = Rig::start(config).await;
    let admin = rig.token().await;
    let client = rig.sandbox.admin().clone();
    let path = format!("{CLIENTS}/{}/secrets", client.id);
    let first = rig.call("GET", &path, &admin).await.json()["entities"][0]["id"].as_str().unwrap().to_owned();
    let added = rig.send("POST", &path, &admin, Value::Null).await.json();
    let second = added["secret"].as_str().unwrap();
    assert_eq!(rig.send("POST", &path, &admin, Value::Null).await.code(), "too.many.secrets");
    assert_eq!(
        (rig.login(&client.id, client.secret.expose()).await.status, rig.login(&client.id, second).await.status),
        (200, 200)
    );
    assert_eq!(rig.call("DELETE", &format!("{path}/{first}"), &admin).await.status, 204);
    assert_eq!(
        (rig.login(&client.id, client.secret.expose()).await.status, rig.login(&client.id, second).await.status),
        (401, 200)
    );
    let last = rig.call("DELETE", &format!("{path}/{}", added["id"].as_str().unwrap()), &admin).await;
    assert_eq!((last.status, last.code().as_str()), (400, "last.secret"));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn eventual_consistency_can_be_switched_on() {
    let mut config = SandboxConfig::default();
    config.behaviours.client_visible_after_seconds = 10;
    config.behaviours.secret_settle_seconds = 10;
    let (rig, admin, _) = rig_with(config).await;
    rig.freeze().await;
    let id = rig.send("POST", CLIENTS, &admin, wanted("x")).await.json()["id"].as_str().unwrap().to_owned();
    let path = format!("{CLIENTS}/{id}");
    assert_eq!(rig.call("GET", &path, &admin).await.status, 404);
    rig.pass(10).await;
    assert_eq!(rig.call("GET", &path, &admin).await.status, 200);
    let secret = rig.send("POST", &format!("{path}/secret"), &admin, Value::Null).await.json();
    let secret = secret["secret"].as_str().unwrap();
    assert_eq!(rig.login(&id, secret).await.status, 401);
    rig.pass(10).await;
    assert_eq!(rig.login(&id, secret).await.status, 200);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn roles_give_permissions_through_policies() {
    let (rig, admin, editor) = rig_with(SandboxConfig::default()).await;
    let policy = json!([{"domain": "authorization", "entityName": "role", "actionSet": ["view"]}]);
    let role = json!({"name": "viewer", "permissionPolicies": policy});
    let created = rig.send("POST", "/api/v2/authorization/roles", &admin, role).await;
    assert_eq!(created.status, 200, "{created:?}");
    let role = created.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(rig.call("GET", "/api/v2/authorization/roles", &editor).await.status, 403);
    let grant = format!("/api/v2/authorization/subjects/{}/divisions/*/roles/{role}", rig.sandbox.clients[1].id);
    assert_eq!(rig.send("POST", &grant, &admin, Value::Null).await.status, 204);
    let listed = rig.call("GET", "/api/v2/authorization/roles?name=viewer", &editor).await;
    assert_eq!((listed.status, &listed.json()["total"]), (200, &json!(1)));
    let conflict = rig.call("DELETE", &format!("/api/v2/authorization/roles/{role}"), &admin).await;
    assert_eq!(conflict.status, 409, "a client holds it");
    assert_eq!(rig.call("DELETE", &grant, &admin).await.status, 204);
    assert_eq!(rig.call("GET", "/api/v2/authorization/roles", &editor).await.status, 403);
    assert_eq!(rig.call("DELETE", &format!("/api/v2/authorization/roles/{role}"), &admin).await.status, 204);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn audits_tell_what_really_changed() {
    let mut config = SandboxConfig::default();
    config.behaviours.regenerate_audit_action = "Rotate".to_owned();
    let (rig, admin, _) = rig_with(config).await;
    let id = rig.send("POST", CLIENTS, &admin, wanted("x")).await.json()["id"].as_str().unwrap().to_owned();
    rig.send("POST", &format!("{CLIENTS}/{id}/secret"), &admin, Value::Null).await;
    let query = json!({
        "interval": "2000-01-01T00:00:00Z/2100-01-01T00:00:00Z", "serviceName": "PeoplePermissions",
        "filters": [{"property": "EntityId", "value": id}], "sort": [{"name": "Timestamp", "sortOrder": "ascending"}],
    });
    let realtime = rig.send("POST", "/api/v2/audits/query/realtime", &admin, query.clone()).await;
    let actions: Vec<Value> =
        realtime.json()["entities"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["Create", "Rotate"]);
    let started = rig.send("POST", "/api/v2/audits/query", &admin, query).await;
    assert_eq!((started.status, &started.json()["state"]), (202, &json!("Queued")));
    let path = format!("/api/v2/audits/query/{}", started.json()["id"].as_str().unwrap());
    assert_eq!(rig.call("GET", &path, &admin).await.json()["state"], "Succeeded");
    let first = rig.call("GET", &format!("{path}/results?pageSize=1"), &admin).await.json();
    assert_eq!(first["entities"][0]["action"], "Create");
    let cursor = first["cursor"].as_str().unwrap();
    let second = rig.call("GET", &format!("{path}/results?pageSize=1&cursor={cursor}"), &admin).await.json();
    assert_eq!(second["entities"][0]["action"], "Rotate");
    assert!(second.get("cursor").is_none(), "the last page has no cursor");
    assert_eq!(rig.send("POST", "/api/v2/audits/query", &admin, json!({"interval": "x"})).await.status, 400);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn usage_counts_the_calls_of_a_client() {
    let (rig, admin, editor) = rig_with(SandboxConfig::default()).await;
    rig.call("GET", CLIENTS, &editor).await;
    rig.call("GET", CLIENTS, &editor).await;
    let path = format!("{CLIENTS}/{}/usage/summary?days=1", rig.sandbox.clients[1].id);
    let started = rig.call("GET", &path, &admin).await;
    assert_eq!(started.status, 202);
    let results = rig.call("GET", started.json()["resultsUri"].as_str().unwrap(), &admin).await.json();
    assert_eq!(results["queryStatus"], "Complete");
    let row = &results["results"][0];
    assert_eq!((&row["templateUri"], &row["requests"], &row["status200"]), (&json!(CLIENTS), &json!(2), &json!(2)));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn new_clients_may_be_listed_late_and_settle_late() {
    let mut config = SandboxConfig::default();
    config.behaviours.client_listed_after_seconds = 5;
    config.behaviours.client_settle_seconds = 10;
    let (rig, admin, _) = rig_with(config).await;
    rig.freeze().await;
    let made = rig.send("POST", CLIENTS, &admin, wanted("x")).await.json();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let listed = |text: String| text.contains(id);
    assert!(!listed(rig.call("GET", CLIENTS, &admin).await.text), "the list does not know it yet");
    assert_eq!(rig.login(id, secret).await.status, 401);
    rig.pass(5).await;
    assert!(listed(rig.call("GET", CLIENTS, &admin).await.text));
    assert_eq!(rig.login(id, secret).await.status, 401);
    rig.pass(5).await;
    assert_eq!(rig.login(id, secret).await.status, 200);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn usage_comes_late_and_after_some_looks() {
    let mut config = SandboxConfig::default();
    config.behaviours.usage_lag_seconds = 86_400;
    config.behaviours.usage_running_looks = 2;
    let (rig, admin, editor) = rig_with(config).await;
    rig.freeze().await;
    rig.call("GET", "/api/v2/tokens/me", &editor).await;
    let path = format!("{CLIENTS}/{}/usage/query", rig.sandbox.clients[1].id);
    let query = json!({"interval": "2000-01-01T00:00:00Z/2100-01-01T00:00:00Z"});
    for (later, expected) in [(0, 0), (86_400, 1)] {
        rig.pass(later).await;
        let admin = if later == 0 { admin.clone() } else { rig.token().await };
        let started = rig.send("POST", &path, &admin, query.clone()).await;
        assert_eq!(started.status, 202);
        let uri = started.json()["resultsUri"].as_str().unwrap().to_owned();
        for _ in 0..2 {
            assert_eq!(rig.call("GET", &uri, &admin).await.json(), json!({"queryStatus": "Running"}));
        }
        let told = rig.call("GET", &uri, &admin).await.json();
        let requests: u64 =
            told["results"].as_array().unwrap().iter().map(|row| row["requests"].as_u64().unwrap()).sum();
        assert_eq!((told["queryStatus"].as_str(), requests), (Some("Complete"), expected), "{told}");
    }
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn configured_addresses_are_shown_and_survive_a_full_replace() {
    let mut config = SandboxConfig::default();
    let mut limited = ClientConfig::with_permissions("limited", &["users:user:view"]);
    limited.allowed_ips = vec!["10.0.0.0/8".to_owned()];
    let mut admin = ClientConfig::with_permissions("admin", &["oauth:*:*"]);
    admin.roles = vec!["admin".to_owned()];
    config.genesys.clients = vec![admin, limited];
    let rig = Rig::start(config).await;
    let token = rig.token().await;
    let shown = rig.call("GET", &format!("{CLIENTS}/{}", rig.sandbox.clients[1].id), &token).await.json();
    assert_eq!(shown["allowedIps"], json!(["10.0.0.0/8"]));
    rig.sandbox.shutdown().await;
}
