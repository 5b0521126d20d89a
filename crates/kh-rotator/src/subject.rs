//! What is rotated: one credential with every port that its rotation touches, as the configuration composes it.
//!
//! Invariant: a subject is the same for the whole life of a driver; a reload makes new ones.

use std::{fmt, sync::Arc};

use kh_core::{
    CredentialName, PlatformName, SecretString, UnixMillis,
    port::{
        BoxFuture, DeliveryHook, ManageError, RotatorTokens, SecretManagement, SecretTarget, Strategy, TokenEndpoint,
        secret_management::Rotator,
    },
    rotation::{ManagedId, SecretPath},
};
use kh_rotation::Policy;

use crate::calendar::Times;

/// One store that holds the credential.
#[derive(Clone)]
pub struct Store {
    /// Its name in the configuration.
    pub name: String,
    /// Where in it.
    pub path: SecretPath,
    /// How it is reached.
    pub target: Arc<dyn SecretTarget>,
}

/// Makes a management whose calls carry the tokens that are given: for the rotator's own credential, whose rotation is
/// carried out with a token in escrow or with the new secret.
pub type ActWith = Arc<dyn Fn(Arc<dyn RotatorTokens>) -> Arc<dyn SecretManagement> + Send + Sync>;

/// Access tokens that were made with the old secret of a run.
#[derive(Clone, Copy, Debug)]
pub struct OldTokens<'a> {
    /// The credential.
    pub credential: &'a CredentialName,
    /// How it is rotated.
    pub strategy: Strategy,
    /// The platform's id of the old secret, where it has one.
    pub id: Option<&'a ManagedId>,
    /// Whether the old secret was deleted, not only stopped.
    pub deleted: bool,
}

/// What became of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Revoked {
    /// None works any more.
    All,
    /// They live until they end. Why, as the beginning of a sentence: `the platform revokes no tokens`.
    LiveOn(String),
}

/// Revokes access tokens that were made with an old secret.
pub trait TokenRevoker: Send + Sync {
    /// Revokes them; may be repeated. [`ManageError::Unsupported`] where the platform has no revocation.
    fn revoke<'a>(&'a self, tokens: OldTokens<'a>) -> BoxFuture<'a, Result<Revoked, ManageError>>;
}

/// A token that was fetched just now.
pub struct FreshToken {
    /// The access token.
    pub token: SecretString,
    /// Until when it is good.
    pub expires_at: UnixMillis,
}

/// Whoever gives applications the credential's access tokens in this process, so that a rotation can see to it that they
/// have a good one throughout. Both are a help, not a condition: without them the same holds, with more waiting.
pub trait TokenSupply: Send + Sync {
    /// Fetches a token with what the store holds now, which applications get from now on; none if there is none.
    fn renew<'a>(&'a self, credential: &'a CredentialName) -> BoxFuture<'a, Option<FreshToken>>;

    /// A store has another document now. Must not block.
    fn promoted(&self, credential: &CredentialName);
}

/// One credential and everything that its rotation touches.
#[derive(Clone)]
pub struct Subject {
    /// Its name.
    pub credential: CredentialName,
    /// The platform; runs of one platform share a limit.
    pub platform: PlatformName,
    /// Whether it is the rotator's own.
    pub own: bool,
    /// How it is rotated; none: the best way that the platform has.
    pub strategy: Option<Strategy>,
    /// The rules, but for the calendar, which [`Subject::times`] gives.
    pub policy: Policy,
    /// Windows and blackouts.
    pub times: Times,
    /// The stores, in the order in which they are promoted. At least one.
    pub stores: Vec<Store>,
    /// The platform's management.
    pub management: Arc<dyn SecretManagement>,
    /// For the rotator's own credential.
    pub act_with: Option<ActWith>,
    /// The identity that acts.
    pub by: Rotator,
    /// Whether the rotator has its second identity.
    pub second_rotator: bool,
    /// Where the secret is tried.
    pub endpoint: Arc<dyn TokenEndpoint>,
    /// What is called after promotion, in order.
    pub hooks: Vec<Arc<dyn DeliveryHook>>,
    /// Who hands out its access tokens in this process, if anybody does.
    pub supply: Option<Arc<dyn TokenSupply>>,
    /// Revokes old access tokens in an emergency; none where the platform has no revocation.
    pub revoker: Option<Arc<dyn TokenRevoker>>,
}

impl Subject {
    /// The strategy that a new run takes; none if the platform has none, or not the one that is asked for.
    pub fn strategy(&self) -> Option<Strategy> {
        let can = self.management.traits().strategies;
        match self.strategy {
            Some(wanted) => can.contains(&wanted).then_some(wanted),
            None => can.first().copied(),
        }
    }

    /// The store of this name.
    pub fn store(&self, name: &str) -> Option<&Store> {
        self.stores.iter().find(|store| store.name == name)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stores: Vec<_> = self.stores.iter().map(|store| (&store.name, &store.path)).collect();
        f.debug_struct("Subject").field("credential", &self.credential).field("stores", &stores).finish_non_exhaustive()
    }
}
