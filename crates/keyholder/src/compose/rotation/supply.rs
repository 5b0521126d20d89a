//! What a rotation tells the broker of the same process: a token is wanted that outlives the old secret, and a store has
//! another document.
//!
//! Invariant: a credential that this process hands no tokens out of is left alone; then the rotation goes on without.

use std::sync::Arc;

use kh_broker::Broker;
use kh_core::{CredentialName, port::BoxFuture};
use kh_rotator::{FreshToken, TokenSupply};

/// The broker as the one who supplies applications with tokens.
pub(super) struct Supply(pub(super) Arc<Broker>);

impl TokenSupply for Supply {
    fn renew<'a>(&'a self, credential: &'a CredentialName) -> BoxFuture<'a, Option<FreshToken>> {
        Box::pin(async move {
            let credential = self.0.credential(credential)?;
            match credential.renew().await {
                Ok(lease) => Some(FreshToken { token: lease.token().duplicate(), expires_at: lease.expires_at() }),
                Err(error) => {
                    tracing::debug!(credential.name = %credential.name(), "a token was not renewed: {error}");
                    None
                }
            }
        })
    }

    fn promoted(&self, credential: &CredentialName) {
        if let Some(credential) = self.0.credential(credential) {
            credential.look_for_newer();
        }
    }
}
