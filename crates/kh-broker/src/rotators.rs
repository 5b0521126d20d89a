//! Tokens of the rotator's identities: the credentials that a platform's section names as `rotator` and
//! `rotator_second`.
//!
//! Invariant: a token comes within [`PATIENCE`] or not at all, because a rotation holds a lease while it waits; why
//! there is none is told without a secret, and nothing was sent to the platform's management then.

use std::{sync::Arc, time::Duration};

use kh_core::{
    CredentialName, SecretString,
    port::{BoxFuture, FetchError, ManageError, RotatorTokens, secret_management::Rotator},
};

use crate::{Broker, Credential, TokenError};

/// Longest wait for a token: a login takes about a second, and a rotation's lease must outlast the wait and the call.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The rotator's identities at one platform, as credentials of the broker.
pub struct RotatorCredentials {
    broker: Arc<Broker>,
    first: Option<CredentialName>,
    second: Option<CredentialName>,
}

impl RotatorCredentials {
    /// Hands out tokens of the credentials that the platform's section names as its rotators.
    pub fn new(broker: Arc<Broker>, first: Option<CredentialName>, second: Option<CredentialName>) -> Self {
        Self { broker, first, second }
    }

    /// The credential behind an identity.
    pub fn name(&self, which: Rotator) -> Option<&CredentialName> {
        match which {
            Rotator::First => self.first.as_ref(),
            Rotator::Second => self.second.as_ref(),
        }
    }

    fn credential(&self, which: Rotator) -> Result<Arc<Credential>, ManageError> {
        let Some(name) = self.name(which) else {
            let key = if which == Rotator::First { "rotator" } else { "rotator_second" };
            return Err(not_done(&format!("no such rotator is configured: write {key} in the platform's section")));
        };
        let found = self.broker.credential(name);
        found.ok_or_else(|| not_done(&format!("the rotator {name} is not a credential of the configuration any more")))
    }

    async fn lease(&self, which: Rotator, min_ttl: Duration) -> Result<SecretString, ManageError> {
        let credential = self.credential(which)?;
        match tokio::time::timeout(PATIENCE, credential.lease(min_ttl)).await {
            Ok(Ok(lease)) => Ok(lease.token().duplicate()),
            Ok(Err(error)) => Err(no_token(credential.name(), &error)),
            Err(_elapsed) => Err(not_done(&format!("the rotator {} got no token in time", credential.name()))),
        }
    }
}

fn not_done(reason: &str) -> ManageError {
    ManageError::NotDone { reason: reason.to_owned() }
}

/// Why a rotator has no token. A refused secret is for an operator; everything else may pass.
fn no_token(name: &CredentialName, error: &TokenError) -> ManageError {
    if let Some(code) = error.platform_code() {
        return ManageError::Denied {
            platform_code: code.to_owned(),
            hint: format!(
                "the platform refuses the rotator's own secret: look at `keyholder check --online --credential {name}`"
            ),
        };
    }
    if let TokenError::Endpoint { source, retry_in } = error
        && matches!(**source, FetchError::RateLimited { .. })
    {
        return ManageError::Throttled { retry_after: Some(*retry_in) };
    }
    not_done(&format!("the rotator {name} has no token: {error}"))
}

impl std::fmt::Debug for RotatorCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotatorCredentials")
            .field("first", &self.first)
            .field("second", &self.second)
            .finish_non_exhaustive()
    }
}

impl RotatorTokens for RotatorCredentials {
    fn token(&self, which: Rotator, min_ttl: Duration) -> BoxFuture<'_, Result<SecretString, ManageError>> {
        Box::pin(self.lease(which, min_ttl))
    }

    fn has(&self, which: Rotator) -> bool {
        self.name(which).is_some()
    }

    fn refused(&self, which: Rotator, token: &SecretString) {
        if let Ok(credential) = self.credential(which) {
            credential.invalidate(token.sha256());
        }
    }

    fn auth_base(&self, which: Rotator) -> Option<String> {
        let lease = self.credential(which).ok()?.current()?;
        lease.auth_base().map(str::to_owned)
    }
}
