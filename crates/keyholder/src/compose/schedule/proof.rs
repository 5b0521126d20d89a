//! Sees to it that a rotation of a credential which nobody uses can end: once its new secret is live, the broker logs in
//! with it of its own accord, so that the gateway is seen with it; likewise with the old one once that is live again. And
//! that no token outlives a secret which was taken away in an emergency, whichever process did that: the broker drops
//! what it holds.
//!
//! Invariants: one login for each new version, by the broker's own single flight and with its pauses, and only while a
//! rotation of that credential waits with both secrets or was urgent; a token is dropped once for one run.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kh_broker::Broker;
use kh_core::{UnixMillis, port::RotationJournal, rotation::RunId};
use kh_rotation::{Level, Run, State};
use kh_rotator::{Services, begin::readable};
use tokio_util::sync::CancellationToken;

/// How often the journal is asked for rotations that wait: one read of rows that are not many.
const POLL: Duration = Duration::from_secs(5);

/// How many of the newest runs are looked at for urgent ones: more do not begin between two looks.
const RECENT: usize = 32;

/// The task.
pub(super) struct Proof {
    journal: Arc<dyn RotationJournal>,
    broker: Arc<Broker>,
    /// Tokens of this process are younger.
    since: UnixMillis,
    /// Runs that need no more looks.
    settled: BTreeSet<RunId>,
}

impl Proof {
    pub(super) fn new(services: &Services, broker: Arc<Broker>) -> Self {
        Self { journal: Arc::clone(&services.journal), broker, since: services.now(), settled: BTreeSet::new() }
    }

    /// Works until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.round().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    async fn round(&mut self) {
        let (unfinished, recent) = match (self.journal.unfinished().await, self.journal.runs(None, RECENT).await) {
            (Ok(unfinished), Ok(recent)) => (unfinished, recent),
            // the schedule tells of a journal that does not answer
            (Err(error), _) | (_, Err(error)) => {
                return tracing::debug!("rotations that wait for a login cannot be read: {error}");
            }
        };
        // after a rollback it is the old secret that somebody must be seen with again
        let waits = |state| matches!(state, State::Overlap | State::RollbackIntent);
        for run in unfinished.iter().filter(|run| readable(run).is_some_and(|run| waits(run.state()))) {
            if let Some(credential) = self.broker.credential(&run.credential) {
                credential.use_newest();
            }
        }
        let known: BTreeSet<RunId> = recent.iter().map(|stored| stored.id).collect();
        self.settled.retain(|id| known.contains(id));
        for stored in recent.iter().filter(|stored| stored.ended_at.is_none_or(|at| at >= self.since)) {
            if !self.settled.contains(&stored.id) && readable(stored).is_none_or(|run| self.is_settled(&run)) {
                self.settled.insert(stored.id);
            }
        }
    }

    /// Takes the token of a secret that leaked out of use; whether there is nothing left to do for this run.
    fn is_settled(&self, run: &Run) -> bool {
        let began = run.began();
        let Some(credential) = self.broker.credential(&began.credential).filter(|_| began.level.emergency()) else {
            return true;
        };
        if run.pruned_at().or(run.stopped_at()).is_none() {
            return run.end().is_some();
        }
        if began.level == Level::Kill {
            credential.drop_token();
            return true;
        }
        // until the new secret is live the old token serves: nobody but the broker ever had it
        run.promoted_at().is_some() && credential.use_newest() || run.end().is_some()
    }
}
