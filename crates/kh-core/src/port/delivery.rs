//! Ports for what follows a promotion: delivery hooks that make consumers take the new secret, and notifications.

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::{
    CredentialName, Fingerprint, UnixMillis,
    rotation::{RunId, VersionId},
};

/// What is delivered: never the secret itself, except to a hook that is a write-only target of secrets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Promotion {
    /// The run.
    pub run: RunId,
    /// Names this delivery, the same after every retry: receivers may drop one that they have seen.
    pub delivery: uuid::Uuid,
    /// Whose secret was replaced.
    pub credential: CredentialName,
    /// Counts the secrets of one credential.
    pub generation: u64,
    /// Of the new secret.
    pub fingerprint: Fingerprint,
    /// Where it is live: store name, place and version.
    pub stores: Vec<(String, String, VersionId)>,
    /// When it was promoted.
    pub promoted_at: UnixMillis,
}

/// Why a hook did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// It may be tried again: not reached, timed out, 5xx, limited.
    #[error("the hook failed: {0}")]
    Transient(String),
    /// Trying again as it is does not help: refused, not found, not configured.
    #[error("the hook was refused: {0}")]
    Refused(String),
}

/// Makes consumers take a new secret. May be called again for the same [`Promotion::delivery`].
pub trait DeliveryHook: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// What it would do, for a plan; no secrets.
    fn describe(&self) -> String;

    /// Does it. `document` is the new one, for hooks that write secrets.
    fn deliver<'a>(
        &'a self,
        promotion: &'a Promotion,
        document: &'a crate::credential::CredentialDocument,
    ) -> BoxFuture<'a, Result<String, HookError>>;
}

/// How urgent a notice is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// Good to know.
    Info,
    /// Somebody should look today.
    Warning,
    /// Somebody must act now.
    Critical,
}

/// One notice to people. Holds no secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// Names it: sent again after a restart it is the same one.
    pub id: uuid::Uuid,
    /// What happened, in the form `rotation.needs_operator`.
    pub kind: String,
    /// How urgent it is.
    pub urgency: Urgency,
    /// When it happened.
    pub at: UnixMillis,
    /// The credential it is about.
    pub credential: Option<CredentialName>,
    /// The run it is about.
    pub run: Option<RunId>,
    /// One sentence.
    pub summary: String,
    /// What to do, the exact command where there is one.
    pub next: Option<String>,
}

/// Tells people. Never blocks rotation: an adapter queues, retries and counts what it had to drop.
pub trait Notifier: Send + Sync {
    /// Takes a notice.
    fn notify(&self, notice: Notice);
}
