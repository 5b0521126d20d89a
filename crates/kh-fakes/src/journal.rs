//! What a fake was asked and what it answered.
//!
//! Invariant: no header, body or query ever enters it, so it holds no secret.

use serde::Serialize;

/// Requests kept. A test that asks more than this reads the journal in between.
const ENTRIES_MAX: usize = 100_000;

/// One request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Entry {
    /// From 1 upward, in the order of arrival.
    pub number: u64,
    /// The method.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// The service's word for what is asked.
    pub operation: String,
    /// The status that was answered, or would have been.
    pub status: u16,
    /// Whether the service did what was asked (or refused it by its own rules); not when a fault came first.
    pub reached: bool,
    /// Whether it changed the store.
    pub changed: bool,
    /// Whether the caller got the answer.
    pub answered: bool,
}

/// The journal.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    arrived: u64,
    changes: u64,
    entries: Vec<Entry>,
}

impl Journal {
    pub(crate) fn arrive(&mut self) -> u64 {
        self.arrived += 1;
        self.arrived
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        self.changes += u64::from(entry.changed);
        if self.entries.len() < ENTRIES_MAX {
            self.entries.push(entry);
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}
