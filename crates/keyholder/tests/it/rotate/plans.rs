//! A plan finds what would be in the way: each finding is provoked, and told before anything is changed.

use serde_json::Value;

use super::world::{World, log_in};
use crate::harness::{request, text};

fn plan(world: &World) -> (Option<i32>, Value) {
    let (code, plan) = world.told(&["rotate", "plan", "app"]);
    (code, plan["plans"][0].clone())
}

/// A client of the organisation that may look and not more, as the rotator.
#[test]
fn a_rotator_without_the_permission_is_told_with_the_permission() {
    let weak = "[[genesys.clients]]\nname = \"admin\"\nroles = [\"admin\"]\n\
                [[genesys.clients]]\nname = \"weak\"\npermissions = [\"oauth:client:view\", \"authorization:role:view\"]\n";
    let lines = "[credential.weak]\nplatform = \"genesys\"\nsecret = \"store:weak\"\n";
    let world = World::on(weak, "", "strategy = \"pair\"", lines);
    let clients = world.installation.sandbox.ready["clients"].as_array().unwrap().clone();
    let login = clients.iter().find(|client| text(client, "name") == "weak").unwrap();
    let document = serde_json::json!({ "client_id": login["client_id"], "client_secret": login["client_secret"] });
    world.installation.store_secret("weak", &document);
    let file = world.installation.path("keyholder.toml");
    let config = std::fs::read_to_string(&file).unwrap().replace("rotator = \"genesys\"", "rotator = \"weak\"");
    std::fs::write(&file, config).unwrap();
    let (code, plan) = plan(&world);
    assert_eq!(code, Some(1), "{plan}");
    let obstacles = plan["obstacles"].to_string();
    for missing in ["oauth:client:add", "oauth:client:edit", "oauth:client:delete"] {
        assert!(obstacles.contains(missing), "{missing}: {plan}");
    }
    assert!(obstacles.contains("role"), "the rotator lacks the client's roles: {plan}");
    assert_eq!(world.clients().len(), 1);
}

#[test]
fn a_platform_that_takes_no_more_is_told_with_the_count() {
    let world = World::on("[behaviours]\nsecrets_api = true\n", "secrets_api = true\n", "strategy = \"overlap\"", "");
    let (code, free) = plan(&world);
    assert_eq!((code, &free["free_places"]), (Some(0), &1.into()), "{free}");
    let url = world.installation.sandbox.url();
    let token = log_in(url, &world.installation.sandbox.genesys_document()).unwrap();
    let bearer = format!("Bearer {token}");
    let path = format!("{url}/api/v2/oauth/clients/{}/secrets", text(&world.first, "client_id"));
    assert_eq!(request("POST", &path, &[("Authorization", &bearer)], b"").status, 200);
    let (code, full) = plan(&world);
    assert_eq!((code, &full["free_places"]), (Some(1), &0.into()), "{full}");
    assert!(full["obstacles"].to_string().contains("holds 2 secrets, as many as it may"), "{full}");
}

#[test]
fn consumers_that_nobody_saw_and_what_could_not_be_asked_are_told() {
    let world = World::new("strategy = \"pair\"\nconsumers = [{ name = \"billing\" }]", "");
    let (code, unseen) = plan(&world);
    assert_eq!(code, Some(0), "{unseen}");
    assert!(unseen["warnings"].to_string().contains("billing was never seen"), "{unseen}");
    assert_eq!(unseen["consumers"][0]["last_seen"], Value::Null, "{unseen}");
    world.installation.sandbox.process.signal("KILL");
    let (code, unreached) = plan(&world);
    assert_eq!((code, &unreached["obstacles"]), (Some(3), &serde_json::json!([])), "{unreached}");
    assert!(unreached["unreached"].to_string().contains("the platform"), "{unreached}");
    // nothing stands where the document should be
    world.run(&["secret", "rm", "app", "--yes"]).done();
    let (code, nothing) = plan(&world);
    assert_eq!(code, Some(1), "{nothing}");
    assert!(nothing["obstacles"].to_string().contains("store:app"), "{nothing}");
}
