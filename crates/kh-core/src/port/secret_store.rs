//! Port to a secret store: versioned documents with compare-and-set.

use serde::Serialize;

use super::BoxFuture;
use crate::{Blame, Code, Retry, SecretBytes, SecretName, UnixMillis, audit::AuditEvent};

/// A value that really came out of a store, with the version it has there.
#[derive(Debug)]
pub struct StoredSecret {
    /// The document.
    pub value: SecretBytes,
    /// Version number, from 1 upward.
    pub version: u64,
}

crate::assert_closed!(StoredSecret);

/// What compare-and-set compares with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// The secret must not exist.
    Absent,
    /// The newest version must be this one.
    Version(u64),
    /// Whatever is there is replaced; a person said so.
    Any,
}

/// A version without its value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VersionMetadata {
    /// Version number, from 1 upward.
    pub version: u64,
    /// When it was written.
    pub created_at: UnixMillis,
    /// Who wrote it.
    pub created_by: String,
    /// Length of the value in bytes.
    pub size: u64,
}

/// A secret without its values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SecretMetadata {
    /// Its name.
    pub name: SecretName,
    /// Its versions, oldest first.
    pub versions: Vec<VersionMetadata>,
    /// Versions that are there and cannot be trusted: their row was changed or is cut short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<u64>,
}

/// Why a store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No secret (or version) of this name.
    #[error("there is no secret named {0}")]
    NotFound(SecretName),
    /// Compare-and-set found something else.
    #[error("the secret {name} has version {found}, not the expected one")]
    Conflict {
        /// The secret.
        name: SecretName,
        /// The newest version found; 0 when there is none.
        found: u64,
    },
    /// The value is larger than the store takes.
    #[error("the value has {size} bytes, more than the {max} that the store takes")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The key does not open this store.
    #[error("the key does not open this secret store")]
    WrongKey,
    /// Something in the store was changed by someone else.
    #[error("the secret store was tampered with: {0}")]
    Tampered(String),
    /// The store is cut short or not a store at all.
    #[error("the secret store is damaged: {0}")]
    Truncated(String),
    /// Written by a newer keyholder.
    #[error("the secret store has schema {found}; this keyholder knows schemas up to {known}")]
    TooNew {
        /// Schema found.
        found: u32,
        /// Newest schema that this binary knows.
        known: u32,
    },
    /// It cannot be reached, read or written now.
    #[error("the secret store is not available: {reason}")]
    Unavailable {
        /// What failed, without secrets.
        reason: String,
        /// Its cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl StoreError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NOT_FOUND,
            Self::Conflict { .. } => Code::STORE_CONFLICT,
            Self::TooLarge { .. } => Code::REQUEST_TOO_LARGE,
            Self::WrongKey => Code::STORE_WRONG_KEY,
            Self::Tampered(_) => Code::STORE_TAMPERED,
            Self::Truncated(_) => Code::STORE_TRUNCATED,
            Self::TooNew { .. } => Code::STORE_TOO_NEW,
            Self::Unavailable { .. } => Code::STORE_UNAVAILABLE,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotFound(_) | Self::Conflict { .. } | Self::TooLarge { .. } => Blame::Caller,
            Self::WrongKey
            | Self::Tampered(_)
            | Self::Truncated(_)
            | Self::TooNew { .. }
            | Self::Unavailable { .. } => Blame::Store,
        }
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable { .. } => Retry::After(std::time::Duration::from_secs(1)),
            Self::NotFound(_)
            | Self::Conflict { .. }
            | Self::TooLarge { .. }
            | Self::WrongKey
            | Self::Tampered(_)
            | Self::Truncated(_)
            | Self::TooNew { .. } => Retry::Never,
        }
    }
}

/// A store of versioned secrets.
pub trait SecretStore: Send + Sync {
    /// The newest version of `name`.
    fn get<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<StoredSecret, StoreError>>;

    /// The newest version number of `name`, without reading the value. Cheap: it is polled.
    fn newest_version<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Writes a new version if `expected` holds and returns its number. The audit event is recorded with it: either
    /// both become durable or neither.
    fn put<'a>(
        &'a self,
        name: &'a SecretName,
        value: SecretBytes,
        expected: Expected,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Removes a secret with all its versions, recorded like [`SecretStore::put`].
    fn remove<'a>(
        &'a self,
        name: &'a SecretName,
        expected: Expected,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// All secrets, by name, without values.
    fn list(&self) -> BoxFuture<'_, Result<Vec<SecretMetadata>, StoreError>>;
}
