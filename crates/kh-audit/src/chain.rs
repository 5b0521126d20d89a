//! The walk along both files: what verification and the writer share.
//!
//! Invariant: a walker's position is behind the last line that verified; it can go on from there when the files have
//! grown, and never skips a line.

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
};

use kh_core::Sha256;
use uuid::Uuid;

use crate::{
    checkpoint::{CHECKPOINT_BYTES_MAX, Checkpoint},
    diagnosis,
    entry::{ENTRY_BYTES_MAX, Entry},
    extent::Extent,
    finding::{Finding, FindingKind},
    keys::PublicKey,
};

/// The head of an empty log, and what the first entry and checkpoint name as the one before.
pub(crate) const GENESIS: Sha256 = Sha256([0; 32]);

/// One line and whether its end is there.
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    pub(crate) complete: bool,
}

/// Lines of bounded length from one offset up to another.
#[derive(Debug)]
pub(crate) struct Lines<S> {
    reader: BufReader<S>,
    max: usize,
    /// Bytes up to where the reading ends, whatever follows.
    left: u64,
}

impl<S: Read + Seek> Lines<S> {
    pub(crate) fn between(mut source: S, (offset, until): (u64, u64), max: usize) -> io::Result<Self> {
        source.seek(SeekFrom::Start(offset))?;
        Ok(Self { reader: BufReader::new(source), max, left: until.saturating_sub(offset) })
    }

    /// The next line; one that is longer than allowed comes in pieces, of which none verifies.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let room = self.left.min(self.max as u64);
        let read = self.reader.by_ref().take(room).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        self.left = self.left.saturating_sub(read as u64);
        let complete = bytes.last() == Some(&b'\n') || read == self.max;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        Ok(Some(Line { bytes, complete }))
    }
}

/// Where a file's verified part ends.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// Bytes up to and with the last line that verified.
    pub(crate) offset: u64,
    /// Where that line begins.
    pub(crate) last_line: u64,
    /// SHA-256 of that line without its end.
    pub(crate) digest: Sha256,
    /// Whether an incomplete line follows.
    pub(crate) torn: bool,
}

impl End {
    fn start() -> Self {
        Self { offset: 0, last_line: 0, digest: GENESIS, torn: false }
    }

    /// Moves behind a line.
    pub(crate) fn pass(&mut self, line: &[u8]) {
        self.last_line = self.offset;
        self.offset += line.len() as u64 + 1;
        self.digest = Sha256::of(line);
        self.torn = false;
    }

    /// Whether the last line still stands where it was.
    pub(crate) fn still_there(&self, file: &File) -> io::Result<bool> {
        if self.offset == 0 {
            return Ok(true);
        }
        let length = self.offset - self.last_line;
        let mut source = file;
        source.seek(SeekFrom::Start(self.last_line))?;
        let mut bytes = Vec::new();
        source.take(length).read_to_end(&mut bytes)?;
        let end = bytes.pop();
        Ok(end == Some(b'\n') && bytes.len() as u64 + 1 == length && Sha256::of(&bytes) == self.digest)
    }
}

/// What has been verified so far.
pub(crate) struct Walker {
    /// The only key whose signatures count; that of the first checkpoint when none was named.
    pub(crate) key: Option<PublicKey>,
    /// Ids of all entries, so that none is written twice.
    pub(crate) ids: HashSet<Uuid>,
    /// Entries verified.
    pub(crate) seq: u64,
    /// Hash of the last.
    pub(crate) head: Sha256,
    /// Checkpoints verified.
    pub(crate) checkpoints: u64,
    /// Entries that the last checkpoint covers.
    pub(crate) covered: u64,
    pub(crate) log_end: End,
    pub(crate) checkpoint_end: End,
    /// Checkpoints ahead of the log's walk.
    ahead: VecDeque<(u64, Sha256)>,
    covered_head: Sha256,
    /// Entries since the last one that a checkpoint names.
    pub(crate) since: Vec<Entry>,
}

impl Walker {
    pub(crate) fn new(key: Option<PublicKey>) -> Self {
        Self {
            key,
            ids: HashSet::new(),
            seq: 0,
            head: GENESIS,
            checkpoints: 0,
            covered: 0,
            log_end: End::start(),
            checkpoint_end: End::start(),
            ahead: VecDeque::new(),
            covered_head: GENESIS,
            since: Vec::new(),
        }
    }

    /// Goes on to the ends that `until` names, or to those of the files if they come first. `None`: all of it
    /// verifies.
    pub(crate) fn walk(&mut self, log: &File, checkpoints: &File, until: Extent) -> io::Result<Option<Finding>> {
        if let Some(finding) = self.walk_checkpoints(checkpoints, until.checkpoints)? {
            return Ok(Some(finding));
        }
        if let Some(finding) = self.walk_log(log, until.log)? {
            return Ok(Some(finding));
        }
        if self.checkpoint_end.torn || self.log_end.torn {
            let file = if self.log_end.torn { "log" } else { "checkpoint file" };
            return Ok(Some(Finding::new(
                FindingKind::IncompleteAppend,
                self.seq + 1,
                format!(
                    "the last line of the {file}, after entry {}, is incomplete, as a crash leaves it; keyholder \
                     removes it at its next start",
                    self.seq
                ),
            )));
        }
        Ok(None)
    }

    /// Takes note of a checkpoint that this process has just written.
    pub(crate) fn passed_checkpoint(&mut self, checkpoint: &Checkpoint, line: &[u8]) {
        self.checkpoint_end.pass(line);
        self.checkpoints = checkpoint.n + 1;
        self.covered = checkpoint.seq;
        self.covered_head = self.head;
        self.since.clear();
    }

    /// Takes note of an entry that verified or that this process has just written.
    pub(crate) fn passed_entry(&mut self, entry: Entry, head: Sha256, line: &[u8]) {
        self.log_end.pass(line);
        self.seq = entry.seq;
        self.head = head;
        self.ids.insert(entry.id);
        self.since.push(entry);
    }

    fn walk_checkpoints(&mut self, file: &File, until: u64) -> io::Result<Option<Finding>> {
        let mut lines = Lines::between(file, (self.checkpoint_end.offset, until), CHECKPOINT_BYTES_MAX)?;
        while let Some(line) = lines.next()? {
            let expected = format!("{{\"n\":{},\"seq\":", self.checkpoints);
            if !line.complete && is_started(&line.bytes, &expected) {
                self.checkpoint_end.torn = true;
                return Ok(None);
            }
            let Some(checkpoint) = Checkpoint::parse(&line.bytes).filter(|_| line.complete) else {
                return Ok(Some(self.bad_checkpoint("was changed")));
            };
            if let Some(finding) = self.judge_checkpoint(&checkpoint) {
                return Ok(Some(finding));
            }
            let Some(hash) = Sha256::from_hex(&checkpoint.hash) else {
                return Ok(Some(self.bad_checkpoint("was changed")));
            };
            self.checkpoint_end.pass(&line.bytes);
            self.checkpoints += 1;
            self.covered = checkpoint.seq;
            self.covered_head = hash;
            self.ahead.push_back((checkpoint.seq, hash));
        }
        Ok(None)
    }

    fn judge_checkpoint(&mut self, checkpoint: &Checkpoint) -> Option<Finding> {
        let named = checkpoint.key();
        let expected = self.key.or(named);
        let (Some(named), Some(expected)) = (named, expected) else {
            return Some(self.bad_checkpoint("was changed"));
        };
        if named != expected {
            return Some(Finding::new(
                FindingKind::ForeignKey,
                self.covered + 1,
                format!("checkpoint {} is signed with the key {named}, not with {expected}", self.checkpoints),
            ));
        }
        if !checkpoint.signed_by(&expected) {
            return Some(self.bad_checkpoint("does not carry a valid signature"));
        }
        self.key = Some(expected);
        if checkpoint.n != self.checkpoints || checkpoint.prev != self.checkpoint_end.digest.to_hex() {
            return Some(self.bad_checkpoint("is missing or out of order"));
        }
        let unmoved = checkpoint.seq == self.covered && checkpoint.hash != self.covered_head.to_hex();
        if checkpoint.seq < self.covered || unmoved {
            return Some(self.bad_checkpoint("contradicts the one before"));
        }
        None
    }

    fn bad_checkpoint(&self, what: &str) -> Finding {
        Finding::new(
            FindingKind::CheckpointEdited,
            self.covered + 1,
            format!("checkpoint {} {what}; entries up to {} are vouched for", self.checkpoints, self.covered),
        )
    }

    fn walk_log(&mut self, file: &File, until: u64) -> io::Result<Option<Finding>> {
        let mut lines = Lines::between(file, (self.log_end.offset, until), ENTRY_BYTES_MAX)?;
        // a writer whose own checkpoint the disk refused meets the one that another writes for the same entry
        if let Some(finding) = self.compare_with_checkpoint(&mut lines)? {
            return Ok(Some(finding));
        }
        while let Some(line) = lines.next()? {
            let expected = self.seq + 1;
            if !line.complete && self.covered <= self.seq {
                let start = format!("{{\"seq\":{expected},\"id\":\"");
                if is_started(&line.bytes, &start) {
                    self.log_end.torn = true;
                    return Ok(None);
                }
            }
            let entry = Entry::parse(&line.bytes).filter(|_| line.complete);
            let (Some(entry), true) = (entry.as_ref(), self.follows(entry.as_ref())) else {
                return diagnosis::of_line(self, entry, &mut lines).map(Some);
            };
            let Some(head) = entry.head() else {
                return diagnosis::of_line(self, None, &mut lines).map(Some);
            };
            self.passed_entry(entry.clone(), head, &line.bytes);
            if let Some(finding) = self.compare_with_checkpoint(&mut lines)? {
                return Ok(Some(finding));
            }
            if let Some(finding) = self.check_uncovered() {
                return Ok(Some(finding));
            }
        }
        if self.covered > self.seq {
            return Ok(Some(Finding::new(
                FindingKind::Truncated,
                self.seq + 1,
                format!(
                    "the log ends after entry {}, but a signed checkpoint says that it had {}: the end was cut off",
                    self.seq, self.covered
                ),
            )));
        }
        Ok(None)
    }

    fn follows(&self, entry: Option<&Entry>) -> bool {
        entry.is_some_and(|entry| entry.seq == self.seq + 1 && entry.prev == self.head.to_hex())
    }

    fn compare_with_checkpoint(&mut self, lines: &mut Lines<&File>) -> io::Result<Option<Finding>> {
        while let Some((seq, hash)) = self.ahead.front().copied() {
            if seq > self.seq {
                break;
            }
            if seq == self.seq && hash != self.head {
                return diagnosis::of_head(self, hash, lines).map(Some);
            }
            self.ahead.pop_front();
            if seq == self.seq {
                self.since.clear();
            }
        }
        Ok(None)
    }

    /// Behind the last checkpoint each entry's own signature counts, or anyone could add entries that the next
    /// checkpoint would then vouch for.
    fn check_uncovered(&self) -> Option<Finding> {
        let entry = self.since.last().filter(|entry| entry.seq > self.covered)?;
        let signed = self.key.is_some_and(|key| entry.signed_by(&key));
        (!signed).then(|| {
            Finding::new(
                FindingKind::Unsigned,
                entry.seq,
                format!("entry {} stands behind the last checkpoint and keyholder did not sign it", entry.seq),
            )
        })
    }
}

/// Whether `fragment` is what an interrupted write of a line that starts with `start` leaves: a beginning of it, or
/// zeros where the file system had grown the file before the content arrived.
fn is_started(fragment: &[u8], start: &str) -> bool {
    let start = start.as_bytes();
    fragment.starts_with(start) || start.starts_with(fragment) || fragment.iter().all(|byte| *byte == 0)
}
