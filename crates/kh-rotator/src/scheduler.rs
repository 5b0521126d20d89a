//! The schedule: every credential with a policy, its next rotation, and the runs that wait.
//!
//! Invariants: what is due follows from the stores, the platform and the journal, never from memory, so that a restart
//! changes nothing; one credential is worked on by one task; no platform has more work at a time than its limit.

mod age;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kh_core::{
    CredentialName, PlatformName, UnixMillis,
    port::{JournalError, rotation_journal::StoredRun},
    rotation::RunId,
};
use kh_rotation::State;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::age::{AtRest, at_rest, given_up_until};

use crate::{
    begin::{NotBegun, Wanted},
    drive::{Patience, drive, open},
    services::Services,
    session::{Halt, Session, Standing},
    subject::Subject,
};

/// How much is done at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Credentials of one platform that are worked on at the same time. The rotator's requests share the platform's
    /// limit with everybody else.
    pub working_max: usize,
    /// Unfinished runs of one platform beyond which the schedule begins none.
    pub unfinished_max: usize,
    /// How often the journal is looked at for what persons and other processes did.
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { working_max: 4, unfinished_max: 50, poll: Duration::from_secs(5) }
    }
}

/// How often a credential's age is looked at anew: somebody may have written it by hand.
const AGE_FRESH: Duration = Duration::from_hours(1);

/// How often a run that needs a person is looked at although nobody wrote to it: an approval is no record.
const STUCK_POLL: Duration = Duration::from_mins(1);

/// Another process works on it.
const BUSY_POLL: Duration = Duration::from_secs(15);

/// What is known of a credential.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Overview {
    /// Counts its secrets.
    pub generation: Option<u64>,
    /// When its secret was made, where that is known.
    pub created_at: Option<UnixMillis>,
    /// When its next regular rotation begins at the earliest.
    pub due_at: Option<UnixMillis>,
    /// Its unfinished run.
    pub run: Option<RunId>,
    /// The state of its newest run.
    pub state: Option<State>,
    /// When it is looked at next.
    pub next_at: UnixMillis,
    /// Failures in a row.
    pub failures: u32,
    /// What it waits for, or why it failed.
    pub reason: Option<String>,
    /// The command that a person may want to type.
    pub next_command: Option<String>,
}

#[derive(Default)]
struct Entry {
    working: bool,
    /// Records of the unfinished run when it was looked at last; 0 without a run.
    seq: u64,
    told_percent: u64,
    overview: Overview,
}

/// The schedule of all credentials.
pub struct Scheduler {
    services: Arc<Services>,
    subjects: Vec<Arc<Subject>>,
    limits: Limits,
    entries: Mutex<BTreeMap<CredentialName, Entry>>,
    changed: Notify,
    overview: watch::Sender<BTreeMap<CredentialName, Overview>>,
}

/// What a task found, for the entry.
struct Found {
    next_at: UnixMillis,
    reason: Option<String>,
    failed: bool,
    session: Option<Session>,
}

impl Scheduler {
    /// The schedule of `subjects`.
    pub fn new(services: Arc<Services>, subjects: Vec<Arc<Subject>>, limits: Limits) -> Arc<Self> {
        let entries = subjects.iter().map(|subject| (subject.credential.clone(), Entry::default())).collect();
        let overview = watch::Sender::new(BTreeMap::new());
        Arc::new(Self { services, subjects, limits, entries: Mutex::new(entries), changed: Notify::new(), overview })
    }

    /// What is known of every credential, as it changes.
    pub fn overview(&self) -> watch::Receiver<BTreeMap<CredentialName, Overview>> {
        self.overview.subscribe()
    }

    /// Works until `stop`; returns when all its tasks have come to their ends.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        while !stop.is_cancelled() {
            if let Err(error) = self.round(&tasks, &stop).await {
                tracing::warn!("the rotation schedule cannot look at its journal: {error}");
            }
            tokio::select! {
                () = self.services.timer.sleep(self.limits.poll) => {}
                () = self.changed.notified() => {}
                () = stop.cancelled() => {}
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// One look: starts a task for every credential that has something to do and a free place. Answers when the next
    /// one has, as far as is known.
    pub async fn round(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<UnixMillis, JournalError> {
        let unfinished = self.services.journal.unfinished().await?;
        let unfinished: BTreeMap<&CredentialName, &StoredRun> =
            unfinished.iter().map(|run| (&run.credential, run)).collect();
        let now = self.services.now();
        let mut entries = self.entries.lock();
        let mut working: BTreeMap<&PlatformName, usize> = BTreeMap::new();
        let mut begun: BTreeMap<&PlatformName, usize> = BTreeMap::new();
        for subject in &self.subjects {
            let at_work = entries.get(&subject.credential).is_some_and(|entry| entry.working);
            *working.entry(&subject.platform).or_default() += usize::from(at_work);
            *begun.entry(&subject.platform).or_default() += usize::from(unfinished.contains_key(&subject.credential));
        }
        let mut next = now.plus(AGE_FRESH);
        for subject in &self.subjects {
            let Some(entry) = entries.get_mut(&subject.credential) else { continue };
            let run = unfinished.get(&subject.credential);
            let seq = run.map_or(0, |run| run.records.len() as u64);
            let moved = entry.seq != seq;
            if entry.working {
                continue;
            }
            if entry.overview.next_at > now && !moved {
                next = next.min(entry.overview.next_at);
                continue;
            }
            let places = working.entry(&subject.platform).or_default();
            if *places >= self.limits.working_max {
                continue;
            }
            *places += 1;
            entry.working = true;
            // a look that brings no session, such as one at a run that cannot be followed, has seen this much
            entry.seq = seq;
            let room =
                run.is_some() || begun.get(&subject.platform).is_none_or(|many| *many < self.limits.unfinished_max);
            let (this, subject, stop) = (Arc::clone(self), Arc::clone(subject), stop.clone());
            tasks.spawn(async move { this.attend(&subject, room, &stop).await });
        }
        drop(entries);
        self.publish();
        Ok(next)
    }

    /// One task's work on one credential.
    async fn attend(&self, subject: &Arc<Subject>, room: bool, stop: &CancellationToken) {
        // whatever happens, even a panic, the credential does not stay marked as being worked on
        let _free = Free { scheduler: self, credential: &subject.credential };
        let found = self.work(subject, room, stop).await;
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&subject.credential) else { return };
        let overview = &mut entry.overview;
        overview.failures = if found.failed { overview.failures.saturating_add(1) } else { 0 };
        overview.next_at = found.next_at;
        overview.reason = found.reason;
        overview.next_command = None;
        if let Some(session) = found.session {
            let run = session.run();
            overview.state = Some(run.state());
            overview.run = run.end().is_none().then(|| run.began().run);
            overview.next_command = run.need().map(|need| need.next.clone());
            entry.seq = overview.run.map_or(0, |_| run.seq());
        }
    }

    async fn work(&self, subject: &Arc<Subject>, room: bool, stop: &CancellationToken) -> Found {
        let now = self.services.now();
        let wanted = match Session::resume(&self.services, subject).await {
            Ok(Some(session)) => return self.go_on(session, subject, stop).await,
            Ok(None) => match self.due(subject).await {
                Ok(due_at) if due_at > now => return waits(due_at.min(now.plus(AGE_FRESH)), None),
                Ok(_) if !room => {
                    return waits(now.plus(STUCK_POLL), Some("too many rotations of its platform wait".to_owned()));
                }
                Ok(_) => Wanted::scheduled(),
                Err(error) => return self.failed(subject, &error),
            },
            Err(error) => return self.failed(subject, &error.into()),
        };
        match open(&self.services, subject, Some(wanted)).await {
            Ok(Some(session)) => self.go_on(session, subject, stop).await,
            Ok(None) => waits(now.plus(BUSY_POLL), None),
            Err(error) => self.failed(subject, &error),
        }
    }

    async fn go_on(&self, mut session: Session, subject: &Subject, stop: &CancellationToken) -> Found {
        let driven = drive(&mut session, &self.services, Patience::UntilWaiting, stop).await;
        let now = self.services.now();
        let found = match driven {
            Ok(Some(Standing::Waiting { until, why })) => waits(until, Some(why.to_string())),
            Ok(Some(Standing::NeedsOperator(need))) => waits(now.plus(STUCK_POLL), Some(need.why)),
            // its age is looked at anew
            Ok(Some(Standing::Ended(_)) | None) => waits(now, None),
            Err(error) => self.failed(subject, &error.into()),
        };
        Found { session: Some(session), ..found }
    }

    fn failed(&self, subject: &Subject, error: &NotBegun) -> Found {
        let now = self.services.now();
        if let NotBegun::Halt(Halt::Busy(_) | Halt::TakenOver(_)) = error {
            return waits(now.plus(BUSY_POLL), Some(error.to_string()));
        }
        let failures = self.entries.lock().get(&subject.credential).map_or(0, |entry| entry.overview.failures);
        if failures == 0 {
            tracing::error!(credential = %subject.credential, "a rotation cannot go on: {error}");
        }
        let wait = subject.policy.backoff.after(failures.saturating_add(1));
        Found { next_at: now.plus(wait), reason: Some(error.to_string()), failed: true, session: None }
    }

    fn publish(&self) {
        let seen: BTreeMap<_, _> =
            self.entries.lock().iter().map(|(name, entry)| (name.clone(), entry.overview.clone())).collect();
        self.overview.send_if_modified(|known| {
            let changed = *known != seen;
            *known = seen;
            changed
        });
    }

    /// Credentials that are worked on now.
    pub fn working(&self) -> BTreeSet<CredentialName> {
        let entries = self.entries.lock();
        entries.iter().filter(|(_, entry)| entry.working).map(|(name, _)| name.clone()).collect()
    }
}

fn waits(next_at: UnixMillis, reason: Option<String>) -> Found {
    Found { next_at, reason, failed: false, session: None }
}

struct Free<'a> {
    scheduler: &'a Scheduler,
    credential: &'a CredentialName,
}

impl Drop for Free<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.scheduler.entries.lock().get_mut(self.credential) {
            entry.working = false;
        }
        self.scheduler.publish();
        self.scheduler.changed.notify_one();
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("credentials", &self.subjects.len()).finish_non_exhaustive()
    }
}
