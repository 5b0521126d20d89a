//! The admin API over a real registry and a real audit log: what each role may do, and what stands in the log.

use kh_admin::{Operator, Role, api};
use kh_core::{SecretString, Sha256};
use serde_json::{Value, json};

use crate::rig::{Probes, Reply, Rig, Surface, start};

fn operators() -> Vec<Operator> {
    Role::ALL
        .map(|role| Operator {
            name: format!("the-{}", role.as_str()),
            role,
            tokens: vec![Sha256::of(token(role).as_bytes())],
            certificates: Vec::new(),
            certificate_names: Vec::new(),
        })
        .into()
}

fn token(role: Role) -> String {
    format!("khg_{}", role.as_str())
}

pub(crate) async fn rig() -> Rig {
    start(Surface::Admin(Probes { operators: operators(), ..Probes::default() })).await
}

/// A call by the operator of a role.
pub(crate) async fn call(rig: &Rig, role: Role, line: &str, body: &Value) -> Reply {
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", token(role));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    rig.send(line, &headers, &body).await
}

/// Entries of the audit log, as `actor action subject`.
pub(crate) fn log(rig: &Rig) -> Vec<String> {
    let path = rig.folder.as_ref().unwrap().path().join("audit.log");
    kh_audit::read(&path, kh_audit::Filter::default())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| format!("{} {} {}", entry.actor, entry.action, entry.subject))
        .collect()
}

/// Every operation of the document: method, path, and the role that it names.
pub(crate) fn operations() -> Vec<(String, String, Role)> {
    let document = serde_json::to_value(api::document()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let named = operation["security"][0]["operator"][0].as_str().unwrap();
            let role = Role::ALL.into_iter().find(|role| role.as_str() == named).unwrap();
            all.push((method.to_uppercase(), path.clone(), role));
        }
    }
    all
}

#[tokio::test]
async fn each_operation_is_for_the_role_that_the_document_names_and_those_above() {
    let rig = rig().await;
    let all = operations();
    assert!(all.len() >= 9, "{all:?}");
    for (method, path, needed) in all {
        let line = format!("{method} {}", path.replace("{client}", "nobody").replace("{session}", "0011223344556677"));
        for role in Role::ALL {
            let before = log(&rig).len();
            let reply = call(&rig, role, &line, &Value::Null).await;
            let allowed = role >= needed;
            assert_eq!(reply.status != 403, allowed, "{line} as {}: {reply:?}", role.as_str());
            let entries = log(&rig);
            let action = if allowed { "call" } else { "refuse" };
            let expected = format!("admin:the-{} admin.{action} {method} {path}", role.as_str());
            assert_eq!(entries.get(before), Some(&expected), "each call is in the log, also a refused one");
        }
        let reply = rig.send(&line, "", "").await;
        assert_eq!(reply.code(), "keyholder.guard.refused", "{line} without a token");
    }
}

#[tokio::test]
async fn a_client_from_its_secret_to_its_end() {
    let rig = rig().await;
    let new = json!({ "name": "agent-sync", "credential": "acme", "allow": ["GET /api/v2/users/**"] });
    let added = call(&rig, Role::Admin, "POST /v1/clients", &new).await;
    assert_eq!((added.status, added.header("cache-control")), (201, Some("no-store")), "{added:?}");
    let secret = added.json()["client_secret"].as_str().unwrap().to_owned();
    let id = added.json()["client_id"].as_str().unwrap().to_owned();
    let issuer = &rig.api.as_ref().unwrap().issuer;
    issuer.login(&id, &SecretString::copied(&secret)).await.unwrap();

    let listed = call(&rig, Role::Read, "GET /v1/clients", &Value::Null).await;
    assert_eq!(listed.json()["clients"][0]["name"], "agent-sync");
    let shown = call(&rig, Role::Read, "GET /v1/clients/agent-sync", &Value::Null).await;
    assert_eq!(shown.json()["allow"], json!(["GET /api/v2/users/**"]));
    assert!(!listed.body.contains(&secret) && !shown.body.contains(&secret), "it is told once");

    let disabled = call(&rig, Role::Operate, "POST /v1/clients/agent-sync/disable", &Value::Null).await;
    assert_eq!(disabled.json()["enabled"], false);
    issuer.login(&id, &SecretString::copied(&secret)).await.unwrap_err();
    call(&rig, Role::Operate, "POST /v1/clients/agent-sync/enable", &Value::Null).await;

    let line = "POST /v1/clients/agent-sync/token-binding";
    let bound = call(&rig, Role::Admin, line, &json!({ "token_binding": "dpop" })).await;
    assert_eq!((bound.status, &bound.json()["token_binding"]), (200, &json!("dpop")));
    issuer.login(&id, &SecretString::copied(&secret)).await.unwrap_err();
    for (role, status) in [(Role::Read, 403), (Role::Operate, 403)] {
        assert_eq!(call(&rig, role, line, &json!({ "token_binding": "none" })).await.status, status);
    }
    assert_eq!(call(&rig, Role::Admin, line, &json!({ "token_binding": "mtls" })).await.status, 422);
    let free = call(&rig, Role::Admin, line, &json!({ "token_binding": "none" })).await;
    assert_eq!(free.json()["token_binding"], "none");

    let line = "POST /v1/clients/agent-sync/rotate-secret";
    let rotated = call(&rig, Role::Admin, line, &json!({ "overlap_s": 60 })).await;
    let second = rotated.json()["client_secret"].as_str().unwrap().to_owned();
    for secret in [&secret, &second] {
        issuer.login(&id, &SecretString::copied(secret)).await.unwrap();
    }
    let removed = call(&rig, Role::Admin, &format!("POST /v1/clients/{id}/remove"), &Value::Null).await;
    assert_eq!(removed.status, 200);
    let gone = call(&rig, Role::Read, "GET /v1/clients/agent-sync", &Value::Null).await;
    assert_eq!(gone.code(), "keyholder.not_found");

    let entries = log(&rig);
    for change in ["add", "disable", "enable", "set_token_binding", "rotate_secret", "remove"] {
        let role = if change.ends_with("able") { "operate" } else { "admin" };
        let expected = format!("admin:the-{role} client.{change} agent-sync");
        assert!(entries.contains(&expected), "{expected} is not in {entries:#?}");
    }
    assert!(!std::fs::read_to_string(rig.folder.unwrap().path().join("audit.log")).unwrap().contains(&secret));
}

#[tokio::test]
async fn bodies_that_do_not_fit_are_told_where() {
    let rig = rig().await;
    for (body, status, word) in [
        (json!({ "name": "a", "alow": [] }), 422, "alow"),
        (json!({ "allow": [] }), 422, "name"),
        (json!({ "name": "no good" }), 422, "name"),
        (json!({ "name": "a", "credential": "acme", "allow": ["get /x"] }), 400, "method"),
        (json!({ "name": "a", "token_ttl_s": 0 }), 400, "ttl"),
        (json!([]), 422, "struct"),
    ] {
        let reply = call(&rig, Role::Admin, "POST /v1/clients", &body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        reply.code();
        assert!(reply.body.contains(word), "{body}: {}", reply.body);
    }
    let large = json!({ "name": "a", "scopes": ["x".repeat(3 << 20)] });
    for (role, line) in [(Role::Admin, "POST /v1/clients"), (Role::Operate, "POST /v1/sessions/0011223344556677/end")] {
        let reply = call(&rig, role, line, &large).await;
        assert_eq!((reply.status, reply.code().as_str()), (413, "keyholder.request.too_large"), "{line}");
    }
    assert!(rig.api.unwrap().issuer.clients().is_empty(), "nothing was added");
}

#[tokio::test]
async fn a_name_in_a_path_that_is_not_text_is_told_with_a_problem() {
    let rig = rig().await;
    for (role, line) in [
        (Role::Read, "GET /v1/clients/%ff"),
        (Role::Operate, "POST /v1/clients/%ff/disable"),
        (Role::Admin, "POST /v1/clients/%ff/remove"),
        (Role::Operate, "POST /v1/sessions/%ff/end"),
    ] {
        let reply = call(&rig, role, line, &Value::Null).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "keyholder.request.malformed"), "{line}: {reply:?}");
    }
}

#[tokio::test]
async fn the_log_is_read_and_verified_and_a_change_in_it_is_found() {
    let rig = rig().await;
    call(&rig, Role::Admin, "POST /v1/clients", &json!({ "name": "one" })).await;
    let read = call(&rig, Role::Read, "GET /v1/audit/entries?action=client.add", &Value::Null).await;
    assert_eq!(read.json()["entries"][0]["subject"], "one", "{read:?}");
    let read = call(&rig, Role::Read, "GET /v1/audit/entries?limit=1", &Value::Null).await;
    assert_eq!(read.json()["entries"].as_array().unwrap().len(), 1);
    for query in ["limit=5001", "limit=0", "limit=x", "lim=1", "since=-1", "since=1767225600", "until=1767225600"] {
        let reply = call(&rig, Role::Read, &format!("GET /v1/audit/entries?{query}"), &Value::Null).await;
        assert_eq!(reply.code(), "keyholder.request.malformed", "{query}");
    }
    let verdict = call(&rig, Role::Read, "GET /v1/audit/verify", &Value::Null).await;
    assert_eq!(verdict.json()["verified"], true, "{verdict:?}");

    let path = rig.folder.as_ref().unwrap().path().join("audit.log");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"one\"", "\"two\"")).unwrap();
    let verdict = call(&rig, Role::Read, "GET /v1/audit/verify", &Value::Null).await;
    assert_eq!((&verdict.json()["verified"], &verdict.json()["finding"]), (&json!(false), &json!("edited")));
}

#[tokio::test]
async fn nothing_is_done_that_cannot_be_written_down() {
    let rig = rig().await;
    let api = rig.api.as_ref().unwrap();
    let path = rig.folder.as_ref().unwrap().path().join("audit.log");
    // as if somebody had put a line of his own in
    std::fs::write(&path, "{}\n").unwrap();
    let reply = call(&rig, Role::Admin, "POST /v1/clients", &json!({ "name": "one" })).await;
    assert_eq!(reply.code(), "keyholder.state.unavailable");
    assert!(api.issuer.clients().is_empty());
    // health is told all the same
    assert_eq!(rig.send("GET /livez", "", "").await.status, 200);
}

#[tokio::test]
async fn the_document_is_served_and_complete() {
    let rig = rig().await;
    let served = call(&rig, Role::Read, "GET /v1/openapi.json", &Value::Null).await;
    assert_eq!(served.json(), serde_json::to_value(api::document()).unwrap());
    let document = served.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for (method, path, _) in operations() {
        let operation = &document["paths"][&path][method.to_lowercase()];
        assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{method} {path}");
    }
    // every reference leads somewhere
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is not described");
    }
}
