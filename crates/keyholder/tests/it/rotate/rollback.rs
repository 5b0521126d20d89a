//! The way back under load: the old secret is live again at once, and the new one goes when consumers are back.

use serde_json::Value;

use super::{
    rig::{Journalled, Rig, Way},
    world::{Load, log_in},
};
use crate::harness::{Server, eventually, text};

/// Calls that are made after each step.
const CALLS: usize = 5;

fn serve(rig: &Rig) -> Server {
    let file = rig.world.installation.path("ready.json");
    let mut process = rig.start(&["serve", "--ready-file", file.to_str().unwrap()]);
    let ready = process.ready(&file);
    Server { process, ready }
}

#[test]
fn a_rollback_ends_under_load_with_the_old_secret() {
    let rig = Rig::new(Way::Pair);
    let login = rig.world.installation.add_client("application", &["--credential", "app", "--allow-all"]);
    let server = serve(&rig);
    let load = Load::start(&server, &login);
    let more = |load: &Load| {
        let after = load.count() + CALLS;
        eventually(&true, || load.count() >= after);
    };
    more(&load);
    let mut process = rig.rotate();
    assert!(rig.watch_alone(&mut process, Journalled::promoted));
    process.cut();
    assert_eq!(rig.world.clients().len(), 2);
    rig.lease_over();
    more(&load);
    let mut process = rig.start(&["--output", "json", "rotate", "rollback", "app", "--reason", "billing fails"]);
    rig.watch_alone(&mut process, |_| false);
    let mut code = process.end();
    let mut said = process.said();
    for _ in 0..10 {
        if code != Some(3) {
            break;
        }
        rig.lease_over();
        more(&load);
        let again = rig.run(&["--output", "json", "rotate", "resume", "app"]);
        (code, said) = (again.code, again.out);
    }
    assert_eq!(code, Some(0), "{said}");
    let status: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(text(&status, "state"), "rolled_back", "{status}");
    more(&load);
    let statuses = load.end();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let clients = rig.world.clients();
    assert_eq!(clients, [(text(&rig.world.first, "client_id").to_owned(), true)]);
    assert!(log_in(rig.world.installation.sandbox.url(), &rig.world.first).is_ok());
    assert_eq!(rig.newest().end(), "rolled_back");
    let (_, plan) = rig.world.told(&["rotate", "plan", "app"]);
    let warnings = plan["plans"][0]["warnings"].to_string();
    assert!(warnings.contains("the last run was given up: the schedule begins none before"), "{plan}");
}
