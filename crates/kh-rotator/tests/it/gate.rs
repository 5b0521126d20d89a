//! Where a process may die: before and after each call that changes something, and before and after each record.
//!
//! Invariant: boundaries are numbered in the order in which they are reached; at the chosen one the process never goes
//! on, as after SIGKILL.

use std::sync::{Arc, Mutex};

use kh_core::{
    Entropy, SeededEntropy, UnixMillis,
    audit::AuditEvent,
    port::{
        BoxFuture, JournalError, RotationJournal, SightingLog,
        rotation_journal::{Append, Approval, EscrowChange, HeldLease, Hold, NewRun, Sighting, StoredRun},
    },
    rotation::RunId,
};
use tokio::sync::Notify;

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It is answered.
    None,
    /// Nothing happens, and the caller is told so.
    NotDone,
    /// It is done and the answer is lost.
    AnswerLost,
    /// It is not done, and the caller does not know.
    RequestLost,
}

#[derive(Default)]
struct State {
    passed: u64,
    crash_at: Vec<u64>,
    crashed: bool,
    trace: Vec<String>,
    faults: Option<(SeededEntropy, u64)>,
    faults_left: u32,
}

/// Counts boundaries and stops at the chosen ones.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    died: Notify,
    watch: Mutex<Option<Watch>>,
    broken: Mutex<Vec<String>>,
    pauses: Mutex<Option<Pauses>>,
}

/// Says how long a process stands still at a boundary, as a suspended machine does.
type Pauses = Box<dyn Fn(&str) -> Option<BoxFuture<'static, ()>> + Send + Sync>;

/// Looks at the whole world at each boundary; answers what is wrong.
type Watch = Box<dyn Fn() -> Option<String> + Send + Sync>;

impl Gate {
    /// Dies at these boundaries, counted from 1 over all lives.
    pub(crate) fn crash_at(&self, mut at: Vec<u64>) {
        at.sort_unstable();
        self.state.lock().unwrap().crash_at = at;
    }

    /// From now on one call in `one_in` goes wrong, at most `most` of them.
    pub(crate) fn with_faults(&self, seed: u64, one_in: u64, most: u32) {
        let mut state = self.state.lock().unwrap();
        state.faults = Some((SeededEntropy::new(seed), one_in));
        state.faults_left = most;
    }

    /// Watches the world at each boundary.
    pub(crate) fn watch(&self, watch: Watch) {
        *self.watch.lock().unwrap() = Some(watch);
    }

    /// From now on the process stands still where `pauses` says.
    pub(crate) fn pause(&self, pauses: Pauses) {
        *self.pauses.lock().unwrap() = Some(pauses);
    }

    /// What was wrong at some boundary.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.broken.lock().unwrap().clone()
    }

    pub(crate) async fn pass(&self, what: &str) {
        if let Some(wrong) = self.watch.lock().unwrap().as_ref().and_then(|watch| watch()) {
            self.broken.lock().unwrap().push(format!("{what}: {wrong}"));
        }
        let dies = {
            let mut state = self.state.lock().unwrap();
            state.passed += 1;
            let passed = state.passed;
            state.trace.push(what.to_owned());
            if state.crash_at.first() == Some(&passed) {
                state.crash_at.remove(0);
                state.crashed = true;
            }
            state.crashed
        };
        if dies {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        let pause = self.pauses.lock().unwrap().as_ref().and_then(|pauses| pauses(what));
        if let Some(pause) = pause {
            pause.await;
        }
    }

    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    /// The next life begins.
    pub(crate) fn revive(&self) {
        self.state.lock().unwrap().crashed = false;
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.state.lock().unwrap().trace.clone()
    }

    pub(crate) fn fault(&self, what: &str) -> Fault {
        let mut state = self.state.lock().unwrap();
        if state.faults_left == 0 {
            return Fault::None;
        }
        let Some((random, one_in)) = &state.faults else { return Fault::None };
        if random.below(*one_in) != 0 {
            return Fault::None;
        }
        let fault = match random.below(3) {
            0 => Fault::NotDone,
            1 => Fault::AnswerLost,
            _ => Fault::RequestLost,
        };
        state.faults_left -= 1;
        state.trace.push(format!("{what}: {fault:?}"));
        fault
    }
}

/// What happens to the journal between a decision and its record.
#[derive(Default)]
pub(crate) struct Traps {
    /// A hold that somebody places right before a record that holds this text.
    pub(crate) hold_before: Mutex<Option<(String, Hold)>>,
    /// So many times a record with a new secret cannot be written.
    pub(crate) full_disk: Mutex<u32>,
    /// Whether the next lease cannot be given back.
    pub(crate) kept_lease: Mutex<bool>,
}

/// A journal with a boundary before and after each record.
pub(crate) struct GatedJournal {
    pub(crate) inner: Arc<dyn RotationJournal>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) traps: Arc<Traps>,
}

impl GatedJournal {
    async fn spring(&self, append: &Append) -> Result<(), JournalError> {
        let trapped = {
            let mut trap = self.traps.hold_before.lock().unwrap();
            let fits = trap.as_ref().is_some_and(|(text, _)| append.record.contains(text.as_str()));
            if fits { trap.take() } else { None }
        };
        if let Some((_, hold)) = trapped {
            let credential = self.inner.run(append.run).await?.credential;
            let event = AuditEvent::new(&kh_core::SystemEntropy, append.at, &hold.actor, "rotation.hold", "x");
            self.inner.set_hold(&credential, Some(hold.clone()), event).await?;
        }
        let keeps = |change: &EscrowChange| matches!(change, EscrowChange::Keep { name: "new", .. });
        let mut full = self.traps.full_disk.lock().unwrap();
        if *full > 0 && append.escrow.iter().any(keeps) {
            *full -= 1;
            return Err(JournalError::Unavailable("the disk is full".to_owned()));
        }
        Ok(())
    }
}

impl SightingLog for GatedJournal {
    fn sight(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.sight(sighting)
    }
}

impl RotationJournal for GatedJournal {
    fn lease<'a>(
        &'a self,
        name: &'a str,
        owner: &'a str,
        now: UnixMillis,
        life: std::time::Duration,
    ) -> BoxFuture<'a, Result<Option<HeldLease>, JournalError>> {
        self.inner.lease(name, owner, now, life)
    }
    fn release<'a>(&'a self, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), JournalError>> {
        if std::mem::take(&mut *self.traps.kept_lease.lock().unwrap()) {
            return Box::pin(async { Err(JournalError::Unavailable("the disk is full".to_owned())) });
        }
        self.inner.release(lease)
    }
    fn begin(&self, run: NewRun, lease: HeldLease, event: AuditEvent) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            self.gate.pass("begin, before").await;
            let begun = self.inner.begin(run, lease, event).await;
            self.gate.pass("begin, after").await;
            begun
        })
    }
    fn append(&self, append: Append) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            let what = append.event.action.clone();
            self.gate.pass(&format!("{what}, before")).await;
            self.spring(&append).await?;
            let written = self.inner.append(append).await;
            self.gate.pass(&format!("{what}, after")).await;
            written
        })
    }
    fn run(&self, id: RunId) -> BoxFuture<'_, Result<StoredRun, JournalError>> {
        self.inner.run(id)
    }
    fn runs<'a>(
        &'a self,
        credential: Option<&'a kh_core::CredentialName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredRun>, JournalError>> {
        self.inner.runs(credential, limit)
    }
    fn unfinished(&self) -> BoxFuture<'_, Result<Vec<StoredRun>, JournalError>> {
        self.inner.unfinished()
    }
    fn escrow<'a>(&'a self, run: RunId, name: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, JournalError>> {
        self.inner.escrow(run, name)
    }
    fn hold<'a>(
        &'a self,
        credential: &'a kh_core::CredentialName,
    ) -> BoxFuture<'a, Result<Option<Hold>, JournalError>> {
        self.inner.hold(credential)
    }
    fn set_hold<'a>(
        &'a self,
        credential: &'a kh_core::CredentialName,
        hold: Option<Hold>,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.inner.set_hold(credential, hold, event)
    }
    fn approve(&self, run: RunId, approval: Approval, event: AuditEvent) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.approve(run, approval, event)
    }
    fn approvals(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Approval>, JournalError>> {
        self.inner.approvals(run)
    }
    fn sightings<'a>(
        &'a self,
        credential: &'a kh_core::CredentialName,
    ) -> BoxFuture<'a, Result<Vec<Sighting>, JournalError>> {
        self.inner.sightings(credential)
    }
}
