//! Every effect of the fault plan, and what the journal says about it.

use crate::harness::{Rig, answer};
use kh_sandbox::SandboxConfig;
use serde_json::{Value, json};

const ROLES: &str = "/api/v2/authorization/roles";

async fn last(rig: &Rig) -> Value {
    let journal = rig.control("GET", "/_sandbox/requests?platform=genesys", Value::Null).await.json();
    journal["requests"].as_array().unwrap().last().unwrap().clone()
}

async fn roles(rig: &Rig, token: &str) -> u64 {
    rig.call("GET", ROLES, token).await.json()["total"].as_u64().unwrap()
}

fn only(method: &str, effect: Value) -> Value {
    json!([{"match": {"platform": "genesys", "method": method, "path": ROLES, "first": 1}, "effect": effect}])
}

#[tokio::test]
async fn drops_before_and_after_applying() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    let before = roles(&rig, &token).await;
    for (kind, applied) in [("drop_before", false), ("drop_after", true)] {
        rig.faults(only("POST", json!({"kind": kind}))).await;
        let request = rig.request("POST", ROLES, &token).json(&json!({"name": kind}));
        assert!(request.send().await.is_err(), "{kind} gives no answer");
        let entry = last(&rig).await;
        assert_eq!(
            (&entry["status"], &entry["applied"], &entry["fault"]),
            (&Value::Null, &json!(applied), &json!(true))
        );
    }
    assert_eq!(roles(&rig, &token).await, before + 1, "only the second was applied");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn statuses_with_retry_after_and_body() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    let before = roles(&rig, &token).await;
    rig.faults(only("POST", json!({"kind": "status", "status": 503, "retry_after": "7200"}))).await;
    let refused = rig.send("POST", ROLES, &token, json!({"name": "x"})).await;
    assert_eq!(
        (refused.status, refused.number("retry-after"), refused.code().as_str()),
        (503, 7_200, "service.unavailable")
    );
    assert!(refused.headers.contains_key("inin-ratelimit-count"), "on each answer");
    rig.faults(only("POST", json!({"kind": "status", "status": 502, "body": "<html>"}))).await;
    let refused = rig.send("POST", ROLES, &token, json!({"name": "x"})).await;
    assert_eq!((refused.status, refused.text.as_str()), (502, "<html>"));
    assert_eq!(last(&rig).await["applied"], false);
    rig.faults(json!([])).await;
    assert_eq!(roles(&rig, &token).await, before);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn unauthorized_with_a_chosen_code() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    for code in ["bad.credentials", "ip.not.authorized"] {
        rig.faults(only("GET", json!({"kind": "unauthorized", "code": code}))).await;
        let refused = rig.call("GET", ROLES, &token).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, code));
    }
    rig.faults(
        json!([{"match": {"endpoint": "/oauth/token"}, "effect": {"kind": "unauthorized", "code": "invalid_client"}}]),
    )
    .await;
    let login = rig.login("a", "b").await;
    assert_eq!((login.status, login.json()["error"].as_str()), (401, Some("invalid_client")), "the login host's shape");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn spoiled_bodies() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    rig.faults(only("GET", json!({"kind": "bad_json"}))).await;
    let bad = rig.call("GET", ROLES, &token).await;
    assert_eq!((bad.status, bad.header("content-type")), (200, "application/json"));
    assert!(serde_json::from_str::<Value>(&bad.text).is_err() && !bad.text.is_empty());
    rig.faults(only("GET", json!({"kind": "empty_body"}))).await;
    let empty = rig.call("GET", ROLES, &token).await;
    assert_eq!((empty.status, empty.text.as_str()), (200, ""));
    rig.faults(only("GET", json!({"kind": "truncated_body"}))).await;
    let response = rig.request("GET", ROLES, &token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.content_length().unwrap() > 0);
    assert!(response.text().await.is_err(), "the body ends before its announced length");
    rig.faults(only("GET", json!({"kind": "slow_body", "bytes": 50, "ms": 1}))).await;
    let slow = rig.call("GET", ROLES, &token).await;
    assert!(slow.json()["entities"].is_array(), "slow but whole");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_delay_holds_the_answer_back() {
    let rig = Rig::default().await;
    let token = rig.token().await;
    rig.faults(only("GET", json!({"kind": "delay", "ms": 600_000}))).await;
    let request = rig.request("GET", ROLES, &token).timeout(std::time::Duration::from_millis(200));
    assert!(request.send().await.unwrap_err().is_timeout());
    assert_eq!(rig.call("GET", ROLES, &token).await.status, 200, "first: 1");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_skewed_date() {
    let mut config = SandboxConfig::default();
    config.behaviours.date_skew_seconds = 100;
    let rig = Rig::start(config).await;
    rig.freeze().await;
    let now = rig.control("GET", "/_sandbox/clock", Value::Null).await.json()["now_ms"].as_i64().unwrap() / 1_000;
    let token = rig.token().await;
    let date = |answer: &crate::harness::Answer| {
        let at = httpdate::parse_http_date(answer.header("date")).unwrap();
        i64::try_from(at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
    };
    assert_eq!(date(&rig.call("GET", ROLES, &token).await), now + 100);
    rig.faults(only("GET", json!({"kind": "clock_skew", "seconds": -3_600}))).await;
    assert_eq!(date(&rig.call("GET", ROLES, &token).await), now + 100 - 3_600);
    assert_eq!(date(&rig.call("GET", ROLES, &token).await), now + 100);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn rules_pick_by_client_endpoint_nth_and_time_and_count_their_hits() {
    let rig = Rig::default().await;
    rig.freeze().await;
    let token = rig.token().await;
    let now = rig.control("GET", "/_sandbox/clock", Value::Null).await.json()["now_ms"].as_i64().unwrap() / 1_000;
    let status = json!({"kind": "status", "status": 500});
    rig.faults(json!({"rules": [
        {"name": "third", "match": {"endpoint": "/api/v2/authorization/roles/{roleId}", "nth": 3}, "effect": status},
        {"name": "other client", "match": {"client": "somebody else"}, "effect": status},
        {"name": "until", "match": {"client": rig.sandbox.admin().id, "path": "/api/**/me", "until": now + 10}, "effect": status},
        {"name": "never", "match": {"path": "/api/v2/authorization/**", "probability": 0.0}, "effect": status},
    ]})).await;
    let statuses = [
        rig.call("GET", "/api/v2/authorization/roles/x", &token).await.status,
        rig.call("GET", "/api/v2/authorization/roles/x", &token).await.status,
        rig.call("GET", "/prefix/api/v2/authorization/roles/x", &token).await.status,
        rig.call("GET", "/api/v2/authorization/roles/x", &token).await.status,
        rig.call("GET", "/api/v2/tokens/me", &token).await.status,
    ];
    assert_eq!(statuses, [404, 404, 500, 404, 500]);
    rig.pass(10).await;
    assert_eq!(rig.call("GET", "/api/v2/tokens/me", &token).await.status, 200, "until is over");
    let report = rig.control("GET", "/_sandbox/faults", Value::Null).await.json();
    let counts: Vec<(u64, u64)> = report["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["seen"].as_u64().unwrap(), rule["hits"].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [(4, 1), (0, 0), (1, 1), (3, 0)]);
    assert_eq!(rig.control("PUT", "/_sandbox/faults", report).await.status, 200, "what GET answers can be sent back");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn probability_follows_the_seed() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let rig = Rig::start(SandboxConfig { seed, ..SandboxConfig::default() }).await;
        rig.faults(json!([{"match": {"probability": 0.5}, "effect": {"kind": "status", "status": 500}}])).await;
        let mut run = Vec::new();
        for _ in 0..40 {
            run.push(answer(rig.http.get(format!("{}/x", rig.sandbox.genesys_url))).await.status);
        }
        assert!(run.contains(&500) && run.contains(&404), "{run:?}");
        runs.push(run);
        rig.sandbox.shutdown().await;
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn a_wrong_plan_changes_nothing() {
    let rig = Rig::default().await;
    rig.faults(json!([{"effect": {"kind": "drop_before"}, "match": {"path": "/none"}}])).await;
    for bad in [
        json!([{"effect": {"kind": "explode"}}]),
        json!([{"effect": {"kind": "status", "status": 200}}]),
        json!([{"effect": {"kind": "bad_json"}, "match": {"probability": 1.5}}]),
        json!([{"effect": {"kind": "bad_json"}, "match": {"nth": 0}}]),
        json!([{"effect": {"kind": "bad_json"}, "matches": {}}]),
        json!("x"),
    ] {
        let refused = rig.control("PUT", "/_sandbox/faults", bad.clone()).await;
        assert_eq!((refused.status, refused.header("content-type")), (400, "application/problem+json"), "{bad}");
    }
    assert_eq!(rig.control("GET", "/_sandbox/faults", Value::Null).await.json()["rules"].as_array().unwrap().len(), 1);
    rig.sandbox.shutdown().await;
}
