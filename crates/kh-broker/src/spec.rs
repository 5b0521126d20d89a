//! What the broker is told about a credential.
//!
//! Invariant: two specs of one digest are interchangeable, so that whoever holds a token of the one may keep it under
//! the other.

use std::sync::Arc;

use kh_core::{
    CredentialName, EnvironmentName, PlatformKind, PlatformName, SecretReference, Sha256, port::TokenEndpoint,
};
use kh_net::Egress;
use kh_token::TokenPolicy;

use crate::SessionPolicy;

/// One credential as configured.
#[derive(Clone)]
pub struct CredentialSpec {
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
    /// Where it logs in.
    pub endpoint: Arc<dyn TokenEndpoint>,
    /// The way out to its platform, for its logins and for its calls.
    pub egress: Arc<Egress>,
    /// Where API calls go unless the platform tells another place with the token.
    pub api_base: String,
    /// Where account operations go, likewise.
    pub auth_base: Option<String>,
    /// How its token is kept.
    pub policy: TokenPolicy,
    /// Set where users log in with it, each with a session of their own: it has no token that all share.
    pub sessions: Option<SessionPolicy>,
    /// Names everything above and whatever the endpoint was made from: [`crate::Broker::apply`] keeps a credential
    /// whose digest stays the same.
    pub digest: Sha256,
}
