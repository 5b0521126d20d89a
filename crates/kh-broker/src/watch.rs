//! The one task that watches the secret stores for new versions of the credentials' documents.
//!
//! Invariants: it asks for exactly the documents that the broker's credentials name now; each store has one question at a
//! time, and one that does not answer delays the news of its own documents alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use kh_core::SecretReference;
use tokio::task::{Id, JoinSet};

use crate::{
    Credential,
    broker::{Credentials, Ports, Roster},
};

/// The secret store is asked for versions at most this often, whatever is configured.
const STORE_POLL_MIN: Duration = Duration::from_millis(250);

/// Asks the stores for the newest version of every document, for as long as the broker lives: at once for new
/// credentials, then as often as the most eager one wants. The interval runs on tokio's timer.
pub(crate) async fn watch_store(roster: Arc<Roster>, ports: Arc<Ports>) {
    let mut queues = Queues::default();
    loop {
        let pause = poll(&roster.now.load());
        let mut timer = pin!(wait(pause));
        loop {
            tokio::select! {
                biased;
                () = ports.cancel.cancelled() => return,
                () = roster.changed.notified() => {
                    // what is under way is about credentials that may be gone
                    queues = Queues::default();
                    break;
                }
                () = queues.ended() => {}
                () = timer.as_mut() => break,
            }
        }
        queues.begin(&roster.now.load_full(), &ports);
    }
}

/// For each store that is being asked a task of its own, which ends with this. As many as there are stores.
#[derive(Default)]
struct Queues {
    tasks: JoinSet<()>,
    stores: BTreeMap<Id, String>,
}

impl Queues {
    /// Begins a round: asks every store that has answered, or has failed to, all of the last one.
    fn begin(&mut self, credentials: &Arc<Credentials>, ports: &Arc<Ports>) {
        let mut by_store: BTreeMap<&str, BTreeSet<&SecretReference>> = BTreeMap::new();
        for credential in credentials.values() {
            let reference = &credential.spec().secret;
            by_store.entry(reference.store_name()).or_default().insert(reference);
        }
        for (store, references) in by_store {
            if self.stores.values().any(|asked| asked == store) {
                continue;
            }
            let references = references.into_iter().cloned().collect();
            let questions = ask_all(references, Arc::clone(credentials), Arc::clone(ports));
            let task = self.tasks.spawn_on(ports.tasks.track_future(questions), &ports.runtime);
            self.stores.insert(task.id(), store.to_owned());
        }
    }

    /// Waits until a store has been asked everything; for ever if none is being asked.
    async fn ended(&mut self) {
        let task = match self.tasks.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((task, ()))) => task,
            Some(Err(error)) => error.id(),
        };
        self.stores.remove(&task);
    }
}

async fn ask_all(references: Vec<SecretReference>, credentials: Arc<Credentials>, ports: Arc<Ports>) {
    for reference in &references {
        ask(reference, &credentials, &ports).await;
    }
}

/// How long until the next round; none without credentials.
fn poll(credentials: &Credentials) -> Option<Duration> {
    let most_eager = credentials.values().map(|credential| credential.spec().policy.store_poll).min();
    most_eager.map(|poll| poll.max(STORE_POLL_MIN))
}

async fn wait(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

async fn ask(reference: &SecretReference, credentials: &Credentials, ports: &Ports) {
    let patience = poll(credentials).unwrap_or(STORE_POLL_MIN);
    match tokio::time::timeout(patience, ports.source.version(reference)).await {
        Ok(Ok(version)) => {
            let concerned = |credential: &&Arc<Credential>| credential.spec().secret == *reference;
            for credential in credentials.values().filter(concerned) {
                credential.on_version(version);
            }
        }
        // A fetch that needs the store says so; that a poll failed is only worth a trace of it.
        Ok(Err(error)) if error.is_missing() => {}
        Ok(Err(error)) => {
            tracing::debug!(secret.name = %reference, "the secret store did not tell a version: {error}");
        }
        Err(_elapsed) => tracing::debug!(secret.name = %reference, "the secret store did not answer in time"),
    }
}
