//! Each rule of the Vault fake, asked by HTTP.

use std::sync::Arc;

use kh_fakes::{
    Options, Running, start,
    vault::{Leader, Node, Vault},
};
use serde_json::{Value, json};

use crate::client::{Answer, ask};

mod identity;
mod server;

/// A running fake.
struct World {
    fake: Arc<Vault>,
    running: Running,
    root: String,
}

async fn world() -> World {
    let fake = Arc::new(Vault::new());
    let running = start(fake.clone(), Options::default()).await.unwrap();
    running.control.clock().freeze();
    let root = fake.root_token();
    World { fake, running, root }
}

impl World {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        ask(self.running.address, method, &format!("/v1/{path}"), headers, body).await.unwrap()
    }

    /// As the given token.
    async fn by(&self, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.ask(method, path, &[("x-vault-token", token)], body).await;
        (answer.status, answer.json())
    }

    /// As root.
    async fn root(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.by(&self.root, method, path, body).await
    }

    /// As root, and it must succeed.
    async fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.root(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    async fn put(&self, key: &str, value: &str) -> u64 {
        let answer = self.done("POST", &format!("secret/data/{key}"), &json!({"data": {"v": value}})).await;
        answer["data"]["version"].as_u64().unwrap()
    }
}

fn errors(answer: &(u16, Value)) -> (u16, String) {
    (answer.0, answer.1["errors"][0].as_str().unwrap_or("none").to_owned())
}

#[tokio::test]
async fn versions_count_up_and_can_be_read_one_by_one() {
    let world = world().await;
    for (value, version) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(world.put("x/y", value).await, version);
    }
    let newest = world.done("GET", "secret/data/x/y", &Value::Null).await;
    assert_eq!((&newest["data"]["data"]["v"], &newest["data"]["metadata"]["version"]), (&json!("c"), &json!(3)));
    assert_eq!(newest["data"]["metadata"]["deletion_time"], "");
    let second = world.done("GET", "secret/data/x/y?version=2", &Value::Null).await;
    assert_eq!(second["data"]["data"]["v"], "b");
    for missing in ["secret/data/x/y?version=9", "secret/data/none", "secret/metadata/none"] {
        let answer = world.root("GET", missing, &Value::Null).await;
        assert_eq!(answer, (404, json!({"errors": []})), "{missing}");
    }
}

#[tokio::test]
async fn check_and_set_compares_with_the_current_version_even_a_dead_one() {
    let world = world().await;
    let put = async |cas: Value| {
        let body = json!({"options": {"cas": cas}, "data": {"v": "x"}});
        errors(&world.root("POST", "secret/data/k", &body).await)
    };
    let mismatch = (400, "check-and-set parameter did not match the current version".to_owned());
    let done = (200, "none".to_owned());
    assert_eq!(put(json!(1)).await, mismatch);
    assert_eq!(put(json!(0)).await, done, "0 writes only what is not there");
    assert_eq!(put(json!(0)).await, mismatch);
    assert_eq!(put(json!("1")).await, done, "text is a number too");
    assert_eq!(put(json!(-1)).await, mismatch);
    assert_eq!(put(json!([2])).await, (400, "error parsing check-and-set parameter".to_owned()));
    world.done("DELETE", "secret/data/k", &Value::Null).await;
    assert_eq!(put(json!(0)).await, mismatch, "a deleted version is the current one");
    world.done("POST", "secret/destroy/k", &json!({"versions": [2]})).await;
    assert_eq!(put(json!(0)).await, mismatch, "and so is a destroyed one");
    assert_eq!(put(json!(2)).await, done);
    world.done("DELETE", "secret/metadata/k", &Value::Null).await;
    assert_eq!(put(json!(0)).await, done, "without metadata it starts over");
}

#[tokio::test]
async fn check_and_set_can_be_demanded_by_key_and_by_mount() {
    let world = world().await;
    let demanded = (400, "check-and-set parameter required for this call".to_owned());
    let plain = json!({"data": {"v": "x"}});
    world.done("POST", "secret/metadata/k", &json!({"cas_required": true})).await;
    assert_eq!(errors(&world.root("POST", "secret/data/k", &plain).await), demanded);
    assert_eq!(world.put("other", "x").await, 1);
    world.done("POST", "secret/config", &json!({"cas_required": true, "max_versions": 3})).await;
    assert_eq!(errors(&world.root("PUT", "secret/data/other", &plain).await), demanded);
    let config = world.done("GET", "secret/config", &Value::Null).await;
    assert_eq!((&config["data"]["cas_required"], &config["data"]["max_versions"]), (&json!(true), &json!(3)));
}

#[tokio::test]
async fn a_dead_version_is_404_with_its_metadata() {
    let world = world().await;
    world.put("k", "a").await;
    world.put("k", "b").await;
    world.done("DELETE", "secret/data/k", &Value::Null).await;
    let (status, deleted) = world.root("GET", "secret/data/k", &Value::Null).await;
    assert_eq!(
        (status, &deleted["data"]["data"], &deleted["data"]["metadata"]["version"]),
        (404, &Value::Null, &json!(2))
    );
    assert_ne!(deleted["data"]["metadata"]["deletion_time"], "");
    assert_eq!(world.root("GET", "secret/data/k?version=1", &Value::Null).await.0, 200, "the older one is still there");
    world.done("POST", "secret/undelete/k", &json!({"versions": ["2"]})).await;
    assert_eq!(world.done("GET", "secret/data/k", &Value::Null).await["data"]["data"]["v"], "b");
    world.done("POST", "secret/delete/k", &json!({"versions": "1,2"})).await;
    assert_eq!(world.root("GET", "secret/data/k?version=1", &Value::Null).await.0, 404);
    world.done("POST", "secret/destroy/k", &json!({"versions": [2, 77]})).await;
    world.done("POST", "secret/undelete/k", &json!({"versions": [1, 2]})).await;
    let (status, destroyed) = world.root("GET", "secret/data/k", &Value::Null).await;
    assert_eq!((status, &destroyed["data"]["metadata"]["destroyed"]), (404, &json!(true)), "destroyed stays so");
    assert_eq!(world.root("GET", "secret/data/k?version=1", &Value::Null).await.0, 200);
    for (what, text) in [("delete", "no version"), ("undelete", "No version"), ("destroy", "no version")] {
        let refused = errors(&world.root("POST", &format!("secret/{what}/k"), &json!({"versions": []})).await);
        assert_eq!(refused, (400, format!("{text} number provided")));
    }
    assert_eq!(world.root("POST", "secret/destroy/none", &json!({"versions": [1]})).await.0, 204);
}

#[tokio::test]
async fn ten_versions_are_kept_unless_more_are_asked_for() {
    let world = world().await;
    for count in 0..12 {
        world.put("k", &count.to_string()).await;
    }
    let metadata = world.done("GET", "secret/metadata/k", &Value::Null).await["data"].clone();
    assert_eq!((&metadata["oldest_version"], &metadata["current_version"]), (&json!(3), &json!(12)));
    assert_eq!(metadata["versions"].as_object().unwrap().len(), 10);
    assert_eq!(metadata["max_versions"], 0, "not set is told as 0");
    assert_eq!(world.root("GET", "secret/data/k?version=2", &Value::Null).await.0, 404);
    world.done("POST", "secret/metadata/k", &json!({"max_versions": 2})).await;
    world.put("k", "x").await;
    let metadata = world.done("GET", "secret/metadata/k", &Value::Null).await["data"].clone();
    assert_eq!(metadata["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["12", "13"]);
    world.done("POST", "secret/config", &json!({"max_versions": 4})).await;
    for _ in 0..4 {
        world.put("k", "x").await;
    }
    let metadata = world.done("GET", "secret/metadata/k", &Value::Null).await["data"].clone();
    assert_eq!(metadata["versions"].as_object().unwrap().len(), 4, "the larger of mount and key holds");
}

#[tokio::test]
async fn versions_can_end_by_themselves() {
    let world = world().await;
    world.done("POST", "secret/metadata/k", &json!({"delete_version_after": "30s"})).await;
    world.put("k", "a").await;
    assert_eq!(world.root("GET", "secret/data/k", &Value::Null).await.0, 200);
    world.running.control.clock().shift(31);
    assert_eq!(world.root("GET", "secret/data/k", &Value::Null).await.0, 404);
}

#[tokio::test]
async fn own_metadata_has_limits() {
    let world = world().await;
    let set = async |custom: Value| world.root("POST", "secret/metadata/k", &json!({"custom_metadata": custom})).await;
    let many: serde_json::Map<_, _> = (0..65).map(|number| (number.to_string(), json!("x"))).collect();
    assert_eq!(set(json!({"k": "x".repeat(512)})).await.0, 204);
    for bad in [
        Value::Object(many),
        json!({"x".repeat(129): "x"}),
        json!({"k": "x".repeat(513)}),
        json!({"k": ""}),
        json!({"": "v"}),
        json!({"k": "a\u{0}"}),
        json!({"k": {"deep": 1}}),
    ] {
        let (status, text) = errors(&set(bad).await);
        assert!(status == 400 && text.starts_with("custom_metadata validation failed"), "{text}");
    }
    world.put("k", "a").await;
    let read = world.done("GET", "secret/data/k", &Value::Null).await;
    assert_eq!(read["data"]["metadata"]["custom_metadata"]["k"], "x".repeat(512), "it belongs to the key");
}

#[tokio::test]
async fn lists_show_one_level_and_dead_keys_too() {
    let world = world().await;
    for key in ["a", "b/c", "b/d/e", "b.kh-next"] {
        world.put(key, "x").await;
    }
    world.done("DELETE", "secret/data/a", &Value::Null).await;
    let list = async |method: &str, path: &str| world.root(method, path, &Value::Null).await;
    let (_, root) = list("LIST", "secret/metadata/").await;
    assert_eq!(root["data"]["keys"], json!(["a", "b.kh-next", "b/"]));
    let (_, living) = list("LIST", "secret/metadata?exclude_deleted=true").await;
    assert_eq!(living["data"]["keys"], json!(["b.kh-next", "b/"]));
    let (_, below) = list("GET", "secret/metadata/b?list=true").await;
    assert_eq!(below["data"]["keys"], json!(["c", "d/"]));
    assert_eq!(list("LIST", "secret/metadata/none").await, (404, json!({"errors": []})));
}

#[tokio::test]
async fn a_patch_merges_into_a_living_version_only() {
    let world = world().await;
    world.done("POST", "secret/data/k", &json!({"data": {"a": "1", "b": "2"}})).await;
    let patch = async |kind: &str, key: &str| {
        let body = json!({"data": {"b": null, "c": "3"}, "options": {"cas": 1}});
        let headers = [("x-vault-token", world.root.as_str()), ("content-type", kind)];
        world.ask("PATCH", &format!("secret/data/{key}"), &headers, &body).await.status
    };
    assert_eq!(patch("application/json", "k").await, 415);
    assert_eq!(patch("application/merge-patch+json", "none").await, 404);
    assert_eq!(patch("application/merge-patch+json", "k").await, 200);
    let read = world.done("GET", "secret/data/k", &Value::Null).await;
    assert_eq!(read["data"]["data"], json!({"a": "1", "c": "3"}));
    world.done("DELETE", "secret/data/k", &Value::Null).await;
    assert_eq!(patch("application/merge-patch+json", "k").await, 404);
}

#[tokio::test]
async fn what_has_no_sense_is_refused() {
    let world = world().await;
    for (method, path, body, status) in [
        ("POST", "secret/data/k", json!({"v": "data is missing"}), 400),
        ("POST", "secret/data/k", json!({"data": "text"}), 400),
        ("POST", "secret/data/k/", json!({"data": {}}), 404),
        ("GET", "secret/k", Value::Null, 404),
        ("GET", "secret/data", Value::Null, 404),
        ("GET", "other/data/k", Value::Null, 404),
        ("TRACE", "secret/data/k", Value::Null, 405),
    ] {
        assert_eq!(world.root(method, path, &body).await.0, status, "{method} {path}");
    }
    let headers = [("x-vault-token", world.root.as_str())];
    let answer = ask(world.running.address, "POST", "/v1/secret/data/k", &headers, b"{".to_vec()).await.unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(world.running.control.changes(), 0);
}
