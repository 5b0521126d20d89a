//! What may be written while both files are walked.

use std::{fs, path::PathBuf, sync::Arc};

use kh_core::{ManualClock, SecretBytes, SeededEntropy, UnixMillis, audit::AuditEvent, port::AuditLog};
use tempfile::TempDir;

use super::*;
use crate::FileAuditLog;

/// A log of two entries, each with its checkpoint.
struct Place {
    log: PathBuf,
    checkpoints: PathBuf,
    _folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [log, checkpoints] = ["audit.jsonl", "audit.checkpoints"].map(|name| folder.path().join(name));
        let place = Self { log, checkpoints, _folder: folder };
        let writer = place.open();
        writer.append(&[event(1)]).unwrap();
        writer.append(&[event(2)]).unwrap();
        place
    }

    fn open(&self) -> FileAuditLog {
        let clock = ManualClock::at(UnixMillis(1_790_000_000_000));
        FileAuditLog::open(&self.log, &self.checkpoints, &SecretBytes::new(vec![7; 32]), Arc::new(clock)).unwrap()
    }

    fn look(&self) -> Seen {
        look(&self.log, &self.checkpoints).unwrap().unwrap()
    }
}

fn event(number: u64) -> AuditEvent {
    AuditEvent::new(&SeededEntropy::new(number), UnixMillis(number), "cli:ops", "client.add", "shop")
}

fn last_line(content: &[u8]) -> &[u8] {
    content.split_inclusive(|byte| *byte == b'\n').next_back().unwrap()
}

#[test]
fn an_append_does_not_wait_for_a_walk_and_is_not_part_of_it() {
    let place = Place::new();
    let writer = place.open();
    let seen = place.look();
    File::open(&place.log).unwrap().try_lock().expect("the lock is free while the files are walked");
    writer.append(&[event(3)]).unwrap();
    let mut walker = Walker::new(Some(writer.public_key()));
    assert_eq!(seen.walk(&mut walker, seen.until).unwrap(), None);
    assert_eq!((walker.seq, walker.covered), (2, 2));
    let report = verify(&place.log, &place.checkpoints, Some(&writer.public_key())).unwrap();
    assert!(report.verified() && report.entries == 3, "{report:?}");
}

/// Why a finding is looked at once more under the lock.
#[test]
fn a_repair_during_a_walk_can_look_like_damage_to_it() {
    let place = Place::new();
    let mut content = fs::read(&place.checkpoints).unwrap();
    let line = last_line(&content).len();
    // as a crash leaves it where the file system had grown the file already
    content.resize(content.len() + line, 0);
    fs::write(&place.checkpoints, &content).unwrap();
    let seen = place.look();
    let writer = place.open();
    writer.append(&[event(3)]).unwrap();
    let walk = |until| seen.walk(&mut Walker::new(Some(writer.public_key())), until).unwrap();
    assert_eq!(walk(seen.until).unwrap().kind, FindingKind::Truncated);
    assert_eq!(walk(Extent::WHOLE), None);
    assert!(verify(&place.log, &place.checkpoints, Some(&writer.public_key())).unwrap().verified());
}

#[test]
fn a_checkpoint_that_comes_later_is_compared_with_what_was_walked_before_it() {
    let place = Place::new();
    let seen = place.look();
    let last = last_line(&fs::read(&place.checkpoints).unwrap()).len() as u64;
    let mut walker = Walker::new(None);
    let earlier = Extent { checkpoints: seen.until.checkpoints - last, ..seen.until };
    assert_eq!(seen.walk(&mut walker, earlier).unwrap(), None);
    assert_eq!((walker.seq, walker.covered, walker.since.len()), (2, 1, 1));
    assert_eq!(seen.walk(&mut walker, seen.until).unwrap(), None);
    assert_eq!((walker.covered, walker.since.len()), (2, 0), "nothing waits for a checkpoint any more");
}
