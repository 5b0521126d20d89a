//! One round: traffic and a command at work, a SIGKILL at a seeded moment, a restart, and the comparison.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use kh_core::{Entropy, SeededEntropy};

use super::{
    evidence::{Look, OF_COMMANDS, hot_journal, torn_line},
    ledger::{Change, Ledger, document},
    writer::Traffic,
};
use crate::harness::{Installation, Login, Server};

/// Names of clients and secrets that a round changes: few, so that they are changed often.
const NAMES: u64 = 6;

/// Polls for a write to begin, each of about 20 microseconds and a look at the files.
const WATCHES_MAX: u32 = 4_000;

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Serve,
    Command,
    Both,
}

/// What happened in all rounds.
#[derive(Default, Debug)]
pub struct Tally {
    pub kills: usize,
    pub serve_killed: usize,
    pub commands_killed: usize,
    pub inside_a_login: usize,
    pub inside_a_command: usize,
    pub hot_journals: usize,
    pub torn_lines: usize,
    pub calls: usize,
}

impl Tally {
    pub fn inside(&self) -> usize {
        self.inside_a_login + self.inside_a_command
    }
}

/// An installation under fire.
pub struct Arena {
    pub installation: Installation,
    pub ledger: Ledger,
    pub tally: Tally,
    entropy: SeededEntropy,
    server: Option<Server>,
    writer: Login,
    next_name: u64,
}

/// A command that may be killed; its answer goes to a file, so that nobody has to read it.
struct Running {
    child: Child,
    answer: PathBuf,
    change: Change,
    before: Look,
}

impl Arena {
    pub fn new(seed: u64, sandbox: &str) -> Self {
        let installation = Installation::with(sandbox, "");
        let mut ledger = Ledger::default();
        for name in ["genesys", "cxone"] {
            ledger.secrets.insert(name.to_owned(), 1);
            ledger.audit.insert(("secret.set".to_owned(), name.to_owned()), 1);
        }
        ledger.make(&Change::Add { name: "writer".to_owned() }, &installation);
        let server = installation.serve();
        let writer = ledger.clients["writer"].login.clone();
        ledger.tokens.push(("writer".to_owned(), server.login(&writer)));
        let entropy = SeededEntropy::new(seed);
        let mut arena =
            Self { installation, ledger, tally: Tally::default(), entropy, server: Some(server), writer, next_name: 0 };
        arena.reading_writes_nothing();
        arena
    }

    fn state(&self) -> PathBuf {
        self.installation.path("state")
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it serves between rounds")
    }

    fn gateway(&self) -> String {
        self.server().gateway().to_owned()
    }

    /// What the evidence rests on: calls and reading commands change none of the files that are watched.
    fn reading_writes_nothing(&mut self) {
        let look = |arena: &Self| Look::at(&arena.state(), &[super::evidence::OF_TOKENS, OF_COMMANDS].concat());
        self.ledger.check_files(&self.installation);
        let before = look(self);
        self.ledger.check_files(&self.installation);
        for _ in 0..5 {
            self.ledger.check_serving(&self.gateway(), &[0], &[], &[]);
        }
        assert_eq!(look(self), before, "reading changed the state");
    }

    pub fn round(&mut self) {
        let victim = match self.entropy.below(10) {
            0..=3 => Victim::Serve,
            4..=7 => Victim::Command,
            _ => Victim::Both,
        };
        // While serve is the victim, only secrets are changed, so that what happens to state.db is serve's doing.
        let change = self.change(victim != Victim::Command);
        let state = self.state();
        let traffic = Traffic::start(&self.gateway(), state.clone(), &self.writer, &self.ledger.tokens[0].1);
        let directed = self.entropy.below(2) == 0;
        let delay =
            Duration::from_micros(if directed { self.entropy.below(3_000) } else { self.entropy.below(60_000) });
        let mut command = self.launch(change);
        if directed {
            watch(|| match victim {
                Victim::Serve => traffic.writing(&state).is_some(),
                Victim::Command | Victim::Both => Look::at(&state, OF_COMMANDS) != command.before,
            });
        }
        std::thread::sleep(delay);
        let at_kill = victim != Victim::Command;
        // Looked at before the kill: afterwards the command, as the last to close it, would tidy the state's log.
        let writing = if at_kill { traffic.writing(&state) } else { None };
        if at_kill {
            self.kill_serve();
        }
        if victim == Victim::Serve {
            command.child.wait().expect("the command ends");
        } else {
            // A command that has ended already cannot be killed; it is not counted.
            command.child.kill().ok();
        }
        let signal = command.child.wait().expect("the command ends").signal();
        let hot = hot_journal(&state);
        let torn = torn_line(&state);
        let changed = Look::at(&state, OF_COMMANDS) != command.before;
        let (heard, calls) = traffic.end();
        self.tally.calls += calls;
        self.tally.inside_a_login += usize::from(writing.is_some() && heard.under_way == writing);
        let (first_token, first_revoked) = (self.ledger.tokens.len(), self.ledger.revoked.len());
        self.ledger.tokens.extend(heard.tokens.into_iter().map(|token| ("writer".to_owned(), token)));
        self.ledger.revoked.extend(heard.revoked);
        if at_kill {
            self.server = Some(self.installation.serve());
        }
        let killed = signal == Some(9);
        self.settle(&command, killed, hot || torn || changed);
        if killed {
            self.tally.kills += 1;
            self.tally.commands_killed += 1;
            self.tally.hot_journals += usize::from(hot);
            self.tally.torn_lines += usize::from(torn);
        }
        self.check(first_token, first_revoked);
    }

    fn kill_serve(&mut self) {
        let mut server = self.server.take().expect("it serves between rounds");
        let pid = i32::try_from(server.process.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it was alive");
        assert_eq!(server.process.end(), None, "a killed process has no exit code");
        self.tally.kills += 1;
        self.tally.serve_killed += 1;
    }

    fn change(&mut self, only_secrets: bool) -> Change {
        let name = format!("name-{}", self.entropy.below(NAMES));
        let kind = if only_secrets { 3 } else { self.entropy.below(5) };
        match (kind, self.ledger.clients.get(&name)) {
            (0, _) | (1 | 2, None) => {
                self.next_name += 1;
                let known = self.ledger.clients.contains_key(&name);
                Change::Add { name: if known { format!("more-{}", self.next_name) } else { name } }
            }
            (1, Some(_)) => Change::Rotate { name },
            (2, Some(client)) => Change::Enable { name, enabled: !client.enabled },
            _ => {
                let version = self.ledger.secrets.get(&name).copied().unwrap_or_default() + 1;
                Change::SetSecret { name, version }
            }
        }
    }

    fn launch(&self, change: Change) -> Running {
        let before = Look::at(&self.state(), OF_COMMANDS);
        let answer = self.installation.path("answer.json");
        let words = Ledger::words(&change);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.installation.command(&words);
        let errors = File::create(self.installation.path("command.log")).unwrap();
        command.stdin(Stdio::piped()).stdout(File::create(&answer).unwrap()).stderr(errors);
        let mut child = command.spawn().unwrap();
        // A command that reads nothing closes its input.
        child.stdin.take().unwrap().write_all(document(&change).as_bytes()).ok();
        Running { child, answer, change, before }
    }

    /// Learns what became of the command.
    fn settle(&mut self, command: &Running, killed: bool, evidence: bool) {
        let mut answer = String::new();
        File::open(&command.answer).unwrap().read_to_string(&mut answer).unwrap();
        if let Ok(answer) = serde_json::from_str(&answer) {
            self.ledger.acknowledged(&command.change, &answer);
            return;
        }
        let log = || std::fs::read_to_string(self.installation.path("command.log")).unwrap_or_default();
        assert!(killed, "{:?} failed: {}", command.change, log());
        let gateway = self.gateway();
        let there = self.ledger.decide(&command.change, &self.installation, &gateway);
        self.tally.inside_a_command += usize::from(evidence || there);
    }

    /// Everything about clients, secrets and the log; the new tokens, and some of the old ones.
    fn check(&mut self, first_token: usize, first_revoked: usize) {
        self.ledger.check_files(&self.installation);
        let all = u64::try_from(self.ledger.tokens.len()).expect("a count");
        let mut tokens: Vec<usize> = (first_token..self.ledger.tokens.len()).collect();
        tokens.extend((0..4).map(|_| usize::try_from(self.entropy.below(all)).expect("an index")));
        let revoked: Vec<usize> = (first_revoked..self.ledger.revoked.len()).collect();
        let names: Vec<String> = self.ledger.clients.keys().cloned().collect();
        let count = u64::try_from(names.len()).expect("a count");
        let some = usize::try_from(self.entropy.below(count)).expect("an index");
        let gateway = self.gateway();
        self.ledger.check_serving(&gateway, &tokens, &revoked, &names[some..=some]);
    }

    /// Everything that was ever acknowledged, after a last restart.
    pub fn check_all(&mut self) {
        let server = self.server.take().expect("it serves between rounds");
        let (code, log) = server.process.stop();
        assert_eq!(code, Some(0), "{log}");
        self.server = Some(self.installation.serve());
        self.ledger.check_files(&self.installation);
        let tokens: Vec<usize> = (0..self.ledger.tokens.len()).collect();
        let revoked: Vec<usize> = (0..self.ledger.revoked.len()).collect();
        let names: Vec<String> = self.ledger.clients.keys().cloned().collect();
        let gateway = self.gateway();
        self.ledger.check_serving(&gateway, &tokens, &revoked, &names);
    }
}

/// Waits until `begun`, for a bounded time.
fn watch(begun: impl Fn() -> bool) {
    for _ in 0..WATCHES_MAX {
        if begun() {
            return;
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}
