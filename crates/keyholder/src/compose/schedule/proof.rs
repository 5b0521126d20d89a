//! Sees to it that a rotation of a credential which nobody uses can end: once its new secret is live, the broker logs in
//! with it of its own accord, so that the gateway is seen with it; likewise with the old one once that is live again. And
//! that no token outlives a secret which was taken away in an emergency, whichever process did that: the broker drops
//! what it holds.
//!
//! Invariants: one login for each new version, by the broker's own single flight and with its pauses, and only while a
//! rotation of that credential waits with both secrets or was urgent; a token is dropped once for one run.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kh_broker::Broker;
use kh_core::{
    UnixMillis,
    port::{RotationJournal, rotation_journal::StoredRun},
    rotation::RunId,
};
use kh_rotation::{Level, Run, State};
use kh_rotator::{Services, begin::readable};
use tokio_util::sync::CancellationToken;

/// How often the journal is asked for rotations that wait: one read of rows that are not many.
const POLL: Duration = Duration::from_secs(5);

/// How many of the newest runs are looked at for urgent ones that have ended: more do not begin between two looks.
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
        // one that began long ago may be made urgent as well
        let ended = recent.into_iter().filter(|stored| stored.ended_at.is_some_and(|at| at >= self.since));
        let looked_at: Vec<StoredRun> = unfinished.into_iter().chain(ended).collect();
        let known: BTreeSet<RunId> = looked_at.iter().map(|stored| stored.id).collect();
        self.settled.retain(|id| known.contains(id));
        for stored in &looked_at {
            if !self.settled.contains(&stored.id) && readable(stored).is_none_or(|run| self.is_settled(&run)) {
                self.settled.insert(stored.id);
            }
        }
    }

    /// Takes the token of a secret that leaked out of use; whether there is nothing left to do for this run.
    fn is_settled(&self, run: &Run) -> bool {
        let Some(credential) = self.broker.credential(&run.began().credential) else { return true };
        match asked(run) {
            Asked::Nothing => true,
            Asked::NothingYet => false,
            Asked::Drop => {
                credential.drop_token();
                true
            }
            Asked::UseNewest => credential.use_newest() || run.end().is_some(),
        }
    }
}

/// What a run asks of whoever holds a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// Nothing, and never will.
    Nothing,
    /// Nothing so far.
    NothingYet,
    /// To drop it.
    Drop,
    /// To log in with the new secret.
    UseNewest,
}

/// A run may be made urgent until it ends.
fn asked(run: &Run) -> Asked {
    let level = run.began().level;
    if level.emergency() && run.pruned_at().or(run.stopped_at()).is_some() {
        if level == Level::Kill {
            return Asked::Drop;
        }
        // until the new secret is live the old token serves: nobody but the broker ever had it
        if run.promoted_at().is_some() {
            return Asked::UseNewest;
        }
    }
    if run.end().is_some() { Asked::Nothing } else { Asked::NothingYet }
}

#[cfg(test)]
mod tests;
