//! Appending: order, exactly once, several writers, filters, modes, and a disk that does not take more.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    process::Command,
    thread,
};

use kh_audit::{Filter, FindingKind, read};
use kh_core::{
    UnixMillis,
    port::{AuditError, AuditLog},
};

use crate::support::{Place, START, event, filled};

#[test]
fn entries_come_back_in_order_with_their_content() {
    let place = filled(7, 3);
    let entries = place.entries();
    assert_eq!(entries.len(), 7);
    for (entry, number) in entries.iter().zip(1..) {
        let event = event(number);
        assert_eq!((entry.seq, entry.id, &entry.detail), (number, event.id, &event.detail));
    }
    let report = place.verify();
    assert_eq!((report.entries, report.checkpoints, report.uncovered), (7, 4, 0));
    assert_eq!(report.head.to_hex(), entries[6].hash);
}

#[test]
fn the_head_is_the_last_entry_whoever_wrote_it() {
    let place = filled(5, 2);
    let log = place.open();
    let at = |number: usize| (number as u64, place.entries()[number - 1].hash.clone());
    let head = || log.head().map(|(seq, hash)| (seq, hash.to_hex())).unwrap();
    assert_eq!(head(), at(5));
    place.open().append(&[event(6)]).unwrap();
    assert_eq!(head(), at(6));
    fs::write(&place.log, "garbled\n").unwrap();
    assert!(log.head().is_err(), "a log that does not verify has no head");
}

#[test]
fn an_event_is_written_once() {
    let place = filled(5, 2);
    let log = place.open();
    log.append(&[event(2), event(6), event(6), event(5), event(7)]).unwrap();
    let before = (fs::read(&place.log).unwrap(), fs::read(&place.checkpoints).unwrap());
    place.open().append(&(1..=7).map(event).collect::<Vec<_>>()).unwrap();
    log.append(&(1..=7).map(event).collect::<Vec<_>>()).unwrap();
    assert_eq!(before, (fs::read(&place.log).unwrap(), fs::read(&place.checkpoints).unwrap()));
    let ids: Vec<_> = place.entries().iter().map(|entry| entry.id).collect();
    assert_eq!(ids, (1..=7).map(|number| event(number).id).collect::<Vec<_>>());
}

#[test]
fn several_writers_interleave_into_one_chain() {
    let place = Place::new();
    thread::scope(|scope| {
        for writer in 0..4_u64 {
            let place = &place;
            scope.spawn(move || {
                let log = place.open();
                for number in 0..15 {
                    // Every event is offered by two writers.
                    log.append(&[event(writer / 2 * 100 + number), event(1000 + writer * 100 + number)]).unwrap();
                }
            });
        }
    });
    let report = place.verify();
    assert!(report.verified(), "{report:?}");
    assert_eq!(report.entries, 2 * 15 + 4 * 15);
}

#[test]
fn filters() {
    let place = filled(10, 10);
    let check = |filter: Filter, expected: &[u64]| {
        let found: Vec<u64> = read(&place.log, filter.clone()).unwrap().map(|entry| entry.unwrap().seq).collect();
        assert_eq!(found, expected, "{filter:?}");
    };
    let some = |text: &str| Some(text.to_owned());
    check(Filter { since: Some(UnixMillis(START.0 + 9)), ..Filter::default() }, &[9, 10]);
    check(Filter { until: Some(UnixMillis(START.0 + 3)), ..Filter::default() }, &[1, 2]);
    check(Filter { action: some("secret.set"), ..Filter::default() }, &[2, 4, 6, 8, 10]);
    check(Filter { action: some("secret."), ..Filter::default() }, &[2, 4, 6, 8, 10]);
    check(Filter { action: some("secret"), ..Filter::default() }, &[]);
    check(Filter { subject: some("subject-0"), ..Filter::default() }, &[3, 6, 9]);
    check(Filter { actor: some("nobody"), ..Filter::default() }, &[]);
    check(Filter { limit: Some(3), ..Filter::default() }, &[8, 9, 10]);
    check(Filter { limit: Some(1), subject: some("subject-0"), ..Filter::default() }, &[9]);
    check(Filter { limit: Some(0), ..Filter::default() }, &[]);
    assert_eq!(read(&place.log.with_extension("none"), Filter::default()).unwrap().count(), 0);
}

#[test]
fn files_are_private_and_open_ones_are_refused() {
    let place = Place::new();
    place.open().append(&[event(1)]).unwrap();
    for path in [&place.log, &place.checkpoints] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    assert_eq!(fs::metadata(place.checkpoints.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
    fs::set_permissions(&place.log, Permissions::from_mode(0o644)).unwrap();
    let error = place.try_open(7).unwrap_err();
    assert!(matches!(&error, AuditError::Unavailable(source) if source.to_string().contains("chmod 600")), "{error:?}");
}

#[test]
fn what_a_crash_leaves_is_repaired_and_nothing_else_is() {
    let whole = filled(4, 1).lines();
    let next = &filled(5, 1).lines()[4];
    let repaired = |fragment: &[u8]| {
        let place = filled(4, 1);
        OpenOptions::new().append(true).open(&place.log).unwrap().write_all(fragment).unwrap();
        let found = place.verify().finding.map(|finding| finding.kind);
        let opened = place.try_open(7);
        if let Ok(opened) = opened {
            assert_eq!(found, Some(FindingKind::IncompleteAppend));
            assert_eq!(place.lines(), whole);
            opened.append(&[event(5)]).unwrap();
            assert_eq!(place.entries().len(), 5);
            return true;
        }
        assert!(found.is_some_and(|kind| kind != FindingKind::IncompleteAppend), "{found:?}");
        false
    };
    for length in 1..next.len() {
        assert!(repaired(&next.as_bytes()[..length]), "{length} bytes of the next entry");
    }
    assert!(repaired(&[0; 100]));
    for foreign in ["x", "{\"seq\":4,", "{\"seq\":6,\"id\":\"", "\n", "{}\n", " "] {
        assert!(!repaired(foreign.as_bytes()), "{foreign:?}");
    }
}

#[test]
fn an_incomplete_checkpoint_is_repaired() {
    let whole = fs::read(&filled(4, 1).checkpoints).unwrap();
    for cut in [1, 2, 50, 200] {
        let place = filled(4, 1);
        fs::write(&place.checkpoints, &whole[..whole.len() - cut]).unwrap();
        assert_eq!(place.verify().finding.unwrap().kind, FindingKind::IncompleteAppend);
        place.open();
        assert_eq!(fs::read(&place.checkpoints).unwrap(), whole, "signatures are deterministic and the clock stands");
    }
}

#[test]
fn an_event_longer_than_a_line_is_refused_and_leaves_nothing() {
    let place = filled(2, 1);
    let log = place.open();
    let huge = event(3).with("text", &"x".repeat(kh_audit::ENTRY_BYTES_MAX));
    assert!(matches!(log.append(&[event(4), huge]), Err(AuditError::Unavailable(_))));
    assert_eq!(place.entries().len(), 2);
    log.append(&[event(4)]).unwrap();
    assert!(place.verify().verified());
}

/// Runs one of the `child_*` tests below in a process of its own, prepared by a shell.
fn in_child(test: &str, place: &Place, prepare: &str, user: Option<u32>) -> String {
    use std::os::unix::process::CommandExt;
    let directory = place.log.parent().unwrap();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("{prepare} exec \"$0\" --exact append::{test} --nocapture --test-threads=1")])
        .arg(std::env::current_exe().unwrap())
        .env("KH_AUDIT_CHILD", directory);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A full disk by a file size limit of the process: a write stops in the middle of a line.
#[test]
fn a_full_disk_is_an_error_that_keeps_the_last_good_state() {
    let place = filled(3, 1);
    // One block of sh is 512 bytes; SIGXFSZ is ignored, so that the write fails instead of killing.
    let output = in_child("child_appends_until_it_fails", &place, "trap '' XFSZ; ulimit -f 20;", None);
    let acknowledged = output.lines().filter(|line| line.contains("acknowledged")).count();
    assert!(output.contains("refused: cannot append to"), "{output}");
    assert!(acknowledged >= 3, "{output}");
    let report = place.verify();
    assert!(report.verified(), "{report:?}");
    assert!(report.entries >= 3 + acknowledged as u64, "{output} {report:?}");
    place.open().append(&[event(9999)]).unwrap();
    assert!(place.verify().verified());
}

/// Changes the first entry in its place, which only a verification of the whole log sees. Twice: as it was.
fn touch_first_entry(place: &Place) {
    use std::os::unix::fs::FileExt;
    let file = OpenOptions::new().read(true).write(true).open(&place.log).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 20).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 20).unwrap();
}

#[test]
fn a_refusal_is_no_reason_to_verify_the_whole_log_again() {
    let place = filled(3, 1);
    let log = place.open();
    let huge = event(4).with("text", &"x".repeat(kh_audit::ENTRY_BYTES_MAX));
    log.append(&[huge]).unwrap_err();
    touch_first_entry(&place);
    log.append(&[event(5)]).unwrap();
    touch_first_entry(&place);
    assert_eq!((place.verify().verified(), place.entries().len()), (true, 4));
}

#[test]
fn each_try_on_a_full_disk_does_not_verify_the_whole_log_again() {
    let place = filled(3, 1);
    let output = in_child("child_is_refused_twice", &place, "trap '' XFSZ; ulimit -f 20;", None);
    assert!(output.contains("refused again: cannot append to"), "{output}");
    let report = place.verify();
    assert!(report.verified() && report.uncovered == 0, "{report:?}");
    place.open().append(&[event(9999)]).unwrap();
    assert!(place.verify().verified());
}

#[test]
fn a_read_only_directory_is_a_clear_error() {
    let place = filled(3, 1);
    let directory = place.log.parent().unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o555)).unwrap();
    for path in [&place.log, &place.checkpoints] {
        fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
    }
    // The superuser ignores modes, so the child is nobody; as another user the same refusal comes from the mode.
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    let output = in_child("child_appends_until_it_fails", &place, "", is_root.then_some(65534));
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    assert!(output.contains("refused: cannot open"), "{output}");
    for path in [&place.log, &place.checkpoints] {
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    assert!(place.verify().verified());
}

/// Not a test of its own: the process of one that is started above.
#[test]
fn child_is_refused_twice() {
    let Some(directory) = std::env::var_os("KH_AUDIT_CHILD") else { return };
    let place = Place::at(directory.as_ref());
    let log = place.open();
    let full = (100..200).find(|number| log.append(&[event(*number)]).is_err());
    let full = event(full.expect("the disk has an end"));
    touch_first_entry(&place);
    match log.append(&[full]) {
        Err(AuditError::Unavailable(source)) => println!("refused again: {source}"),
        other => println!("{other:?}"),
    }
    touch_first_entry(&place);
}

/// Not a test of its own: the process that two of the tests above start.
#[test]
fn child_appends_until_it_fails() {
    let Some(directory) = std::env::var_os("KH_AUDIT_CHILD") else { return };
    let place = Place::at(directory.as_ref());
    let log = match place.try_open(7) {
        Ok(log) => log,
        Err(AuditError::Unavailable(source)) => return println!("refused: {source}"),
        Err(error) => return println!("{error}"),
    };
    for number in 100..200 {
        match log.append(&[event(number)]) {
            Ok(()) => println!("acknowledged {number}"),
            Err(AuditError::Unavailable(source)) => return println!("refused: {source}"),
            Err(error) => return println!("{error}"),
        }
    }
}
