//! A run as a person watches it: what happened, and what it waits for.
//!
//! Invariant: made from the journal's records and the core's last answer; holds no secret.

use std::collections::VecDeque;

use kh_core::UnixMillis;
use kh_rotation::Record;
use serde::Serialize;

use crate::told;

/// Lines kept; a run with more had many retries, and their beginning stands in the journal.
const LINES_MAX: usize = 500;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// Position in the run.
    pub seq: u64,
    /// When.
    pub at: UnixMillis,
    /// What, one sentence.
    pub text: String,
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlook {
    /// Something is being done.
    #[default]
    Working,
    /// It waits.
    Waiting {
        /// Until when, at the latest.
        until: UnixMillis,
        /// For what.
        why: String,
    },
    /// A person must decide.
    NeedsOperator {
        /// Why.
        why: String,
        /// The command that goes on.
        next: String,
    },
    /// It is over.
    Ended,
}

/// A run as a person watches it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Timeline {
    /// What happened, oldest first.
    pub lines: VecDeque<Line>,
    /// What comes next.
    pub outlook: Outlook,
}

impl Timeline {
    /// The timeline of records that are in the journal.
    pub fn of(records: &[Record]) -> Self {
        let mut timeline = Self::default();
        for (seq, record) in (1..).zip(records) {
            timeline.add(record.at, seq, told::line(&record.step));
        }
        timeline
    }

    pub(crate) fn add(&mut self, at: UnixMillis, seq: u64, text: String) {
        if self.lines.len() >= LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { seq, at, text });
    }
}
