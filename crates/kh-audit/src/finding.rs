//! What verification says: a report, and at most one finding, the first.
//!
//! Invariant: a finding names a place and has a sentence that a person understands without this code.

use std::fmt;

use kh_core::Sha256;

use crate::keys::PublicKey;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FindingKind {
    /// An entry's bytes were changed.
    Edited,
    /// An entry is missing between others.
    Removed,
    /// A line that keyholder did not write stands between its entries.
    Inserted,
    /// The entries are there in another order.
    Reordered,
    /// Entries are missing at the end, or the whole content.
    Truncated,
    /// A consistent chain that is not the one keyholder signed.
    Rewritten,
    /// Entries after the last checkpoint that keyholder did not sign.
    Unsigned,
    /// A checkpoint is signed with another key than the expected one.
    ForeignKey,
    /// A checkpoint was changed, removed or added.
    CheckpointEdited,
    /// There are entries, but no checkpoints.
    CheckpointsMissing,
    /// There is no log.
    LogMissing,
    /// The last line is incomplete, as a crash during an append leaves it. The next append repairs it.
    IncompleteAppend,
}

impl FindingKind {
    /// A stable word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Removed => "removed",
            Self::Inserted => "inserted",
            Self::Reordered => "reordered",
            Self::Truncated => "truncated",
            Self::Rewritten => "rewritten",
            Self::Unsigned => "unsigned",
            Self::ForeignKey => "foreign_key",
            Self::CheckpointEdited => "checkpoint_edited",
            Self::CheckpointsMissing => "checkpoints_missing",
            Self::LogMissing => "log_missing",
            Self::IncompleteAppend => "incomplete_append",
        }
    }
}

/// The first thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The first entry that cannot be trusted.
    pub seq: u64,
    /// What happened and where, for a person.
    pub sentence: String,
}

impl Finding {
    pub(crate) fn new(kind: FindingKind, seq: u64, sentence: impl Into<String>) -> Self {
        Self { kind, seq, sentence: sentence.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// The result of verification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Entries that verify, from the first.
    pub entries: u64,
    /// Checkpoints that verify.
    pub checkpoints: u64,
    /// Entries after the last checkpoint; each carries its own signature. More than zero only after a crash.
    pub uncovered: u64,
    /// Hash of the last entry that verifies; zeros for an empty log.
    pub head: Sha256,
    /// The key that signed; the expected one when it was given, else the one of the first checkpoint, which whoever
    /// rewrote both files could have chosen.
    pub public_key: Option<PublicKey>,
    /// Whether the caller named the key.
    pub pinned: bool,
    /// What is wrong, if anything.
    pub finding: Option<Finding>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn verified(&self) -> bool {
        self.finding.is_none()
    }
}
