//! Revoking over the admin API: every way, what is in force at once, who may, what is refused, and what is written down.

use kh_admin::Role;
use kh_core::{Clock, SecretString, Sha256, port::RevocationStore, revocation::keys};
use kh_issuer::NewClient;
use serde_json::{Value, json};

use crate::{
    api::{call, log, rig},
    rig::{Rig, START},
};

const LINE: &str = "POST /v1/revocations";

/// `{"alg":"ES256"}` and claims, behind a signature that nobody looks at.
const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJpIiwianRpIjoiTUFSS0VEIiwic3ViIjoicyIsImlhdCI6NX0.c2ln";

async fn listed(rig: &Rig) -> Vec<String> {
    let reply = call(rig, Role::Read, "GET /v1/revocations", &Value::Null).await;
    let list = reply.json()["revocations"].as_array().unwrap().clone();
    list.iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect()
}

async fn login(rig: &Rig, name: &str) -> (String, SecretString) {
    let issuer = &rig.api.as_ref().unwrap().issuer;
    let new = NewClient {
        name: name.parse().unwrap(),
        credential: None,
        environment: None,
        scopes: Vec::new(),
        tokens: kh_issuer::NewTokens::default(),
        allow: Vec::new(),
        allow_all: false,
        allow_secret_operations: false,
        ttl: None,
    };
    let (record, secret) = issuer.add_client(new, "cli:test").await.unwrap();
    let login = issuer.login(record.id.as_str(), &secret).await.unwrap();
    (record.id.to_string(), login.access_token)
}

#[tokio::test]
async fn each_order_is_kept_told_and_the_same_when_it_is_repeated() {
    let rig = rig().await;
    let at = START.0 - 1000;
    for (order, kinds) in [
        (json!({ "token": "an-opaque-token" }), "token"),
        (json!({ "token": JWT }), "token signed token_id"),
        (json!({ "jti": "1", "issuer": "i" }), "token_id"),
        (json!({ "issuer": "i", "subject": "s", "issued_at": at }), "issued"),
        (json!({ "client": "c" }), "client"),
        (json!({ "client": "c", "issuer": "i", "before": at }), "client"),
        (json!({ "subject": "s", "reason": "left the company" }), "subject"),
        (json!({ "before": at, "issuer": "i" }), "everything"),
        (json!({ "before": at }), "everything"),
    ] {
        let reply = call(&rig, Role::Admin, LINE, &order).await;
        assert_eq!(reply.status, 200, "{order}: {reply:?}");
        let told = reply.json()["revocations"].clone();
        let answered: Vec<_> = told.as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(answered.join(" "), kinds, "{order}");
        let before = listed(&rig).await.len();
        assert_eq!(call(&rig, Role::Admin, LINE, &order).await.json()["revocations"], told, "{order}");
        assert_eq!(listed(&rig).await.len(), before, "{order}: repeated it is no second one");
    }
    let desk = &rig.api.as_ref().unwrap().revocations.revocations;
    let kept: Vec<_> = desk.revocations_after(0, 100).await.unwrap();
    let has = |key: Sha256| kept.iter().any(|placed| placed.record.target.key() == key);
    assert!(has(keys::token(&Sha256::of(JWT.as_bytes()))) && has(keys::token_id("i", "MARKED")));
    assert!(has(keys::signed(&Sha256::of(JWT.rsplit_once('.').unwrap().0.as_bytes()))));
    assert!(has(keys::client(None, "c")) && has(keys::client(Some("i"), "c")) && has(keys::everything(None)));
    let entries = log(&rig);
    assert!(entries.contains(&"admin:the-admin revocation.add token".to_owned()), "{entries:#?}");
    assert!(entries.contains(&"admin:the-admin revocation.add everything".to_owned()));
    let text = std::fs::read_to_string(rig.folder.as_ref().unwrap().path().join("audit.log")).unwrap();
    assert!(!text.contains(JWT) && !text.contains("an-opaque-token") && text.contains("token_fingerprint"));
    assert!(text.contains("left the company"));
}

#[tokio::test]
async fn keyholders_own_tokens_stop_with_the_next_request() {
    let rig = rig().await;
    let issuer = std::sync::Arc::clone(&rig.api.as_ref().unwrap().issuer);
    let works = |token: &SecretString| issuer.session(token.expose().as_bytes()).is_some();
    let (id, first) = login(&rig, "one").await;
    let (_, other) = login(&rig, "two").await;
    assert!(works(&first) && works(&other));
    let reply = call(&rig, Role::Operate, LINE, &json!({ "token": first.expose() })).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(!reply.body.contains(first.expose()) && !works(&first) && works(&other));
    assert!(issuer.session_or_load(first.expose().as_bytes()).await.unwrap().is_none());
    rig.clock.advance(std::time::Duration::from_secs(1));
    let (third_id, third) = login(&rig, "three").await;
    for order in [json!({ "client": third_id }), json!({ "before": rig.clock.now().wall.0 })] {
        assert_eq!(call(&rig, Role::Admin, LINE, &order).await.status, 200);
        assert!(!works(&third), "{order}");
    }
    assert!(!works(&other), "everything is everything: {id}");
}

#[tokio::test]
async fn what_keyholder_does_not_know_is_revoked_with_a_warning() {
    let rig = rig().await;
    let (id, token) = login(&rig, "billing").await;
    for (order, warned) in [
        (json!({ "client": "biling" }), Some("no client of keyholder's own has the id \"biling\"")),
        (json!({ "client": "billing" }), Some(id.as_str())),
        (json!({ "client": id }), None),
        (json!({ "client": "biling", "issuer": "i" }), None),
        (json!({ "subject": "s" }), None),
        (json!({ "token": "foo" }), Some("neither a JWT nor a token of keyholder's own")),
        (json!({ "token": JWT }), None),
        (json!({ "token": token.expose() }), None),
    ] {
        let reply = call(&rig, Role::Admin, LINE, &order).await;
        assert_eq!(reply.status, 200, "{order}: {reply:?}");
        let warnings = reply.json()["warnings"].clone();
        match warned {
            Some(words) => assert!(warnings[0].as_str().unwrap().contains(words), "{order}: {warnings}"),
            None => assert_eq!(warnings, json!([]), "{order}"),
        }
    }
}

/// The open revoke endpoint of a widely copied gateway answered 200 to anyone, and had no effect.
#[tokio::test]
async fn nobody_revokes_without_the_right_and_nobody_revokes_everything_but_an_admin() {
    let rig = rig().await;
    let (_, token) = login(&rig, "one").await;
    let issuer = std::sync::Arc::clone(&rig.api.as_ref().unwrap().issuer);
    let body = json!({ "token": token.expose() }).to_string();
    let json_type = "Content-Type: application/json\r\n";
    assert_eq!(rig.send(LINE, json_type, &body).await.code(), "keyholder.guard.refused");
    let wrong = format!("{json_type}Authorization: Bearer khg_wrong\r\n");
    assert_eq!(rig.send(LINE, &wrong, &body).await.code(), "keyholder.guard.refused");
    let reader = call(&rig, Role::Read, LINE, &json!({ "token": token.expose() })).await;
    assert_eq!((reader.status, listed(&rig).await.len()), (403, 0));
    let everything = call(&rig, Role::Operate, LINE, &json!({ "before": START.0 })).await;
    assert_eq!((everything.status, listed(&rig).await.len()), (403, 0));
    assert!(issuer.session(token.expose().as_bytes()).is_some(), "and nothing happened");
}

#[tokio::test]
async fn an_order_that_is_not_exactly_one_is_refused_and_does_nothing() {
    let rig = rig().await;
    let long = "x".repeat(5000);
    let at = START.0;
    for order in [
        json!({}),
        json!({ "issuer": "i" }),
        json!({ "token": "a", "client": "c" }),
        json!({ "token": "a", "issuer": "i" }),
        json!({ "token": "" }),
        json!({ "token": "two words" }),
        json!({ "token": "x".repeat(20_000) }),
        json!({ "token": "kht_cut" }),
        json!({ "token": "khs_of-a-client" }),
        json!({ "jti": "1" }),
        json!({ "jti": "1", "issuer": "i", "before": at }),
        json!({ "subject": "s", "issued_at": at }),
        json!({ "client": "c", "issuer": "i", "issued_at": at }),
        json!({ "client": "c", "subject": "s" }),
        json!({ "client": "" }),
        json!({ "client": long }),
        json!({ "before": START.0 + 1 }),
        json!({ "client": "c", "before": START.0 + 1 }),
        json!({ "client": "c", "reason": "two\nlines" }),
        json!({ "client": "c", "colour": "red" }),
        json!({ "client": 7 }),
        json!({ "before": -1 }),
        json!([]),
    ] {
        let reply = call(&rig, Role::Admin, LINE, &order).await;
        assert!(matches!(reply.status, 400 | 422), "{order}: {reply:?}");
        reply.code();
    }
    assert!(listed(&rig).await.is_empty());
    for query in ["limit=0", "limit=1001", "after=x", "colour=red"] {
        let reply = call(&rig, Role::Read, &format!("GET /v1/revocations?{query}"), &Value::Null).await;
        assert_eq!(reply.code(), "keyholder.request.malformed", "{query}");
    }
}

/// A token's `iat` is in seconds, an order's times are in milliseconds.
#[tokio::test]
async fn a_time_in_another_unit_is_refused_with_the_unit_and_does_nothing() {
    let rig = rig().await;
    let seconds = START.0 / 1000;
    for (order, words) in [
        (json!({ "client": "c", "before": seconds }), "milliseconds since 1970"),
        (json!({ "subject": "s", "issuer": "i", "before": seconds }), "milliseconds since 1970"),
        (json!({ "before": seconds }), "milliseconds since 1970"),
        (json!({ "subject": "s", "issuer": "i", "issued_at": seconds }), "milliseconds since 1970"),
        (json!({ "subject": "s", "issuer": "i", "issued_at": START.0 * 1000 }), "in the future"),
    ] {
        let reply = call(&rig, Role::Admin, LINE, &order).await;
        assert_eq!((reply.status, reply.code()), (400, "keyholder.request.malformed".to_owned()), "{order}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(words), "{order}: {reply:?}");
    }
    assert!(listed(&rig).await.is_empty());
    let entries = log(&rig);
    assert!(!entries.iter().any(|entry| entry.contains("revocation.add")), "{entries:#?}");
}

#[tokio::test]
async fn the_list_is_read_page_by_page() {
    let rig = rig().await;
    for number in 0..5 {
        call(&rig, Role::Operate, LINE, &json!({ "jti": number.to_string(), "issuer": "i" })).await;
    }
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let line = format!("GET /v1/revocations?limit=2&after={after}");
        let page = call(&rig, Role::Read, &line, &Value::Null).await.json();
        let ids = page["revocations"].as_array().unwrap().iter().map(|one| one["jti"].as_str().unwrap().to_owned());
        seen.extend(ids);
        let Some(next) = page["next"].as_u64() else { break };
        after = next;
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
}
