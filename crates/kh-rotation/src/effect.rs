//! What a run changes outside, one variant for each call of a port, and what such a call may answer.
//!
//! Invariant: an [`Effect`] is sent only while it is the run's open intent. Repeating one of those that
//! [`Effect::repeatable`] names does no harm; the others are never repeated, they are looked up.

use std::{fmt, time::Duration};

use kh_core::{
    Fingerprint, UnixMillis,
    port::{HookError, ManageError, TargetError, secret_management::Rotator},
    rotation::{ManagedId, VersionId, WriteToken},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An entry of the run's escrow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Escrow {
    /// The new document, until the run ends.
    New,
    /// The old document, until the old secret is dead and the new one live. Where it dies first, until the run ends; of a
    /// swap, until there is a new one.
    Old,
    /// A fresh access token that was made with the old secret, until the run ends.
    Token,
}

impl Escrow {
    /// Its name in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Old => "old",
            Self::Token => "token",
        }
    }
}

/// Who makes a call to the platform's management.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acting {
    /// One of the rotator's identities.
    Rotator(Rotator),
    /// The access token in escrow, [`Escrow::Token`]: the rotator's own secret is being replaced.
    EscrowedToken,
    /// A token made with the new secret, [`Escrow::New`]: it proves itself before the old one dies.
    NewSecret,
}

/// One change outside.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// Fetch an access token with the old document and keep it as [`Escrow::Token`].
    Mint,
    /// `SecretManagement::create`. The new document becomes [`Escrow::New`] with the record of the outcome.
    Create {
        /// Counts from 1 within the run.
        attempt: u32,
        /// Stands in the name or description where the platform has one: [`crate::label`].
        label: String,
        /// Everything listed right before, sorted: what is there later and not in here is new.
        listed: Vec<ManagedId>,
        /// Who acts.
        by: Acting,
    },
    /// `SecretManagement::regenerate`. The new document becomes [`Escrow::New`] with the record of the outcome.
    Regenerate {
        /// Counts from 1 within the run.
        attempt: u32,
        /// Who acts.
        by: Acting,
    },
    /// `SecretTarget::stage`, read back with `SecretTarget::staged` before it counts as done.
    Stage {
        /// The store.
        store: String,
        /// The write.
        token: WriteToken,
        /// Which document.
        document: Escrow,
    },
    /// `SecretTarget::promote`.
    Promote {
        /// The store.
        store: String,
        /// The write.
        token: WriteToken,
        /// Which document was staged under the token.
        document: Escrow,
        /// The live version that it replaces, as journalled at the preflight: never read again.
        expect: Option<VersionId>,
    },
    /// `SecretTarget::unstage`.
    Unstage {
        /// The store.
        store: String,
        /// The write.
        token: WriteToken,
    },
    /// `DeliveryHook::deliver` with [`crate::Run::promotion`].
    Hook {
        /// Its name.
        name: String,
        /// Names the delivery, the same after every retry.
        delivery: Uuid,
        /// The document that is live now.
        document: Escrow,
    },
    /// `SecretManagement::set_active(.., false)` for the secret that goes: the reversible half of a prune.
    Stop {
        /// Its id.
        id: ManagedId,
        /// Who acts.
        by: Acting,
    },
    /// `SecretManagement::set_active(.., true)`: what was stopped works again.
    Start {
        /// Its id.
        id: ManagedId,
        /// Who acts.
        by: Acting,
    },
    /// `SecretManagement::delete` for the secret that goes. There is no way back from this intent.
    Prune {
        /// Its id.
        id: ManagedId,
        /// Who acts.
        by: Acting,
    },
    /// `SecretManagement::delete` for one that no consumer can have: an orphan, one that never worked, the new one
    /// after a rollback.
    Cleanup {
        /// Its id.
        id: ManagedId,
        /// Who acts.
        by: Acting,
    },
    /// Revoke the access tokens that were made with the old secret. A platform without revocation answers
    /// [`Outcome::Refused`], and the run says how long they live.
    RevokeTokens,
}

impl Effect {
    /// Whether it may be sent again under the same intent: each of these either does nothing the second time or is
    /// refused by an expected version.
    pub fn repeatable(&self) -> bool {
        !matches!(self, Self::Create { .. } | Self::Regenerate { .. })
    }

    /// Whether it takes the old secret from those who use it, or may delete anything: refused while a hold stands.
    pub fn held(&self) -> bool {
        match self {
            Self::Stop { .. } | Self::Prune { .. } | Self::Cleanup { .. } | Self::Regenerate { .. } => true,
            Self::Promote { document, .. } => *document == Escrow::New,
            Self::Mint
            | Self::Create { .. }
            | Self::Stage { .. }
            | Self::Unstage { .. }
            | Self::Hook { .. }
            | Self::Start { .. }
            | Self::RevokeTokens => false,
        }
    }

    /// The word for it in logs and timelines.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::Create { .. } => "create",
            Self::Regenerate { .. } => "regenerate",
            Self::Stage { .. } => "stage",
            Self::Promote { .. } => "promote",
            Self::Unstage { .. } => "unstage",
            Self::Hook { .. } => "hook",
            Self::Stop { .. } => "stop",
            Self::Start { .. } => "start",
            Self::Prune { .. } => "prune",
            Self::Cleanup { .. } => "cleanup",
            Self::RevokeTokens => "revoke_tokens",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = |document: &Escrow| if *document == Escrow::Old { "old" } else { "new" };
        match self {
            Self::Mint => f.write_str("fetch an access token with the old secret and keep it"),
            Self::Create { attempt, .. } => write!(f, "make a new secret (attempt {attempt})"),
            Self::Regenerate { attempt, .. } => write!(f, "replace the secret in place (attempt {attempt})"),
            Self::Stage { store, document, .. } => {
                write!(f, "put the {} document into {store}, where consumers do not look", which(document))
            }
            Self::Promote { store, document, expect, .. } => {
                let expect = expect.as_ref().map_or("none", |version| version.0.as_str());
                write!(f, "make the {} document live in {store} in place of version {expect}", which(document))
            }
            Self::Unstage { store, .. } => write!(f, "take the staged document out of {store}"),
            Self::Hook { name, .. } => write!(f, "call the hook {name}"),
            Self::Stop { id, .. } => write!(f, "stop {id}"),
            Self::Start { id, .. } => write!(f, "start {id} again"),
            Self::Prune { id, .. } => write!(f, "delete the old secret {id}"),
            Self::Cleanup { id, .. } => write!(f, "delete {id}, which nobody uses"),
            Self::RevokeTokens => f.write_str("revoke the access tokens of the old secret"),
        }
    }
}

/// What a call answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// It is done: stage, unstage, stop, start, prune, cleanup, hook, revocation.
    Done,
    /// [`Effect::Create`] and [`Effect::Regenerate`]: there is a new secret, kept as [`Escrow::New`].
    Created {
        /// Its id; none for a secret that was regenerated in place.
        id: Option<ManagedId>,
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// [`Effect::Mint`]: there is a token, kept as [`Escrow::Token`].
    Minted {
        /// Until when it is good.
        expires_at: UnixMillis,
    },
    /// [`Effect::Promote`]: the document is live.
    Promoted {
        /// Its version.
        version: VersionId,
    },
    /// [`Effect::Promote`]: somebody else wrote; nothing was done.
    Conflict {
        /// What is live.
        found: Option<VersionId>,
    },
    /// Nothing was done; it may be tried again.
    NotDone {
        /// Why, without secrets.
        reason: String,
        /// How long to wait, where the other side said so, milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// Nothing was done, and trying again as it is does not help.
    Refused {
        /// Why, without secrets.
        reason: String,
        /// Whether the platform takes no more secrets.
        full: bool,
    },
    /// It may have been done.
    Unknown {
        /// Why, without secrets.
        reason: String,
    },
}

fn millis(span: Option<Duration>) -> Option<u64> {
    span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

impl Outcome {
    /// The outcome of a call to the platform's management that failed. One that is gone is deleted.
    pub fn of_platform(effect: &Effect, error: &ManageError) -> Self {
        let reason = error.to_string();
        match error {
            ManageError::NotDone { .. } => Self::NotDone { reason, retry_after_ms: None },
            ManageError::Unknown { .. } => Self::Unknown { reason },
            ManageError::Throttled { retry_after } => Self::NotDone { reason, retry_after_ms: millis(*retry_after) },
            ManageError::Denied { hint, .. } => Self::Refused { reason: format!("{reason}: {hint}"), full: false },
            ManageError::NotFound(_) if matches!(effect, Effect::Prune { .. } | Effect::Cleanup { .. }) => Self::Done,
            ManageError::NotFound(_) | ManageError::Unsupported => Self::Refused { reason, full: false },
            ManageError::LimitReached { .. } => Self::Refused { reason, full: true },
        }
    }

    /// The outcome of a call to a store that failed.
    pub fn of_store(error: &TargetError) -> Self {
        let reason = error.to_string();
        match error {
            TargetError::Conflict { found, .. } => Self::Conflict { found: found.clone() },
            TargetError::Unavailable(_) => Self::NotDone { reason, retry_after_ms: None },
            TargetError::Throttled(after) => Self::NotDone { reason, retry_after_ms: millis(*after) },
            TargetError::Unknown(_) => Self::Unknown { reason },
            TargetError::NotFound(_)
            | TargetError::TokenReused { .. }
            | TargetError::TooLarge { .. }
            | TargetError::Unauthenticated(_)
            | TargetError::Denied(_)
            | TargetError::Unusable(_) => Self::Refused { reason, full: false },
        }
    }

    /// The outcome of a hook that failed. A hook may be called again for the same delivery, so none is unknown.
    pub fn of_hook(error: &HookError) -> Self {
        match error {
            HookError::Transient(_) => Self::NotDone { reason: error.to_string(), retry_after_ms: None },
            HookError::Refused(_) => Self::Refused { reason: error.to_string(), full: false },
        }
    }
}
