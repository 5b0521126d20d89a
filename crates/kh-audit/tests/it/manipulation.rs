//! Each way to falsify a log, as a table, and a random edit of any byte.

use std::fs;

use kh_audit::{FindingKind, verify};
use kh_core::port::{AuditError, AuditLog};
use proptest::prelude::*;

use crate::support::{Place, event, filled, joined, key};

/// The forger knows the format and can hash, but has another key.
fn forge(
    lines: &[String],
    change: impl Fn(usize, kh_core::audit::AuditEvent) -> kh_core::audit::AuditEvent,
) -> Vec<String> {
    let forger = Place::new();
    let log = forger.try_open(99).unwrap();
    for (index, line) in lines.iter().enumerate() {
        let entry: kh_audit::Entry = serde_json::from_str(line).unwrap();
        let event = kh_core::audit::AuditEvent {
            id: entry.id,
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            detail: entry.detail,
        };
        log.append(&[change(index, event)]).unwrap();
    }
    forger.lines()
}

fn to_mallory(mut event: kh_core::audit::AuditEvent) -> kh_core::audit::AuditEvent {
    "cli:mallory".clone_into(&mut event.actor);
    event
}

/// Manipulates a log of ten entries with a checkpoint after each `batch`, and expects kind and first bad entry; the
/// writer must refuse to go on.
fn check(name: &str, batch: u64, manipulate: impl Fn(&Place), kind: FindingKind, seq: u64) {
    let place = filled(10, batch);
    let running = place.open();
    manipulate(&place);
    let finding = place.verify().finding.unwrap_or_else(|| panic!("{name}: nothing was found"));
    assert_eq!((finding.kind, finding.seq), (kind, seq), "{name}: {finding}");
    assert!(finding.sentence.len() > 20, "{name}: {finding}");
    let before = (fs::read(&place.log).ok(), fs::read(&place.checkpoints).ok());
    let refused = place.try_open(7).and_then(|log| log.append(&[event(11)]));
    assert!(matches!(refused, Err(AuditError::Broken(_))), "{name}: {refused:?}");
    assert_eq!(before, (fs::read(&place.log).ok(), fs::read(&place.checkpoints).ok()), "{name}: files were touched");
    drop(running);
}

fn change_lines(change: impl Fn(&mut Vec<String>)) -> impl Fn(&Place) {
    move |place| {
        let mut lines = place.lines();
        change(&mut lines);
        place.write_lines(&lines);
    }
}

fn change_checkpoints(change: impl Fn(&mut Vec<String>)) -> impl Fn(&Place) {
    move |place| {
        let mut lines: Vec<String> =
            fs::read_to_string(&place.checkpoints).unwrap().lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(&place.checkpoints, joined(&lines)).unwrap();
    }
}

#[test]
fn every_manipulation_is_found_and_named() {
    use FindingKind as K;
    for batch in [1, 5, 10] {
        let edit =
            |index: usize| change_lines(move |lines| lines[index] = lines[index].replacen("cli:ops", "cli:mal", 1));
        check("edit the first", batch, edit(0), K::Edited, 1);
        check("edit the middle", batch, edit(4), K::Edited, 5);
        check("edit the last", batch, edit(9), K::Edited, 10);
        check("reformat", batch, change_lines(|lines| lines[3] = lines[3].replacen(":4,", ": 4,", 1)), K::Edited, 4);
        check("empty line", batch, change_lines(|lines| lines.insert(3, String::new())), K::Inserted, 4);
        check("garbage line", batch, change_lines(|lines| lines.insert(3, "{}".to_owned())), K::Inserted, 4);
        check("copy a line", batch, change_lines(|lines| lines.insert(6, lines[2].clone())), K::Inserted, 7);
        check("copy at the end", batch, change_lines(|lines| lines.push(lines[2].clone())), K::Inserted, 11);
        check("remove the first", batch, change_lines(|lines| drop(lines.remove(0))), K::Removed, 1);
        check("remove the middle", batch, change_lines(|lines| drop(lines.remove(4))), K::Removed, 5);
        check("remove three", batch, change_lines(|lines| drop(lines.drain(4..7))), K::Removed, 5);
        check("swap two", batch, change_lines(|lines| lines.swap(4, 5)), K::Reordered, 5);
        check(
            "move to the end",
            batch,
            change_lines(|lines| {
                let line = lines.remove(2);
                lines.push(line);
            }),
            K::Reordered,
            3,
        );
        check("reverse", batch, change_lines(|lines| lines.reverse()), K::Reordered, 1);
        check("cut the last", batch, change_lines(|lines| lines.truncate(9)), K::Truncated, 10);
        check("cut half", batch, change_lines(|lines| lines.truncate(5)), K::Truncated, 6);
        check("empty the log", batch, change_lines(Vec::clear), K::Truncated, 1);
        check(
            "cut inside a line",
            batch,
            |place| {
                let content = fs::read(&place.log).unwrap();
                fs::write(&place.log, &content[..content.len() - 20]).unwrap();
            },
            K::Edited,
            10,
        );
        check("delete the log", batch, |place| fs::remove_file(&place.log).unwrap(), K::LogMissing, 1);
        check(
            "rewrite everything",
            batch,
            |place| {
                place.write_lines(&forge(&place.lines(), |_, event| to_mallory(event)));
            },
            K::Rewritten,
            1,
        );
        check(
            "rewrite from the middle",
            batch,
            |place| {
                let mut lines = place.lines();
                lines[5] = lines[5].replacen("cli:ops", "cli:mal", 1);
                for index in 5..10 {
                    lines[index] = rechained(&lines[index], &lines[index - 1].clone());
                }
                place.write_lines(&lines);
            },
            K::Rewritten,
            6,
        );
        check(
            "append without the key",
            batch,
            |place| {
                let mut lines = place.lines();
                let forger = Place::new();
                let log = forger.try_open(99).unwrap();
                for number in 1..=11 {
                    log.append(&[event(number)]).unwrap();
                }
                // Chained by hand behind the true head: the hash is right, the signature is not.
                lines.push(rechained(&forger.lines()[10], &lines[9]));
                place.write_lines(&lines);
            },
            K::Unsigned,
            11,
        );
        check(
            "replace one, rehashed",
            batch,
            |place| {
                let mut lines = place.lines();
                lines[4] = rechained(&lines[4].replacen("cli:ops", "cli:mal", 1), &lines[3].clone());
                place.write_lines(&lines);
            },
            K::Edited,
            5,
        );
        check(
            "foreign checkpoints",
            batch,
            |place| {
                let forger = Place::new();
                let log = forger.try_open(99).unwrap();
                for number in 1..=10 {
                    log.append(&[event(number)]).unwrap();
                }
                fs::copy(&forger.log, &place.log).unwrap();
                fs::copy(&forger.checkpoints, &place.checkpoints).unwrap();
            },
            K::ForeignKey,
            1,
        );
        check("no checkpoints", batch, |place| fs::remove_file(&place.checkpoints).unwrap(), K::CheckpointsMissing, 1);
        check("empty checkpoints", batch, |place| fs::write(&place.checkpoints, "").unwrap(), K::CheckpointsMissing, 1);
        check(
            "edit a checkpoint",
            batch,
            change_checkpoints(|lines| lines[1] = lines[1].replacen("\"time\":1", "\"time\":2", 1)),
            K::CheckpointEdited,
            1,
        );
        check(
            "remove the first checkpoint",
            batch,
            change_checkpoints(|lines| drop(lines.remove(0))),
            K::CheckpointEdited,
            1,
        );
    }
    check("remove a checkpoint between", 1, change_checkpoints(|lines| drop(lines.remove(4))), K::CheckpointEdited, 4);
    check("swap checkpoints", 1, change_checkpoints(|lines| lines.swap(4, 5)), K::CheckpointEdited, 4);
}

/// The line chained behind `before` with its hash made right, as anyone can.
fn rechained(line: &str, before: &str) -> String {
    let before: kh_audit::Entry = serde_json::from_str(before).unwrap();
    let mut entry: kh_audit::Entry = serde_json::from_str(line).unwrap();
    entry.prev = before.hash;
    let text = serde_json::to_string(&entry).unwrap();
    let covered = &text[..text.rfind(",\"hash\":").unwrap()];
    entry.hash = kh_core::Sha256::of(format!("keyholder audit entry v1\n{covered}").as_bytes()).to_hex();
    serde_json::to_string(&entry).unwrap()
}

#[test]
fn without_a_named_key_a_foreign_log_verifies_but_says_so() {
    let place = filled(3, 1);
    let open = verify(&place.log, &place.checkpoints, None).unwrap();
    assert!(open.verified() && !open.pinned);
    assert_eq!(open.public_key, Some(key(7)));
    let foreign = verify(&place.log, &place.checkpoints, Some(&key(8))).unwrap();
    assert_eq!(foreign.finding.unwrap().kind, FindingKind::ForeignKey);
    assert!(matches!(place.try_open(8), Err(AuditError::Broken(_))));
}

/// A running process that has the log open notices as well.
#[test]
fn a_running_writer_refuses_a_log_that_changed_under_it() {
    for manipulate in [
        |place: &Place| {
            let mut lines = place.lines();
            lines.pop();
            place.write_lines(&lines);
        },
        |place: &Place| {
            let mut lines = place.lines();
            lines[9] = lines[9].replacen("cli:ops", "cli:mal", 1);
            place.write_lines(&lines);
        },
        |place: &Place| fs::remove_file(&place.checkpoints).unwrap(),
        |place: &Place| fs::remove_file(&place.log).unwrap(),
        |place: &Place| fs::write(&place.log, "").unwrap(),
    ] {
        let place = filled(10, 2);
        let running = place.open();
        manipulate(&place);
        let refused = running.append(&[event(11)]);
        assert!(matches!(refused, Err(AuditError::Broken(_))), "{refused:?}");
        let again = running.append(&[event(11)]);
        assert!(matches!(again, Err(AuditError::Broken(_))), "a second try passed: {again:?}");
    }
}

/// Every byte of both files, each changed once: nothing goes unnoticed.
#[test]
fn a_change_of_any_single_byte_is_found() {
    let place = filled(3, 2);
    for path in [&place.log, &place.checkpoints] {
        let original = fs::read(path).unwrap();
        for index in 0..original.len() {
            let mut changed = original.clone();
            changed[index] ^= 1 << (index % 8);
            fs::write(path, &changed).unwrap();
            assert!(!place.verify().verified(), "byte {index} of {}", path.display());
        }
        fs::write(path, &original).unwrap();
    }
    assert!(place.verify().verified());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any splice at any place: replaced, inserted or removed bytes.
    #[test]
    fn a_random_splice_is_found(
        in_log in any::<bool>(),
        at in any::<prop::sample::Index>(),
        removed in 0_usize..40,
        inserted in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), 0x20_u8..0x7f], 0..40),
    ) {
        let place = filled(4, 2);
        let path = if in_log { &place.log } else { &place.checkpoints };
        let original = fs::read(path).unwrap();
        let start = at.index(original.len());
        let mut changed = original.clone();
        changed.splice(start..(start + removed).min(original.len()), inserted);
        // Whole checkpoints cut off the end of their file leave an earlier, valid state; nothing else may.
        let earlier = !in_log && original.starts_with(&changed) && (changed.is_empty() || changed.ends_with(b"\n"));
        prop_assume!(changed != original && !earlier);
        fs::write(path, &changed).unwrap();
        prop_assert!(!place.verify().verified(), "{start}");
    }
}

/// No crash leaves entries without one whole checkpoint, so this is no incomplete append to be repaired.
#[test]
fn checkpoints_cut_in_their_first_line_are_refused_and_left_as_they_are() {
    let place = filled(6, 1);
    let cut = &fs::read(&place.checkpoints).unwrap()[..40];
    fs::write(&place.checkpoints, cut).unwrap();
    let log = fs::read(&place.log).unwrap();
    assert!(matches!(place.try_open(7), Err(AuditError::Broken(_))));
    assert_eq!((fs::read(&place.checkpoints).unwrap(), fs::read(&place.log).unwrap()), (cut.to_vec(), log));
}
