//! Several processes on one state: who shares, who is refused, and that a lock left behind means nothing.

use std::fs;

use super::world::{DOCUMENT, World, digests, refused};
use crate::harness::{Process, run};

#[test]
fn what_replaces_files_is_refused_while_serve_runs_and_the_other_way_round() {
    let world = World::furnished();
    let file = world.backup("state", "backup.age");
    let identity = world.identity();
    let ready = world.path("ready.json");
    let serve = || {
        // A killed process leaves its ready file behind.
        fs::remove_file(&ready).ok();
        let mut command = world.command("state", &["serve", "--ready-file", ready.to_str().unwrap()]);
        let mut process = Process::start(&mut command, &world.path("serve.log"));
        process.ready(&ready);
        process
    };
    let process = serve();
    let before = digests(&world.path("state"));
    let replacing = [
        World::restore(&file, &["--replace"], &identity),
        vec!["store", "rekey"],
        vec!["store", "restore", "--resume"],
    ];
    for words in &replacing {
        let told = refused(&world.said("state", words, b""), 3, "keyholder.state.in_use");
        assert!(told["hints"][0].as_str().unwrap().contains("stop `keyholder serve`"), "{told}");
    }
    refused(&world.said("state", &["store", "migrate", "--to", "2"], b""), 3, "keyholder.state.in_use");
    assert_eq!(digests(&world.path("state")), before, "nothing was changed");
    // what only reads or adds goes on beside it
    world.is_sound("state");
    world.backup("state", "second.age");
    world.said("state", &["secret", "set", "beside"], DOCUMENT).done();

    // a lock that a killed process left behind means nothing
    process.kill();
    assert!(world.path("state/keyholder.lock").exists());
    world.said("state", &["store", "rekey"], b"").done();

    // and while something replaces files, nobody opens them
    let lock = fs::OpenOptions::new().write(true).open(world.path("state/keyholder.lock")).unwrap();
    lock.lock().unwrap();
    for words in [&["client", "list"][..], &["serve"], &["store", "check"], &["audit", "verify"]] {
        refused(&world.said("state", words, b""), 3, "keyholder.state.in_use");
    }
    drop(lock);
    world.is_sound("state");
    assert_eq!(serve().stop().0, Some(0));
}

/// Processes at the same time, and rounds of each.
const PROCESSES: usize = 4;
const ROUNDS: usize = 5;

#[test]
fn a_storm_of_commands_and_backups_beside_two_servers_corrupts_nothing() {
    let world = World::furnished();
    let servers: Vec<Process> = (0..2)
        .map(|number| {
            let ready = world.path(&format!("ready-{number}.json"));
            let mut command = world.command("state", &["serve", "--ready-file", ready.to_str().unwrap()]);
            let mut process = Process::start(&mut command, &world.path(&format!("serve-{number}.log")));
            process.ready(&ready);
            process
        })
        .collect();
    std::thread::scope(|scope| {
        for process in 0..PROCESSES {
            let world = &world;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let name = format!("storm-{process}-{round}");
                    world.said("state", &["client", "add", &name, "--allow-all"], b"").done();
                    run(&mut world.command("state", &["secret", "set", "shared"]), DOCUMENT).done();
                }
            });
        }
        scope.spawn(|| {
            for number in 0..3 {
                world.backup("state", &format!("storm-{number}.age"));
            }
        });
    });
    for server in servers {
        assert_eq!(server.stop().0, Some(0));
    }
    let seen = world.is_sound("state");
    assert_eq!(seen["seen"]["clients"], 3 + PROCESSES * ROUNDS, "{seen}");
    let shown = world.said("state", &["secret", "show-metadata", "shared"], b"").json();
    assert_eq!(shown["version"], PROCESSES * ROUNDS, "no write was lost");
    let identity = world.identity();
    for number in 0..3 {
        let (file, state) = (world.path(&format!("storm-{number}.age")), format!("restored-{number}"));
        world.said(&state, &World::restore(&file, &[], &identity), b"").done();
        world.is_sound(&state);
    }
}
