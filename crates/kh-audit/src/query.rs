//! Reading entries, with filters, line by line.
//!
//! Invariant: reading does not verify the chain (that is [`verify`](crate::verify)), but a line that is not an entry in
//! keyholder's own bytes is an error, never an entry.

use std::{collections::VecDeque, fs::File, path::Path};

use kh_core::{UnixMillis, port::AuditError};

use crate::{
    chain::Lines,
    entry::{ENTRY_BYTES_MAX, Entry},
    files,
};

/// Most entries that [`Filter::limit`] may ask for: they are held in memory, since the newest come last.
pub const READ_LIMIT_MAX: usize = 10_000;

/// Which entries to read; the default takes all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Not before this time.
    pub since: Option<UnixMillis>,
    /// Before this time.
    pub until: Option<UnixMillis>,
    /// This actor only.
    pub actor: Option<String>,
    /// This action only (`secret.set`), or with a final dot all of a noun (`secret.`).
    pub action: Option<String>,
    /// This subject only.
    pub subject: Option<String>,
    /// Only the newest so many of those that match, at most [`READ_LIMIT_MAX`].
    pub limit: Option<usize>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let action = self
            .action
            .as_deref()
            .is_none_or(|wanted| wanted == entry.action || (wanted.ends_with('.') && entry.action.starts_with(wanted)));
        self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
            && is(&self.actor, &entry.actor)
            && action
            && is(&self.subject, &entry.subject)
    }
}

/// Entries in the order of the log. After an error it ends.
#[derive(Debug)]
pub struct Entries(Source);

#[derive(Debug)]
enum Source {
    Stream { lines: Option<Lines<File>>, offset: u64, filter: Filter },
    Newest(VecDeque<Entry>),
}

/// Reads `log`; one that does not exist has no entries. What is appended meanwhile may or may not be seen.
pub fn read(log: &Path, filter: Filter) -> Result<Entries, AuditError> {
    let lines = files::open_for_reading(log)?.map(|file| Lines::between(file, (0, u64::MAX), ENTRY_BYTES_MAX));
    let lines = lines.transpose().map_err(AuditError::Unavailable)?;
    let limit = filter.limit;
    let stream = Entries(Source::Stream { lines, offset: 0, filter });
    let Some(limit) = limit else {
        return Ok(stream);
    };
    let limit = limit.min(READ_LIMIT_MAX);
    let mut newest = VecDeque::new();
    for entry in stream {
        newest.push_back(entry?);
        if newest.len() > limit {
            newest.pop_front();
        }
    }
    Ok(Entries(Source::Newest(newest)))
}

impl Iterator for Entries {
    type Item = Result<Entry, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Newest(entries) => entries.pop_front().map(Ok),
            Source::Stream { lines, offset, filter } => {
                let found = next_match(lines.as_mut()?, offset, filter);
                if !matches!(found, Ok(Some(_))) {
                    *lines = None;
                }
                found.transpose()
            }
        }
    }
}

/// The next entry that the filter takes; `offset` is where its line begins. An incomplete last line is an append in
/// progress.
fn next_match(lines: &mut Lines<File>, offset: &mut u64, filter: &Filter) -> Result<Option<Entry>, AuditError> {
    while let Some(line) = lines.next().map_err(AuditError::Unavailable)? {
        if !line.complete {
            return Ok(None);
        }
        let entry = Entry::parse(&line.bytes)
            .ok_or_else(|| AuditError::Broken(format!("the line at byte {offset} is not an entry")))?;
        *offset += line.bytes.len() as u64 + 1;
        if filter.takes(&entry) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}
