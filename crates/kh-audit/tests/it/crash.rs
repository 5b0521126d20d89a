//! SIGKILL at any moment: what was acknowledged is there, and the log verifies after the next start.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use kh_core::{Entropy, SeededEntropy, port::AuditLog};

use crate::support::{Place, event};

const KILLS: u64 = 40;

#[test]
fn no_acknowledged_entry_is_lost_by_a_kill() {
    let place = Place::new();
    let entropy = SeededEntropy::new(20_261_121);
    let mut acknowledged = Vec::new();
    let mut uncovered_or_torn = 0;
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_appends_forever", "--nocapture", "--test-threads=1"])
            .env("KH_AUDIT_CRASH_CHILD", place.log.parent().unwrap())
            .env("KH_AUDIT_CRASH_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let wanted = 1 + entropy.below(6);
        let mut seen = 0;
        let mut line = String::new();
        while seen < wanted {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
            seen += u64::from(remember(&line, &mut acknowledged));
        }
        // A spin of random length, so that the kill falls at any point of an append.
        for _ in 0..entropy.below(400_000) {
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
            remember(&line, &mut acknowledged);
        }
        let before = place.verify();
        uncovered_or_torn += u64::from(!before.verified() || before.uncovered > 0);
        place.open();
        let report = place.verify();
        assert!(report.verified() && report.uncovered == 0, "round {round}: {report:?}");
    }
    let ids: std::collections::HashSet<_> = place.entries().into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids.len(), place.entries().len(), "no entry is there twice");
    for number in &acknowledged {
        assert!(ids.contains(&event(*number).id), "acknowledged entry {number} is lost");
    }
    assert!(acknowledged.len() as u64 >= KILLS, "each round acknowledged something");
    println!("{KILLS} kills, {} acknowledged, {uncovered_or_torn} fell inside an append", acknowledged.len());
    assert!(uncovered_or_torn > 0, "no kill fell between the writes of one append");
}

fn remember(line: &str, acknowledged: &mut Vec<u64>) -> bool {
    let Some(number) = line.strip_suffix('\n').and_then(|line| line.rsplit_once("acknowledged ")) else { return false };
    acknowledged.push(number.1.parse().unwrap());
    true
}

/// Not a test of its own: the process that is killed.
#[test]
fn child_appends_forever() {
    let Some(directory) = std::env::var_os("KH_AUDIT_CRASH_CHILD") else { return };
    let round: u64 = std::env::var("KH_AUDIT_CRASH_ROUND").unwrap().parse().unwrap();
    let log = Place::at(directory.as_ref()).open();
    for number in 0.. {
        let number = (round + 1) * 1_000_000 + number;
        log.append(&[event(number)]).unwrap();
        let mut output = std::io::stdout().lock();
        writeln!(output, "acknowledged {number}").unwrap();
        output.flush().unwrap();
    }
}

/// Three processes on one log, which offer some of the same events.
#[test]
fn several_processes_write_one_chain() {
    let place = Place::new();
    let children: Vec<_> = (0..3)
        .map(|writer| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "crash::child_shares", "--nocapture", "--test-threads=1"])
                .env("KH_AUDIT_SHARE_CHILD", place.log.parent().unwrap())
                .env("KH_AUDIT_SHARE_WRITER", writer.to_string())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let report = place.verify();
    assert!(report.verified(), "{report:?}");
    let entries = place.entries();
    let ids: std::collections::HashSet<_> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!((entries.len(), ids.len()), (20 + 3 * 20, 20 + 3 * 20), "shared events once, own events all");
}

/// Not a test of its own: one of the three processes.
#[test]
fn child_shares() {
    let Some(directory) = std::env::var_os("KH_AUDIT_SHARE_CHILD") else { return };
    let writer: u64 = std::env::var("KH_AUDIT_SHARE_WRITER").unwrap().parse().unwrap();
    let log = Place::at(directory.as_ref()).open();
    for number in 0..20 {
        log.append(&[event(number), event((writer + 1) * 1000 + number)]).unwrap();
    }
}
