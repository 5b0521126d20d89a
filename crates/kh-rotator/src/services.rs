//! What every driver shares: the journal, clocks, the escrow's key, the way to people.
//!
//! Invariant: a driver waits, draws randomness and reads time through this alone.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Clock, Entropy, Fingerprinter, UnixMillis,
    port::{BoxFuture, Notifier, RotationJournal},
    rotation::RunId,
};

use crate::escrow::EscrowKey;

/// Waits.
pub trait Timer: Send + Sync {
    /// Returns after `span`.
    fn sleep(&self, span: Duration) -> BoxFuture<'_, ()>;
}

/// The runtime's timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTimer;

impl Timer for TokioTimer {
    fn sleep(&self, span: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

/// What every driver shares.
pub struct Services {
    /// The rotation journal.
    pub journal: Arc<dyn RotationJournal>,
    /// Tells people.
    pub notifier: Arc<dyn Notifier>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Waiting.
    pub timer: Arc<dyn Timer>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Seals what is kept in escrow.
    pub escrow: EscrowKey,
    /// Names secrets.
    pub fingerprinter: Arc<Fingerprinter>,
    /// Names this process and boot in leases; another process, or the same one after a restart, has another.
    pub owner: String,
}

impl Services {
    /// Wall time.
    pub fn now(&self) -> UnixMillis {
        self.clock.now().wall
    }

    /// A new run's id: version 7 of RFC 9562, so that ids sort by time.
    pub fn new_run(&self) -> RunId {
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        RunId(uuid::Builder::from_unix_timestamp_millis(self.now().0, &random).into_uuid())
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("owner", &self.owner).finish_non_exhaustive()
    }
}
