//! Processes that are killed, and one whose disk is full: what had reached the spool is sent by the next one.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use kh_core::port::SecurityLog;

use crate::{
    receiver::Receiver,
    rig::{client, failure, start, until},
};

const FOLDER: &str = "KEYHOLDER_TEST_SECURITY_FOLDER";

const URL: &str = "KEYHOLDER_TEST_SECURITY_URL";

/// This test binary again, as [`child`]; `limit` is a number of 512-byte blocks that no file may exceed.
fn spawn(folder: &Path, url: &str, limit: Option<u32>) -> Child {
    let this = std::env::current_exe().unwrap();
    let mut command = match limit {
        None => Command::new(&this),
        Some(blocks) => {
            // SIGXFSZ is ignored, so that the write fails as it does on a full disk
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")).arg(&this);
            command
        }
    };
    command.args(["--exact", "crash::child", "--nocapture"]).env(FOLDER, folder).env(URL, url);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Not a test of its own: the process that is killed. Tells how many lines wait in its backlog, again and again.
#[test]
fn child() {
    let (Some(folder), Some(url)) = (std::env::var_os(FOLDER), std::env::var(URL).ok()) else { return };
    let rig = start(Path::new(&folder), client(&url, false, None), None);
    let mut told = 0;
    for number in 0_u64.. {
        rig.log.record(failure(&format!("{}-{number}", std::process::id())));
        // lines are counted as waiting once they are durable, and nothing is sent meanwhile
        let waiting = rig.metric("keyholder_security_backlog_lines");
        let failed = rig.metric("keyholder_security_collector_lines_total{result=\"queue_full\"}");
        if waiting != told {
            told = waiting;
            println!("KEPT {waiting} {failed}");
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Reads until at least `least` lines wait; answers how many.
fn kept(child: &mut Child, least: u64) -> u64 {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    for line in lines {
        let line = line.unwrap();
        let Some(rest) = line.split_once("KEPT ") else { continue };
        let count: u64 = rest.1.split(' ').next().unwrap().parse().unwrap();
        if count >= least {
            return count;
        }
    }
    panic!("the process ended by itself");
}

#[test]
fn a_kill_loses_nothing_that_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answer_with(503);
    let url = format!("http://{}/", receiver.address);
    let mut least = 0;
    for round in 1..=5 {
        let mut child = spawn(folder.path(), &url, None);
        // what the processes before kept is counted too
        least = kept(&mut child, least + 50 * round);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    receiver.answer_with(200);
    let rig = start(folder.path(), client(&url, false, None), None);
    until("what was kept is there", || receiver.count() as u64 >= least);
    assert!(rig.log.stop(Duration::from_mins(1)));
    let received = receiver.received.lock().unwrap();
    let of: BTreeSet<&str> =
        received.lines.iter().filter_map(|line| line["user"]["uid"].as_str()?.split('-').next()).collect();
    assert_eq!(of.len(), 5, "lines of every process that was killed");
    // no hole: of each process the first lines came, and then none
    for process in of {
        let numbers: BTreeSet<u64> = received
            .lines
            .iter()
            .filter_map(|line| line["user"]["uid"].as_str()?.strip_prefix(process)?.strip_prefix('-')?.parse().ok())
            .collect();
        assert_eq!(numbers.last().map(|last| last + 1), Some(numbers.len() as u64), "{process}");
    }
    assert_eq!(rig.metric("keyholder_security_collector_lines_total{result=\"damaged\"}"), 0);
}

#[test]
fn with_a_full_disk_lines_still_reach_the_collector() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let url = format!("http://{}/", receiver.address);
    // 8 KiB: a few batches
    let mut child = spawn(folder.path(), &url, Some(16));
    until("more than the disk takes is there", || receiver.count() > 2_000);
    child.kill().unwrap();
    child.wait().unwrap();
    for entry in fs::read_dir(folder.path().join("spool")).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= 8_192);
    }
    let received = receiver.received.lock().unwrap();
    let uids: BTreeSet<&str> = received.lines.iter().filter_map(|line| line["metadata"]["uid"].as_str()).collect();
    assert_eq!(uids.len(), received.lines.len(), "none came twice");
}
