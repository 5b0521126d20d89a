//! SIGKILL at any moment: every acknowledged version is there, and every acknowledged event reaches the audit log.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use kh_core::{
    Entropy, SecretBytes, SeededEntropy,
    port::{Expected, SecretStore, StoreError},
};
use kh_store::conformance::{RecordedAudit, event};

use crate::support::{get, name, open, put, start, unlocked, wait};

const KILLS: u64 = 40;

#[test]
fn no_acknowledged_version_is_lost_by_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.db");
    let entropy = SeededEntropy::new(20_261_121);
    let mut newest: HashMap<String, u64> = HashMap::new();
    let (mut acknowledged, mut inside_a_write) = (0, 0);
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_writes_forever", "--nocapture", "--test-threads=1"])
            .env("KH_STORE_CRASH_CHILD", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let mut seen = 0;
        while seen < 1 + round % 4 {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
            seen += u64::from(remember(&line, &mut newest));
        }
        // A spin of random length, so that the kill falls at any point of a write.
        for _ in 0..entropy.below(800_000) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        while output
            .read_line({
                line.clear();
                &mut line
            })
            .is_ok_and(|read| read > 0)
        {
            seen += u64::from(remember(&line, &mut newest));
        }
        acknowledged += seen;
        inside_a_write += u64::from(is_hot(&path));
        check(&path, &newest, round);
    }
    println!("{KILLS} kills, {acknowledged} acknowledged, {inside_a_write} fell inside a write");
    assert!(inside_a_write > 0, "no kill left a journal to roll back");
}

/// Whether a transaction was cut off: its journal is there.
fn is_hot(path: &Path) -> bool {
    path.with_extension("db-journal").metadata().is_ok_and(|metadata| metadata.len() > 0)
}

fn check(path: &Path, newest: &HashMap<String, u64>, round: u64) {
    let audit = RecordedAudit::default();
    let store = start(unlocked(path, 1).unwrap(), audit.clone());
    for (name, version) in newest {
        let (found, value) = get(&store, name).unwrap();
        assert!(found >= *version, "round {round}: version {version} of {name} is lost, {found} is the newest");
        assert_eq!(value, content(name, found), "round {round}");
    }
    let waiting: HashSet<_> = audit.events().iter().map(|event| event.id).collect();
    assert!(waiting.len() <= 1, "at most the one event that was cut off waits: {waiting:?}");
}

fn remember(line: &str, newest: &mut HashMap<String, u64>) -> bool {
    let Some((_, rest)) = line.strip_suffix('\n').and_then(|line| line.split_once("acknowledged ")) else {
        return false;
    };
    let (name, version) = rest.split_once(' ').unwrap();
    newest.insert(name.to_owned(), version.parse().unwrap());
    true
}

fn content(name: &str, version: u64) -> Vec<u8> {
    format!("{name} {version} ").repeat(500).into_bytes()
}

/// Not a test of its own: the process that is killed.
#[test]
fn child_writes_forever() {
    let Some(path) = std::env::var_os("KH_STORE_CRASH_CHILD") else { return };
    let store = open(path.as_ref()).unwrap();
    for number in 0_u64.. {
        let name = format!("secret-{}", number % 3);
        let next = get(&store, &name).map_or(0, |found| found.0) + 1;
        assert_eq!(put(&store, &name, &content(&name, next)).unwrap(), next);
        let mut output = std::io::stdout().lock();
        writeln!(output, "acknowledged {name} {next}").unwrap();
        output.flush().unwrap();
    }
}

/// Three processes on one file: each version is won by one of them.
#[test]
fn compare_and_set_holds_between_processes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.db");
    let children: Vec<_> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "crash::child_competes", "--nocapture", "--test-threads=1"])
                .env("KH_STORE_RACE_CHILD", &path)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut won = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let mine: Vec<u64> = text.lines().filter_map(|line| line.rsplit_once("won ")?.1.parse().ok()).collect();
        assert_eq!(mine.len(), 25, "{text}");
        won.extend(mine);
    }
    won.sort_unstable();
    assert_eq!(won, (1..=75).collect::<Vec<u64>>(), "no version was won twice and none is missing");
    assert_eq!(get(&open(&path).unwrap(), "race").unwrap().0, 75);
}

/// Not a test of its own: one of the three processes.
#[test]
fn child_competes() {
    let Some(path) = std::env::var_os("KH_STORE_RACE_CHILD") else { return };
    let store = open(path.as_ref()).unwrap();
    let at = name("race");
    let mut wins = 0;
    while wins < 25 {
        let found = wait(store.newest_version(&at)).unwrap_or(0);
        let expected = if found == 0 { Expected::Absent } else { Expected::Version(found) };
        match wait(store.put(&at, SecretBytes::new(vec![1]), expected, event("secret.set", &at))) {
            Ok(version) => {
                wins += 1;
                println!("\nwon {version}");
            }
            Err(StoreError::Conflict { found: newer, .. }) => assert!(newer > found),
            Err(error) => panic!("{error:?}"),
        }
    }
}
