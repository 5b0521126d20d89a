//! A world whose clocks can be moved, and the journals of both sides to compare.
//!
//! Invariant: keyholder's processes and the sandbox always have the same clock, so that a lease is over, and a lost call
//! has come to its end, as soon as the test lets that time pass.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use super::world::{KEYS, World, client, log_in};
use crate::harness::{Process, Said, request, run, text};

/// The library of Debian's package faketime that is made for programs with threads.
const LIBFAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Longer than a lease of 20 s, and than `call_max` and the 30 s in which Genesys Cloud may not list what it made.
const LEASE_OVER: u64 = 60;

/// What one credential may make in a day is over.
const NEXT_DAY: u64 = 25 * 3_600;

/// Polls of a journal, 200 microseconds apart, until something is there.
const WATCHES_MAX: u32 = 300_000;

/// How often a run is taken up again before it must have ended.
const PROCESSES_MAX: usize = 30;

/// How the secret is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Pair,
    Swap,
    Overlap,
    /// Access keys of NICE CXone overlap too.
    Keys,
}

impl Way {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Pair, Self::Swap, Self::Overlap, Self::Keys];

    fn word(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Swap => "swap",
            Self::Overlap | Self::Keys => "overlap",
        }
    }

    /// The call that makes a secret, which must never be repeated under one intent.
    pub(crate) fn making(self) -> &'static str {
        match self {
            Self::Pair => "/api/v2/oauth/clients",
            Self::Swap => "/api/v2/oauth/clients/{clientId}/secret",
            Self::Overlap => "/api/v2/oauth/clients/{clientId}/secrets",
            Self::Keys => KEYS,
        }
    }
}

/// A run as its journal has it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Journalled {
    pub(crate) over: bool,
    pub(crate) steps: Vec<Value>,
}

/// The name of a step, of an effect or of an outcome.
pub(crate) fn word(value: &Value) -> &str {
    value.as_str().or_else(|| value.as_object()?.keys().next().map(String::as_str)).unwrap_or_default()
}

impl Journalled {
    fn intents(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| step.get("intended")).map(|intended| word(&intended["effect"]))
    }

    fn outcomes(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| step.get("settled")).map(|settled| word(&settled["outcome"]))
    }

    /// How many secrets it meant to make.
    pub(crate) fn attempts(&self) -> usize {
        self.intents().filter(|intent| ["create", "regenerate"].contains(intent)).count()
    }

    /// Whether the answer to one of them is recorded.
    pub(crate) fn made(&self) -> usize {
        self.outcomes().filter(|outcome| *outcome == "created").count()
    }

    pub(crate) fn promoted(&self) -> bool {
        self.outcomes().any(|outcome| outcome == "promoted")
            || self.steps.iter().any(|step| step["resolved"]["finding"].get("live").is_some())
    }

    /// Where it stands: the effect whose intent is its last record, or the last record.
    pub(crate) fn place(&self) -> String {
        let Some(last) = self.steps.last() else { return "nothing".to_owned() };
        match last.get("intended") {
            Some(intended) => format!("in {}", word(&intended["effect"])),
            None => format!("after {}", word(last)),
        }
    }

    /// How it ended.
    pub(crate) fn end(&self) -> &str {
        self.steps.last().and_then(|step| step.get("ended")).map(|ended| word(&ended["end"])).unwrap_or_default()
    }
}

pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) way: Way,
    clocks: PathBuf,
    passed: Cell<u64>,
    logs: Cell<usize>,
    /// Calls that made a secret before there was a rotation.
    before: usize,
    evident: Cell<usize>,
    /// How often a person had to decide.
    pub(crate) decided: Cell<usize>,
}

impl Rig {
    pub(crate) fn new(way: Way) -> Self {
        assert!(Path::new(LIBFAKETIME).exists(), "install Debian's package faketime");
        let rotation = format!("strategy = \"{}\"\nverify = {{ successes = 1 }}", way.word());
        let second = "[credential.second]\nplatform = \"genesys\"\nsecret = \"store:second\"\n";
        let world = match way {
            Way::Overlap => World::on("[behaviours]\nsecrets_api = true\n", "secrets_api = true\n", &rotation, ""),
            // a run belongs to the process that the test looks at
            Way::Pair => World::new(&rotation, "scheduler = false\n"),
            Way::Swap => World::on("", "rotator_second = \"second\"\n", &rotation, second),
            Way::Keys => World::keys(&rotation),
        };
        if way == Way::Swap {
            let document = client(&world.installation, "rotator-two");
            world.installation.store_secret("second", &document);
        }
        let clocks = world.installation.path("clocks");
        let (passed, logs, evident, decided) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
        let mut made = Self { world, way, clocks, passed, logs, before: 0, evident, decided };
        made.before = made.making().0;
        made.pass(0);
        made
    }

    /// Lets time pass for keyholder and for the platform.
    pub(crate) fn pass(&self, seconds: u64) {
        self.passed.set(self.passed.get() + seconds);
        let new = self.clocks.with_extension("new");
        fs::write(&new, format!("+{}\n", self.passed.get())).unwrap();
        fs::rename(new, &self.clocks).unwrap();
        self.world.installation.sandbox.control("POST", "clock", &json!({ "shift_seconds": seconds }));
    }

    pub(crate) fn lease_over(&self) {
        self.pass(LEASE_OVER);
    }

    pub(crate) fn next_day(&self) {
        self.pass(NEXT_DAY);
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.world.installation.command(words);
        command.env("LD_PRELOAD", LIBFAKETIME).env("FAKETIME_TIMESTAMP_FILE", &self.clocks);
        command.env("FAKETIME_NO_CACHE", "1").env("NO_FAKE_STAT", "1");
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Said {
        run(&mut self.command(words), b"")
    }

    /// A process that rotates.
    pub(crate) fn rotate(&self) -> Process {
        self.start(&["--output", "json", "rotate", "run", "app"])
    }

    /// A process with a log of its own.
    pub(crate) fn start(&self, words: &[&str]) -> Process {
        self.logs.set(self.logs.get() + 1);
        let log = self.world.installation.path(&format!("process-{}.log", self.logs.get()));
        Process::start(&mut self.command(words), &log)
    }

    /// A consumer that logs in with whatever the store serves, and is seen with it.
    pub(crate) fn consume(&self) -> Said {
        let folder = Path::new(env!("CARGO_BIN_EXE_keyholder")).parent().unwrap();
        let script = "keyholder token get app >/dev/null";
        let mut command = self.command(&["exec", "--profile", "app", "--", "sh", "-c", script]);
        command.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
        run(&mut command, b"")
    }

    /// Every run, oldest first.
    pub(crate) fn journal(&self) -> Vec<Journalled> {
        let file = self.world.installation.path("state/state.db");
        let Ok(database) = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
            return Vec::new();
        };
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        let sql = "SELECT number, ended_at IS NOT NULL, record FROM rotation_runs \
                   JOIN rotation_records ON run = number ORDER BY number, seq";
        let mut statement = database.prepare(sql).unwrap();
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?));
        let mut runs = BTreeMap::<i64, Journalled>::new();
        for row in statement.query_map([], read).unwrap() {
            let (number, over, record) = row.unwrap();
            let record: Value = serde_json::from_str(&record).unwrap();
            let run = runs.entry(number).or_default();
            run.over = over;
            run.steps.push(record["step"].clone());
        }
        runs.into_values().collect()
    }

    /// Records of all runs.
    pub(crate) fn recorded(&self) -> usize {
        self.journal().iter().map(|run| run.steps.len()).sum()
    }

    /// The newest run.
    pub(crate) fn newest(&self) -> Journalled {
        self.journal().pop().unwrap_or_default()
    }

    /// Calls that make a secret which the platform saw, and those that it carried out.
    pub(crate) fn making(&self) -> (usize, usize) {
        let seen = self.world.installation.sandbox.control("GET", "requests?limit=20000&method=POST", &Value::Null);
        let calls = seen["requests"].as_array().cloned().unwrap_or_default();
        let calls: Vec<_> = calls.iter().filter(|call| text(call, "endpoint") == self.way.making()).collect();
        let applied = calls.iter().filter(|call| call["applied"] == true).count();
        (calls.len() - self.before, applied - self.before)
    }

    /// Secrets that the platform made and whose answer no record has.
    pub(crate) fn lost(&self) -> usize {
        self.making().1 - self.journal().iter().map(Journalled::made).sum::<usize>()
    }

    /// Watches a process until `reached` or its end, where others are the consumers.
    pub(crate) fn watch_alone(&self, process: &mut Process, reached: impl Fn(&Journalled) -> bool) -> bool {
        self.evident.set(usize::MAX);
        self.watch(process, reached)
    }

    /// Watches a process until `reached` or its end, and lets the consumer log in once the new secret is live.
    pub(crate) fn watch(&self, process: &mut Process, reached: impl Fn(&Journalled) -> bool) -> bool {
        for _ in 0..WATCHES_MAX {
            let runs = self.journal();
            let number = runs.len();
            let Some(run) = runs.last() else { continue };
            if reached(run) {
                return true;
            }
            if self.evident.get() < number && run.promoted() && self.way != Way::Swap {
                let said = self.consume();
                assert_eq!(said.code, Some(0), "{}", said.err);
                self.evident.set(number);
            }
            if process.ended() {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        panic!("{:?}\n{}", self.newest().steps, process.said());
    }

    /// Runs until the run has ended, in as many processes as it takes; answers how many it took.
    pub(crate) fn to_the_end(&self) -> usize {
        for processes in 1..=PROCESSES_MAX {
            let mut process = self.rotate();
            self.watch(&mut process, |_| false);
            match process.end() {
                Some(0) => return processes,
                Some(3) => self.lease_over(),
                // the answer has the command that a person types
                Some(4) => {
                    self.decide(&process.said());
                    // another one would begin the next run
                    if self.newest().over {
                        return processes;
                    }
                }
                code => panic!("{code:?} {}\n{:#?}", process.said(), self.newest().steps),
            }
        }
        panic!("it does not end: {:#?}", self.newest().steps);
    }

    /// Does what the answer of a run that needs a person names as the next command: an orphan without a name is ours.
    fn decide(&self, said: &str) {
        let answer: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        let command = text(&answer, "next_command");
        let words: Vec<_> = command.split(' ').skip(1).collect();
        assert!([Way::Overlap, Way::Keys].contains(&self.way) && words.contains(&"--own"), "{said}");
        let mut process = self.start(&words);
        self.watch(&mut process, |_| false);
        let code = process.end();
        assert!([Some(0), Some(3)].contains(&code), "{}", process.said());
        self.decided.set(self.decided.get() + 1);
    }

    /// What holds at every moment: no intent was sent twice, and a live secret was not deleted.
    pub(crate) fn is_sound(&self) {
        let attempts: usize = self.journal().iter().map(Journalled::attempts).sum();
        let (sent, _) = self.making();
        assert!(sent <= attempts, "{sent} calls for {attempts} intents: {:#?}", self.newest().steps);
        let run = self.newest();
        // a swap has one secret: from the intent to the promotion the old one may be dead already
        if self.way != Way::Swap || run.over || run.attempts() == 0 || run.promoted() {
            let said = self.consume();
            assert_eq!(said.code, Some(0), "{}\n{:#?}", said.err, run.steps);
        }
    }

    /// What holds at the end of a run: it is completed, one secret is left, and it is the one that the store serves.
    pub(crate) fn is_completed(&self) {
        let run = self.newest();
        assert_eq!((run.over, run.end()), (true, "completed"), "{:#?}", run.steps);
        self.is_sound();
        assert_eq!(self.secrets(), 1, "no orphan is left: {:#?}", run.steps);
        assert!(!self.world.lets_in(&self.world.first), "the first secret is dead after every rotation");
    }

    /// How many secrets of the credential the platform lists.
    fn secrets(&self) -> usize {
        match self.way {
            Way::Pair | Way::Swap => return self.world.clients().len(),
            Way::Keys => return self.world.access_keys().len(),
            Way::Overlap => {}
        }
        let sandbox = &self.world.installation.sandbox;
        let token = log_in(sandbox.url(), &sandbox.genesys_document()).unwrap();
        let bearer = format!("Bearer {token}");
        let url = format!("{}/api/v2/oauth/clients/{}/secrets", sandbox.url(), text(&self.world.first, "client_id"));
        let answer = request("GET", &url, &[("Authorization", &bearer)], b"");
        answer.json()["entities"].as_array().map_or(0, Vec::len)
    }

    /// Sets the faults of the platform.
    pub(crate) fn faults(&self, rules: &Value) {
        self.world.installation.sandbox.control("PUT", "faults", rules);
    }

    /// How often each fault struck.
    pub(crate) fn struck(&self) -> Vec<u64> {
        let report = self.world.installation.sandbox.control("GET", "faults", &Value::Null);
        let rules = report["rules"].as_array().cloned().unwrap_or_default();
        rules.iter().map(|rule| rule["hits"].as_u64().unwrap_or(0)).collect()
    }
}
