//! Adding clients: what is refused, what is stored, what is audited.

use std::time::Duration;

use kh_core::port::{AllowRule, StateError};
use kh_issuer::{IssuerError, NewClient};

use crate::support::{World, add, new_client};

#[tokio::test]
async fn a_client_is_found_by_name_and_id_and_its_secret_is_stored_nowhere() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (record, secret) = add(&issuer, "reports").await;
    add(&issuer, "another").await;
    assert_eq!(issuer.client("reports").unwrap().record, record);
    assert_eq!(issuer.client(record.id.as_str()).unwrap().record, record);
    assert!(issuer.client("nobody").is_none());
    let names: Vec<_> = issuer.clients().iter().map(|client| client.record.name.to_string()).collect();
    assert_eq!(names, ["another", "reports"]);
    let events = format!("{:?}", world.audit.0.lock());
    assert!(events.contains("client.add") && events.contains("GET /api/v2/users/**") && events.contains("cli:test"));
    assert!(!events.contains(secret.expose()));
    drop(issuer);
    for suffix in ["", "-wal"] {
        let stored = std::fs::read(format!("{}{suffix}", world.path().display())).unwrap_or_default();
        assert!(!stored.windows(secret.len()).any(|window| window == secret.expose().as_bytes()));
    }
    assert_eq!(world.issuer().await.client("reports").unwrap().record, record);
}

#[tokio::test]
async fn what_a_person_mistypes_is_refused_with_the_reason() {
    let world = World::new();
    let issuer = world.issuer().await;
    add(&issuer, "taken").await;
    let with = |change: fn(&mut NewClient)| {
        let mut new = new_client("new");
        change(&mut new);
        new
    };
    let cases: [(NewClient, &str); 7] = [
        (with(|new| new.ttl = Some(Duration::ZERO)), "1 s to 365 d"),
        (with(|new| new.ttl = Some(NewClient::TTL_MAX + Duration::from_secs(1))), "1 s to 365 d"),
        (with(|new| new.ttl = Some(Duration::from_millis(1500))), "whole seconds"),
        (with(|new| new.scopes = vec!["a b".to_owned()]), "scope"),
        (with(|new| new.scopes = vec!["x".to_owned(); 101]), "at most 100"),
        (with(|new| new.allow.push(AllowRule("FETCH users".to_owned()))), "rule 2 of the allow-list"),
        (with(|new| new.name = "0d8f3c1e-7c1b-4b6e-9a57-2f0f3c7b9a11".parse().unwrap()), "look like a client id"),
    ];
    for (new, expected) in cases {
        let error = issuer.add_client(new, "cli:test").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let taken = issuer.add_client(new_client("taken"), "cli:test").await;
    assert!(matches!(taken, Err(IssuerError::State(StateError::NameTaken(_)))));
    let unknown = issuer.remove_client("nobody", "cli:test").await;
    assert!(matches!(unknown, Err(IssuerError::NoSuchClient(name)) if name == "nobody"));
    assert_eq!((issuer.clients().len(), world.audit.0.lock().len()), (1, 1));
}
