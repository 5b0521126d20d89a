//! Users' sessions over the admin API: pages, who may end one, what is refused, and what is written down.

use std::time::Duration;

use kh_admin::Role;
use kh_core::{
    Sha256,
    port::{SessionLimits, SessionRecord},
    session::{RefreshJournal, SessionEnd, SessionName},
};
use kh_issuer::{NewClient, NewTokens};
use serde_json::{Value, json};

use crate::{
    api::{call, log, rig},
    rig::{Rig, START},
};

/// A client with so many sessions of users; their tokens.
async fn sessions(rig: &Rig, name: &str, count: usize) -> Vec<Sha256> {
    let ports = rig.api.as_ref().unwrap();
    let new = NewClient {
        name: name.parse().unwrap(),
        credential: Some("acme".parse().unwrap()),
        environment: None,
        scopes: Vec::new(),
        tokens: NewTokens::default(),
        allow: Vec::new(),
        allow_all: true,
        allow_secret_operations: false,
        ttl: None,
    };
    let (client, secret) = ports.issuer.add_client(new, "cli:test").await.unwrap();
    let mut tokens = Vec::new();
    for _ in 0..count {
        let token = ports.issuer.login(client.id.as_str(), &secret).await.unwrap().access_token.sha256();
        let record = SessionRecord {
            token,
            client: client.id.clone(),
            credential: "acme".parse().unwrap(),
            began_at: START,
            used_at: START,
            expires_at: START.plus(Duration::from_hours(24)),
            idle_life: Duration::from_hours(1),
            version: 1,
            journal: RefreshJournal::begin(true),
            sealed: Some(b"MARKED".to_vec()),
            end: None,
        };
        let limits = SessionLimits { per_client: 100, total: 100 };
        ports.sessions.store.begin_session(record, limits).await.unwrap();
        tokens.push(token);
    }
    tokens.sort_by_key(|token| token.0);
    tokens
}

fn id(token: Sha256) -> String {
    SessionName::of(token).to_string()
}

async fn page(rig: &Rig, query: &str) -> Value {
    let reply = call(rig, Role::Read, &format!("GET /v1/sessions{query}"), &Value::Null).await;
    assert_eq!(reply.status, 200, "{query}: {reply:?}");
    assert!(!reply.body.contains("MARKED") && !reply.body.contains("kht_"), "{}", reply.body);
    reply.json()
}

#[tokio::test]
async fn pages_show_each_session_once() {
    let rig = rig().await;
    assert_eq!(page(&rig, "").await, json!({ "sessions": [] }));
    let of_portal = sessions(&rig, "portal", 5).await;
    let of_other = sessions(&rig, "other", 2).await;
    let (mut seen, mut query) = (Vec::new(), "?limit=2&client=portal".to_owned());
    loop {
        let page = page(&rig, &query).await;
        let ids = page["sessions"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        seen.extend(ids);
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=2&client=portal&after={next}");
    }
    assert_eq!(seen, of_portal.iter().map(|token| id(*token)).collect::<Vec<_>>());
    let all = page(&rig, "").await;
    assert_eq!(all["sessions"].as_array().unwrap().len(), 7);
    let hour = 3_600_000;
    let one = page(&rig, "?client=other&limit=1").await["sessions"][0].clone();
    for (name, value) in [
        ("id", json!(id(of_other[0]))),
        ("client", json!("other")),
        ("credential", json!("acme")),
        ("began_at", json!(START.0)),
        ("idle_ends_at", json!(START.0 + hour)),
        ("expires_at", json!(START.0 + 24 * hour)),
        ("renewable", json!(true)),
    ] {
        assert_eq!(one[name], value, "{name}");
    }
    for (query, status) in [
        ("?limit=0", 400),
        ("?limit=1001", 400),
        ("?limit=x", 400),
        ("?after=xyz", 400),
        ("?after=0011223344556677889900", 400),
        ("?token=1", 400),
        ("?client=nobody", 404),
    ] {
        let reply = call(&rig, Role::Read, &format!("GET /v1/sessions{query}"), &Value::Null).await;
        assert_eq!(reply.status, status, "{query}: {reply:?}");
    }
}

#[tokio::test]
async fn a_session_is_ended_once_by_who_may_and_written_down() {
    let rig = rig().await;
    let tokens = sessions(&rig, "portal", 3).await;
    let line = |token: Sha256| format!("POST /v1/sessions/{}/end", id(token));
    let store = &rig.api.as_ref().unwrap().sessions.store;
    let end = async |token| store.session(token).await.unwrap().unwrap().end;
    assert_eq!(call(&rig, Role::Read, &line(tokens[0]), &Value::Null).await.status, 403);
    assert_eq!(end(tokens[0]).await, None);

    for (body, status) in [
        (json!({ "reason": "x".repeat(501) }), 400),
        (json!({ "reason": "two\nlines" }), 400),
        (json!({ "why": "x" }), 400),
        (json!([]), 400),
    ] {
        let reply = call(&rig, Role::Operate, &line(tokens[0]), &body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
    }
    assert_eq!(end(tokens[0]).await, None, "what is refused ends nothing");
    for (name, status) in [("0011223344556677", 404), ("portal", 400), ("..", 400)] {
        let reply = call(&rig, Role::Operate, &format!("POST /v1/sessions/{name}/end"), &Value::Null).await;
        assert_eq!(reply.status, status, "{name}: {reply:?}");
    }

    for body in [json!({ "reason": "laptop lost" }), Value::Null] {
        let reply = call(&rig, Role::Operate, &line(tokens[0]), &body).await;
        assert_eq!((reply.status, reply.json()["ended"].as_str()), (200, Some("operator")), "{reply:?}");
    }
    assert_eq!(end(tokens[0]).await, Some(SessionEnd::Operator));
    assert_eq!(rig.api.as_ref().unwrap().issuer.live_sessions(), 2, "its token is not known any more");
    assert_eq!((end(tokens[1]).await, end(tokens[2]).await), (None, None), "others go on");
    assert_eq!(page(&rig, "").await["sessions"].as_array().unwrap().len(), 2);
    let entry = format!("admin:the-operate session.end {}", id(tokens[0]));
    assert_eq!(log(&rig).iter().filter(|line| **line == entry).count(), 1, "the second order changed nothing");
    let text = std::fs::read_to_string(rig.folder.as_ref().unwrap().path().join("audit.log")).unwrap();
    assert!(text.contains("laptop lost") && !text.contains("MARKED") && !text.contains("kht_"));
}
