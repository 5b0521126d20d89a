//! Each strategy under load, with what the platform saw.

use serde_json::Value;

use super::world::{Load, World, log_in};
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
