//! What can be told about a credential: for `status`, the console and metrics.
//!
//! Invariant: no secret; not even a digest of a token is told.

use std::sync::atomic::{AtomicU64, Ordering};

use kh_core::{Code, CredentialName, EnvironmentName, PlatformKind, PlatformName, SecretReference, UnixMillis};
use serde::Serialize;

/// How a credential is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    /// Nobody asked for a token yet, or the last one died unused.
    Empty,
    /// A good token is held.
    Ready,
    /// A good token is held and the next one is being fetched.
    Refreshing,
    /// The first token, or the one after a dead one, is being fetched.
    Fetching,
    /// The platform refused the document that is in the store.
    Rejected,
    /// The last fetch failed; the next one has to wait.
    Waiting,
}

/// How often things happened since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct FetchCounts {
    /// Fetches that brought the current token.
    pub ok: u64,
    /// Fetches that brought none.
    pub failed: u64,
    /// Tokens that a caller's 401 invalidated.
    pub invalidations: u64,
    /// Reports about tokens that were not current any more.
    pub stale_reports: u64,
    /// Times a caller had to wait for a fetch or a pause.
    pub waits: u64,
}

/// What is known about one credential.
#[derive(Clone, Debug, Serialize)]
pub struct CredentialStatus {
    /// Its name.
    pub name: CredentialName,
    /// Its platform.
    pub platform: PlatformName,
    /// The kind of its platform.
    pub kind: PlatformKind,
    /// The environment that it belongs to.
    pub environment: Option<EnvironmentName>,
    /// Where its document is.
    pub secret: SecretReference,
    /// Version of the document, 0 before it was read.
    pub secret_version: u64,
    /// How it is doing.
    pub state: CredentialState,
    /// Number of the current token, 0 without one.
    pub generation: u64,
    /// Age of the current token in seconds.
    pub age_seconds: Option<u64>,
    /// When the current token expires.
    pub expires_at: Option<UnixMillis>,
    /// Until the next fetch may begin, in seconds, if it has to wait.
    pub retry_in_seconds: Option<u64>,
    /// Code of the last failure since the last good fetch.
    pub last_error: Option<Code>,
    /// Counts since the start.
    pub fetches: FetchCounts,
}

/// The counters behind [`FetchCounts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) ok: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) invalidations: AtomicU64,
    pub(crate) stale_reports: AtomicU64,
    pub(crate) waits: AtomicU64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> FetchCounts {
        FetchCounts {
            ok: self.ok.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            invalidations: self.invalidations.load(Ordering::Relaxed),
            stale_reports: self.stale_reports.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
