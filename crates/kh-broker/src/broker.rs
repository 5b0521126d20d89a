//! All credentials of one keyholder, their ports, and the one task that watches the secret store.
//!
//! Invariant: every task is on the tracker and ends when the broker is shut down or dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kh_core::{
    Clock, CredentialName, Entropy, PlatformKind, PlatformName, SecretName,
    port::{SecretStore, StoreError, TokenEndpoint},
};
use kh_token::TokenPolicy;
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Credential, CredentialStatus};

/// The secret store is asked for versions at most this often, whatever is configured.
const STORE_POLL_MIN: Duration = Duration::from_millis(250);

/// One credential as configured.
#[derive(Clone)]
pub struct CredentialSpec {
    /// Its name.
    pub name: CredentialName,
    /// Its platform.
    pub platform: PlatformName,
    /// The kind of its platform.
    pub kind: PlatformKind,
    /// The document's name in the secret store.
    pub secret: SecretName,
    /// Where it logs in.
    pub endpoint: Arc<dyn TokenEndpoint>,
    /// Where API calls go unless the platform tells another place with the token.
    pub api_base: String,
    /// Where account operations go, likewise.
    pub auth_base: Option<String>,
    /// How its token is kept.
    pub policy: TokenPolicy,
}

pub(crate) struct Ports {
    pub(crate) store: Arc<dyn SecretStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) runtime: Handle,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
}

/// Hands out tokens, one per credential at a time.
pub struct Broker {
    credentials: BTreeMap<CredentialName, Arc<Credential>>,
    ports: Arc<Ports>,
}

impl Broker {
    /// Starts the broker. Nothing is fetched before somebody asks; its tasks run on `runtime`, which must have timers.
    pub fn new(
        specs: Vec<CredentialSpec>,
        store: Arc<dyn SecretStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        runtime: Handle,
    ) -> Arc<Self> {
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let ports = Arc::new(Ports { store, clock, entropy, runtime, tasks, cancel });
        let poll = specs.iter().map(|spec| spec.policy.store_poll).min();
        let credentials = specs
            .into_iter()
            .map(|spec| (spec.name.clone(), Credential::new(spec, Arc::clone(&ports))))
            .collect::<BTreeMap<_, _>>();
        if let Some(poll) = poll {
            let watch = watch_store(credentials.values().cloned().collect(), Arc::clone(&ports), poll);
            drop(ports.tasks.spawn_on(watch, &ports.runtime));
        }
        Arc::new(Self { credentials, ports })
    }

    /// The credential of this name.
    pub fn credential(&self, name: &CredentialName) -> Option<Arc<Credential>> {
        self.credentials.get(name).cloned()
    }

    /// All credentials, by name.
    pub fn credentials(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.credentials.values()
    }

    /// What is known about each credential, by name.
    pub fn status(&self) -> Vec<CredentialStatus> {
        self.credentials().map(|credential| credential.status()).collect()
    }

    /// Ends all tasks and wakes all waiters with [`crate::TokenError::Closed`]. Tokens that are held can still be used
    /// by requests that are being drained.
    pub async fn shutdown(&self) {
        self.ports.cancel.cancel();
        self.ports.tasks.close();
        self.ports.tasks.wait().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.ports.cancel.cancel();
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("credentials", &self.credentials.keys()).finish_non_exhaustive()
    }
}

/// Asks the store for the newest version of every document, for as long as the broker lives. The interval runs on
/// tokio's timer; a store that does not answer delays only the next round.
async fn watch_store(credentials: Vec<Arc<Credential>>, ports: Arc<Ports>, poll: Duration) {
    let names: BTreeSet<SecretName> = credentials.iter().map(|credential| credential.spec().secret.clone()).collect();
    loop {
        tokio::select! {
            biased;
            () = ports.cancel.cancelled() => return,
            () = tokio::time::sleep(poll.max(STORE_POLL_MIN)) => {}
        }
        for name in &names {
            let version = tokio::select! {
                biased;
                () = ports.cancel.cancelled() => return,
                version = tokio::time::timeout(poll.max(STORE_POLL_MIN), ports.store.newest_version(name)) => version,
            };
            match version {
                Ok(Ok(version)) => {
                    for credential in credentials.iter().filter(|credential| credential.spec().secret == *name) {
                        credential.on_version(version);
                    }
                }
                // A fetch that needs the store says so; that a poll failed is only worth a trace of it.
                Ok(Err(StoreError::NotFound(_))) => {}
                Ok(Err(error)) => {
                    tracing::debug!(secret.name = %name, "the secret store did not tell a version: {error}");
                }
                Err(_elapsed) => tracing::debug!(secret.name = %name, "the secret store did not answer in time"),
            }
        }
    }
}
