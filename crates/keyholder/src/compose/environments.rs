//! Which environment a configured credential belongs to, and the clients that follow it.
//!
//! Invariant: a configuration takes effect only after every client that has no environment was bound to the one of its
//! credential.

use kh_core::{
    CredentialName, EnvironmentName,
    environment::{self, EnvironmentRefused},
    port::{ClientRecord, StateError},
};
use kh_issuer::Issuer;

use crate::config::Config;

/// The environment of a configured credential.
pub(crate) fn environment_of(config: &Config, name: &CredentialName) -> Option<EnvironmentName> {
    config.credentials.get(name)?.environment.clone()
}

/// Binds what is unbound. To be called before `config` is served, at the start and at every reload. A client that
/// belongs to another environment than its credential does now is told in the log; its logins and calls are refused.
pub(crate) async fn bind_environments(config: &Config, issuer: &Issuer, actor: &str) -> Result<(), StateError> {
    issuer.bind_environments(&|name| environment_of(config, name), actor).await?;
    for client in issuer.clients() {
        if let Err(refused) = client_fits(config, &client.record) {
            tracing::warn!(client.name = %client.record.name, "a client is refused until this is set right: {refused}");
        }
    }
    Ok(())
}

/// Whether a client may use its credential as it is configured now.
pub(crate) fn client_fits(config: &Config, client: &ClientRecord) -> Result<(), EnvironmentRefused> {
    let Some(name) = &client.credential else { return Ok(()) };
    // a credential that is not configured any more is told elsewhere
    let Some(credential) = config.credentials.get(name) else { return Ok(()) };
    environment::check_fit(client.environment.as_ref(), name, credential.environment.as_ref())
}
