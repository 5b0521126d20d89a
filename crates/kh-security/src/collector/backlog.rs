//! Batches that wait: on disk, or in memory where that is not to be had; and what the collector refused for good.
//!
//! Invariants: both are bounded, the oldest go first, and every lost line is counted; what is on disk is older than what is
//! in memory, and nothing waits in memory while the disk takes it; a folder that another process uses is left alone.

use std::{
    collections::VecDeque,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bytes::BytesMut;

use super::{
    Batch,
    run::{BATCH_BYTES, BATCH_LINES},
    spool::{At, Lost, NotKept, OpenError, Spool},
};
use crate::counters::CollectorCounters;

/// Bytes of batches that wait in memory.
pub const MEMORY_MAX: usize = 8 * 1024 * 1024;

/// Bytes of lines that were refused for good and are kept for a person to look at; more are only counted.
const DEAD_LETTERS_MAX: u64 = 4 * 1024 * 1024;

/// All batches that wait.
pub(super) struct Backlog {
    /// None without a folder, and while another process uses it.
    spool: Option<Spool>,
    /// The spool's folder and its limit in bytes.
    place: Option<(PathBuf, u64)>,
    memory: VecDeque<Batch>,
    memory_bytes: usize,
    /// Where the batch that [`Backlog::front`] gave out stands on disk; none for one from memory.
    front: Option<At>,
    /// The batch that [`Backlog::front`] gave out, while it is on no disk.
    on_its_way: Option<Batch>,
    disk_failing: bool,
    counters: CollectorCounters,
}

impl Backlog {
    /// Opens the spool in its `place`, if it has one. One that another process uses is no error: see [`Backlog::take_over`].
    pub(super) fn open(place: Option<&(PathBuf, u64)>, counters: CollectorCounters) -> io::Result<Self> {
        let mut backlog = Self {
            spool: None,
            place: place.cloned(),
            memory: VecDeque::new(),
            memory_bytes: 0,
            front: None,
            on_its_way: None,
            disk_failing: false,
            counters,
        };
        match backlog.open_spool() {
            Ok(()) => {}
            Err(OpenError::Taken) => tracing::warn!(
                "another process uses the security log's spool; lines for the collector wait in memory until it ends"
            ),
            Err(OpenError::Unusable(error)) => return Err(error),
        }
        backlog.tell();
        Ok(backlog)
    }

    fn open_spool(&mut self) -> Result<(), OpenError> {
        let Some((folder, max_bytes)) = &self.place else { return Ok(()) };
        let (spool, opened) = Spool::open(folder, *max_bytes)?;
        if opened.torn_bytes > 0 {
            tracing::warn!(
                bytes = opened.torn_bytes,
                "the security log's spool ended in a half-written batch, which was cut off"
            );
        }
        if opened.damaged > 0 {
            self.counters.damaged.inc_by(opened.damaged);
            tracing::warn!(
                segments = opened.damaged,
                "a part of the security log's spool is damaged; what could be read of it is sent, and the file is set aside"
            );
        }
        self.spool = Some(spool);
        Ok(())
    }

    /// Whether another process uses the spool's folder, as far as is known.
    pub(super) fn is_taken(&self) -> bool {
        self.place.is_some() && self.spool.is_none()
    }

    /// Takes the folder over, if the process that used it has ended; answers whether that was done. Then what is in memory
    /// waits behind what that process left: the batch of [`Backlog::front`] is to be given back.
    pub(super) fn take_over(&mut self) -> bool {
        if !self.is_taken() {
            return false;
        }
        match self.open_spool() {
            Ok(()) => {
                tracing::info!("the security log's spool was taken over: the process that used it has ended");
                true
            }
            Err(OpenError::Taken) => false,
            Err(OpenError::Unusable(error)) => {
                self.disk_fails(&error);
                false
            }
        }
    }

    fn disk_fails(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.disk_failing, true) {
            tracing::error!(
                %error,
                "the security log's spool cannot be written; lines for the collector wait in memory until it can"
            );
        }
    }

    #[cfg(test)]
    pub(super) fn write_by(&mut self, write: super::spool::Write) {
        if let Some(spool) = &mut self.spool {
            spool.write_by(write);
        }
    }

    /// Keeps a batch.
    pub(super) fn push(&mut self, batch: Batch) {
        self.memory_bytes += batch.body.len();
        self.memory.push_back(batch);
        self.settle();
    }

    /// Puts on disk what is in memory, the oldest first, as far as the disk takes it.
    fn settle(&mut self) {
        while self.settle_oldest() {}
        while self.memory_bytes > MEMORY_MAX {
            let Some(oldest) = self.memory.pop_front() else { break };
            self.memory_bytes -= oldest.body.len();
            self.counters.spool_full.inc_by(u64::from(oldest.lines));
        }
        self.tell();
    }

    /// Whether there was one and the disk took it, together with those behind it in memory that fit into one batch.
    fn settle_oldest(&mut self) -> bool {
        let Some(spool) = &mut self.spool else { return false };
        let oldest = self.on_its_way.clone().map(|batch| (0, batch)).or_else(|| joined(&self.memory));
        let Some((from_memory, oldest)) = oldest else { return false };
        match spool.push(&oldest) {
            Ok(Lost { lines }) => {
                self.counters.spool_full.inc_by(lines);
                if std::mem::take(&mut self.disk_failing) {
                    tracing::info!("the security log's spool can be written again");
                }
            }
            Err(NotKept { error, lost: Lost { lines } }) => {
                self.counters.spool_full.inc_by(lines);
                self.disk_fails(&error);
                return false;
            }
        }
        if self.on_its_way.take().is_some() {
            // given out from memory because nothing waited on disk: it is the first there now
            let (front, lost) = spool.front();
            self.counters.damaged.inc_by(lost.lines);
            self.front = front.map(|(at, _)| at);
        }
        for settled in self.memory.drain(..from_memory) {
            self.memory_bytes -= settled.body.len();
        }
        true
    }

    /// The oldest batch on disk, else the oldest in memory.
    pub(super) fn front(&mut self) -> Option<Batch> {
        if let Some(spool) = &mut self.spool {
            let (batch, lost) = spool.front();
            self.counters.damaged.inc_by(lost.lines);
            if let Some((at, batch)) = batch {
                self.front = Some(at);
                return Some(batch);
            }
        }
        self.front = None;
        // taken out at once: it must not be the one that is dropped while it is on its way
        self.on_its_way = self.memory.pop_front();
        self.memory_bytes -= self.on_its_way.as_ref().map_or(0, |batch| batch.body.len());
        self.on_its_way.clone()
    }

    /// The batch of [`Backlog::front`] is done with.
    pub(super) fn pop(&mut self) {
        self.on_its_way = None;
        if let Some((spool, at)) = self.spool.as_mut().zip(self.front.take()) {
            spool.pop(at);
        }
        self.tell();
    }

    /// Nothing is on its way any more. `rest` is what was not sent of the batch of [`Backlog::front`], the next piece last:
    /// if the batch was in memory alone, that is kept again, before all else in memory. What the disk takes now goes there.
    pub(super) fn give_back(&mut self, rest: Vec<Batch>) {
        if self.on_its_way.take().is_some() {
            for piece in rest {
                self.memory_bytes += piece.body.len();
                self.memory.push_front(piece);
            }
        }
        self.front = None;
        self.settle();
    }

    /// Lines that would be lost with the process, those on their way aside.
    pub(super) fn waits_in_memory(&self) -> u64 {
        self.memory.iter().map(|batch| u64::from(batch.lines)).sum()
    }

    /// Counts lines that were refused for good, and keeps them in the spool's folder, as long as there is room.
    pub(super) fn bury(&self, batch: &Batch) {
        self.counters.dead_letter.inc_by(u64::from(batch.lines));
        if let Some((folder, _)) = self.place.as_ref().filter(|_| self.spool.is_some())
            && let Err(error) = bury(&folder.join("dead-letter.jsonl"), &batch.body)
        {
            tracing::warn!(%error, "a line that the collector refused could not be kept");
        }
    }

    fn tell(&self) {
        let (spool_bytes, spool_lines) = self.spool.as_ref().map_or((0, 0), |spool| (spool.bytes(), spool.lines()));
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.counters.backlog_bytes.set(gauge(spool_bytes + self.memory_bytes as u64));
        self.counters.backlog_lines.set(gauge(spool_lines + self.waits_in_memory()));
    }
}

/// The oldest that fit into one batch, as one, and how many they are; the first in any case. Memory may hold thousands
/// of small ones, and a sync for each would hold up all sending, and the end.
fn joined(waiting: &VecDeque<Batch>) -> Option<(usize, Batch)> {
    let first = waiting.front()?;
    let (mut count, mut lines, mut bytes) = (1, first.lines, first.body.len());
    for next in waiting.iter().skip(1) {
        let (more_lines, more_bytes) = (lines.saturating_add(next.lines), bytes + next.body.len());
        if more_lines > BATCH_LINES || more_bytes > BATCH_BYTES {
            break;
        }
        (count, lines, bytes) = (count + 1, more_lines, more_bytes);
    }
    if count == 1 {
        return Some((1, first.clone()));
    }
    let mut body = BytesMut::with_capacity(bytes);
    for batch in waiting.iter().take(count) {
        body.extend_from_slice(&batch.body);
    }
    Some((count, Batch { lines, body: body.freeze() }))
}

fn bury(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.len() + lines.len() as u64 > DEAD_LETTERS_MAX {
        return Ok(());
    }
    file.write_all(lines)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        ffi::OsString,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        collector::{SPOOL_MIN, spool::write_durably},
        counters::Counters,
    };

    fn half_a_mib() -> Batch {
        Batch { lines: 1, body: vec![b'x'; 512 * 1024].into() }
    }

    fn disk_full(_: &std::fs::File, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn spooled(folder: &Path) -> Backlog {
        Backlog::open(Some(&(folder.to_owned(), SPOOL_MIN)), Counters::default().collector).unwrap()
    }

    fn batch(text: &str) -> Batch {
        Batch { lines: 1, body: format!("{text}\n").into() }
    }

    /// The lines that are sent, in order.
    fn drain(backlog: &mut Backlog) -> String {
        let mut sent = String::new();
        while let Some(batch) = backlog.front() {
            sent.extend(std::str::from_utf8(&batch.body).unwrap().lines());
            backlog.pop();
        }
        sent
    }

    #[test]
    fn what_a_failing_disk_left_in_memory_is_on_disk_before_what_comes_later() {
        for on_its_way in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut backlog = spooled(folder.path());
            backlog.write_by(disk_full);
            backlog.push(batch("A"));
            backlog.push(batch("B"));
            let given = on_its_way.then(|| backlog.front().expect("the oldest"));
            assert_eq!(given, on_its_way.then(|| batch("A")));
            backlog.write_by(write_durably);
            backlog.push(batch("C"));
            assert_eq!(backlog.waits_in_memory(), 0);
            assert!(backlog.on_its_way.is_none(), "also the one that is on its way");
            // as a kill leaves it
            drop(backlog);
            assert_eq!(drain(&mut spooled(folder.path())), "ABC", "{on_its_way}");
        }
    }

    /// Writes by [`counted`].
    static WRITES: AtomicUsize = AtomicUsize::new(0);

    fn counted(file: &std::fs::File, bytes: &[u8]) -> io::Result<()> {
        WRITES.fetch_add(1, Ordering::Relaxed);
        write_durably(file, bytes)
    }

    #[test]
    fn small_batches_that_waited_in_memory_are_few_records_on_disk() {
        for (lines, width, count, records) in [
            (1, 9, 1_700, vec![500, 500, 500, 200]),
            (3, 9, 400, vec![498, 498, 204]),
            (1, 50_000, 25, vec![10, 10, 5]),
            // each is larger than what is joined
            (20, 50_000, 2, vec![20, 20]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut backlog = spooled(folder.path());
            // makes the segment, so that a try on the full disk is a write and no sync of the folder
            backlog.push(batch("first"));
            backlog.write_by(disk_full);
            let text = |number: u64| format!("{number:0>width$}\n").repeat(lines as usize);
            for number in 0..count {
                backlog.push(Batch { lines, body: text(number).into() });
            }
            assert_eq!(backlog.waits_in_memory(), u64::from(lines) * count);
            backlog.write_by(counted);
            backlog.give_back(Vec::new());
            let left = (backlog.waits_in_memory(), backlog.memory_bytes);
            assert_eq!((left, WRITES.swap(0, Ordering::Relaxed)), ((0, 0), records.len()), "one sync for each record");
            drop(backlog);
            let mut next = spooled(folder.path());
            assert_eq!(next.front(), Some(batch("first")));
            next.pop();
            let (mut sent, mut found) = (Vec::<u8>::new(), Vec::<u32>::new());
            while let Some(batch) = next.front() {
                sent.extend_from_slice(&batch.body);
                found.push(batch.lines);
                next.pop();
            }
            assert_eq!(found, records);
            assert!(sent == (0..count).map(text).collect::<String>().into_bytes(), "every line, in order");
        }
    }

    #[test]
    fn a_batch_that_reaches_the_disk_on_its_way_is_sent_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut backlog = spooled(folder.path());
        backlog.write_by(disk_full);
        backlog.push(batch("A"));
        assert_eq!(backlog.front(), Some(batch("A")));
        backlog.write_by(write_durably);
        backlog.push(batch("B"));
        backlog.pop();
        assert_eq!(drain(&mut backlog), "B");
    }

    #[test]
    fn the_end_puts_on_disk_what_the_disk_takes_by_then() {
        let folder = tempfile::tempdir().unwrap();
        let mut backlog = spooled(folder.path());
        backlog.write_by(disk_full);
        backlog.push(Batch { lines: 2, body: "A1\nA2\n".into() });
        backlog.push(batch("B"));
        assert_eq!(backlog.front().expect("the oldest").lines, 2);
        // it was cut in halves, and the first was sent
        backlog.give_back(vec![batch("A2")]);
        assert_eq!(backlog.waits_in_memory(), 2);
        backlog.write_by(write_durably);
        backlog.give_back(Vec::new());
        assert_eq!(backlog.waits_in_memory(), 0);
        drop(backlog);
        assert_eq!(drain(&mut spooled(folder.path())), "A2B");
    }

    /// Its files by name, with what stands in them.
    fn files(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
    }

    #[test]
    fn a_folder_that_another_process_uses_is_left_alone_until_that_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = spooled(folder.path());
        first.push(batch("A"));
        first.push(batch("B"));
        let before = files(folder.path());
        let mut second = spooled(folder.path());
        assert!(second.is_taken() && !first.is_taken());
        second.push(batch("C"));
        second.push(batch("D"));
        second.bury(&batch("refused"));
        assert_eq!(second.front(), Some(batch("C")), "its own are sent from memory");
        assert!(!second.take_over());
        second.give_back(vec![batch("C")]);
        assert_eq!((second.waits_in_memory(), files(folder.path())), (2, before));
        assert_eq!(second.front(), Some(batch("C")));
        second.push(batch("E"));
        drop(first);
        assert!(second.take_over());
        second.give_back(vec![batch("C")]);
        assert!(!second.is_taken() && !second.take_over());
        assert_eq!(second.waits_in_memory(), 0);
        second.bury(&batch("refused"));
        assert!(folder.path().join("dead-letter.jsonl").exists());
        drop(second);
        assert_eq!(drain(&mut spooled(folder.path())), "ABCDE", "what the first one left comes first");
    }

    #[test]
    fn memory_is_bounded_while_another_process_uses_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = spooled(folder.path());
        let counters = Counters::default().collector;
        let mut second = Backlog::open(Some(&(folder.path().to_owned(), SPOOL_MIN)), counters.clone()).unwrap();
        for _ in 0..20 {
            second.push(half_a_mib());
        }
        assert_eq!((second.waits_in_memory(), counters.spool_full.get()), (16, 4));
    }

    #[test]
    fn what_goes_for_a_batch_that_cannot_be_written_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let counters = Counters::default().collector;
        let mut backlog = Backlog::open(Some(&(folder.path().to_owned(), SPOOL_MIN)), counters.clone()).unwrap();
        while counters.spool_full.get() == 0 {
            backlog.push(half_a_mib());
        }
        let mut pushed = counters.spool_full.get() + counters.backlog_lines.get().unsigned_abs();
        let lost = counters.spool_full.get();
        backlog.write_by(disk_full);
        for _ in 0..8 {
            backlog.push(half_a_mib());
            pushed += 1;
            let kept = counters.backlog_lines.get().unsigned_abs();
            assert_eq!(kept + counters.spool_full.get(), pushed, "kept, or counted as lost");
        }
        assert_eq!(backlog.waits_in_memory(), 8, "the disk took none");
        assert!(counters.spool_full.get() > lost, "some went from the disk");
    }
}
