//! Binding clients to environments: a client that has none yet gets its credential's, and a person may confirm that
//! the environment of a client's credential was renamed.
//!
//! Invariant: a client that is bound changes its environment only by a person's order, to the one that its own
//! credential has in the configuration.

use kh_core::{
    CredentialName, EnvironmentName,
    environment::EnvironmentRefused,
    port::{ClientRecord, StateError},
};

use crate::{Issuer, IssuerError};

/// What the issuer needs to know of the configuration: the environment of a credential.
pub type EnvironmentOf<'a> = &'a (dyn Fn(&CredentialName) -> Option<EnvironmentName> + Send + Sync);

impl Issuer {
    /// Binds every client that has no environment to the one that its credential has now; answers how many. To be
    /// called before a configuration takes effect. Each one is audited.
    pub async fn bind_environments(&self, of: EnvironmentOf<'_>, actor: &str) -> Result<usize, StateError> {
        let mut bound = 0;
        for client in self.clients() {
            let record = &client.record;
            let Some(environment) = unbound(record).and_then(of) else { continue };
            let changed = self
                .change(record.id.as_str(), |before| {
                    let mut after = before.clone();
                    // another process may have been faster, with a newer configuration
                    after.environment.get_or_insert_with(|| environment.clone());
                    after.updated_at = self.now().wall;
                    let event = self.event(actor, "client.bind_environment", before);
                    let told = after.environment.as_ref().map_or("", EnvironmentName::as_str);
                    let event = event.with("environment", &told);
                    (after, event)
                })
                .await;
            match changed {
                Ok(after) => {
                    bound += 1;
                    tracing::info!(
                        client.name = %after.name,
                        environment = after.environment.as_ref().map_or("", EnvironmentName::as_str),
                        "bound a client to the environment of its credential"
                    );
                }
                // removed meanwhile
                Err(IssuerError::NoSuchClient(_)) => {}
                Err(IssuerError::State(error)) => return Err(error),
                Err(error) => return Err(StateError::Damaged(error.to_string())),
            }
        }
        Ok(bound)
    }

    /// A person says that the environment of this client's credential is `asked`, and that the client belongs to it.
    /// Refused unless the credential has exactly that environment now.
    pub async fn set_environment(
        &self,
        name_or_id: &str,
        asked: &EnvironmentName,
        of: EnvironmentOf<'_>,
        actor: &str,
    ) -> Result<ClientRecord, IssuerError> {
        let record = self.known(name_or_id).await?.record.clone();
        let own = record.credential.as_ref().and_then(of);
        if own.as_ref() != Some(asked) {
            return Err(EnvironmentRefused::Other { asked: asked.clone(), own }.into());
        }
        self.change(name_or_id, |before| {
            let mut after = before.clone();
            after.environment = Some(asked.clone());
            after.updated_at = self.now().wall;
            let earlier = before.environment.as_ref().map_or("", EnvironmentName::as_str);
            let event = self.event(actor, "client.set_environment", before);
            (after, event.with("environment", asked).with("environment_before", &earlier))
        })
        .await
    }
}

/// The credential of a client that is not bound.
fn unbound(record: &ClientRecord) -> Option<&CredentialName> {
    record.credential.as_ref().filter(|_| record.environment.is_none())
}
