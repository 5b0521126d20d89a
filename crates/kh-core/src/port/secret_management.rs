//! Port to a platform's management of its own credentials: what makes, stops and deletes secrets.
//!
//! Invariant of every adapter: one call sends at most one changing request and never repeats it. What may have been
//! applied is [`ManageError::Unknown`], never anything else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::{Blame, Code, Retry, SecretString, UnixMillis, credential::CredentialDocument, rotation::ManagedId};

/// How a platform lets secrets be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Several live secrets of one client, each with an id (CXone access keys, a secrets API).
    Overlap,
    /// A second client beside the first (Genesys Cloud): the same algebra, the id is the client's.
    Pair,
    /// The one secret is regenerated in place (Genesys Cloud `POST .../secret`).
    Swap,
}

impl Strategy {
    /// The word used in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Pair => "pair",
            Self::Swap => "swap",
        }
    }
}

/// Which of the rotator's two identities makes a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotator {
    /// The usual one.
    First,
    /// The other one, for when the first one's answer was lost or the first one itself is rotated.
    Second,
}

/// What a platform can do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ManagementTraits {
    /// The strategies, the best first.
    pub strategies: Vec<Strategy>,
    /// Whether one can be made inactive and active again before it is deleted.
    pub reversible_stop: bool,
    /// Most live ones at a time, where it is known.
    pub active_max: Option<u32>,
    /// How long one that was just made may still be missing from the list or be refused.
    pub settles_within: Duration,
    /// Longest life of an access token that was made with an old one.
    pub token_life_max: Duration,
}

/// One secret, client or access key as the platform lists it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManagedSecret {
    /// Its id.
    pub id: ManagedId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Whether it can log in.
    pub active: bool,
    /// When it was made.
    pub created_at: Option<UnixMillis>,
    /// When it was last used, as the platform knows it.
    pub last_used_at: Option<UnixMillis>,
    /// Who owns it: a person or a service user.
    pub owner: Option<String>,
}

/// One that was just made. Its document is the only copy of the secret there is.
#[derive(Debug)]
pub struct CreatedSecret {
    /// Its id.
    pub id: ManagedId,
    /// What logs in with it: the old document with the new id and secret.
    pub document: CredentialDocument,
}

crate::assert_closed!(CreatedSecret);

/// Roles, divisions, scopes and addresses of one: equal for two that may do the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rights {
    /// Each right as one line of text, sorted.
    pub lines: Vec<String>,
}

/// A look before a rotation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ManagementCheck {
    /// What is in the way, each a sentence that says what to do.
    pub obstacles: Vec<String>,
    /// Whether somebody switched the client or the key off, so that nobody logs in with it: one of the obstacles.
    pub switched_off: bool,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// Free places for one more, where it is known.
    pub free: Option<u32>,
}

/// Why the platform refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManageError {
    /// Nothing happened: never sent, or refused before it was carried out.
    #[error("the platform did not do it: {reason}")]
    NotDone {
        /// Why, without secrets.
        reason: String,
    },
    /// It may have happened. Never repeat it: list, or probe.
    #[error("what became of the request is unknown: {reason}")]
    Unknown {
        /// Why, without secrets.
        reason: String,
    },
    /// Too many requests; nothing happened.
    #[error("the platform limits requests")]
    Throttled {
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
    },
    /// The rotator may not do it; nothing happened.
    #[error("the rotator may not do this ({platform_code})")]
    Denied {
        /// The platform's error code, such as `missing.any.permissions` or `bad.client.role`.
        platform_code: String,
        /// What would help.
        hint: String,
    },
    /// There is none of this id.
    #[error("the platform knows no {0}")]
    NotFound(ManagedId),
    /// The platform holds as many as it takes; nothing happened.
    #[error("the platform takes no more ({platform_code})")]
    LimitReached {
        /// The platform's error code.
        platform_code: String,
    },
    /// This platform has no such operation.
    #[error("the platform cannot do this")]
    Unsupported,
}

impl ManageError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NotDone { .. } | Self::Throttled { .. } | Self::LimitReached { .. } => Code::ROTATION_PLATFORM,
            Self::Unknown { .. } => Code::ROTATION_UNKNOWN_OUTCOME,
            Self::Denied { .. } => Code::ROTATION_DENIED,
            Self::NotFound(_) => Code::NOT_FOUND,
            Self::Unsupported => Code::ROTATION_UNSUPPORTED,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotDone { .. } | Self::Unknown { .. } | Self::Throttled { .. } => Blame::Platform,
            Self::Denied { .. } | Self::NotFound(_) | Self::LimitReached { .. } | Self::Unsupported => Blame::Caller,
        }
    }

    /// Whether the same call may be made later. Never after [`ManageError::Unknown`].
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotDone { .. } => Retry::After(Duration::from_secs(1)),
            Self::Throttled { retry_after } => Retry::After(retry_after.unwrap_or(Duration::from_secs(5))),
            Self::Unknown { .. }
            | Self::Denied { .. }
            | Self::NotFound(_)
            | Self::LimitReached { .. }
            | Self::Unsupported => Retry::Never,
        }
    }
}

/// Tokens of the rotator's identities: an adapter is made with one.
pub trait RotatorTokens: Send + Sync {
    /// A token good for at least `min_ttl`.
    fn token(&self, which: Rotator, min_ttl: Duration) -> BoxFuture<'_, Result<SecretString, ManageError>>;

    /// Whether this identity is configured.
    fn has(&self, which: Rotator) -> bool;

    /// The platform answered 401 to `token`: the next one must be another.
    fn refused(&self, _which: Rotator, _token: &SecretString) {}

    /// Base of account operations, where the login that gave the present token told one (CXone's regional host).
    fn auth_base(&self, _which: Rotator) -> Option<String> {
        None
    }
}

/// A platform's management of one credential's secrets. `current` is the document in use; it names the client, the
/// user or the key that is meant, and its secret is not sent.
pub trait SecretManagement: Send + Sync {
    /// What the platform can do.
    fn traits(&self) -> ManagementTraits;

    /// The id under which [`SecretManagement::list`] shows `current`, where the document names it.
    fn id_of(&self, current: &CredentialDocument) -> Option<ManagedId>;

    /// Looks whether `strategy` could be carried out: rights, roles, free places. Changes nothing.
    fn check<'a>(
        &'a self,
        current: &'a CredentialDocument,
        strategy: Strategy,
        by: Rotator,
    ) -> BoxFuture<'a, Result<ManagementCheck, ManageError>>;

    /// All that belong to `current`: the secrets of its client, the access keys of its user, the clients of its pair
    /// (those whose name says so).
    fn list<'a>(
        &'a self,
        current: &'a CredentialDocument,
        by: Rotator,
    ) -> BoxFuture<'a, Result<Vec<ManagedSecret>, ManageError>>;

    /// Makes one more, with everything that `current` has. `label` stands in its name or description where the
    /// platform has one.
    fn create<'a>(
        &'a self,
        current: &'a CredentialDocument,
        label: &'a str,
        by: Rotator,
    ) -> BoxFuture<'a, Result<CreatedSecret, ManageError>>;

    /// Stops one, or lets it work again. Repeating it does no harm.
    fn set_active<'a>(
        &'a self,
        current: &'a CredentialDocument,
        id: &'a ManagedId,
        active: bool,
        by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>>;

    /// Deletes one. [`ManageError::NotFound`] means that it is gone already.
    fn delete<'a>(
        &'a self,
        current: &'a CredentialDocument,
        id: &'a ManagedId,
        by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>>;

    /// Replaces the one secret in place and tells the new document. The old secret is dead at once. Never repeated.
    fn regenerate<'a>(
        &'a self,
        current: &'a CredentialDocument,
        by: Rotator,
    ) -> BoxFuture<'a, Result<CredentialDocument, ManageError>>;

    /// What one may do, for parity.
    fn rights<'a>(&'a self, id: &'a ManagedId, by: Rotator) -> BoxFuture<'a, Result<Rights, ManageError>>;

    /// A harmless call with an access token: `Ok(true)` when the token works, `Ok(false)` when it is dead.
    fn probe<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<bool, ManageError>>;

    /// Uses of `id` since `since`, as the platform counts them (Genesys Cloud usage query, CXone `lastUsedDate`).
    /// None where the platform does not tell.
    fn used_since<'a>(
        &'a self,
        id: &'a ManagedId,
        since: UnixMillis,
        by: Rotator,
    ) -> BoxFuture<'a, Result<Option<u64>, ManageError>>;

    /// Every client, key or secret of the organisation that the rotator can see, for reports.
    fn inventory(&self, by: Rotator) -> BoxFuture<'_, Result<Vec<ManagedSecret>, ManageError>>;
}
