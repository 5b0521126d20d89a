//! Sees to it that a rotation of a credential which nobody uses can end: once its new secret is live, the broker logs in
//! with it of its own accord, so that the gateway is seen with it; likewise with the old one once that is live again.
//!
//! Invariant: one login for each new version, by the broker's own single flight and with its pauses, and only while a
//! rotation of that credential waits with both secrets.

use std::{sync::Arc, time::Duration};

use kh_broker::Broker;
use kh_core::port::RotationJournal;
use kh_rotation::State;
use kh_rotator::begin::readable;
use tokio_util::sync::CancellationToken;

/// How often the journal is asked for rotations that wait: one read of rows that are not many.
const POLL: Duration = Duration::from_secs(5);

/// The task.
pub(super) struct Proof {
    journal: Arc<dyn RotationJournal>,
    broker: Arc<Broker>,
}

impl Proof {
    pub(super) fn new(journal: Arc<dyn RotationJournal>, broker: Arc<Broker>) -> Self {
        Self { journal, broker }
    }

    /// Works until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            self.round().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    async fn round(&self) {
        let unfinished = match self.journal.unfinished().await {
            Ok(unfinished) => unfinished,
            // the schedule tells of a journal that does not answer
            Err(error) => return tracing::debug!("rotations that wait for a login cannot be read: {error}"),
        };
        // after a rollback it is the old secret that somebody must be seen with again
        let waits = |state| matches!(state, State::Overlap | State::RollbackIntent);
        for run in unfinished.iter().filter(|run| readable(run).is_some_and(|run| waits(run.state()))) {
            if let Some(credential) = self.broker.credential(&run.credential) {
                credential.use_newest();
            }
        }
    }
}
