//! Lines on disk that wait for the collector: a folder of segments, each a sequence of records.
//!
//! A record is one batch: length, number of lines, CRC-32 (each four bytes, little-endian), then the lines. It is written
//! with one call and made durable with fdatasync before it counts as kept. A segment is closed at an eighth of the limit,
//! and removed when all of it was sent; how far the oldest one was sent stands in a file that is renamed into place and
//! not synced: losing it sends a segment's lines twice, never none. When the limit is reached the oldest segment goes. What
//! a process with a larger limit left is read all the same; the limit of now holds from the next batch on.
//!
//! Invariants: never more bytes than the limit, plus one record, once something was kept; what was kept is sent or counted
//! as lost; a segment never has the number that the position names of an older one; the torn end that a crash leaves is cut
//! off and told; a segment with other damage is set aside untouched, one of them at most; files of other names are left
//! alone.

mod record;
mod segment;

use std::{
    collections::VecDeque,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

pub(crate) use self::record::Batch;
use self::segment::Segment;

/// Name of the file that says how far the oldest segment was sent.
const POSITION: &str = "position";

/// Name of the segment that was set aside.
const DAMAGED: &str = "damaged.spool";

/// Smallest limit: eight segments of one full batch each.
pub const SPOOL_MIN: u64 = 8 * 1024 * 1024;

/// What opening brought to light.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Bytes of torn ends that were cut off.
    pub(crate) torn_bytes: u64,
    /// Segments that were damaged otherwise; what could be read of them is sent.
    pub(crate) damaged: u64,
}

/// Lines that are lost.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) lines: u64,
}

/// A batch was not kept; what went to make room for it is lost all the same.
#[derive(Debug)]
pub(crate) struct NotKept {
    pub(crate) error: io::Error,
    pub(crate) lost: Lost,
}

/// Why a folder was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// It is locked.
    #[error("another process uses the folder")]
    Taken,
    /// Everything else.
    #[error(transparent)]
    Unusable(#[from] io::Error),
}

/// Which record a batch came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    number: u64,
    offset: u64,
}

/// How bytes become durable; exchanged in tests for a disk that is full.
pub(crate) type Write = fn(&fs::File, &[u8]) -> io::Result<()>;

pub(super) fn write_durably(mut file: &fs::File, bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(&mut file, bytes)?;
    file.sync_data()
}

/// The spool. One process uses a folder at a time: it is locked.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    segments: VecDeque<Segment>,
    next: u64,
    write: Write,
    lock: fs::File,
}

impl Drop for Spool {
    /// Ends the lock itself: a program that is just being started holds a copy of the descriptor, and with it the lock,
    /// until it is executed.
    fn drop(&mut self) {
        self.lock.unlock().ok();
    }
}

impl Spool {
    /// Opens or makes the folder, and reads what a process before left in it. Of a folder that is taken nothing is changed.
    pub(crate) fn open(folder: &Path, max_bytes: u64) -> Result<(Self, Opened), OpenError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock =
            fs::OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => OpenError::Taken,
            fs::TryLockError::Error(error) => OpenError::Unusable(error),
        })?;
        let mut spool = Self {
            folder: folder.to_owned(),
            max_bytes: max_bytes.max(SPOOL_MIN),
            segments: VecDeque::new(),
            next: 0,
            write: write_durably,
            lock,
        };
        let opened = spool.read_folder()?;
        Ok((spool, opened))
    }

    #[cfg(test)]
    pub(crate) fn write_by(&mut self, write: Write) {
        self.write = write;
    }

    fn read_folder(&mut self) -> io::Result<Opened> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(segment::number_of);
            if let Some(number) = number.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        let mut opened = Opened::default();
        let sent = self.read_position();
        if let Some((of, _)) = sent {
            // its segment may be gone: a new one of that number would be skipped up to what was sent of the old one
            self.next = self.next.max(of.saturating_add(1));
        }
        for number in numbers {
            self.next = self.next.max(number.saturating_add(1));
            let mut segment = Segment::read(&self.folder, number)?;
            opened.torn_bytes += segment.cut_torn_end()?;
            if segment.is_damaged() {
                opened.damaged += 1;
            }
            if let Some((_, offset)) = sent.filter(|(of, _)| *of == number) {
                segment.skip_to(offset);
            }
            if segment.is_done() {
                self.discard(&segment);
            } else {
                self.segments.push_back(segment);
            }
        }
        Ok(opened)
    }

    fn segment_max(&self) -> u64 {
        self.max_bytes / 8
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// Lines that were not sent yet.
    pub(crate) fn lines(&self) -> u64 {
        self.segments.iter().map(Segment::lines).sum()
    }

    /// Keeps a batch. When this comes back without an error, the batch survives the process and the machine.
    pub(crate) fn push(&mut self, batch: &Batch) -> Result<Lost, NotKept> {
        let mut lost = Lost::default();
        let kept = self.keep(batch, &mut lost);
        kept.map(|()| lost).map_err(|error| NotKept { error, lost })
    }

    fn keep(&mut self, batch: &Batch, lost: &mut Lost) -> io::Result<()> {
        let record = record::encode(batch)?;
        while self.bytes() + record.len() as u64 > self.max_bytes {
            let Some(oldest) = self.segments.pop_front() else { break };
            lost.lines += oldest.lines();
            self.discard(&oldest);
        }
        let full = self.segment_max();
        let open =
            self.segments.back().is_some_and(|last| last.is_open() && last.bytes() + record.len() as u64 <= full);
        if !open {
            let number = self.next;
            // used once, whatever comes of it: a file that is in the way stops no later batch
            self.next = number.saturating_add(1);
            self.segments.push_back(Segment::create(&self.folder, number)?);
        }
        let segment = self.segments.back_mut().expect("there is an open segment now");
        let appended = segment.append(&record, batch.lines, self.write);
        if appended.is_err() && segment.is_done() {
            // nothing in it is waited for: it makes room
            if let Some(empty) = self.segments.pop_back() {
                self.discard(&empty);
            }
        }
        appended
    }

    /// The oldest batch that was not sent. A record that cannot be read back is lost, with all behind it in its segment.
    pub(crate) fn front(&mut self) -> (Option<(At, Batch)>, Lost) {
        let mut lost = Lost::default();
        while let Some(segment) = self.segments.front() {
            match segment.front() {
                Ok(Some(batch)) => {
                    let at = At { number: segment.number(), offset: segment.offset() };
                    return (Some((at, batch)), lost);
                }
                Ok(None) if segment.is_open() && self.segments.len() == 1 => return (None, lost),
                Ok(None) => {}
                Err(_) => lost.lines += segment.lines(),
            }
            if let Some(done) = self.segments.pop_front() {
                self.discard(&done);
            }
        }
        (None, lost)
    }

    /// The batch of [`Spool::front`] was sent, or given up. Its segment may be gone meanwhile, if the spool was full.
    pub(crate) fn pop(&mut self, at: At) {
        let mine = |segment: &&mut Segment| segment.number() == at.number && segment.offset() == at.offset;
        let alone = self.segments.len() == 1;
        let Some(segment) = self.segments.front_mut().filter(mine) else { return };
        segment.pop();
        // the last segment is kept for the next batch while it is small
        if segment.is_done() && !(alone && segment.is_open() && segment.bytes() < self.max_bytes / 16) {
            if let Some(done) = self.segments.pop_front() {
                self.discard(&done);
            }
            return;
        }
        let position = self.segments.front().map(|segment| (segment.number(), segment.offset()));
        if let Some((number, offset)) = position {
            // losing it sends some lines twice
            self.write_position(number, offset).ok();
        }
    }

    /// Takes a segment's file away; a damaged one is set aside.
    fn discard(&self, segment: &Segment) {
        let path = segment::path(&self.folder, segment.number());
        let done =
            if segment.is_damaged() { fs::rename(&path, self.folder.join(DAMAGED)) } else { fs::remove_file(&path) };
        if let Err(error) = done {
            // it is read again by the next start, and sent twice
            tracing::warn!(%error, path = %path.display(), "a segment of the security log's spool cannot be removed");
        }
    }

    fn read_position(&self) -> Option<(u64, u64)> {
        let text = fs::read_to_string(self.folder.join(POSITION)).ok()?;
        parse_position(&text)
    }

    fn write_position(&self, number: u64, offset: u64) -> io::Result<()> {
        let new = self.folder.join("position.new");
        fs::write(&new, format!("{number} {offset}\n"))?;
        fs::rename(&new, self.folder.join(POSITION))
    }
}

/// `NUMBER OFFSET`, or nothing.
pub(crate) fn parse_position(text: &str) -> Option<(u64, u64)> {
    let (number, offset) = text.trim_end().split_once(' ')?;
    Some((number.parse().ok()?, offset.parse().ok()?))
}

/// Any bytes as a segment: lines in whole records, bytes of those, and whether more stands behind them. For fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) fn scan(bytes: &[u8]) -> (u64, u64, bool) {
    let scanned = record::scan(bytes);
    let lines = scanned.records.iter().map(|record| u64::from(record.lines)).sum();
    (lines, scanned.length, scanned.end != record::End::Whole)
}

#[cfg(test)]
mod tests;
