//! What goes on in the background: keys are renewed, other processes' revocations read, old ones forgotten.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{At, Shared, Verifier};
use crate::ring::Ring;

/// Longest sleep before the clock is looked at again, so that a machine that slept wakes up soon.
const NAP_MAX: Duration = Duration::from_secs(30);

/// Shortest one, so that a source that is always due takes no processor.
const NAP_MIN: Duration = Duration::from_millis(100);

impl Verifier {
    /// Works until `cancel`, or until the verifier is dropped.
    pub async fn run(&self, cancel: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let ended = shared.tasks.cancel.clone();
        let mut work = tokio::task::JoinSet::new();
        for issuer in &shared.issuers {
            if let At::Keys(ring, _) = &issuer.trust {
                work.spawn(renew(Arc::clone(&shared), Arc::clone(ring)));
            }
        }
        let clock = Arc::clone(&shared.clock);
        let revocations = Arc::clone(&shared.revocations);
        work.spawn(async move { revocations.watch(clock).await });
        tokio::select! {
            () = cancel.cancelled() => {}
            () = ended.cancelled() => {}
            // none of them ends by itself; one that panicked is told and the rest go on
            () = async { while let Some(ended) = work.join_next().await {
                if let Err(error) = ended {
                    tracing::error!("a background task of the verifier has ended: {error}");
                }
            } } => {}
        }
        work.shutdown().await;
    }

    /// Renews every key set that is due, once, and waits for it: for a start that wants its keys first.
    pub async fn renew_keys(&self) {
        for issuer in &self.shared.issuers {
            if let At::Keys(ring, _) = &issuer.trust
                && ring.due_in(self.shared.clock.now()).is_zero()
            {
                ring.renew(&self.shared.tasks).await;
            }
        }
    }
}

/// Keeps one key set fresh.
async fn renew(shared: Arc<Shared>, ring: Arc<Ring>) {
    loop {
        let due = ring.due_in(shared.clock.now());
        if due.is_zero() {
            ring.renew(&shared.tasks).await;
            sleep_until(Instant::now() + NAP_MIN).await;
            continue;
        }
        sleep_until(Instant::now() + due.min(NAP_MAX)).await;
    }
}
