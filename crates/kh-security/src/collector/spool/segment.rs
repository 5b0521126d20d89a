//! One file of the spool.
//!
//! Invariant: what is counted here stands in the file as whole records; an append that failed is cut off again, and where
//! that fails too, the segment is not appended to any more.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    Write,
    record::{self, BATCH_MAX, Batch, End, HEADER, Record, Scanned},
};

/// Bytes of the largest record.
const RECORD_MAX: u64 = (HEADER + BATCH_MAX) as u64;

/// Bytes of a segment that are in memory at once while it is read: some of the largest records.
const WINDOW: u64 = 4 * RECORD_MAX;

/// One segment.
#[derive(Debug)]
pub(super) struct Segment {
    number: u64,
    file: File,
    /// Whether this process appends to it.
    open: bool,
    damaged: bool,
    /// Of whole records.
    length: u64,
    /// Of the first record that was not sent.
    offset: u64,
    /// Records from there on.
    records: VecDeque<Record>,
    torn: u64,
}

/// The file of segment `number`.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.spool"))
}

/// The number of a segment's file.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".spool")?;
    (digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// All records from the begin of a file of `size` bytes on, read a window at a time.
fn scan(file: &File, size: u64) -> io::Result<Scanned> {
    let mut all = Scanned { records: Vec::new(), length: 0, end: End::Whole };
    let mut window = Vec::new();
    loop {
        let left = size - all.length;
        window.resize(usize::try_from(left.min(WINDOW)).map_err(|_| io::ErrorKind::InvalidData)?, 0);
        file.read_exact_at(&mut window, all.length)?;
        let found = record::scan(&window);
        let behind = window.len() as u64 - found.length;
        all.records.extend(found.records);
        all.length += found.length;
        // a window's end may cut its last record: that begins the next window
        if left <= WINDOW || behind > RECORD_MAX {
            all.end = found.end;
            return Ok(all);
        }
    }
}

impl Segment {
    /// A new one. Where that fails, a file that was made for it is taken away again, if that works.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let path = path(folder, number);
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
        // the file's name is durable before anything in it counts
        if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
            // one that stays is empty, and goes with the next start
            fs::remove_file(&path).ok();
            return Err(error);
        }
        let records = VecDeque::new();
        Ok(Self { number, file, open: true, damaged: false, length: 0, offset: 0, records, torn: 0 })
    }

    /// One that a process before left, whatever its limit was. More than a record behind the last whole one is damage.
    pub(super) fn read(folder: &Path, number: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path(folder, number))?;
        let size = file.metadata()?.len();
        let scanned = scan(&file, size)?;
        let rest = size - scanned.length;
        let torn = if scanned.end == End::Torn && rest <= RECORD_MAX { rest } else { 0 };
        let damaged = torn < rest;
        let records = scanned.records.into();
        Ok(Self { number, file, open: false, damaged, length: scanned.length, offset: 0, records, torn })
    }

    /// Cuts off what a crash left behind the last whole record; answers how many bytes that were.
    pub(super) fn cut_torn_end(&mut self) -> io::Result<u64> {
        let torn = std::mem::take(&mut self.torn);
        if torn > 0 {
            self.file.set_len(self.length)?;
            self.file.sync_data()?;
        }
        Ok(torn)
    }

    /// Everything before `offset` was sent, if a record begins there.
    pub(super) fn skip_to(&mut self, offset: u64) {
        let mut at = 0;
        let mut skipped = 0;
        for record in &self.records {
            if at >= offset {
                break;
            }
            at += record.length;
            skipped += 1;
        }
        if at == offset {
            self.records.drain(..skipped);
            self.offset = offset;
        }
    }

    pub(super) fn append(&mut self, record: &[u8], lines: u32, write: Write) -> io::Result<()> {
        if let Err(error) = write(&self.file, record) {
            // half a record would end what is read of this segment
            self.open = self.file.set_len(self.length).is_ok();
            return Err(error);
        }
        self.length += record.len() as u64;
        self.records.push_back(Record { length: record.len() as u64, lines });
        Ok(())
    }

    /// The first batch that was not sent.
    pub(super) fn front(&self) -> io::Result<Option<Batch>> {
        let Some(record) = self.records.front() else { return Ok(None) };
        let length = usize::try_from(record.length).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.offset)?;
        record::decode(&bytes).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    pub(super) fn pop(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.offset += record.length;
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn bytes(&self) -> u64 {
        self.length
    }

    pub(super) fn lines(&self) -> u64 {
        self.records.iter().map(|record| u64::from(record.lines)).sum()
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Whether all of it was sent.
    pub(super) fn is_done(&self) -> bool {
        self.records.is_empty()
    }
}
