//! A changed configuration is taken over whole while calls go on, or refused whole.

mod certificates;
mod load;

use std::{fs, path::PathBuf, process::Command, time::Duration};

use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use crate::harness::{Installation, Server, eventually, request, text};

const USERS: &str = "/api/v2/users?pageSize=1";

/// A running keyholder whose configuration is going to be changed.
pub struct Stage {
    pub installation: Installation,
    pub server: Server,
}

impl Stage {
    pub fn new() -> Self {
        let installation = Installation::new();
        let server = installation.serve();
        Self { installation, server }
    }

    pub fn file(&self) -> PathBuf {
        self.installation.path("keyholder.toml")
    }

    pub fn config(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// What `/v1/status` tells.
    pub fn status(&self) -> Value {
        let token = fs::read_to_string(text(&self.server.ready, "admin_token_file")).unwrap();
        let answer =
            request("GET", &format!("{}/v1/status", self.server.admin()), &[("X-Keyholder-Token", token.trim())], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// A sample of `/metrics`; 0 while it is not there.
    pub fn metric(&self, sample: &str) -> u64 {
        let metrics = request("GET", &format!("{}/metrics", self.server.admin()), &[], b"");
        let metrics = String::from_utf8(metrics.body).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    pub fn reloads(&self, result: &str) -> u64 {
        self.metric(&format!("keyholder_config_reloads_total{{result=\"{result}\"}}"))
    }

    /// All reloads so far.
    pub fn all_reloads(&self) -> u64 {
        ["applied", "unchanged", "refused"].iter().map(|result| self.reloads(result)).sum()
    }

    /// Writes the file as editors do: another file, renamed.
    pub fn write(&self, config: &str) {
        let draft = self.installation.path("keyholder.toml.draft");
        fs::write(&draft, config).unwrap();
        fs::rename(draft, self.file()).unwrap();
    }

    /// Writes the file and sends SIGHUP while the process stands still, so that the signal is what it hears of first,
    /// however slow the machine is; waits for what came of it.
    pub fn write_and_hang_up(&self, config: &str) -> Value {
        let before = self.all_reloads();
        self.server.process.signal("STOP");
        self.write(config);
        self.server.process.signal("HUP");
        self.server.process.signal("CONT");
        eventually(&true, || self.all_reloads() > before);
        let last = self.last();
        assert_eq!((self.all_reloads(), text(&last, "trigger")), (before + 1, "signal"), "{last}");
        last
    }

    /// Sends SIGHUP and waits for what came of it.
    pub fn hang_up(&self) -> Value {
        let before = self.all_reloads();
        self.server.process.signal("HUP");
        eventually(&true, || self.all_reloads() > before);
        self.last()
    }

    /// Waits until the file's change was taken over or refused.
    pub fn wait_for(&self, reloads: u64) -> Value {
        eventually(&reloads, || self.all_reloads());
        self.last()
    }

    pub fn last(&self) -> Value {
        self.status()["config"]["last_reload"].clone()
    }

    pub fn credentials(&self) -> Vec<String> {
        let status = self.status();
        status["credentials"].as_array().unwrap().iter().map(|found| text(found, "name").to_owned()).collect()
    }
}

#[test]
fn a_changed_file_is_taken_over_and_what_did_not_change_keeps_its_token() {
    let stage = Stage::new();
    let login = stage.installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let token = stage.server.login(&login);
    assert_eq!(stage.server.call(&token, "GET", USERS).status, 200);
    let before = stage.status();
    let changed = stage.config() + "[credential.late]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n";
    stage.write(&changed);
    let last = stage.wait_for(1);
    assert_eq!((text(&last, "result"), text(&last, "trigger")), ("applied", "file"), "{last}");
    assert_eq!(last["credentials"]["added"], serde_json::json!(["late"]));
    assert_eq!(stage.credentials(), ["cxone", "genesys", "late"]);
    assert_ne!(stage.status()["config"]["sha256"], before["config"]["sha256"]);
    assert_eq!(stage.server.call(&token, "GET", USERS).status, 200);
    assert_eq!(stage.installation.sandbox.count("POST /oauth/token"), 1, "the kept credential keeps its token");
    let entries = stage.installation.run(&["audit", "list", "--action", "config.change", "--output", "json"]).json();
    assert_eq!(entries["entries"].as_array().unwrap().len(), 2, "{entries}");
    // Nothing changed since: a signal finds nothing to do, and the file is not read again and again.
    let last = stage.hang_up();
    assert_eq!((text(&last, "result"), text(&last, "trigger")), ("unchanged", "signal"), "{last}");
    assert_eq!(stage.all_reloads(), 2);
}

/// Who was seen with the secret of `genesys`.
fn sightings(installation: &Installation) -> Vec<String> {
    let state = installation.path("state/state.db");
    let state = rusqlite::Connection::open_with_flags(state, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut select = state.prepare("SELECT consumer FROM rotation_sightings WHERE credential = 'genesys'").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_credential_that_is_rotated_from_now_on_keeps_its_token_and_its_login_becomes_evidence() {
    let installation = Installation::with("", "[rotation]\nscheduler = false\n");
    let server = installation.serve();
    let stage = Stage { installation, server };
    let login = stage.installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let token = stage.server.login(&login);
    assert_eq!(stage.server.call(&token, "GET", USERS).status, 200);
    assert!(sightings(&stage.installation).is_empty(), "nobody asks who uses a secret that is not rotated");
    let rotated = stage.config().replace("kind = \"genesys\"", "kind = \"genesys\"\nrotator = \"rotator\"")
        + "[credential.rotator]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n\
           [credential.genesys.rotation]\nstrategy = \"pair\"\n";
    let last = stage.write_and_hang_up(&rotated);
    assert_eq!(text(&last, "result"), "applied", "{last}");
    assert_eq!(last["credentials"]["kept"], serde_json::json!(["cxone", "genesys"]), "{last}");
    eventually(&1, || sightings(&stage.installation).len());
    let seen = sightings(&stage.installation).remove(0);
    assert!(seen.starts_with("gateway/"), "{seen}");
    assert_eq!(stage.server.call(&token, "GET", USERS).status, 200);
    assert_eq!(
        stage.installation.sandbox.count("POST /oauth/token"),
        1,
        "the login of before is what was written down"
    );
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_once() {
    let stage = Stage::new();
    let before = stage.status()["config"]["sha256"].clone();
    let good = stage.config();
    stage.write(&good.replace("[state]", "drain = \"0s\"\nunknown = 1\n[state]"));
    let last = stage.wait_for(1);
    assert_eq!((text(&last, "result"), text(&last, "trigger")), ("refused", "file"), "{last}");
    assert_eq!(text(&last["problem"], "code"), "keyholder.config.invalid");
    assert_eq!(last["problem"]["mistakes"].as_array().unwrap().len(), 2, "every mistake is told: {last}");
    assert_eq!(stage.metric("keyholder_config_last_reload_successful"), 0);
    assert_eq!(stage.status()["config"]["sha256"], before, "the old one stays in force");
    stage.write(&(good.clone() + "# good again\n"));
    assert_eq!(text(&stage.wait_for(2), "result"), "applied");
    assert_eq!(stage.metric("keyholder_config_last_reload_successful"), 1);
    let told = "the changed configuration was refused and the old one stays";
    assert_eq!(stage.server.process.said().matches(told).count(), 1, "{}", stage.server.process.said());
}

#[test]
fn what_only_a_restart_can_change_refuses_the_whole_file() {
    let stage = Stage::new();
    let changed = stage.config().replace("[broker]\nlisten = \"127.0.0.1:0\"", "[broker]\nlisten = \"off\"")
        + "[credential.late]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n";
    assert_ne!(changed, stage.config());
    let last = stage.write_and_hang_up(&changed);
    assert_eq!(text(&last, "result"), "refused", "{last}");
    assert_eq!(text(&last["problem"], "detail"), "only a restart can change broker.listen");
    assert_eq!(stage.credentials(), ["cxone", "genesys"], "the rest of the file is not applied either");
}

/// A file system that hangs while the configuration is read again does not hold the end up.
#[test]
fn a_read_that_hangs_does_not_hold_the_end_up() {
    let mut stage = Stage::new();
    // a pipe that somebody holds open and never writes to stands for a file system that does not answer
    let pipe = stage.installation.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, stage.file()).unwrap();
    stage.server.process.signal("HUP");
    let hold = || {
        std::thread::sleep(Duration::from_millis(10));
        // fails as long as nobody reads
        rustix::fs::open(stage.file(), OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).ok()
    };
    let held = (0..3_000).find_map(|_| hold()).expect("the file is read again");
    stage.server.process.signal("TERM");
    let ended = (0..3_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        stage.server.process.ended()
    });
    let said = stage.server.process.said();
    assert!(ended, "{said}");
    assert_eq!(stage.server.process.end(), Some(0), "{said}");
    assert!(!said.contains("stopped with requests unfinished"), "{said}");
    drop(held);
}
