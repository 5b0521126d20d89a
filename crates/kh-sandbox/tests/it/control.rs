//! The control API and the journal.

use crate::harness::{Rig, answer};
use kh_sandbox::SandboxConfig;
use serde_json::{Value, json};

#[tokio::test]
async fn the_journal_tells_calls_and_counts_but_no_secrets() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    let client = rig.sandbox.admin().clone();
    let called = rig.call("GET", "/pre/api/v2/oauth/clients/nope?secret=hidden-in-query", &token).await;
    assert_eq!(called.status, 404);
    let journal = rig.control("GET", "/_sandbox/requests", Value::Null).await;
    for secret in [token.as_str(), client.secret.expose(), "hidden-in-query", "Basic", "Bearer"] {
        assert!(!journal.text.contains(secret), "{secret}");
    }
    let journal = journal.json();
    let entries = journal["requests"].as_array().unwrap();
    assert_eq!(
        (entries[0]["endpoint"].as_str(), entries[0]["client"].as_str()),
        (Some("/oauth/token"), Some(client.id.as_str()))
    );
    let entry = &entries[1];
    assert_eq!(entry["path"], "/pre/api/v2/oauth/clients/nope");
    assert_eq!(entry["endpoint"], "/api/v2/oauth/clients/{clientId}");
    assert_eq!((&entry["status"], &entry["applied"], &entry["seq"]), (&json!(404), &json!(false), &json!(2)));
    assert_eq!(entry["correlation_id"], called.header("inin-correlation-id"));
    assert_eq!(entry["token_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(
        journal["counts"],
        json!({"GET /api/v2/oauth/clients/{clientId}": {"404": 1}, "POST /oauth/token": {"200": 1}})
    );
    let after = rig.control("GET", "/_sandbox/requests?after=1", Value::Null).await.json();
    assert_eq!(after["requests"].as_array().unwrap().len(), 1);
    assert_eq!(rig.sandbox.requests().len(), 2);
    assert_eq!(rig.control("DELETE", "/_sandbox/requests", Value::Null).await.status, 204);
    assert_eq!(rig.control("GET", "/_sandbox/requests", Value::Null).await.json()["total"], 0);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn the_journal_is_bounded_and_its_counts_go_on() {
    let mut config = SandboxConfig::default();
    config.limits.journal_entries_max = 3;
    let rig = Rig::start(config).await;
    for _ in 0..5 {
        rig.login("a", "b").await;
    }
    let journal = rig.control("GET", "/_sandbox/requests", Value::Null).await.json();
    let seqs: Vec<u64> =
        journal["requests"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [3, 4, 5]);
    assert_eq!(journal["counts"]["POST /oauth/token"]["401"], 5);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn tokens_are_revoked_by_digest_by_client_and_all() {
    let rig = Rig::default().await;
    let revoke = async |body: Value| rig.control("POST", "/_sandbox/tokens/revoke", body).await;
    let (first, second) = (rig.token().await, rig.token().await);
    rig.call("HEAD", "/api/v2/tokens/me", &first).await;
    let journal = rig.control("GET", "/_sandbox/requests", Value::Null).await.json();
    let digest = journal["requests"].as_array().unwrap().last().unwrap()["token_sha256"].clone();
    assert_eq!(revoke(json!({"sha256": digest})).await.json(), json!({"revoked": 1}));
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &first).await.status, 401);
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &second).await.status, 200);
    assert_eq!(revoke(json!({"client": "nobody"})).await.json(), json!({"revoked": 0}));
    assert_eq!(revoke(json!({"client": rig.sandbox.admin().id})).await.json(), json!({"revoked": 1}));
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &second).await.status, 401);
    let third = rig.token().await;
    assert_eq!(revoke(json!({"all": true})).await.json(), json!({"revoked": 1}));
    assert_eq!(rig.call("HEAD", "/api/v2/tokens/me", &third).await.status, 401);
    for bad in [json!({}), json!({"all": false}), json!({"token": "x"})] {
        assert_eq!(revoke(bad).await.status, 400);
    }
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn the_clock_freezes_and_shifts() {
    let rig = Rig::default().await;
    rig.freeze().await;
    let read = async || rig.control("GET", "/_sandbox/clock", Value::Null).await.json()["now_ms"].as_i64().unwrap();
    let start = read().await;
    let shifted = rig.control("POST", "/_sandbox/clock", json!({"shift_seconds": 90, "shift_ms": 5})).await.json();
    assert_eq!((&shifted["now_ms"], &shifted["frozen"]), (&json!(start + 90_005), &json!(true)));
    assert_eq!(read().await, start + 90_005);
    let absurd = rig.control("POST", "/_sandbox/clock", json!({"shift_seconds": i64::MAX})).await;
    assert_eq!(absurd.status, 400);
    assert_eq!(rig.control("POST", "/_sandbox/clock", json!({"jump": 1})).await.status, 400);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn health_and_the_published_document() {
    let rig = Rig::default().await;
    assert_eq!(rig.control("GET", "/healthz", Value::Null).await.text, "ok\n");
    let document = rig.control("GET", "/_sandbox/openapi.json", Value::Null).await;
    assert_eq!((document.status, &document.json()["swagger"]), (200, &json!("2.0")));
    let outside = answer(rig.http.get(format!("{}/_sandbox/faults", rig.sandbox.genesys_url))).await;
    assert_eq!(outside.status, 404, "the control API is on its own listener only");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn unknown_keys_and_contradictions_stop_the_start() {
    let unknown = serde_json::from_value::<SandboxConfig>(json!({"limits": {"requests": 1}}));
    assert!(unknown.is_err());
    let config: SandboxConfig =
        serde_json::from_value(json!({"genesys": {"clients": [{"name": "a", "roles": ["nope"]}]}})).unwrap();
    let error = kh_sandbox::Sandbox::start(config).await.unwrap_err();
    assert!(error.to_string().contains("genesys.clients[0].roles"), "{error}");
}

#[tokio::test]
async fn shutdown_closes_the_port() {
    let rig = Rig::default().await;
    let address = rig.sandbox.genesys_url.trim_start_matches("http://").to_owned();
    rig.sandbox.shutdown().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_same_seed_gives_the_same_clients() {
    let mut secrets = Vec::new();
    for seed in [5, 5, 6] {
        let rig = Rig::start(SandboxConfig { seed, ..SandboxConfig::default() }).await;
        let admin = rig.sandbox.admin();
        assert!(!format!("{:?}", rig.sandbox.clients).contains(admin.secret.expose()), "Debug shows no secret");
        secrets.push((admin.id.clone(), admin.secret.expose().to_owned()));
        rig.sandbox.shutdown().await;
    }
    assert_eq!(secrets[0], secrets[1]);
    assert_ne!(secrets[0], secrets[2]);
}
