//! A backup that is taken while applications log in and people change clients and secrets.
//!
//! Invariant: what was acknowledged before the backup began is in it; its audit log names exactly the changes that it
//! holds.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;

use crate::harness::{Installation, Login, Server, run, text};

/// Backups that are taken, one after the other.
const BACKUPS: usize = 4;

const SANDBOX: &str = "[limits]\nrequests_per_token = 100000\nlogins_per_minute = 100000\n";

/// What was acknowledged so far.
#[derive(Clone, Default)]
struct Acknowledged {
    tokens: Vec<String>,
    clients: Vec<(String, Login)>,
    secret_version: u64,
}

struct Load {
    acknowledged: Mutex<Acknowledged>,
    stop: AtomicBool,
}

impl Load {
    fn going(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn log_in(&self, server: &Server, login: &Login) {
        while self.going() {
            let token = server.login(login);
            self.acknowledged.lock().unwrap().tokens.push(token);
        }
    }

    fn add_clients(&self, installation: &Installation) {
        for number in 0.. {
            if !self.going() {
                return;
            }
            let name = format!("busy-{number}");
            let login = installation.add_client(&name, &["--credential", "genesys", "--allow-all"]);
            self.acknowledged.lock().unwrap().clients.push((name, login));
        }
    }

    fn set_secrets(&self, installation: &Installation) {
        while self.going() {
            let words = ["--output", "json", "secret", "set", "busy"];
            let answer = run(&mut installation.command(&words), br#"{"client_id":"a","client_secret":"b"}"#).json();
            self.acknowledged.lock().unwrap().secret_version = answer["version"].as_u64().unwrap();
        }
    }
}

#[test]
fn a_backup_taken_under_load_restores_to_a_sound_installation() {
    println!("sandbox limits raised for this test:\n{SANDBOX}");
    let installation = Installation::with(SANDBOX, "");
    let identity = age::x25519::Identity::generate();
    let key = installation.path("identity.txt");
    let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    super::world::write_private(&key, secret.as_bytes());
    let app = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let load = Load { acknowledged: Mutex::default(), stop: AtomicBool::new(false) };
    let mut taken = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| load.log_in(&server, &app));
        }
        scope.spawn(|| load.add_clients(&installation));
        scope.spawn(|| load.set_secrets(&installation));
        for number in 0..BACKUPS {
            let seen = load.acknowledged.lock().unwrap().tokens.len();
            crate::harness::eventually(&true, || {
                let now = load.acknowledged.lock().unwrap();
                now.tokens.len() > seen + 5 && now.clients.len() > number && now.secret_version > 0
            });
            let before = load.acknowledged.lock().unwrap().clone();
            let file = installation.path(&format!("backup-{number}.age"));
            let recipient = identity.to_public().to_string();
            installation.run(&["store", "backup", file.to_str().unwrap(), "--recipient", &recipient]).done();
            let during = load.acknowledged.lock().unwrap().tokens.len() - before.tokens.len();
            taken.push((file, before, during));
        }
        load.stop.store(true, Ordering::Relaxed);
    });
    let (code, log) = server.process.stop();
    assert_eq!(code, Some(0), "{log}");
    let meanwhile: Vec<usize> = taken.iter().map(|(_, _, during)| *during).collect();
    println!("logins acknowledged while each backup was made: {meanwhile:?}");
    assert!(meanwhile.iter().all(|during| *during > 0), "no backup was taken under load: {meanwhile:?}");

    for (number, (file, before, _)) in taken.iter().enumerate() {
        let state = installation.path("state");
        fs::rename(&state, installation.path(&format!("state-before-{number}"))).unwrap();
        installation.run(&["store", "restore", file.to_str().unwrap(), "--identity", key.to_str().unwrap()]).done();
        installation.run(&["store", "check"]).done();
        installation.run(&["audit", "verify"]).done();
        holds(&installation, before, &app);
        fs::remove_dir_all(&state).unwrap();
        fs::rename(installation.path(&format!("state-before-{number}")), &state).unwrap();
    }
}

/// Everything that was acknowledged is there and works.
fn holds(installation: &Installation, before: &Acknowledged, app: &Login) {
    let listed = installation.run(&["--output", "json", "client", "list"]).json();
    let names: BTreeSet<String> =
        listed["clients"].as_array().unwrap().iter().map(|client| text(client, "name").to_owned()).collect();
    for (name, _) in &before.clients {
        assert!(names.contains(name), "{name} was acknowledged and is not in the backup");
    }
    let shown = installation.run(&["--output", "json", "secret", "show-metadata", "busy"]).json();
    assert!(shown["version"].as_u64().unwrap() >= before.secret_version, "{shown}");
    // one moment of everything: the log names the clients that are there and no others
    let events = installation.run(&["--output", "json", "audit", "list", "--limit", "10000"]).json();
    let of = |action: &str| -> Vec<&Value> {
        events["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == action).collect()
    };
    let added: BTreeSet<String> = of("client.add").iter().map(|entry| text(entry, "subject").to_owned()).collect();
    assert_eq!(added, names);
    let set = of("secret.set").iter().filter(|entry| entry["subject"] == "busy").count() as u64;
    assert_eq!(Some(set), shown["version"].as_u64());

    let server = installation.serve();
    let some = before.tokens.iter().rev().take(20).chain(before.tokens.iter().take(5));
    for token in some {
        assert_eq!(server.call(token, "GET", "/api/v2/users").status, 200, "a token issued before is still valid");
    }
    let (_, last) = before.clients.last().unwrap();
    for login in [app, last] {
        let token = server.login(login);
        assert_eq!(server.call(&token, "GET", "/api/v2/users").status, 200, "the platform's secret can be read");
    }
    assert_eq!(server.process.stop().0, Some(0));
}
