//! The form of lines: OCSF 1.8.0 (Open Cybersecurity Schema Framework, <https://schema.ocsf.io/1.8.0/>), one JSON object
//! a line.
//!
//! A try to authenticate is an Authentication event (class 3002). An alert is a Detection Finding (class 2004): the class
//! for what an analysis of events brought up, which an Authentication event with another severity would not tell apart
//! from the events themselves.
//!
//! Invariants: a line is one line whatever is told in it; a line is never half written; what has no place in the schema
//! stands under `unmapped`, where the schema wants it.

mod authentication;
mod finding;
mod shared;

pub use self::finding::{Finding, FindingKind};
pub(crate) use self::{authentication::write as write_authentication, finding::write as write_finding};

/// The schema's version.
pub const VERSION: &str = "1.8.0";

/// Names an event for good: receivers may drop one that they have seen. The first half is drawn when the process
/// starts, the second counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EventId {
    pub(crate) boot: u64,
    pub(crate) sequence: u64,
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{}", self.boot, self.sequence)
    }
}

/// Appends `value` as one line; nothing at all if it cannot be written.
fn append(value: &impl serde::Serialize, lines: &mut Vec<u8>) {
    let before = lines.len();
    if serde_json::to_writer(&mut *lines, value).is_err() {
        lines.truncate(before);
        return;
    }
    lines.push(b'\n');
}

#[cfg(test)]
mod tests;
