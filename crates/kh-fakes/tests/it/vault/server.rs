//! Seal, standby, health, quotas, upgrades, lag.

use kh_fakes::Fault;

use super::*;

#[tokio::test]
async fn a_sealed_server_answers_503_to_all_but_its_health() {
    let world = world().await;
    world.fake.set_sealed(true);
    let sealed = world.root("GET", "secret/data/k", &Value::Null).await;
    assert_eq!(errors(&sealed), (503, "Vault is sealed".to_owned()));
    let status = world.root("GET", "sys/seal-status", &Value::Null).await;
    assert_eq!((status.0, &status.1["sealed"]), (200, &json!(true)));
    assert_eq!(world.root("GET", "sys/health", &Value::Null).await.0, 503);
    world.fake.set_sealed(false);
    assert_eq!(world.root("GET", "secret/data/k", &Value::Null).await.0, 404);
}

#[tokio::test]
async fn health_tells_what_the_node_is() {
    let world = world().await;
    for (node, plain, asked_gently) in [
        (Node::Active, 200, 200),
        (Node::Standby(Leader::Forwards), 429, 200),
        (Node::PerformanceStandby, 473, 473),
        (Node::RecoverySecondary, 472, 472),
    ] {
        world.fake.set_node(node.clone());
        assert_eq!(world.root("GET", "sys/health", &Value::Null).await.0, plain, "{node:?}");
        assert_eq!(world.root("HEAD", "sys/health", &Value::Null).await.0, plain, "{node:?}");
        assert_eq!(world.root("GET", "sys/health?standbyok=true", &Value::Null).await.0, asked_gently, "{node:?}");
    }
    world.fake.set_node(Node::PerformanceStandby);
    assert_eq!(world.root("GET", "sys/health?perfstandbyok=true", &Value::Null).await.0, 200);
    world.fake.set_node(Node::Standby(Leader::None));
    assert_eq!(world.root("GET", "sys/health?standbycode=299", &Value::Null).await.0, 299);
}

#[tokio::test]
async fn a_standby_forwards_redirects_or_knows_no_leader() {
    let world = world().await;
    world.put("k", "a").await;
    world.fake.set_node(Node::Standby(Leader::Forwards));
    assert_eq!(world.root("GET", "secret/data/k", &Value::Null).await.0, 200);
    world.fake.set_node(Node::Standby(Leader::Redirects("https://leader:8200".to_owned())));
    let raw = world.root("GET", "secret/data/k?version=1", &Value::Null).await;
    assert_eq!(raw, (307, Value::Null));
    world.fake.set_node(Node::Standby(Leader::None));
    let none = world.root("GET", "secret/data/k", &Value::Null).await;
    assert_eq!(errors(&none), (503, "no active Vault instance found".to_owned()));
}

#[tokio::test]
async fn quotas_upgrades_and_lag_are_told_as_they_are() {
    let world = world().await;
    world.put("k", "a").await;
    world.put("k", "b").await;
    world.running.control.fault(Fault::Throttle { retry_after_seconds: Some(3) }.once());
    let (status, text) = errors(&world.root("GET", "secret/data/k", &Value::Null).await);
    assert!(status == 429 && text.contains("rate limit quota exceeded"), "{text}");
    world.fake.set_upgrading(true);
    let (status, text) = errors(&world.root("GET", "secret/data/k", &Value::Null).await);
    assert!(status == 400 && text.starts_with("Upgrading from non-versioned"), "{text}");
    world.fake.set_upgrading(false);
    world.fake.lag("k", 1);
    let read = async || world.done("GET", "secret/data/k", &Value::Null).await["data"]["data"]["v"].clone();
    assert_eq!([read().await, read().await], [json!("a"), json!("b")]);
    world.running.control.fault(Fault::Forbid.once());
    assert_eq!(world.root("GET", "secret/data/k", &Value::Null).await.0, 403);
    world.running.control.fault(Fault::FailAfter.once());
    let failed = world.root("POST", "secret/data/k", &json!({"data": {"v": "c"}})).await;
    assert_eq!(errors(&failed), (500, "internal error".to_owned()));
    assert_eq!(read().await, "c", "it was written all the same");
}

#[tokio::test]
async fn commands_steer_it_from_other_languages() {
    let world = world().await;
    let command = async |name: &str, argument: Value| {
        ask(world.running.address, "POST", &format!("/_fake/{name}"), &[], argument.to_string().into_bytes())
            .await
            .unwrap()
            .status
    };
    assert_eq!(command("seal", Value::Null).await, 200);
    assert_eq!(world.root("GET", "secret/data/k", &Value::Null).await.0, 503);
    assert_eq!(command("unseal", Value::Null).await, 200);
    assert_eq!(command("node", json!({"node": "standby", "leader": ""})).await, 200);
    assert_eq!(world.root("GET", "secret/data/k", &Value::Null).await.0, 503);
    assert_eq!(command("node", json!({"node": "king"})).await, 400);
}
