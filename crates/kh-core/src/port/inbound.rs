//! Ports of the verifier of callers' tokens: where an issuer's keys come from, who answers for tokens that carry
//! nothing, and where revocations are kept.

use std::time::Duration;

use super::{BoxFuture, StateError};
use crate::{Now, SecretString, UnixMillis, audit::AuditEvent, identity::Identity, revocation::RevocationRecord};

/// A key set as its source gave it: a JWK Set document (RFC 7517 section 5).
#[derive(Debug)]
pub struct KeyDocument {
    /// The document.
    pub bytes: Vec<u8>,
    /// How long its source says that it may be used without asking again (`Cache-Control`), if it says so.
    pub fresh_for: Option<Duration>,
}

/// Why an issuer gave no answer. Nothing of it may reach a caller; none holds a secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct RemoteError {
    /// What happened, printable and bounded.
    pub reason: String,
    /// When to ask again, where the issuer said so.
    pub retry_after: Option<Duration>,
    /// Whether it may be well later with nobody doing anything: it is out of reach, or has a fault or a limit of its
    /// own.
    pub passing: bool,
}

impl RemoteError {
    /// An error that stays until somebody mends something, without advice when to ask again.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry_after: None, passing: false }
    }

    /// An error that may end by itself, without advice when to ask again.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self { passing: true, ..Self::new(reason) }
    }

    /// An answer with a status that is none of an answer; 429 and 5xx may end by themselves (RFC 6585 section 4, RFC
    /// 9110 section 15.6).
    pub fn answered(reason: impl Into<String>, status: u16, retry_after: Option<Duration>) -> Self {
        Self { reason: reason.into(), retry_after, passing: matches!(status, 429 | 500..=599) }
    }
}

/// Where the keys of one issuer come from. One call is one bounded attempt; whoever calls decides when.
pub trait KeySource: Send + Sync {
    /// Reads the key set.
    fn fetch(&self) -> BoxFuture<'_, Result<KeyDocument, RemoteError>>;

    /// The same at start, before anything is served, for a source that can tell without a network.
    fn at_start(&self) -> Option<Result<KeyDocument, RemoteError>> {
        None
    }
}

/// What the authority says of a token.
#[derive(Debug)]
pub enum TokenAnswer {
    /// It is valid. The verifier still checks the times, the issuer and the audience.
    Active {
        /// Whose it is.
        identity: Box<Identity>,
        /// How old the oldest part of the answer is: what it may be believed for is shorter by that.
        age: Duration,
    },
    /// It is not, for whatever reason: unknown, expired, revoked.
    Inactive,
}

/// Who answers for tokens that carry nothing themselves: an introspection endpoint (RFC 7662), a platform, keyholder's
/// own token endpoint. One call is one bounded attempt.
pub trait TokenAuthority: Send + Sync {
    /// What `token` is. An error means that nobody knows.
    fn ask<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<TokenAnswer, RemoteError>>;

    /// The same from memory, for an authority that has its tokens there: who the token speaks for at this moment, or
    /// `None` where it must be asked.
    fn in_memory(&self, _token: &[u8], _now: Now) -> Option<Identity> {
        None
    }
}

/// Tokens of keyholder's own on a platform, for questions about callers.
pub trait OwnToken: Send + Sync {
    /// A token that is good for a minute at least.
    fn token(&self) -> BoxFuture<'_, Result<SecretString, RemoteError>>;

    /// The platform answered 401 to `token`: the next one must be another.
    fn refused(&self, token: &SecretString);
}

/// A revocation with its place in the order in which they were written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedRevocation {
    /// Grows with each write, also with one that changes a record.
    pub position: u64,
    /// The revocation.
    pub record: RevocationRecord,
}

/// Where revocations are kept, shared by all processes of the installation.
pub trait RevocationStore: Send + Sync {
    /// Keeps all of `records`, or none, with the audit `event`; on disk when it returns. Of two records of one target
    /// the later `before` and the later `expires_at` stand.
    fn add_revocations(
        &self,
        records: Vec<RevocationRecord>,
        event: Option<AuditEvent>,
    ) -> BoxFuture<'_, Result<(), StateError>>;

    /// Those written after `position`, in their order, at most `limit`.
    fn revocations_after(&self, position: u64, limit: u32) -> BoxFuture<'_, Result<Vec<PlacedRevocation>, StateError>>;

    /// Deletes those that expired before `cutoff`, at most `limit`; how many.
    fn forget_revocations(&self, cutoff: UnixMillis, limit: u32) -> BoxFuture<'_, Result<usize, StateError>>;
}
