//! SIGKILL in the middle of writing, many times over on one database: what was acknowledged is there, what was not is
//! there completely or not at all, and no change is without its audit event.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use kh_core::port::StateStore;

use crate::{
    child::{command, digest_of, open, said},
    support::FileAudit,
};

const KILLS: u32 = 40;

/// A kill counts as inside a write when a write had begun and was not acknowledged.
const KILLS_INSIDE_MIN: usize = 30;

/// Runs a writer until it acknowledged `after` writes and kills it at once. Answers what it began and what it
/// acknowledged.
fn run_and_kill(folder: &Path, round: u32, after: usize) -> (BTreeSet<String>, BTreeSet<String>) {
    let this = std::env::current_exe().unwrap();
    let mut child = command(&this, &[], &format!("write {round}"), folder).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = Vec::new();
    let mut done = 0;
    while done < after {
        let start = text.len();
        let read = output.read_until(b'\n', &mut text).unwrap();
        assert!(read > 0, "the writer ended by itself: {}", String::from_utf8_lossy(&text));
        done += usize::from(text[start..].starts_with(b"KH done "));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // what it said before it died and nobody had read yet
    output.read_to_end(&mut text).unwrap();
    if !text.ends_with(b"\n") {
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        text.truncate(whole);
    }
    let of = |word: &str| {
        let lines = said(&text).into_iter();
        lines.filter_map(|line| line.strip_prefix(word).map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    (of("begin "), of("done "))
}

#[tokio::test]
async fn killed_writers_lose_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (mut begun, mut done, mut inside) = (BTreeSet::new(), BTreeSet::new(), 0);
    for round in 0..KILLS {
        let after = 1 + (round as usize * 37) % 90;
        let (round_begun, round_done) = run_and_kill(folder.path(), round, after);
        inside += usize::from(round_begun.len() > round_done.len());
        begun.extend(round_begun);
        done.extend(round_done);
        check(folder.path(), &begun, &done).await;
    }
    assert!(inside >= KILLS_INSIDE_MIN, "only {inside} of {KILLS} kills fell inside a write");
}

async fn check(folder: &Path, begun: &BTreeSet<String>, done: &BTreeSet<String>) {
    let state = open(folder).unwrap();
    let events: Vec<String> = FileAudit(folder.join("audit")).read().into_iter().map(|event| event.action).collect();
    let audited: BTreeSet<&String> = events.iter().collect();
    assert_eq!(audited.len(), events.len(), "an event is in the log twice");
    let live: BTreeSet<_> =
        state.live_tokens(crate::support::START).await.unwrap().into_iter().map(|token| token.digest).collect();
    for label in begun {
        let number: u32 = label.rsplit('-').next().unwrap().parse().unwrap();
        let is_setting = number % 8 == 7;
        let stored = if is_setting {
            state.setting(label).await.unwrap().as_ref() == Some(label)
        } else {
            live.contains(&digest_of(label))
        };
        assert!(stored || !done.contains(label), "{label} was acknowledged and is lost");
        if is_setting {
            assert_eq!(stored, audited.contains(label), "{label}: the change and its event are both there or neither");
        }
    }
}
