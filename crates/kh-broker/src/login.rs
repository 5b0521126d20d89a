//! What a login says about the secret that it was tried with.
//!
//! Invariant: a secret is named by the digest of its document, which stays in this process.

use kh_core::{CredentialName, Sha256, UnixMillis};

/// How a login ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoginOutcome {
    /// The platform issued a token, which is good until then.
    Token {
        /// Wall time.
        until: UnixMillis,
    },
    /// The platform does not take this secret.
    Refused,
}

/// One login that the platform answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// Whose secret.
    pub credential: CredentialName,
    /// Digest of the document, as [`kh_core::credential::CredentialDocument::sha256`] makes it.
    pub document: Sha256,
    /// The document's version in its store.
    pub version: u64,
    /// When the answer came.
    pub at: UnixMillis,
    /// How it ended.
    pub outcome: LoginOutcome,
}

/// Wants to know which secrets are in use.
pub trait LoginObserver: Send + Sync {
    /// Hears of a login. Must not block.
    fn logged_in(&self, login: Login);
}
