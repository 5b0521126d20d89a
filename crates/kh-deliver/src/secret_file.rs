//! A secret that lies in a file and is read when it is used.
//!
//! Invariant: an error tells the path and never the content.

use std::{io, path::PathBuf};

use kh_core::SecretString;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

/// Longest secret in a file: a service account's token with many audiences has about 2 KiB, signing keys less.
const SECRET_MAX: u64 = 16 * 1024;

/// A file with one secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretFile(PathBuf);

/// Why the file gave no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("the file {path:?} cannot be read: {kind}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// It is empty, larger than a secret may be, or not text.
    #[error("the file {path:?} does not hold one secret of text: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

impl SecretFile {
    /// The secret at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Reads it: the whole file without blanks and line ends around it.
    pub async fn read(&self) -> Result<SecretString, SecretFileError> {
        let unreadable = |error: io::Error| SecretFileError::Unreadable { path: self.0.clone(), kind: error.kind() };
        let unusable = |reason| SecretFileError::Unusable { path: self.0.clone(), reason };
        let file = tokio::fs::File::open(&self.0).await.map_err(unreadable)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(SECRET_MAX).unwrap_or(usize::MAX) + 1));
        file.take(SECRET_MAX + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
        if bytes.len() as u64 > SECRET_MAX {
            return Err(unusable("it is too long"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| unusable("it is not UTF-8"))?.trim();
        if text.is_empty() {
            return Err(unusable("it is empty"));
        }
        Ok(SecretString::copied(text))
    }
}
