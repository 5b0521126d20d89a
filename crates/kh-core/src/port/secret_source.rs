//! Port through which credentials' documents are read, wherever they are kept.
//!
//! Invariant of every adapter: two reads of a reference answer the same version number only if they answer the same
//! document. Numbers are compared for equality alone.

use super::{BoxFuture, SecretStore, StoreError, StoredSecret, TargetError};
use crate::{Code, Retry, SecretReference, StoreName};

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The embedded store said so.
    #[error(transparent)]
    Embedded(#[from] StoreError),
    /// The store outside said so, and none that stands in for it has the document.
    #[error("the secret store {store} did not answer with {reference}")]
    Stored {
        /// Which document.
        reference: SecretReference,
        /// The store that was asked last.
        store: StoreName,
        /// What it said.
        source: TargetError,
    },
    /// The configuration names no such store.
    #[error("there is no secret store for {0}")]
    NoStore(SecretReference),
}

impl SourceError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Embedded(error) => error.code(),
            Self::Stored { source, .. } => source.code(),
            Self::NoStore(_) => Code::CONFIG_INVALID,
        }
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Embedded(error) => error.retry(),
            Self::Stored { source, .. } => source.retry(),
            Self::NoStore(_) => Retry::Never,
        }
    }

    /// Whether the store works and holds no such document.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Embedded(error) => matches!(error, StoreError::NotFound(_)),
            Self::Stored { source, .. } => matches!(source, TargetError::NotFound(_)),
            Self::NoStore(_) => false,
        }
    }
}

/// Reads documents.
pub trait SecretSource: Send + Sync {
    /// The document as it is now.
    fn read<'a>(&'a self, reference: &'a SecretReference) -> BoxFuture<'a, Result<StoredSecret, SourceError>>;

    /// The document's version without the document. Cheap: it is polled.
    fn version<'a>(&'a self, reference: &'a SecretReference) -> BoxFuture<'a, Result<u64, SourceError>>;
}

/// The embedded store alone: it knows its own names and no other store's.
impl<S: SecretStore> SecretSource for S {
    fn read<'a>(&'a self, reference: &'a SecretReference) -> BoxFuture<'a, Result<StoredSecret, SourceError>> {
        Box::pin(async move { Ok(self.get(name_of(reference)?).await?) })
    }

    fn version<'a>(&'a self, reference: &'a SecretReference) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async move { Ok(self.newest_version(name_of(reference)?).await?) })
    }
}

fn name_of(reference: &SecretReference) -> Result<&crate::SecretName, SourceError> {
    reference.embedded().ok_or_else(|| SourceError::NoStore(reference.clone()))
}
