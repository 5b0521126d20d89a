//! The one task that watches the secret store for new versions of the credentials' documents.
//!
//! Invariant: it asks for exactly the documents that the broker's credentials name now; a store that does not answer
//! delays only the next round.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kh_core::SecretReference;

use crate::{
    Credential,
    broker::{Credentials, Ports, Roster},
};

/// The secret store is asked for versions at most this often, whatever is configured.
const STORE_POLL_MIN: Duration = Duration::from_millis(250);

/// Asks the store for the newest version of every document, for as long as the broker lives: at once for new
/// credentials, then as often as the most eager one wants. The interval runs on tokio's timer.
pub(crate) async fn watch_store(roster: Arc<Roster>, ports: Arc<Ports>) {
    loop {
        let pause = poll(&roster.now.load());
        tokio::select! {
            biased;
            () = ports.cancel.cancelled() => return,
            () = roster.changed.notified() => {}
            () = wait(pause) => {}
        }
        let credentials = roster.now.load_full();
        let references: BTreeSet<SecretReference> = credentials.values().map(|of| of.spec().secret.clone()).collect();
        for reference in &references {
            tokio::select! {
                biased;
                () = ports.cancel.cancelled() => return,
                () = ask(reference, &credentials, &ports) => {}
            }
        }
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
