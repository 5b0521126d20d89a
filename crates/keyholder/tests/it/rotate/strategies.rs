//! Each strategy under load, with what the platform saw.

use serde_json::Value;

use super::world::{KEYS, Load, World, log_in};
use crate::harness::{eventually, text};

/// Calls that are made before, and again after.
const CALLS: usize = 5;

fn under_load(world: &World) -> (Option<i32>, Value, Vec<u16>) {
    let login = world.installation.add_client("application", &["--credential", "app", "--allow-all"]);
    let server = world.installation.serve();
    let load = Load::start(&server, &login);
    eventually(&true, || load.count() >= CALLS);
    let (code, status) = world.told(&["rotate", "run", "app", "--wait"]);
    let after = load.count() + CALLS;
    eventually(&true, || load.count() >= after);
    (code, status, load.end())
}

#[test]
fn a_credential_that_is_not_there_is_told_as_that() {
    let world = World::new("strategy = \"pair\"", "");
    for (name, hint) in [("ap", "did you mean app?"), ("nothing-like-it", "keyholder credential list")] {
        let said = world.run(&["rotate", "run", name]);
        assert_eq!(said.code, Some(2), "{name}: {}", said.err);
        assert!(said.err.contains(&format!("there is no credential {name}")), "{name}: {}", said.err);
        assert!(said.err.contains(hint) && !said.err.contains("add the section"), "{name}: {}", said.err);
    }
}

#[test]
fn a_pair_takes_over_while_an_application_calls() {
    let world = World::new("strategy = \"pair\"", "");
    let (_, plan) = world.told(&["rotate", "plan", "app"]);
    let plan = &plan["plans"][0];
    assert_eq!((&plan["strategy"], plan["obstacles"].as_array().map(Vec::len)), (&"pair".into(), Some(0)), "{plan}");
    assert_eq!(world.clients().len(), 1, "a plan changes nothing");

    let (code, status, statuses) = under_load(&world);
    assert_eq!((code, text(&status, "state")), (Some(0), "completed"), "{status}");
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(statuses.len() >= 2 * CALLS, "{} calls", statuses.len());
    for member in ["run_id", "credential", "strategy", "old", "new", "evidence", "next_at", "next_command"] {
        assert!(status.get(member).is_some(), "{member}: {status}");
    }
    assert_ne!(status["old"]["fingerprint"], status["new"]["fingerprint"]);
    let seen = status["evidence"].as_array().unwrap();
    assert!(seen.iter().any(|seen| text(seen, "grade") == "used"), "{status}");

    // the platform has one client, and it is not the first one, whose secret is dead
    let clients = world.clients();
    assert_eq!(clients.len(), 1, "{clients:?}");
    assert_ne!(clients[0].0, text(&world.first, "client_id"));
    let refused = log_in(world.installation.sandbox.url(), &world.first).unwrap_err();
    assert!((400..=401).contains(&refused.status), "{refused:?}");
    let log = world.run(&["audit", "list"]).done();
    assert!(log.contains("rotation."), "{log}");
    world.run(&["audit", "verify"]).done();
}

#[test]
fn a_swap_regenerates_once_and_the_broker_carries_the_application_over() {
    let world = World::new("strategy = \"swap\"", "");
    let (code, status, statuses) = under_load(&world);
    assert_eq!((code, text(&status, "state")), (Some(0), "completed"), "{status}");
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(world.installation.sandbox.count("POST /api/v2/oauth/clients/{clientId}/secret"), 1);
    assert!(log_in(world.installation.sandbox.url(), &world.first).is_err(), "the old secret is dead");
    assert_eq!(world.clients().len(), 1);
}

/// Without anybody who is seen with the new secret the old one stays, however long it takes.
#[test]
fn without_evidence_the_old_secret_stays() {
    let world = World::new("strategy = \"pair\"", "");
    let (code, status) = world.told(&["rotate", "run", "app"]);
    assert_eq!((code, text(&status, "state")), (Some(3), "overlap"), "{status}");
    assert!(text(&status, "reason").contains("consumer"), "{status}");
    assert!(text(&status, "next_command").starts_with("keyholder rotate resume"), "{status}");
    assert!(log_in(world.installation.sandbox.url(), &world.first).is_ok(), "both secrets work");
    assert_eq!(world.clients().len(), 2);
}

/// The calls that change access keys, in the order in which the platform carried them out.
fn changes(world: &World) -> Vec<String> {
    let seen = world.installation.sandbox.control("GET", "requests?limit=20000", &Value::Null);
    let calls = seen["requests"].as_array().cloned().unwrap_or_default();
    let changes = calls.iter().filter(|call| text(call, "endpoint").starts_with(KEYS) && call["method"] != "GET");
    changes.map(|call| format!("{} {}", text(call, "method"), call["status"])).collect()
}

/// Create, verify, deactivate, delete: and the first key lets nobody in.
#[test]
fn an_access_key_of_cxone_is_replaced_while_an_application_calls() {
    let world = World::keys("strategy = \"auto\"");
    let (code, plan) = world.told(&["rotate", "plan", "app"]);
    assert_eq!((code, text(&plan["plans"][0], "strategy")), (Some(0), "overlap"), "{plan}");
    let login = world.installation.add_client("application", &["--credential", "app", "--allow-all"]);
    let server = world.installation.serve();
    let load = Load::with_key(&server, &login);
    eventually(&true, || load.count() >= CALLS);
    let (code, status) = world.told(&["rotate", "run", "app", "--wait"]);
    let after = load.count() + CALLS;
    eventually(&true, || load.count() >= after);
    let statuses = load.end();
    assert_eq!((code, text(&status, "state")), (Some(0), "completed"), "{status}");
    assert!(statuses.iter().all(|status| *status == 200) && statuses.len() >= 2 * CALLS, "{statuses:?}");
    let seen = status["evidence"].as_array().unwrap();
    assert!(seen.iter().any(|seen| text(seen, "grade") == "used"), "{status}");
    assert_eq!(changes(&world), ["POST 200", "PATCH 200", "DELETE 200"]);
    let keys = world.access_keys();
    assert!(matches!(keys.as_slice(), [(id, true)] if id != text(&world.first, "access_key_id")), "{keys:?}");
    assert!(!world.lets_in(&world.first), "the first key is dead");
    world.run(&["audit", "verify"]).done();
}

/// Nobody is seen with the new key, and nothing is taken away.
#[test]
fn without_evidence_an_access_key_stays_active() {
    let world = World::keys("strategy = \"overlap\"");
    let (code, status) = world.told(&["rotate", "run", "app"]);
    assert_eq!((code, text(&status, "state")), (Some(3), "overlap"), "{status}");
    assert!(text(&status, "reason").contains("consumer"), "{status}");
    assert!(world.lets_in(&world.first), "both keys work");
    assert_eq!(world.access_keys().iter().filter(|(_, active)| *active).count(), 2);
    assert_eq!(changes(&world), ["POST 200"]);
}
