//! Port to the rotation journal: runs, their records, leases with fences, holds, approvals and what consumers were
//! seen with.
//!
//! Invariant of every adapter: a record is durable when [`RotationJournal::append`] returns; it is written only by the
//! holder of the newest fence of its lease, only at the end of its run, and (where asked) only while no hold stands:
//! all of it looked at in the same transaction that writes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::{
    Blame, Code, CredentialName, Fingerprint, Retry, UnixMillis,
    audit::AuditEvent,
    rotation::{RunId, VersionId},
};

/// Longest life that a lease is asked for: a call and what is allowed for around it take minutes. An end further ahead was
/// written while the wall clock was, and keeps nobody out.
pub const LEASE_MAX: Duration = Duration::from_hours(1);

/// A lease that was taken: its fence grows by one with each owner, so that a write by an earlier one is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldLease {
    /// What is leased, such as `credential/acme-prod`.
    pub name: String,
    /// Who holds it: one process, one boot.
    pub owner: String,
    /// Grows with every new owner.
    pub fence: u64,
    /// When it ends unless it is renewed, wall time.
    pub expires_at: UnixMillis,
}

/// A run as it is begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// Whose secret it replaces.
    pub credential: CredentialName,
    /// When it began.
    pub at: UnixMillis,
    /// Its first record, JSON.
    pub record: String,
}

/// One record as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredRecord {
    /// Position in its run, from 1 upward without gaps.
    pub seq: u64,
    /// The fence under which it was written.
    pub fence: u64,
    /// When.
    pub at: UnixMillis,
    /// What, JSON.
    pub record: String,
}

/// A run with its records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredRun {
    /// Its id.
    pub id: RunId,
    /// Whose secret it replaces.
    pub credential: CredentialName,
    /// When it began.
    pub began_at: UnixMillis,
    /// When it reached its end, if it did.
    pub ended_at: Option<UnixMillis>,
    /// The records, oldest first.
    pub records: Vec<StoredRecord>,
}

/// A change of the escrow that goes with a record: sealed bytes, which the journal does not understand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EscrowChange {
    /// Keeps sealed bytes under a name (`new`, `old`, `token`).
    Keep {
        /// The name within the run.
        name: &'static str,
        /// Sealed.
        sealed: Vec<u8>,
    },
    /// Forgets them.
    Forget {
        /// The name within the run.
        name: &'static str,
    },
}

/// One append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// The run.
    pub run: RunId,
    /// The position that it must get.
    pub seq: u64,
    /// The lease under which it is written.
    pub lease: HeldLease,
    /// When.
    pub at: UnixMillis,
    /// What, JSON.
    pub record: String,
    /// Escrow that changes with it.
    pub escrow: Vec<EscrowChange>,
    /// Refused while a hold stands on the run's credential.
    pub unless_held: bool,
    /// Whether the run ends with it.
    pub ends: bool,
    /// Its audit event.
    pub event: AuditEvent,
}

/// A hold: nothing is promoted or pruned while it stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: UnixMillis,
    /// Who placed it.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// What an approval allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalOf {
    /// The run may start.
    Start,
    /// The old secret may die without the evidence of every consumer.
    Prune,
    /// The old secret is revoked at once.
    Revoke,
}

/// One person's yes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Approval {
    /// What it allows.
    pub of: ApprovalOf,
    /// Who.
    pub actor: String,
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub reason: String,
}

/// How well it is known which secret a consumer uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// Its declared cache time has passed.
    Ttl,
    /// A store or an agent served it that version.
    Fetched,
    /// It logged in with it.
    Used,
}

/// A consumer that was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sighting {
    /// Whose secret.
    pub credential: CredentialName,
    /// The consumer: `gateway`, `exec/host/pid`, a name from the configuration.
    pub consumer: String,
    /// The secret that it was seen with.
    pub fingerprint: Fingerprint,
    /// The version, where it is known.
    pub version: Option<VersionId>,
    /// How well this is known.
    pub grade: Grade,
    /// When it was seen with it last.
    pub at: UnixMillis,
    /// Until when it counts as alive; a consumer whose time is over is gone, unless it is an expected one.
    pub alive_until: UnixMillis,
}

/// Why the journal refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Somebody else has taken the lease since.
    #[error("the lease {0} has another owner now")]
    Fenced(String),
    /// The record does not come next: somebody wrote one meanwhile.
    #[error("the run {0} has moved on")]
    MovedOn(RunId),
    /// A hold stands.
    #[error("{credential} is on hold: {}", hold.reason)]
    Held {
        /// Whose secret.
        credential: CredentialName,
        /// The hold.
        hold: Hold,
    },
    /// The credential has a run that has not ended.
    #[error("{0} has the unfinished run {1}")]
    Unfinished(CredentialName, RunId),
    /// There is none of this id.
    #[error("there is no run {0}")]
    NotFound(RunId),
    /// It cannot be read or written now.
    #[error("the rotation journal is not available: {0}")]
    Unavailable(String),
}

impl JournalError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Fenced(_) | Self::MovedOn(_) => Code::ROTATION_FENCED,
            Self::Held { .. } => Code::ROTATION_HELD,
            Self::Unfinished(..) => Code::ROTATION_UNFINISHED,
            Self::NotFound(_) => Code::NOT_FOUND,
            Self::Unavailable(_) => Code::STATE_UNAVAILABLE,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Fenced(_) | Self::MovedOn(_) | Self::Held { .. } | Self::Unfinished(..) | Self::NotFound(_) => {
                Blame::Caller
            }
            Self::Unavailable(_) => Blame::Store,
        }
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable(_) => Retry::After(Duration::from_secs(1)),
            Self::Fenced(_) | Self::MovedOn(_) | Self::Held { .. } | Self::Unfinished(..) | Self::NotFound(_) => {
                Retry::Never
            }
        }
    }
}

/// Where it is noted which consumer was seen with which secret: all that brokers and listeners need of the journal.
pub trait SightingLog: Send + Sync {
    /// Notes that a consumer was seen; the newest sighting per consumer, fingerprint and grade is kept.
    fn sight(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), JournalError>>;
}

/// The rotation journal.
pub trait RotationJournal: SightingLog {
    /// Takes a lease that nobody holds at `now`, with the next fence; `Ok(None)` while somebody else does. The owner
    /// that holds it gets it again with the same fence and a later end. One that ends more than [`LEASE_MAX`] after
    /// what is asked for now is over.
    fn lease<'a>(
        &'a self,
        name: &'a str,
        owner: &'a str,
        now: UnixMillis,
        life: Duration,
    ) -> BoxFuture<'a, Result<Option<HeldLease>, JournalError>>;

    /// Gives a lease back. One that was lost is no error.
    fn release<'a>(&'a self, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), JournalError>>;

    /// Begins a run; refused with [`JournalError::Unfinished`] while another one of the credential has not ended.
    fn begin(&self, run: NewRun, lease: HeldLease, event: AuditEvent) -> BoxFuture<'_, Result<(), JournalError>>;

    /// Writes the next record.
    fn append(&self, append: Append) -> BoxFuture<'_, Result<(), JournalError>>;

    /// One run.
    fn run(&self, id: RunId) -> BoxFuture<'_, Result<StoredRun, JournalError>>;

    /// The newest `limit` runs, of one credential or of all, newest first.
    fn runs<'a>(
        &'a self,
        credential: Option<&'a CredentialName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredRun>, JournalError>>;

    /// Runs that have not ended.
    fn unfinished(&self) -> BoxFuture<'_, Result<Vec<StoredRun>, JournalError>>;

    /// Sealed bytes of a run.
    fn escrow<'a>(&'a self, run: RunId, name: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, JournalError>>;

    /// The hold on a credential.
    fn hold<'a>(&'a self, credential: &'a CredentialName) -> BoxFuture<'a, Result<Option<Hold>, JournalError>>;

    /// Places or lifts a hold.
    fn set_hold<'a>(
        &'a self,
        credential: &'a CredentialName,
        hold: Option<Hold>,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<(), JournalError>>;

    /// Adds an approval to a run. The same person's later one for the same thing takes the place of the earlier one;
    /// one that is not later changes nothing.
    fn approve(&self, run: RunId, approval: Approval, event: AuditEvent) -> BoxFuture<'_, Result<(), JournalError>>;

    /// The approvals of a run.
    fn approvals(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Approval>, JournalError>>;

    /// What consumers of a credential were seen with.
    fn sightings<'a>(&'a self, credential: &'a CredentialName) -> BoxFuture<'a, Result<Vec<Sighting>, JournalError>>;
}
