//! Port to the durable sessions of users at platforms: what a session's tokens are, sealed, and what its refresh token
//! has been through.
//!
//! Invariants: of two writers that read the same version one alone succeeds, so that no refresh token is used by two at
//! once; a session that has ended is never renewed again; a session ends in the transaction in which its keyholder token
//! goes or its client is disabled, whichever process does that.

use std::time::Duration;

use super::{BoxFuture, StateError};
use crate::{
    ClientId, CredentialName, Sha256, UnixMillis,
    audit::AuditEvent,
    session::{InstanceId, RefreshJournal, SessionEnd, SessionName},
};

/// A session as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRecord {
    /// SHA-256 of the keyholder token that speaks for it: its name.
    pub token: Sha256,
    /// Whose token that is.
    pub client: ClientId,
    /// The credential by which it was begun and is renewed.
    pub credential: CredentialName,
    /// When it began.
    pub began_at: UnixMillis,
    /// When it was last used, within a few minutes.
    pub used_at: UnixMillis,
    /// When it ends at the latest.
    pub expires_at: UnixMillis,
    /// How long it may go unused.
    pub idle_life: Duration,
    /// Grows with each write, from 1.
    pub version: u64,
    /// What its refresh token has been through.
    pub journal: RefreshJournal,
    /// Its tokens, sealed; none once they were given back to the platform.
    pub sealed: Option<Vec<u8>>,
    /// How it ended, if it did.
    pub end: Option<SessionEnd>,
}

/// How many sessions there may be at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// Of one client.
    pub per_client: u32,
    /// In all.
    pub total: u32,
}

/// Why a session was not begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The client has as many as it may.
    #[error("the client has {0} sessions, as many as it may")]
    ClientFull(u32),
    /// There are as many as there may be.
    #[error("there are {0} sessions, as many as there may be")]
    Full(u32),
    /// It could not be written.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Durable sessions. When a future resolves with `Ok`, the change is on disk and survives SIGKILL.
pub trait SessionStore: Send + Sync {
    /// Adds a session (its `version` is 1), within `limits`, which count those that have not ended.
    fn begin_session(&self, record: SessionRecord, limits: SessionLimits) -> BoxFuture<'_, Result<(), BeginError>>;

    /// One session.
    fn session(&self, token: Sha256) -> BoxFuture<'_, Result<Option<SessionRecord>, StateError>>;

    /// Replaces journal and tokens of a session that has still the version `seen` and has not ended; answers its new
    /// version. `None`: somebody else was faster, or it ended; read it again.
    fn renew_session(
        &self,
        token: Sha256,
        seen: u64,
        journal: RefreshJournal,
        sealed: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<u64>, StateError>>;

    /// Ends a session. Where a person ends it, its keyholder token goes in the same transaction, and processes that watch
    /// clients look again. `Ok(false)`: there is none, or it has ended before, and nothing was changed or audited.
    fn end_session(&self, token: Sha256, end: SessionEnd, event: AuditEvent)
    -> BoxFuture<'_, Result<bool, StateError>>;

    /// Notes when sessions were last used; a time that is not later than the stored one is left out.
    fn touch_sessions(&self, used: Vec<(Sha256, UnixMillis)>) -> BoxFuture<'_, Result<(), StateError>>;

    /// Up to `limit` sessions whose time is over at `now`, or that nobody used for too long.
    fn overdue_sessions(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>>;

    /// Up to `limit` sessions that have ended and still hold their tokens.
    fn sessions_to_close(&self, limit: u32) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>>;

    /// Wipes the tokens of a session that has ended.
    fn close_session(&self, token: Sha256) -> BoxFuture<'_, Result<(), StateError>>;

    /// Deletes up to `limit` closed sessions that would have expired before `cutoff`; answers how many.
    fn forget_sessions(&self, cutoff: UnixMillis, limit: u32) -> BoxFuture<'_, Result<usize, StateError>>;

    /// Up to `limit` sessions that have not ended, of `client` or of all, in the order of their tokens' digests, those
    /// after `after`.
    fn sessions_after(
        &self,
        after: Option<Sha256>,
        client: Option<ClientId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>>;

    /// The sessions that are called `name`, ended ones too: none, one, or by a chance in 2^64 two, and never more than
    /// that.
    fn sessions_named(&self, name: SessionName) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>>;
}

/// Which processes that share one state are still there.
pub trait Instances: Send + Sync {
    /// This one.
    fn own(&self) -> InstanceId;

    /// Whether an instance is certain to be gone, so that nothing it was about to do is done any more. A process that is
    /// only slow or stopped is not gone.
    fn is_gone(&self, instance: InstanceId) -> bool;
}
