//! All credentials of one keyholder and their ports; replaced as a whole while callers go on.
//!
//! Invariants: every task is on the tracker and ends when the broker is shut down or dropped; a look-up sees either
//! all of one configuration or all of the next.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use kh_core::{Clock, CredentialName, Entropy, port::SecretSource};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Credential, CredentialSpec, CredentialStatus, LoginObserver, watch::watch_store};

pub(crate) struct Ports {
    pub(crate) source: Arc<dyn SecretSource>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) runtime: Handle,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    pub(crate) observer: Option<Arc<dyn LoginObserver>>,
}

/// The credentials of one configuration.
pub(crate) type Credentials = BTreeMap<CredentialName, Arc<Credential>>;

/// The credentials as they are now.
pub(crate) struct Roster {
    pub(crate) now: ArcSwap<Credentials>,
    /// Told after every change.
    pub(crate) changed: Notify,
}

/// What [`Broker::apply`] did, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Applied {
    /// New ones.
    pub added: Vec<CredentialName>,
    /// Those that started anew, because something about them is different.
    pub changed: Vec<CredentialName>,
    /// Those that are gone.
    pub removed: Vec<CredentialName>,
    /// Those that kept their token, their waiters and their counters.
    pub kept: Vec<CredentialName>,
}

/// Hands out tokens, one per credential at a time.
pub struct Broker {
    roster: Arc<Roster>,
    /// Held while credentials are replaced, so that two configurations are never mixed.
    applying: Mutex<()>,
    ports: Arc<Ports>,
}

impl Broker {
    /// Starts the broker. Nothing is fetched before somebody asks; its tasks run on `runtime`, which must have timers.
    pub fn new(
        specs: Vec<CredentialSpec>,
        source: Arc<dyn SecretSource>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        runtime: Handle,
    ) -> Arc<Self> {
        Self::start(specs, source, (clock, entropy), runtime, None)
    }

    /// The same, and `observer` hears of every login that the platform answers.
    pub fn observed(
        specs: Vec<CredentialSpec>,
        source: Arc<dyn SecretSource>,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        runtime: Handle,
        observer: Arc<dyn LoginObserver>,
    ) -> Arc<Self> {
        Self::start(specs, source, (clock, entropy), runtime, Some(observer))
    }

    fn start(
        specs: Vec<CredentialSpec>,
        source: Arc<dyn SecretSource>,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        runtime: Handle,
        observer: Option<Arc<dyn LoginObserver>>,
    ) -> Arc<Self> {
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let ports = Arc::new(Ports { source, clock, entropy, runtime, tasks, cancel, observer });
        let roster = Arc::new(Roster { now: ArcSwap::default(), changed: Notify::new() });
        let watch = watch_store(Arc::clone(&roster), Arc::clone(&ports));
        drop(ports.tasks.spawn_on(watch, &ports.runtime));
        let broker = Self { roster, applying: Mutex::new(()), ports };
        broker.apply(specs);
        Arc::new(broker)
    }

    /// Replaces the credentials by those of `specs` in one step.
    ///
    /// A credential of the same name and digest stays as it is, with its token, waiters and counters. One that is
    /// different starts anew; whoever holds the old one finishes with the configuration that it began with, fetch and
    /// all. One that is gone hands out nothing any more: its waiters get [`crate::TokenError::Removed`], a fetch in
    /// flight is dropped, and leases that are held stay usable.
    pub fn apply(&self, specs: Vec<CredentialSpec>) -> Applied {
        let mut applied = Applied::default();
        let serial = self.applying.lock();
        let before = self.roster.now.load_full();
        let mut after = Credentials::new();
        for spec in specs {
            let name = spec.name.clone();
            let (fate, credential) = match before.get(&name) {
                Some(old) if old.spec().digest == spec.digest => (&mut applied.kept, Arc::clone(old)),
                Some(_) => (&mut applied.changed, Credential::new(spec, Arc::clone(&self.ports))),
                None => (&mut applied.added, Credential::new(spec, Arc::clone(&self.ports))),
            };
            fate.push(name.clone());
            after.insert(name, credential);
        }
        let gone: Vec<_> = before.iter().filter(|(name, _)| !after.contains_key(*name)).collect();
        applied.removed = gone.iter().map(|(name, _)| (*name).clone()).collect();
        self.roster.now.store(Arc::new(after));
        drop(serial);
        for (_, credential) in gone {
            credential.remove();
        }
        self.roster.changed.notify_one();
        applied
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// The credential of this name.
    pub fn credential(&self, name: &CredentialName) -> Option<Arc<Credential>> {
        self.roster.now.load().get(name).cloned()
    }

    /// All credentials, by name.
    pub fn credentials(&self) -> impl Iterator<Item = Arc<Credential>> + use<> {
        let all: Vec<_> = self.roster.now.load().values().cloned().collect();
        all.into_iter()
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
        f.debug_struct("Broker").field("credentials", &self.roster.now.load().keys()).finish_non_exhaustive()
    }
}
