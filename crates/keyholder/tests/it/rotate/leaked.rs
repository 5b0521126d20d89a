//! A secret that leaked: found by a scan or told by a person, before, during and after a rotation.

use std::fs;

use serde_json::{Value, json};

use super::world::{World, log_in};
use crate::harness::{run, text};

impl World {
    /// One whose overlap lasts a day, so that only urgency ends it.
    fn patient() -> Self {
        let world = Self::new("strategy = \"pair\"", "");
        let file = world.installation.path("keyholder.toml");
        let config = fs::read_to_string(&file).unwrap().replace("overlap_min = \"1s\"", "overlap_min = \"24h\"");
        fs::write(&file, config).unwrap();
        world
    }

    /// A findings file about this secret, as a scan writes it.
    fn found(&self, id: &str, secret: &str) -> String {
        let words = ["secret", "fingerprint", "--finding", id];
        let said = run(&mut self.installation.command(&words), secret.as_bytes()).done();
        assert!(!said.contains(secret), "{said}");
        let file = self.installation.path(&format!("{id}.json"));
        fs::write(&file, said).unwrap();
        format!("{}#{id}", file.display())
    }
}

fn member<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_default()
}

#[test]
fn a_finding_takes_the_secret_away_that_it_is_about_and_no_other() {
    let world = World::patient();
    let finding = world.found("7f3a", text(&world.first, "client_secret"));
    let (code, wrong) = world.told(&["rotate", "now", "genesys", "--from-finding", &finding]);
    assert_eq!((code, member(&wrong, "code")), (Some(2), "keyholder.usage"), "{wrong}");
    assert!(text(&wrong, "detail").contains("about app, not genesys"), "{wrong}");
    assert_eq!(world.clients().len(), 1, "nothing was made");

    let (code, status) = world.told(&["rotate", "now", "--from-finding", &finding]);
    assert_eq!((code, member(&status, "state")), (Some(0), "completed"), "{status}");
    assert!(log_in(world.installation.sandbox.url(), &world.first).is_err(), "what leaked is dead");
    let log = world.run(&["audit", "list"]).done();
    assert!(log.contains("finding 7f3a"), "{log}");

    // the same finding once more: there is nothing left to take away, as the platform says
    let (code, dead) = world.told(&["rotate", "now", "--from-finding", &finding]);
    assert_eq!((code, member(&dead, "leaked_secret")), (Some(0), "dead"), "{dead}");
    assert!(text(&dead, "reason").contains(text(&status, "run_id")), "{dead}");
    assert_eq!(world.clients().len(), 1, "nothing was rotated again");
}

#[test]
fn a_finding_that_is_nobodys_is_refused() {
    let world = World::new("strategy = \"pair\"", "");
    let finding = world.found("1", "a value that no store holds");
    let (code, problem) = world.told(&["rotate", "now", "--from-finding", &finding]);
    assert_eq!((code, member(&problem, "code")), (Some(1), "keyholder.not_found"), "{problem}");
    let file = finding.split('#').next().unwrap();
    let by = |id: &str| world.told(&["rotate", "now", "--from-finding", id, "--findings", file]);
    assert_eq!(by("2").0, Some(1));
    // another installation's fingerprints say nothing here
    let mut whole: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    whole["fingerprint_key"] = json!("0123456789abcdef");
    fs::write(file, whole.to_string()).unwrap();
    let (code, problem) = by("1");
    assert_eq!((code, member(&problem, "code")), (Some(2), "keyholder.usage"), "{problem}");
    assert!(text(&problem, "detail").contains("another installation"), "{problem}");
    fs::write(file, "{\"findings\":").unwrap();
    assert_eq!(by("1").0, Some(2));
    assert_eq!(world.clients().len(), 1, "nothing was made");
}

/// A store that cannot be read may hold what leaked, so that "nobody's" is not the answer.
#[test]
fn with_a_store_that_cannot_be_read_a_finding_is_not_called_nobodys() {
    let vault = "[secret_store.v]\nkind = \"vault\"\naddress = \"http://127.0.0.1:9\"\ntoken_file = \"t\"\n\
                 [credential.other]\nplatform = \"genesys\"\nsecret = \"v:kv/other\"\n";
    let world = World::new("strategy = \"pair\"", vault);
    fs::write(world.installation.path("t"), "token").unwrap();
    let finding = world.found("1", "a value that no store holds");
    let (code, problem) = world.told(&["rotate", "now", "--from-finding", &finding]);
    assert_eq!((code, member(&problem, "code")), (Some(3), "keyholder.not_found"), "{problem}");
    assert!(problem["hints"].to_string().contains("not compared: v:kv/other"), "{problem}");
}

/// In the middle of an overlap of a day the old secret leaks: it dies now.
#[test]
fn a_rotation_under_way_is_made_urgent() {
    let world = World::patient();
    let (code, status) = world.told(&["rotate", "run", "app"]);
    assert_eq!((code, member(&status, "state")), (Some(3), "overlap"), "{status}");
    // there is a new secret already, so that taking the old one away without a new one is no longer an order
    let (code, problem) = world.told(&["rotate", "now", "app", "--reason", "leaked", "--level", "kill"]);
    assert_eq!((code, member(&problem, "code")), (Some(3), "keyholder.rotation.unfinished"), "{problem}");
    assert!(problem["hints"].to_string().contains("rotate abort"), "{problem}");
    let finding = world.found("1", text(&world.first, "client_secret"));
    let (code, hurried) = world.told(&["rotate", "now", "--from-finding", &finding]);
    assert_eq!((code, member(&hurried, "state")), (Some(0), "completed"), "{hurried}");
    assert_eq!(hurried["run_id"], status["run_id"], "it is the same run");
    assert!(log_in(world.installation.sandbox.url(), &world.first).is_err(), "what leaked is dead");
    assert_eq!(world.clients().len(), 1);
    let log = world.run(&["audit", "list"]).done();
    let order = log.lines().find(|line| line.contains("rotation.order")).unwrap_or_else(|| panic!("{log}"));
    assert!(order.contains("cli:tester") && order.contains("hurry") && order.contains("finding 1"), "{order}");
}
