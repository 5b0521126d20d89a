//! A secret that leaked: what becomes of the access tokens that were made with it, and of the one that keyholder holds.

use serde_json::Value;

use super::world::{World, log_in};
use crate::harness::{eventually, request, text};

/// What the platform answers to a token.
fn status_of(world: &World, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let url = format!("{}/api/v2/users", world.installation.sandbox.url());
    request("GET", &url, &[("Authorization", &bearer)], b"").status
}

fn leaked(world: &World, words: &[&str]) -> (Option<i32>, Value) {
    world.told(&[&["rotate", "now", "app", "--reason", "leaked", "--wait"], words].concat())
}

/// Genesys Cloud has no operation that revokes a client's tokens: they end with the client, or live on.
#[test]
fn tokens_of_a_leaked_secret_die_with_their_client_or_are_told_to_live_on() {
    let world = World::new("strategy = \"pair\"", "");
    let stolen = log_in(world.installation.sandbox.url(), &world.first).unwrap();
    let (code, status) = leaked(&world, &[]);
    assert_eq!((code, text(&status, "state"), text(&status, "tokens")), (Some(0), "completed", "revoked"), "{status}");
    assert_eq!(status_of(&world, &stolen), 401, "it is really dead");

    let world = World::on("[behaviours]\ntokens_survive_regeneration = true\n", "", "strategy = \"swap\"", "");
    let stolen = log_in(world.installation.sandbox.url(), &world.first).unwrap();
    let (code, status) = leaked(&world, &[]);
    assert_eq!((code, text(&status, "state")), (Some(0), "completed"), "{status}");
    let tokens = text(&status, "tokens");
    assert!(tokens.contains("only by deleting it") && tokens.contains("live on until 20"), "{tokens}");
    assert_eq!(status_of(&world, &stolen), 200, "and so it is");
    let plain = world.run(&["rotate", "status", "app"]).done();
    assert!(plain.contains("live on until 20"), "{plain}");
}

/// Another process takes the secret away without a replacement: the gateway hands its token to nobody any more.
#[test]
fn a_serving_keyholder_forgets_the_token_of_a_secret_that_was_killed() {
    let world = World::new("strategy = \"pair\"", "scheduler = false\n");
    let login = world.installation.add_client("application", &["--credential", "app", "--allow-all"]);
    let server = world.installation.serve();
    let token = server.login(&login);
    let works = || server.call(&token, "GET", "/api/v2/users").status;
    assert_eq!(works(), 200);
    let (code, status) = leaked(&world, &["--level", "kill"]);
    assert_eq!((code, text(&status, "state")), (Some(0), "killed"), "{status}");
    assert!(text(&status, "tokens").contains("live on until 20"), "{status}");
    let (_, plan) = world.told(&["rotate", "plan", "app"]);
    let plan = &plan["plans"][0];
    assert!(plan["warnings"].to_string().contains("begins none until another one is in store:app"), "{plan}");
    assert_eq!(plan["due_at"], Value::Null, "{plan}");
    let dropped = "the token of a secret that was taken away was dropped";
    eventually(&true, || server.process.said().contains(dropped));
    assert_ne!(works(), 200, "the token is handed to nobody any more");
    let (code, said) = server.process.stop();
    assert_eq!(code, Some(0), "{said}");
}
