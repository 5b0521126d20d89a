//! What is refused, each with its code and the command that helps.

use std::fs;

use serde_json::Value;

use super::world::World;
use crate::harness::{Process, eventually, text};

fn code(problem: &Value) -> &str {
    text(problem, "code")
}

#[test]
fn a_rotator_does_not_replace_itself() {
    let world = World::new("", "");
    let file = world.installation.path("keyholder.toml");
    let config = fs::read_to_string(&file).unwrap() + "[credential.genesys.rotation]\nstrategy = \"swap\"\n";
    fs::write(&file, config).unwrap();
    let (exit, plan) = world.told(&["rotate", "plan", "genesys"]);
    assert_eq!(exit, Some(1), "{plan}");
    assert!(plan["plans"][0]["obstacles"].to_string().contains("must not make its own secret anew"), "{plan}");
}

#[test]
fn a_platform_without_a_way_is_told() {
    let issuer = "[platform.other]\nkind = \"oauth2\"\ntoken_url = \"http://127.0.0.1:9/t\"\napi_url = \"http://127.0.0.1:9\"\nrotator = \"other\"\n\
                  [credential.other]\nplatform = \"other\"\nsecret = \"store:other\"\n[credential.other.rotation]\n";
    let world = World::new("", issuer);
    let (exit, problem) = world.told(&["rotate", "plan"]);
    assert_eq!((exit, code(&problem)), (Some(2), "keyholder.rotation.unsupported"), "{problem}");
}

#[test]
fn a_second_process_is_told_that_another_one_works() {
    let world = World::new("strategy = \"pair\"\nverify = { successes = 20, deadline = \"10m\" }", "");
    let mut command = world.installation.command(&["rotate", "run", "app", "--wait"]);
    let _process = Process::start(&mut command, &world.installation.path("run.log"));
    eventually(&true, || !["none", "planned"].contains(&world.state().as_str()));
    let (exit, problem) = world.told(&["rotate", "run", "app"]);
    assert_eq!((exit, code(&problem)), (Some(3), "keyholder.rotation.fenced"), "{problem}");
}

#[test]
fn orders_that_a_run_cannot_take_are_refused() {
    let world = World::new("strategy = \"pair\"", "");
    let (exit, problem) = world.told(&["rotate", "abort", "app"]);
    assert_eq!((exit, code(&problem)), (Some(1), "keyholder.not_found"), "{problem}");
    let (exit, problem) = world.told(&["rotate", "run", "ap"]);
    assert_eq!((exit, code(&problem)), (Some(2), "keyholder.usage"), "{problem}");
    assert!(problem["hints"].to_string().contains("did you mean app?"), "{problem}");
    world.told(&["rotate", "run", "app"]);
    let (exit, problem) = world.told(&["rotate", "abort", "app"]);
    assert_eq!((exit, code(&problem)), (Some(1), "keyholder.rotation.needs_operator"), "{problem}");
    assert!(problem["hints"].to_string().contains("rotate rollback"), "{problem}");
}

/// What was ordered stands in the journal, whatever keeps the command from going on with it.
#[test]
fn an_order_is_told_as_written_where_its_run_cannot_go_on() {
    let world = World::new("strategy = \"pair\"\ntargets = [\"store:app-too\"]", "");
    world.installation.store_secret("app-too", &world.first);
    assert_eq!(world.told(&["rotate", "run", "app"]).0, Some(3));
    let file = world.installation.path("keyholder.toml");
    let config = fs::read_to_string(&file).unwrap().replace("targets = [\"store:app-too\"]", "");
    fs::write(&file, config).unwrap();
    let (exit, problem) = world.told(&["rotate", "rollback", "app"]);
    assert_eq!((exit, code(&problem)), (Some(2), "keyholder.rotation.unsupported"), "{problem}");
    assert!(problem["hints"].to_string().contains("the order itself is written"), "{problem}");
    assert_eq!(world.state(), "rollback_intent");
    let (exit, problem) = world.told(&["rotate", "resume", "app"]);
    assert_eq!((exit, code(&problem)), (Some(2), "keyholder.rotation.unsupported"), "{problem}");
    assert!(!problem["hints"].to_string().contains("is written"), "{problem}");
}
