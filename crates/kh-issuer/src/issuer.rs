//! The issuer: one registry of clients and sessions in memory over durable state.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Clock, Entropy, SecretString, Sha256,
    port::{ClientRecord, StateError, StateStore},
};
use tokio_util::sync::CancellationToken;

use crate::{Client, IssuerError, LoginError, NewClient, SecretOverlap, Session};

/// A successful login (RFC 6749 section 5.1). The token is already durable.
#[derive(Debug)]
pub struct Login {
    /// The opaque token `kht_...`; told once.
    pub access_token: SecretString,
    /// Its life from now.
    pub expires_in: Duration,
    /// Who logged in.
    pub client: Arc<Client>,
}

/// keyholder's own authorization server. One per process and state: share it as an `Arc`.
pub struct Issuer {}

#[allow(
    unused_variables,
    clippy::unused_async,
    clippy::unimplemented,
    clippy::missing_errors_doc,
    reason = "interface first"
)]
impl Issuer {
    /// Loads all clients and live tokens.
    pub async fn open(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Arc<Self>, StateError> {
        unimplemented!()
    }

    /// Every client, by name.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        unimplemented!()
    }
    /// One client by its id, else by its name.
    pub fn client(&self, name_or_id: &str) -> Option<Arc<Client>> {
        unimplemented!()
    }
    /// Adds a client; answers its record and its secret, which is told only here. `actor` is for the audit log:
    /// `cli:<login name>`, `admin:<who>`.
    pub async fn add_client(&self, new: NewClient, actor: &str) -> Result<(ClientRecord, SecretString), IssuerError> {
        unimplemented!()
    }
    /// Makes a new secret; the old one goes at once or after the overlap.
    pub async fn rotate_secret(
        &self,
        name_or_id: &str,
        overlap: SecretOverlap,
        actor: &str,
    ) -> Result<(ClientRecord, SecretString), IssuerError> {
        unimplemented!()
    }
    /// Enables or disables a client: `true` enables. Takes effect on every existing session at once.
    pub async fn set_enabled(&self, name_or_id: &str, enabled: bool, actor: &str) -> Result<ClientRecord, IssuerError> {
        unimplemented!()
    }
    /// Removes a client, its secrets and its tokens.
    pub async fn remove_client(&self, name_or_id: &str, actor: &str) -> Result<ClientRecord, IssuerError> {
        unimplemented!()
    }

    /// Client credentials login (RFC 6749 section 4.4). The answer is durable before it is returned.
    pub async fn login(&self, client_id: &str, secret: &SecretString) -> Result<Login, LoginError> {
        unimplemented!()
    }

    /// The hot path: the session of a bearer token, from memory alone. `None` means: not known here; ask
    /// [`Issuer::session_or_load`] before refusing.
    pub fn session(&self, token: &[u8]) -> Option<Session> {
        unimplemented!()
    }
    /// As [`Issuer::session`], then one bounded read-through for a token that another process issued a moment ago.
    /// `Ok(None)` is a firm no (401); an error means that nobody knows (503, never 401: an official SDK that gets a
    /// 401 does not log in again).
    pub async fn session_or_load(&self, token: &[u8]) -> Result<Option<Session>, StateError> {
        unimplemented!()
    }

    /// Revokes a token; durable when it returns. `Ok(false)`: there was no such live token.
    pub async fn revoke(&self, token: &[u8]) -> Result<bool, StateError> {
        unimplemented!()
    }
    /// Revokes by digest, for a caller that holds the [`Session`].
    pub async fn revoke_digest(&self, digest: Sha256) -> Result<bool, StateError> {
        unimplemented!()
    }

    /// Picks up what other processes changed. `Ok(true)`: something was reloaded.
    pub async fn refresh(&self) -> Result<bool, StateError> {
        unimplemented!()
    }
    /// Refreshes and sweeps until `cancel`; the one background task of the issuer.
    pub async fn run(&self, cancel: CancellationToken) {
        unimplemented!()
    }
    /// How many live sessions are in memory, for metrics.
    pub fn live_sessions(&self) -> usize {
        unimplemented!()
    }
}
