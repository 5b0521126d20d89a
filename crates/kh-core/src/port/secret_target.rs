//! Port to a secret store that applications read: what rotation writes and other programs use.
//!
//! Invariant of every adapter: consumers read one whole document, the live one. A staged document is never what they
//! read. Each write is named by a [`WriteToken`] and can be repeated: the same token with the same document changes
//! nothing, with another document it is refused.

use std::time::Duration;

use serde::Serialize;

mod document;

pub use document::{Members, check_document};

use super::BoxFuture;
#[cfg(doc)]
use crate::rotation::Marker;
use crate::{
    Blame, Code, Retry, SecretBytes,
    rotation::{SecretPath, VersionId, WriteToken},
};

/// What a store can promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct TargetTraits {
    /// `file`, `vault`, `aws`, `azure`, `google`.
    pub kind: &'static str,
    /// Whether a promotion is refused by the store itself when somebody else wrote meanwhile. Without it (Key Vault)
    /// the adapter looks before and reads back after, and only the journal's lease keeps two rotators apart.
    pub compare_and_set: bool,
    /// Largest document in bytes.
    pub value_bytes_max: usize,
    /// Whether [`SecretTarget::replicas`] tells of copies in other regions.
    pub replicas: bool,
}

/// The document that consumers read now.
#[derive(Debug)]
pub struct LiveSecret {
    /// The document.
    pub value: SecretBytes,
    /// Its version.
    pub version: VersionId,
}

crate::assert_closed!(LiveSecret);

/// A copy of a secret in another region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Replica {
    /// The region.
    pub region: String,
    /// Whether it was read back and serves the live version.
    pub in_step: bool,
    /// What the store says of it, such as `InProgress`.
    pub status: String,
}

/// What was found out about one right before anything is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// It is there.
    Granted,
    /// It is missing.
    Denied,
    /// The store cannot tell without a change.
    Unknown,
}

/// What a look before a rotation found; nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TargetCheck {
    /// The live version; none when nothing is there yet.
    pub live: Option<VersionId>,
    /// Whether the live document may be read.
    pub read: Right,
    /// Whether a new one may be written.
    pub write: Right,
    /// What an operator should know, such as too short a history; no secrets.
    pub warnings: Vec<String>,
}

/// Why a store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Nothing is there.
    #[error("there is nothing at {0}")]
    NotFound(SecretPath),
    /// Somebody else wrote: the live version is not the expected one.
    #[error("{path} has the version {}, not the expected one", found.as_ref().map_or("none", |found| found.0.as_str()))]
    Conflict {
        /// The place.
        path: SecretPath,
        /// What is live.
        found: Option<VersionId>,
    },
    /// This write's name was used for another document.
    #[error("the write {token} to {path} exists with another document")]
    TokenReused {
        /// The place.
        path: SecretPath,
        /// The write.
        token: WriteToken,
    },
    /// The document is larger than the store takes.
    #[error("the document has {size} bytes, more than the {max} that the store takes")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// keyholder's identity at the store was not accepted.
    #[error("the store did not accept keyholder's identity: {0}")]
    Unauthenticated(String),
    /// The identity may not do this.
    #[error("the store does not allow this: {0}")]
    Denied(String),
    /// The store limits requests; nothing was done.
    #[error("the store limits requests")]
    Throttled(Option<Duration>),
    /// Nothing was done: not reached, sealed, a standby, or refused as a passing failure.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The request was sent and its answer never came, or told a failure after which it may be done all the same. Ask
    /// for the state; repeat with the same token.
    #[error("what became of the write is unknown: {0}")]
    Unknown(String),
    /// The store answered something that its documentation does not have, or the place does not fit the store.
    #[error("the store's answer cannot be used: {0}")]
    Unusable(String),
}

impl TargetError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NOT_FOUND,
            Self::Conflict { .. } | Self::TokenReused { .. } => Code::STORE_CONFLICT,
            Self::TooLarge { .. } => Code::REQUEST_TOO_LARGE,
            Self::Unauthenticated(_) | Self::Denied(_) => Code::STORE_DENIED,
            Self::Throttled(_) | Self::Unavailable(_) | Self::Unknown(_) | Self::Unusable(_) => Code::STORE_UNAVAILABLE,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotFound(_) | Self::Conflict { .. } | Self::TokenReused { .. } | Self::TooLarge { .. } => {
                Blame::Caller
            }
            Self::Unauthenticated(_)
            | Self::Denied(_)
            | Self::Throttled(_)
            | Self::Unavailable(_)
            | Self::Unknown(_)
            | Self::Unusable(_) => Blame::Store,
        }
    }

    /// Whether the same call, with the same token, may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Throttled(after) => Retry::After(after.unwrap_or(Duration::from_secs(1))),
            Self::Unavailable(_) | Self::Unknown(_) => Retry::After(Duration::from_secs(1)),
            Self::NotFound(_)
            | Self::Conflict { .. }
            | Self::TokenReused { .. }
            | Self::TooLarge { .. }
            | Self::Unauthenticated(_)
            | Self::Denied(_)
            | Self::Unusable(_) => Retry::Never,
        }
    }
}

/// A secret store as rotation writes it and as credentials are read from it.
///
/// Documents are JSON objects of text members (a [`crate::credential::CredentialDocument`]); a store that keeps objects
/// keeps these members as its own. What keyholder writes carries the member `_kh` ([`Marker`]) that names the write;
/// [`check_document`] refuses others.
pub trait SecretTarget: Send + Sync {
    /// What the store can promise.
    fn traits(&self) -> TargetTraits;

    /// What consumers read now.
    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>>;

    /// The live version without its value; cheap, it is polled.
    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>>;

    /// Looks whether a rotation could read and write here. Changes nothing.
    fn check<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<TargetCheck, TargetError>>;

    /// Puts a document where consumers do not look. Another write's staged document may be replaced by it.
    fn stage<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        value: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<(), TargetError>>;

    /// The document that was staged with `token`, read back from the store; none when it is not (or no longer) there.
    fn staged<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
    ) -> BoxFuture<'a, Result<Option<SecretBytes>, TargetError>>;

    /// Makes the staged document live if the live version still is `expect` (none: nothing is live), and tells its
    /// version. When the write `token` is live already, its version is told and nothing is written. When `token` is not
    /// staged, [`TargetError::NotFound`]. The staged copy is taken away afterwards where that can be done.
    fn promote<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        expect: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>>;

    /// Takes a staged document away that did not become live. One that is gone is fine; the live one stays.
    fn unstage<'a>(&'a self, path: &'a SecretPath, token: WriteToken) -> BoxFuture<'a, Result<(), TargetError>>;

    /// The copies in other regions, each read back. Empty where the store has none.
    fn replicas<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>>;

    /// The places whose text begins with `prefix` ("" for all) and where a document is live, for reports and copying; at
    /// most `limit`.
    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>>;
}
