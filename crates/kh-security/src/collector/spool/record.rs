//! One record: a batch of lines with its length and checksum.
//!
//! Invariant: bytes that are no whole and sound record are never taken for one, and reading them allocates nothing that
//! was not there.

use std::io;

use bytes::Bytes;

/// Length, lines and checksum, four bytes each.
pub(super) const HEADER: usize = 12;

/// Largest batch: what is collected before it is sent has at most half of it.
pub(crate) const BATCH_MAX: usize = 1024 * 1024;

/// Lines that are sent together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    /// How many.
    pub(crate) lines: u32,
    /// The lines, each with its end.
    pub(crate) body: Bytes,
}

/// A record in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// With its header.
    pub(super) length: u64,
    pub(super) lines: u32,
}

/// What stands behind the last whole record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Nothing.
    Whole,
    /// The begin of a record that was being written when the process or the machine stopped.
    Torn,
    /// Something else.
    Damaged,
}

pub(super) struct Scanned {
    pub(super) records: Vec<Record>,
    /// Bytes of whole records.
    pub(super) length: u64,
    pub(super) end: End,
}

/// The bytes of a record.
pub(super) fn encode(batch: &Batch) -> io::Result<Vec<u8>> {
    let length = u32::try_from(batch.body.len()).ok().filter(|length| *length as usize <= BATCH_MAX && *length > 0);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let mut record = Vec::with_capacity(HEADER + batch.body.len());
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&batch.lines.to_le_bytes());
    record.extend_from_slice(&checksum(length, batch.lines, &batch.body).to_le_bytes());
    record.extend_from_slice(&batch.body);
    Ok(record)
}

/// Over everything: a length that was damaged shows too.
fn checksum(length: u32, lines: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(&lines.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// The record at the begin of `bytes`, and why there is none.
pub(super) fn decode(bytes: &[u8]) -> Result<Batch, End> {
    if bytes.is_empty() {
        return Err(End::Whole);
    }
    // a file system may have grown the file without writing its content before the machine stopped
    let torn = if bytes.iter().all(|byte| *byte == 0) { End::Torn } else { End::Damaged };
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else { return Err(End::Torn) };
    let word = |at: usize| {
        let four = header.get(at..at + 4).and_then(|four| four.try_into().ok());
        u32::from_le_bytes(four.expect("a header has three words"))
    };
    let (length, lines, sum) = (word(0), word(4), word(8));
    if length == 0 || length as usize > BATCH_MAX {
        return Err(torn);
    }
    let Some(body) = rest.get(..length as usize) else { return Err(End::Torn) };
    if checksum(length, lines, body) != sum {
        // the last record's content may be missing in part though the file has its length
        return Err(if body.len() == rest.len() { End::Torn } else { torn });
    }
    Ok(Batch { lines, body: Bytes::copy_from_slice(body) })
}

/// All records from the begin of `bytes` on.
pub(super) fn scan(bytes: &[u8]) -> Scanned {
    let mut scanned = Scanned { records: Vec::new(), length: 0, end: End::Whole };
    let mut rest = bytes;
    loop {
        match decode(rest) {
            Ok(batch) => {
                let length = HEADER + batch.body.len();
                scanned.records.push(Record { length: length as u64, lines: batch.lines });
                scanned.length += length as u64;
                rest = rest.get(length..).unwrap_or_default();
            }
            Err(end) => {
                scanned.end = end;
                return scanned;
            }
        }
    }
}
