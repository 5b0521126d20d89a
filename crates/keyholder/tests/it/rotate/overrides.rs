//! What persons decide: each is asked for with a command that works, and stands in the audit log with name and reason.

use std::fs;

use serde_json::Value;

use super::{
    receiver::write_key,
    world::{World, log_in},
};
use crate::harness::text;

/// The words of a command that an answer names, with a reason in the place of `TEXT`.
fn words(answer: &Value) -> Vec<String> {
    let command = text(answer, "next_command").strip_prefix("keyholder ").expect("a command of this program");
    command
        .split(' ')
        .map(|word| if word == "TEXT" { "batch is stopped".to_owned() } else { word.to_owned() })
        .collect()
}

impl World {
    /// Types the next command of an answer.
    fn typed(&self, answer: &Value) -> (Option<i32>, Value) {
        let words = words(answer);
        self.told(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn plan(&self) -> (Option<i32>, Value) {
        let (code, plan) = self.told(&["rotate", "plan", "app"]);
        (code, plan["plans"][0].clone())
    }
}

#[test]
fn a_swap_under_a_direct_reader_needs_a_persons_word() {
    let world = World::new("strategy = \"swap\"\nconsumers = [{ name = \"batch\", direct = true }]", "");
    let (code, plan) = world.plan();
    assert_eq!(code, Some(1), "{plan}");
    let obstacles = plan["obstacles"].to_string();
    assert!(obstacles.contains("batch reads the store itself") && obstacles.contains("rotate approve"), "{plan}");

    let (code, status) = world.told(&["rotate", "run", "app"]);
    assert_eq!((code, text(&status, "state")), (Some(4), "needs_operator"), "{status}");
    assert!(text(&status, "next_command").contains("approve") && text(&status, "reason").contains("batch"), "{status}");
    assert!(log_in(world.installation.sandbox.url(), &world.first).is_ok(), "nothing was regenerated");
    let (code, same) = world.told(&["rotate", "status", "app"]);
    assert_eq!((code, &same["next_command"]), (Some(4), &status["next_command"]), "{same}");

    let (code, approved) = world.typed(&status);
    assert_eq!((code, text(&approved, "actor")), (Some(0), "cli:tester"), "{approved}");
    let (code, plan) = world.plan();
    assert_eq!(code, Some(0), "{plan}");
    assert!(plan["warnings"].to_string().contains("overridden by cli:tester (batch is stopped)"), "{plan}");
    let (code, agreed) = world.told(&["rotate", "status", "app"]);
    assert_eq!(code, Some(4), "{agreed}");
    assert!(text(&agreed, "next_command").contains("resume"), "{agreed}");

    let (code, done) = world.typed(&agreed);
    assert_eq!((code, text(&done, "state")), (Some(0), "completed"), "{done}");
    assert!(log_in(world.installation.sandbox.url(), &world.first).is_err(), "the old secret is dead");
    let log = world.run(&["audit", "list"]).done();
    let entry = log.lines().find(|line| line.contains("rotation.approve")).unwrap_or_else(|| panic!("{log}"));
    assert!(
        entry.contains("cli:tester") && entry.contains("batch is stopped") && entry.contains("of=prune"),
        "{entry}"
    );
}

#[test]
fn what_a_run_waits_for_is_told_with_the_command_that_ends_the_wait() {
    let world = World::new("strategy = \"pair\"\napprovals = { start = 1 }", "");
    world.run(&["rotate", "hold", "app", "--reason", "release weekend"]).done();
    let (code, waiting) = world.told(&["rotate", "run", "app"]);
    assert_eq!((code, text(&waiting, "state")), (Some(3), "planned"), "{waiting}");
    assert!(text(&waiting, "next_command").ends_with("--start --reason TEXT"), "{waiting}");
    assert_eq!(world.typed(&waiting).0, Some(0));
    let (code, held) = world.told(&["rotate", "resume", "app"]);
    assert_eq!(code, Some(3), "{held}");
    assert_eq!(text(&held, "next_command"), "keyholder rotate hold app --lift", "{held}");
    let (_, status) = world.told(&["rotate", "status", "app"]);
    assert!(text(&status, "reason").contains("release weekend"), "{status}");
    assert_eq!(world.typed(&held).0, Some(0));
    let (code, overlap) = world.told(&["rotate", "resume", "app"]);
    assert_eq!((code, text(&overlap, "state")), (Some(3), "overlap"), "{overlap}");
    // without asking a platform or a store the status says what keeps the old secret
    let (_, status) = world.told(&["rotate", "status", "app"]);
    assert!(text(&status, "reason").contains("no consumer is known"), "{status}");
    let said = world.run(&["rotate", "status", "app"]);
    assert!(said.out.contains("or       keyholder rotate approve"), "{}", said.out);
    let other = status["other_commands"][0].as_str().unwrap();
    assert!(other.ends_with("--prune --reason TEXT") && said.out.contains(other), "{status}");
    assert_eq!(held["other_commands"], Value::Array(Vec::new()), "{held}");
    let refused = world.run(&["rotate", "approve", "app", "--prune", "--reason", "  "]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
}

#[test]
fn a_hook_or_notice_that_cannot_be_made_keeps_nobody_from_a_hold() {
    let lines = "[hook.crm]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/hook\"\nkey_file = \"signing.key\"\n\
                 [notify.team]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/hook\"\nkey_file = \"signing.key\"\n";
    let world = World::keyed("strategy = \"pair\"\nhooks = [\"crm\"]\nnotify = [\"team\"]", lines, write_key);
    fs::remove_file(world.installation.path("signing.key")).unwrap();
    let (code, refused) = world.told(&["rotate", "run", "app"]);
    assert_eq!(code, Some(2), "{refused}");
    assert!(refused["hints"].to_string().contains("[hook.crm]"), "{refused}");

    world.run(&["rotate", "hold", "app", "--reason", "release weekend"]).done();
    let (code, status) = world.told(&["rotate", "status"]);
    assert_eq!((code, text(&status["rotations"][0]["hold"], "reason")), (Some(0), "release weekend"), "{status}");
    world.run(&["rotate", "hold", "app", "--lift"]).done();
    let (code, none) = world.told(&["rotate", "approve", "app", "--start", "--reason", "agreed"]);
    assert_eq!((code, text(&none, "code")), (Some(1), "keyholder.not_found"), "{none}");
}
