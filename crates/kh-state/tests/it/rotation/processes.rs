//! Processes that compete for one lease, are killed while they write, or run out of disk.

use std::{collections::BTreeMap, io::Read, path::Path, time::Duration};

use kh_core::{
    UnixMillis,
    port::{JournalError, RotationJournal, rotation_journal::EscrowChange},
};

use super::{begun, leased, name, next};
use crate::{
    child::{command, open, said, say, state_path},
    support::{FileAudit, START},
};

/// Records that competing processes write together.
const RECORDS: u64 = 120;

/// Runs of competition, each begun by killing whoever writes.
const KILLS: u32 = 12;

/// Takes the lease, appends a few records, gives it back or loses it, until the run has all its records. Time is the
/// number of the try, so that leases end: a process that lags behind is fenced.
pub(crate) async fn compete(folder: &Path, owner: &str) {
    let state = open(folder).unwrap();
    let credential = name("shared");
    let run = state.runs(Some(&credential), 1).await.unwrap().remove(0).id;
    let mut fenced = 0_u32;
    for turn in 0_u64.. {
        // two processes count differently, so that one holds the lease as over while the other still writes
        let now = UnixMillis(START.0 + turn * if owner == "one" { 40 } else { 35 });
        let taken = state.lease("credential/shared", owner, now, Duration::from_millis(50)).await.unwrap();
        let Some(lease) = taken else { continue };
        for _ in 0..4 {
            let written = state.run(run).await.unwrap().records.len() as u64;
            if written >= RECORDS {
                say(&format!("done {fenced}"));
                return;
            }
            let mut append = next(run, written + 1, &lease, now);
            append.record = format!("\"{owner} {}\"", written + 1);
            append.escrow = vec![EscrowChange::Keep { name: "new", sealed: append.record.clone().into_bytes() }];
            say(&format!("begin {}", written + 1));
            match state.append(append).await {
                Ok(()) => say(&format!("wrote {}", written + 1)),
                Err(JournalError::Fenced(_)) => {
                    fenced += 1;
                    break;
                }
                Err(JournalError::MovedOn(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Whatever happened: records without gaps, fences that only grow, the escrow of the last record, each event once.
async fn check(folder: &Path, wrote: &BTreeMap<u64, String>) -> usize {
    let state = open(folder).unwrap();
    let run = state.runs(Some(&name("shared")), 1).await.unwrap().remove(0);
    let seqs: Vec<u64> = run.records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, (1..=run.records.len() as u64).collect::<Vec<_>>());
    assert!(run.records.is_sorted_by_key(|record| record.fence));
    for (seq, owner) in wrote {
        let record = run.records.iter().find(|record| record.seq == *seq).map(|record| record.record.as_str());
        assert_eq!(record, Some(format!("\"{owner} {seq}\"").as_str()), "acknowledged and lost");
    }
    if let Some(last) = run.records.last().filter(|last| last.seq > 1) {
        let held = state.escrow(run.id, "new").await.unwrap();
        assert_eq!(held.as_deref(), Some(last.record.as_bytes()), "the escrow is the last record's");
    }
    let events = FileAudit(folder.join("audit")).read();
    let mut ids: Vec<_> = events.iter().map(|event| event.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), events.len()), (run.records.len(), run.records.len()), "each record has its event, once");
    let report = kh_state::check(&state_path(folder)).unwrap();
    assert_eq!((report.findings, report.runs), (Vec::new(), 1));
    run.records.len()
}

async fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let lease = leased(&state, "shared", "test", START).await;
    begun(&state, "shared", &lease, START).await;
    state.release(&lease).await.unwrap();
    folder
}

fn wrote(output: &[u8], owner: &str) -> impl Iterator<Item = (u64, String)> {
    let owner = owner.to_owned();
    let numbers: Vec<u64> = said(output).iter().filter_map(|line| line.strip_prefix("wrote ")?.parse().ok()).collect();
    numbers.into_iter().map(move |number| (number, owner.clone()))
}

#[tokio::test]
async fn two_processes_that_compete_for_a_lease_write_one_history() {
    let folder = prepared().await;
    let this = std::env::current_exe().unwrap();
    let start = |owner: &str| command(&this, &[], &format!("rotate {owner}"), folder.path()).spawn().unwrap();
    let children = [("one", start("one")), ("two", start("two"))];
    let mut all = BTreeMap::new();
    for (owner, child) in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (seq, owner) in wrote(&output.stdout, owner) {
            let before = all.insert(seq, owner);
            assert_eq!(before, None, "{seq} was acknowledged to both");
        }
    }
    assert_eq!(check(folder.path(), &all).await as u64, RECORDS);
    assert_eq!(all.len() as u64, RECORDS - 1, "each record was acknowledged to one of them");
}

#[tokio::test]
async fn killed_writers_of_the_journal_lose_nothing_that_was_acknowledged() {
    let folder = prepared().await;
    let this = std::env::current_exe().unwrap();
    let mut all = BTreeMap::new();
    let mut inside = 0;
    for round in 0..KILLS {
        let mut child = command(&this, &[], "rotate one", folder.path()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut text = Vec::new();
        let enough = 1 + (round as usize * 5) % 8;
        let mut byte = [0; 1];
        while text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"KH begin ")).count() <= enough {
            if output.read(&mut byte).unwrap() == 0 {
                break;
            }
            text.push(byte[0]);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        output.read_to_end(&mut text).unwrap();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        text.truncate(whole);
        let began = said(&text).iter().filter(|line| line.starts_with("begin ")).count();
        let told: Vec<_> = wrote(&text, "one").collect();
        assert!(!told.is_empty(), "it wrote nothing at all");
        inside += usize::from(began > told.len());
        all.extend(told);
        check(folder.path(), &all).await;
    }
    assert!(inside * 2 >= KILLS as usize, "only {inside} of {KILLS} kills fell inside a write");
}

/// Appends until the disk is full, then shows that what was written is there.
pub(crate) async fn fill(folder: &Path) {
    let state = open(folder).unwrap();
    let lease = leased(&state, "full", "one", START).await;
    let run = begun(&state, "full", &lease, START).await;
    for seq in 2..5000 {
        let mut append = next(run, seq, &lease, START);
        append.record = format!("\"{}\"", "x".repeat(2000));
        append.escrow = vec![EscrowChange::Keep { name: "new", sealed: seq.to_string().into_bytes() }];
        if let Err(error) = state.append(append).await {
            say(&format!("failed {seq} {error}"));
            let held = state.escrow(run, "new").await.unwrap().unwrap();
            let records = state.run(run).await.unwrap().records.len();
            say(&format!("there {records} {}", String::from_utf8(held).unwrap()));
            return;
        }
    }
    say("never full");
}

#[tokio::test]
async fn a_full_disk_stops_a_rotation_and_keeps_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    // a file size limit stands in for the disk's end; ignoring the signal turns it into a failed write
    let script = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"";
    let output = command(Path::new("/bin/sh"), &["-c", script, this.to_str().unwrap()], "fill_journal", folder.path())
        .output()
        .unwrap();
    let said = said(&output.stdout);
    let [failed, there] = &said[..] else { panic!("{said:?} {}", String::from_utf8_lossy(&output.stdout)) };
    let (seq, reason) = failed.strip_prefix("failed ").unwrap().split_once(' ').unwrap();
    let seq: u64 = seq.parse().unwrap();
    assert!(seq > 10 && reason.starts_with("the rotation journal is not available: "), "{failed}");
    assert_eq!(*there, format!("there {} {}", seq - 1, seq - 1), "the last acknowledged one, whole");
    let state = open(folder.path()).unwrap();
    let run = state.unfinished().await.unwrap().remove(0);
    assert_eq!(run.records.len() as u64, seq - 1);
    let lease = leased(&state, "full", "two", UnixMillis(START.0 + 60_000)).await;
    state.append(next(run.id, seq, &lease, START)).await.expect("with room again it goes on");
}
