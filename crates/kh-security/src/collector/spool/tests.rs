//! The spool keeps what it took, in order, within its limit, whatever happens to it.

use bytes::Bytes;
use kh_core::{Entropy, SeededEntropy};

use super::*;

fn batch(number: u64, lines: u32) -> Batch {
    let body: Vec<String> = (0..lines).map(|line| format!("{{\"batch\":{number},\"line\":{line}}}\n")).collect();
    Batch { lines, body: Bytes::from(body.concat()) }
}

/// A batch of about that many bytes.
fn large(number: u64, bytes: usize) -> Batch {
    let mut line = format!("{{\"batch\":{number},\"fill\":\"").into_bytes();
    line.resize(bytes - 3, b'x');
    line.extend_from_slice(b"\"}\n");
    Batch { lines: 1, body: Bytes::from(line) }
}

fn open(folder: &Path) -> (Spool, Opened) {
    Spool::open(folder, SPOOL_MIN).unwrap()
}

fn drain(spool: &mut Spool) -> Vec<Batch> {
    let mut found = Vec::new();
    while let (Some((at, batch)), _) = spool.front() {
        found.push(batch);
        spool.pop(at);
    }
    found
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "spool"));
    found.sort();
    found
}

#[test]
fn first_in_first_out_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, opened) = open(folder.path());
    assert_eq!(opened, Opened::default());
    for number in 0..10 {
        spool.push(&batch(number, 3)).unwrap();
    }
    for number in 0..4 {
        let (Some((at, front)), _) = spool.front() else { panic!("empty") };
        assert_eq!(front, batch(number, 3));
        spool.pop(at);
    }
    assert_eq!(spool.lines(), 18);
    drop(spool);
    let (mut spool, opened) = open(folder.path());
    assert_eq!((opened, spool.lines()), (Opened::default(), 18));
    spool.push(&batch(10, 3)).unwrap();
    assert_eq!(drain(&mut spool), (4..=10).map(|number| batch(number, 3)).collect::<Vec<_>>());
    drop(spool);
    assert_eq!(open(folder.path()).0.lines(), 0);
}

#[test]
fn a_program_that_is_being_started_does_not_hold_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let second = Spool::open(folder.path(), SPOOL_MIN);
    assert!(matches!(second, Err(OpenError::Taken)), "one at a time: {second:?}");
    let inherited = spool.lock.try_clone().unwrap();
    drop(spool);
    open(folder.path());
    drop(inherited);
}

#[test]
fn without_the_position_lines_are_sent_twice_and_never_lost() {
    for position in
        [None, Some(""), Some("0"), Some("0 17"), Some("0 99999999"), Some("7 0"), Some("x y"), Some("-1 -1")]
    {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(folder.path());
        for number in 0..3 {
            spool.push(&batch(number, 1)).unwrap();
        }
        let at = spool.front().0.unwrap().0;
        spool.pop(at);
        drop(spool);
        match position {
            None => fs::remove_file(folder.path().join(POSITION)).unwrap(),
            Some(text) => fs::write(folder.path().join(POSITION), text).unwrap(),
        }
        assert_eq!(open(folder.path()).0.lines(), 3, "{position:?}");
    }
}

/// Everything was sent, the finished segment was taken away by a start that kept nothing, and the collector is away.
#[test]
fn the_position_of_a_segment_that_is_gone_skips_nothing_of_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    for number in 0..2 {
        spool.push(&batch(number, 1)).unwrap();
    }
    assert_eq!(drain(&mut spool).len(), 2);
    drop(spool);
    drop(open(folder.path()));
    let position = fs::read_to_string(folder.path().join(POSITION)).unwrap();
    let (_, sent) = parse_position(&position).unwrap();
    assert!(segments(folder.path()).is_empty() && sent > 0, "a position, and no segment that it is of");
    let (mut spool, _) = open(folder.path());
    for number in 2..5 {
        spool.push(&batch(number, 1)).unwrap();
    }
    let first_two: usize = (2..4).map(|number| record::encode(&batch(number, 1)).unwrap().len()).sum();
    assert_eq!(first_two as u64, sent, "a record begins where the old position points");
    drop(spool);
    let (mut spool, _) = open(folder.path());
    assert_eq!(drain(&mut spool), (2..5).map(|number| batch(number, 1)).collect::<Vec<_>>());
}

#[test]
fn a_position_of_the_last_possible_segment_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(POSITION), format!("{} 0\n", u64::MAX)).unwrap();
    let (mut spool, _) = open(folder.path());
    for number in 0..2 {
        spool.push(&batch(number, 1)).unwrap();
    }
    assert_eq!(drain(&mut spool), [batch(0, 1), batch(1, 1)]);
}

#[test]
fn the_limit_holds_and_the_oldest_go_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    let mut lost = 0;
    for number in 0..100 {
        lost += spool.push(&large(number, 300_000)).unwrap().lines;
        let on_disk: u64 = segments(folder.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(on_disk <= SPOOL_MIN && on_disk == spool.bytes(), "{on_disk}");
    }
    assert!(lost > 50);
    assert_eq!(spool.lines() + lost, 100);
    let left = drain(&mut spool);
    assert_eq!(left, (lost..100).map(|number| large(number, 300_000)).collect::<Vec<_>>(), "the newest are left");
    assert!(segments(folder.path()).len() <= 1, "what was sent takes no room");
}

/// What a spool of eight times the smallest limit holds: batches of many sizes, so that none ends where a window does.
fn of_a_larger_limit(folder: &Path) -> Vec<Batch> {
    let batches: Vec<_> =
        (0..50).map(|number| large(number, 100 + (usize::try_from(number).unwrap() * 397_939) % 900_000)).collect();
    let (mut spool, _) = Spool::open(folder, 8 * SPOOL_MIN).unwrap();
    spool.write_by(without_sync);
    for batch in &batches {
        assert_eq!(spool.push(batch).unwrap(), Lost::default());
    }
    let largest = segments(folder).iter().map(|path| fs::metadata(path).unwrap().len()).max().unwrap();
    assert!(spool.bytes() > 2 * SPOOL_MIN && largest > SPOOL_MIN / 2, "{largest} of {}", spool.bytes());
    batches
}

#[test]
fn a_lower_limit_gives_everything_back_and_holds_from_the_next_batch_on() {
    let folder = tempfile::tempdir().unwrap();
    let batches = of_a_larger_limit(folder.path());
    let (mut spool, opened) = open(folder.path());
    assert_eq!((opened, spool.lines()), (Opened::default(), 50));
    let on_disk: u64 = segments(folder.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(spool.bytes(), on_disk);
    assert_eq!(drain(&mut spool), batches);
    drop(spool);

    let batches = of_a_larger_limit(folder.path());
    let (mut spool, _) = open(folder.path());
    let lost = spool.push(&batch(50, 1)).unwrap().lines;
    assert!(lost > 0 && spool.bytes() <= SPOOL_MIN, "{lost} of {}", spool.bytes());
    let left = drain(&mut spool);
    let newest = batches.into_iter().chain([batch(50, 1)]).skip(usize::try_from(lost).unwrap());
    assert_eq!(left, newest.collect::<Vec<_>>(), "the oldest went, and were counted");
    assert!(!folder.path().join(DAMAGED).exists());
}

#[test]
fn damage_within_a_large_segment_ends_what_is_read_of_it() {
    for torn in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        of_a_larger_limit(folder.path());
        let path = segments(folder.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let before = record::scan(&bytes).records;
        if torn {
            bytes.truncate(bytes.len() - 1);
        } else {
            let at = bytes.len() - 1;
            bytes[at] ^= 1;
            // behind it stands more than a torn record
            bytes.resize(bytes.len() + 2 * record::BATCH_MAX, b'x');
        }
        fs::write(&path, &bytes).unwrap();
        let (spool, opened) = open(folder.path());
        let last = before.last().unwrap().length;
        let expected =
            if torn { Opened { torn_bytes: last - 1, damaged: 0 } } else { Opened { torn_bytes: 0, damaged: 1 } };
        assert_eq!((opened, spool.lines()), (expected, 49));
    }
}

#[test]
fn a_batch_that_is_dropped_on_its_way_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    spool.push(&large(0, 900_000)).unwrap();
    let (at, _) = spool.front().0.unwrap();
    let mut lost = 0;
    for number in 1..12 {
        lost += spool.push(&large(number, 900_000)).unwrap().lines;
    }
    assert!(lost > 0, "the first is gone");
    let before = spool.lines();
    spool.pop(at);
    assert_eq!(spool.lines(), before);
}

#[test]
fn every_torn_end_is_cut_off_and_told() {
    let record = record::encode(&batch(1, 2)).unwrap();
    for kept in 1..record.len() {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(folder.path());
        spool.push(&batch(0, 2)).unwrap();
        drop(spool);
        let path = segments(folder.path()).pop().unwrap();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole, record.get(..kept).unwrap()].concat()).unwrap();
        let (mut spool, opened) = open(folder.path());
        assert_eq!(opened, Opened { torn_bytes: kept as u64, damaged: 0 }, "{kept}");
        assert_eq!(fs::read(&path).unwrap(), whole);
        spool.push(&batch(9, 1)).unwrap();
        assert_eq!(drain(&mut spool), [batch(0, 2), batch(9, 1)]);
    }
}

#[test]
fn an_end_without_content_is_a_torn_end() {
    for zeros in [1, 11, 12, 5_000] {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(folder.path());
        spool.push(&batch(0, 2)).unwrap();
        drop(spool);
        let path = segments(folder.path()).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.resize(bytes.len() + zeros, 0);
        fs::write(&path, bytes).unwrap();
        let (mut spool, opened) = open(folder.path());
        assert_eq!(opened, Opened { torn_bytes: zeros as u64, damaged: 0 });
        assert_eq!(drain(&mut spool), [batch(0, 2)]);
    }
}

#[test]
fn other_damage_is_told_and_its_file_is_set_aside_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    for number in 0..3 {
        spool.push(&batch(number, 2)).unwrap();
    }
    drop(spool);
    let path = segments(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // within the second of three
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (mut spool, opened) = open(folder.path());
    assert_eq!(opened, Opened { torn_bytes: 0, damaged: 1 });
    assert_eq!(drain(&mut spool), [batch(0, 2)]);
    assert_eq!(fs::read(folder.path().join(DAMAGED)).unwrap(), bytes);
    drop(spool);
    assert_eq!(open(folder.path()).1, Opened::default(), "and it is not told again");
}

#[test]
fn what_is_damaged_while_it_waits_is_lost_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    for number in 0..3 {
        spool.push(&batch(number, 2)).unwrap();
    }
    let path = segments(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (front, lost) = spool.front();
    assert!(front.is_none());
    assert_eq!(lost, Lost { lines: 6 });
    spool.push(&batch(7, 1)).unwrap();
    assert_eq!(drain(&mut spool), [batch(7, 1)]);
}

fn full_after_a_part(mut file: &fs::File, bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(&mut file, &bytes[..bytes.len() / 2])?;
    Err(io::ErrorKind::StorageFull.into())
}

#[test]
fn a_full_disk_leaves_whole_records() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    spool.push(&batch(0, 2)).unwrap();
    for _ in 0..3 {
        spool.write_by(full_after_a_part);
        assert_eq!(spool.push(&batch(1, 2)).unwrap_err().error.kind(), io::ErrorKind::StorageFull);
    }
    spool.write_by(write_durably);
    spool.push(&batch(2, 2)).unwrap();
    drop(spool);
    let (mut spool, opened) = open(folder.path());
    assert_eq!(opened, Opened::default());
    assert_eq!(drain(&mut spool), [batch(0, 2), batch(2, 2)]);
}

#[test]
fn a_file_in_the_way_of_the_next_segment_costs_one_try() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    let in_the_way = segment::path(folder.path(), 0);
    fs::write(&in_the_way, "in the way").unwrap();
    assert_eq!(spool.push(&batch(0, 2)).unwrap_err().error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&in_the_way).unwrap(), "in the way", "it is somebody else's");
    for number in 1..3 {
        spool.push(&batch(number, 2)).unwrap();
    }
    assert_eq!(drain(&mut spool), [batch(1, 2), batch(2, 2)]);
}

#[test]
fn a_folder_has_one_owner_and_other_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["notes.txt", "1.spool", "0000000000000000000x.spool", "00000000000000000001.spool.bak"];
    for name in names {
        fs::write(folder.path().join(name), name).unwrap();
    }
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("00000000000000000005.spool")).unwrap();
    let (mut spool, _) = open(folder.path());
    assert!(matches!(Spool::open(folder.path(), SPOOL_MIN), Err(OpenError::Taken)), "a second owner");
    spool.push(&batch(0, 1)).unwrap();
    assert_eq!(drain(&mut spool), [batch(0, 1)]);
    for name in names {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), name);
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_not_one_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spool");
    fs::write(&file, "").unwrap();
    assert!(matches!(Spool::open(&file, SPOOL_MIN), Err(OpenError::Unusable(_))));
}

#[test]
fn batches_that_are_no_batch_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    assert!(spool.push(&Batch { lines: 0, body: Bytes::new() }).is_err());
    assert!(spool.push(&Batch { lines: 1, body: vec![b'x'; record::BATCH_MAX + 1].into() }).is_err());
    assert_eq!((spool.bytes(), segments(folder.path()).len()), (0, 0));
}

fn without_sync(mut file: &fs::File, bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(&mut file, bytes)
}

/// Against a queue in memory: pushes, pops, restarts, torn ends and failed writes in any order. What is popped is what was
/// pushed, in order; after a restart without the position something may come twice, and never is anything missing.
#[test]
fn any_order_of_events_keeps_every_batch() {
    let entropy = SeededEntropy::new(77);
    let (mut restarts, mut torn, mut popped) = (0, 0, 0);
    for _ in 0..80 {
        // in memory where that is to be had: some thousand syncs of a disk take long and prove nothing here
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (mut spool, _) = open(folder.path());
        spool.write_by(without_sync);
        let mut expected = VecDeque::new();
        for number in 0..60 {
            match entropy.below(10) {
                0..=4 => {
                    let batch = batch(number, 1 + u32::try_from(entropy.below(4)).unwrap());
                    assert_eq!(spool.push(&batch).unwrap(), Lost::default());
                    expected.push_back(batch);
                }
                5..=7 => {
                    let (front, lost) = spool.front();
                    assert_eq!((front.as_ref().map(|(_, batch)| batch), lost), (expected.front(), Lost::default()));
                    if let Some((at, _)) = front {
                        spool.pop(at);
                        expected.pop_front();
                        popped += 1;
                    }
                }
                8 => {
                    spool.write_by(full_after_a_part);
                    assert!(spool.push(&batch(number, 2)).is_err());
                    spool.write_by(without_sync);
                }
                _ => {
                    drop(spool);
                    restarts += 1;
                    if let Some(last) = segments(folder.path()).last().filter(|_| entropy.below(2) == 0) {
                        let record = record::encode(&batch(999, 2)).unwrap();
                        let kept = 1 + usize::try_from(entropy.below(record.len() as u64 - 1)).unwrap();
                        let whole = fs::read(last).unwrap();
                        fs::write(last, [&whole, record.get(..kept).unwrap()].concat()).unwrap();
                        torn += 1;
                    }
                    spool = open(folder.path()).0;
                    spool.write_by(without_sync);
                }
            }
            let lines: u64 = expected.iter().map(|batch: &Batch| u64::from(batch.lines)).sum();
            assert_eq!(spool.lines(), lines);
        }
        assert_eq!(drain(&mut spool), expected.into_iter().collect::<Vec<_>>());
    }
    assert!(restarts > 250 && torn > 50 && popped > 600, "{restarts} {torn} {popped}");
}

/// The same body as the fuzz targets', for a hundred thousand inputs: noise, and sound records with noise in them.
#[test]
fn any_bytes_are_a_segment() {
    let entropy = SeededEntropy::new(11);
    let sound: Vec<u8> = (0..3).flat_map(|number| record::encode(&batch(number, 2)).unwrap()).collect();
    let mut whole = 0;
    for round in 0..100_000 {
        let mut bytes = if round % 2 == 0 { sound.clone() } else { vec![0; 64] };
        if round % 2 == 1 {
            entropy.fill(&mut bytes);
        }
        for _ in 0..entropy.below(3) {
            let at = usize::try_from(entropy.below(bytes.len() as u64)).unwrap();
            bytes[at] = u8::try_from(entropy.below(256)).unwrap();
        }
        if round % 3 == 0 {
            bytes.truncate(usize::try_from(entropy.below(bytes.len() as u64 + 1)).unwrap());
        }
        crate::fuzzing::spool_segment(&bytes);
        whole += u64::from(scan(&bytes) == (6, sound.len() as u64, false));
        crate::fuzzing::spool_position(&bytes);
    }
    assert!(whole > 1_000, "some were left sound: {whole}");
}
