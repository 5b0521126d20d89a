//! What was acknowledged so far, and the comparison of all of it with what an installation has.
//!
//! Invariant: the ledger only learns from answers that came; a change whose answer did not come is decided once, by
//! what is there, and must be there wholly (state and one audit entry) or not at all.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::attempt::{call, log_in};
use crate::harness::{Installation, Login, Said, text};

/// A client as acknowledged.
#[derive(Clone, Debug)]
pub struct Client {
    pub login: Login,
    pub enabled: bool,
}

/// A change by a command.
#[derive(Clone, Debug)]
pub enum Change {
    Add { name: String },
    Rotate { name: String },
    Enable { name: String, enabled: bool },
    SetSecret { name: String, version: u64 },
}

impl Change {
    pub fn subject(&self) -> &str {
        match self {
            Self::Add { name } | Self::Rotate { name } | Self::Enable { name, .. } | Self::SetSecret { name, .. } => {
                name
            }
        }
    }

    pub fn action(&self) -> &'static str {
        match self {
            Self::Add { .. } => "client.add",
            Self::Rotate { .. } => "client.rotate_secret",
            Self::Enable { enabled: true, .. } => "client.enable",
            Self::Enable { enabled: false, .. } => "client.disable",
            Self::SetSecret { .. } => "secret.set",
        }
    }
}

/// Everything acknowledged.
#[derive(Default)]
pub struct Ledger {
    pub clients: BTreeMap<String, Client>,
    /// Live tokens with the name of their client.
    pub tokens: Vec<(String, String)>,
    /// Tokens that were given back.
    pub revoked: Vec<String>,
    /// Secrets with their newest version.
    pub secrets: BTreeMap<String, u64>,
    /// How many audit entries there must be of an action on a subject.
    pub audit: BTreeMap<(String, String), usize>,
}

impl Ledger {
    /// The words of the command that makes `change`.
    pub fn words(change: &Change) -> Vec<String> {
        let words: Vec<&str> = match change {
            Change::Add { name } => vec!["client", "add", name, "--credential", "genesys", "--allow-all"],
            Change::Rotate { name } => vec!["client", "rotate-secret", name],
            Change::Enable { name, enabled: true } => vec!["client", "enable", name],
            Change::Enable { name, enabled: false } => vec!["client", "disable", name],
            Change::SetSecret { name, .. } => vec!["secret", "set", name],
        };
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        if let Change::SetSecret { version, .. } = change {
            let expected = if *version == 1 { "absent".to_owned() } else { (version - 1).to_string() };
            words.extend(["--expect-version".to_owned(), expected]);
        }
        words.extend(["--output".to_owned(), "json".to_owned()]);
        words
    }

    /// Notes a change whose answer came.
    pub fn acknowledged(&mut self, change: &Change, answer: &Value) {
        self.count(change);
        match change {
            Change::Add { name } | Change::Rotate { name } => {
                let login = Login {
                    id: text(answer, "client_id").to_owned(),
                    secret: text(answer, "client_secret").to_owned(),
                };
                let enabled = self.clients.get(name).is_none_or(|client| client.enabled);
                self.clients.insert(name.clone(), Client { login, enabled });
            }
            Change::Enable { name, enabled } => {
                self.clients.get_mut(name).expect("only known clients are changed").enabled = *enabled;
            }
            Change::SetSecret { name, version } => {
                assert_eq!(answer["version"], *version, "{answer}");
                self.secrets.insert(name.clone(), *version);
            }
        }
    }

    fn count(&mut self, change: &Change) {
        *self.audit.entry((change.action().to_owned(), change.subject().to_owned())).or_default() += 1;
    }

    /// Decides a change whose answer did not come, by its audit entry, and holds the state against that decision.
    /// Answers whether it is there.
    pub fn decide(&mut self, change: &Change, installation: &Installation, gateway: &str) -> bool {
        // Opening the state and the store repairs what the crash left, and hands over audit entries that wait.
        let clients = clients(installation);
        let secrets = secrets(installation);
        let key = (change.action().to_owned(), change.subject().to_owned());
        let found = audit(installation).get(&key).copied().unwrap_or_default();
        let known = self.audit.get(&key).copied().unwrap_or_default();
        assert!(found == known || found == known + 1, "{change:?}: {found} audit entries, {known} acknowledged");
        let there = found > known;
        if there {
            self.count(change);
        }
        match change {
            Change::Add { name } => {
                assert_eq!(clients.contains_key(name), there, "{change:?} is there in part");
                if there {
                    // Its secret was never told; a new one must make it usable.
                    self.make(&Change::Rotate { name: name.clone() }, installation);
                }
            }
            Change::Rotate { name } => {
                if there {
                    let old = self.clients[name].login.clone();
                    self.make(change, installation);
                    if self.clients[name].enabled {
                        assert_eq!(log_in(gateway, &self.clients[name].login).expect("it serves").status, 200);
                        assert_eq!(log_in(gateway, &old).expect("it serves").status, 401, "the old secret still works");
                    }
                }
            }
            Change::Enable { name, enabled } => {
                let before = self.clients[name].enabled;
                let now = if there { *enabled } else { before };
                assert_eq!(clients[name], now, "{change:?} is there in part");
                self.clients.get_mut(name).expect("only known clients are changed").enabled = now;
            }
            Change::SetSecret { name, version } => {
                let newest = secrets.get(name).copied().unwrap_or_default();
                assert_eq!(newest, if there { *version } else { version - 1 }, "{change:?} is there in part");
                if there {
                    self.secrets.insert(name.clone(), *version);
                }
            }
        }
        there
    }

    /// Makes a change that must succeed.
    pub fn make(&mut self, change: &Change, installation: &Installation) {
        let words = Self::words(change);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = installation.command(&words);
        let answer = crate::harness::run(&mut command, document(change).as_bytes()).json();
        self.acknowledged(change, &answer);
    }

    /// Compares clients, secrets and the audit log with what the commands tell.
    pub fn check_files(&self, installation: &Installation) {
        let found = clients(installation);
        let expected: BTreeMap<String, bool> =
            self.clients.iter().map(|(name, client)| (name.clone(), client.enabled)).collect();
        assert_eq!(found, expected, "clients: found and acknowledged");
        assert_eq!(secrets(installation), self.secrets, "secret versions: found and acknowledged");
        assert_eq!(audit(installation), self.audit, "audit entries: found and acknowledged");
        installation.run(&["audit", "verify"]).done();
    }

    /// Holds some acknowledged tokens and logins against a serving keyholder.
    pub fn check_serving(&mut self, gateway: &str, tokens: &[usize], revoked: &[usize], names: &[String]) {
        for (name, token) in tokens.iter().filter_map(|index| self.tokens.get(*index)) {
            let answer = call(gateway, token).expect("it serves");
            if self.clients[name].enabled {
                assert_eq!(answer.status, 200, "an acknowledged token of {name} is lost: {answer:?}");
            }
        }
        for token in revoked.iter().filter_map(|index| self.revoked.get(*index)) {
            assert_eq!(refused(gateway, token), 401, "a revoked token lives again");
        }
        for name in names {
            let Some(client) = self.clients.get(name) else { continue };
            let answer = log_in(gateway, &client.login).expect("it serves");
            assert_eq!(answer.status == 200, client.enabled, "{name}: {answer:?}");
            if client.enabled {
                self.tokens.push((name.clone(), text(&answer.json(), "access_token").to_owned()));
            }
        }
    }
}

/// What the command of `change` reads: a credential document of some size, or nothing.
pub fn document(change: &Change) -> String {
    match change {
        Change::SetSecret { name, version } => {
            let filler = format!("{name}-{version}-").repeat(300);
            format!(r#"{{"client_id":"{name}","client_secret":"{filler}"}}"#)
        }
        _ => String::new(),
    }
}

/// The status of a call with a token that is no longer known. Many of those at once are put off with a 503, which is
/// no answer to the question.
fn refused(gateway: &str, token: &str) -> u16 {
    for _ in 0..1_000 {
        let answer = call(gateway, token).expect("it serves");
        if answer.status != 503 {
            return answer.status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("unknown tokens are put off for ever");
}

fn json(said: Said) -> Value {
    said.json()
}

fn clients(installation: &Installation) -> BTreeMap<String, bool> {
    let all = json(installation.run(&["client", "list", "--output", "json"]));
    let of = |client: &Value| (text(client, "name").to_owned(), client["enabled"] == true);
    all["clients"].as_array().expect("a list").iter().map(of).collect()
}

fn secrets(installation: &Installation) -> BTreeMap<String, u64> {
    let all = json(installation.run(&["secret", "list", "--output", "json"]));
    let of = |secret: &Value| (text(secret, "name").to_owned(), secret["version"].as_u64().expect("a number"));
    all["secrets"].as_array().expect("a list").iter().map(of).collect()
}

fn audit(installation: &Installation) -> BTreeMap<(String, String), usize> {
    let all = json(installation.run(&["audit", "list", "--limit", "10000", "--output", "json"]));
    let mut counts = BTreeMap::new();
    // that a configuration was served first is audited by `serve`, not by the ledger's commands
    let all = all["entries"].as_array().expect("a list");
    for entry in all.iter().filter(|entry| text(entry, "action") != "config.change") {
        *counts.entry((text(entry, "action").to_owned(), text(entry, "subject").to_owned())).or_default() += 1;
    }
    counts
}
