//! One process at work on one run: it holds the lease, asks the core, and does exactly what the core says.
//!
//! Invariants: nothing is sent before its intent is durable under the newest fence, and only while the lease lasts longer
//! than the call can. A secret that the platform told is sealed into the journal together with the record of it, and
//! that is tried until it works or another owner has the run. The first refusal by the fence ends the session.

mod append;
mod calls;
mod documents;
mod looks;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kh_core::{
    Code, CredentialName, UnixMillis,
    credential::CredentialDocument,
    port::{
        JournalError,
        rotation_journal::{HeldLease, LEASE_MAX},
    },
    rotation::RunId,
};
use kh_rotation::{Decision, End, Impossible, Need, Policy, Record, Run, View, Why, decide, settle};
use tokio::sync::watch;

use crate::{
    calendar::Times,
    escrow::EscrowBroken,
    services::Services,
    subject::Subject,
    timeline::{Outlook, Timeline},
};

/// Clocks of two machines, and of one machine before and after it was set, differ by less than this.
pub const SKEW: Duration = Duration::from_secs(5);

/// Decisions between two waits: a run has some dozens of steps, so that a core which goes in circles is stopped.
const STEPS_MAX: u32 = 10_000;

/// Where a session stands after it did all it could.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing can be done before `until`.
    Waiting {
        /// When to go on.
        until: UnixMillis,
        /// What is waited for.
        why: Why,
    },
    /// A person must decide.
    NeedsOperator(Need),
    /// The run is over.
    Ended(End),
}

/// Why a session ended without that.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// Somebody else has the lease.
    #[error("another rotator has the lease of {0}")]
    Busy(CredentialName),
    /// Somebody else took over meanwhile, or wrote the run's next record.
    #[error("another rotator has taken {0} over")]
    TakenOver(CredentialName),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The run's records do not fit together, or were written by a newer keyholder.
    #[error("the journal of the run {run} cannot be followed: {why}")]
    Unreadable {
        /// The run.
        run: RunId,
        /// Why.
        why: String,
    },
    /// The escrow.
    #[error(transparent)]
    Escrow(#[from] EscrowBroken),
    /// The run needs something of its escrow that is not there.
    #[error("the run {run} has no {name} secret in escrow")]
    NoEscrow {
        /// The run.
        run: RunId,
        /// The name in the escrow.
        name: &'static str,
    },
    /// The run's strategy or stores are not those of the configuration.
    #[error("{credential} is not configured as its run {run} was planned: {why}")]
    Reconfigured {
        /// The credential.
        credential: CredentialName,
        /// The run.
        run: RunId,
        /// What differs.
        why: String,
    },
    /// A store did not answer in time.
    #[error("the store {0} did not answer in time")]
    TimedOut(String),
    /// The core did not come to a wait or an end.
    #[error("the run {0} goes in circles")]
    Circles(RunId),
}

impl Halt {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Busy(_) | Self::TakenOver(_) => Code::ROTATION_FENCED,
            Self::Journal(error) => error.code(),
            Self::Unreadable { .. } | Self::NoEscrow { .. } | Self::Escrow(_) | Self::Circles(_) => {
                Code::ROTATION_NEEDS_OPERATOR
            }
            Self::TimedOut(_) => Code::STORE_UNAVAILABLE,
            Self::Reconfigured { .. } => Code::ROTATION_UNSUPPORTED,
        }
    }
}

/// The lease of one credential's rotation.
pub fn lease_name(credential: &CredentialName) -> String {
    format!("rotation/{credential}")
}

/// Longest that one call may take under `policy`. Twice this is the life of a lease, so that the calls of an owner that
/// died are over when the next one begins.
pub fn call_timeout(policy: &Policy) -> Duration {
    policy.call_bound.min(LEASE_MAX) / 2
}

/// How long a lease lives under `policy`: [`LEASE_MAX`] at the most.
pub fn lease_life(policy: &Policy) -> Duration {
    policy.call_bound.clamp(4 * SKEW, LEASE_MAX)
}

/// One process at work on one run.
pub struct Session {
    services: Arc<Services>,
    subject: Arc<Subject>,
    lease: HeldLease,
    /// Monotonic time of the moment before the lease was taken: the wall clock may be set.
    leased_at: Duration,
    run: Run,
    view: View,
    policy: Policy,
    calendar_of: UnixMillis,
    /// What stores served at the last look, for the escrow of the old document.
    live: BTreeMap<String, CredentialDocument>,
    timeline: watch::Sender<Timeline>,
    steps: u32,
}

impl Session {
    /// Takes the lease and the credential's unfinished run; none if it has none.
    pub async fn resume(services: &Arc<Services>, subject: &Arc<Subject>) -> Result<Option<Self>, Halt> {
        let (lease, leased_at) = leased(services, subject).await?;
        let stored = services.journal.runs(Some(&subject.credential), 1).await?;
        let Some(stored) = stored.into_iter().next().filter(|run| run.ended_at.is_none()) else {
            give_back(services, &lease).await;
            return Ok(None);
        };
        let records = stored.records.iter().map(|record| Record::parse(&record.record)).collect::<Result<Vec<_>, _>>();
        let run = records.map_err(|error| error.to_string()).and_then(|records| {
            Run::replay(&records).map(|run| (run, records)).map_err(|error: Impossible| error.to_string())
        });
        let (run, records) = match run {
            Ok(run) => run,
            Err(why) => {
                give_back(services, &lease).await;
                return Err(Halt::Unreadable { run: stored.id, why });
            }
        };
        let session = Self::new(services, subject, lease, leased_at, run, Timeline::of(&records));
        if let Err(why) = session.fits() {
            let run = session.run.began().run;
            session.release().await;
            return Err(Halt::Reconfigured { credential: subject.credential.clone(), run, why });
        }
        session.remind();
        Ok(Some(session))
    }

    pub(crate) fn new(
        services: &Arc<Services>,
        subject: &Arc<Subject>,
        lease: HeldLease,
        leased_at: Duration,
        run: Run,
        timeline: Timeline,
    ) -> Self {
        let now = services.now();
        Self {
            services: Arc::clone(services),
            subject: Arc::clone(subject),
            lease,
            leased_at,
            run,
            view: View::default(),
            policy: Policy { calendar: subject.times.calendar(now), ..subject.policy.clone() },
            calendar_of: now,
            live: BTreeMap::new(),
            timeline: watch::Sender::new(timeline),
            steps: 0,
        }
    }

    /// What the run needs that the configuration no longer has.
    fn fits(&self) -> Result<(), String> {
        let began = self.run.began();
        for place in &began.places {
            let found = self.subject.store(&place.store);
            if found.is_none_or(|store| store.path != place.path) {
                return Err(format!("it has no store {} at {} any more", place.store, place.path));
            }
        }
        if !self.subject.management.traits().strategies.contains(&began.strategy) {
            return Err(format!("its platform cannot {} any more", began.strategy.as_str()));
        }
        Ok(())
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// What happens, as it happens.
    pub fn watch(&self) -> watch::Receiver<Timeline> {
        self.timeline.subscribe()
    }

    /// Does all that can be done now.
    pub async fn work(&mut self) -> Result<Standing, Halt> {
        loop {
            if let Some(standing) = self.step().await? {
                return Ok(standing);
            }
        }
    }

    /// Asks the core once and does what it says.
    pub async fn step(&mut self) -> Result<Option<Standing>, Halt> {
        self.steps = self.steps.saturating_add(1);
        if self.steps > STEPS_MAX {
            return Err(Halt::Circles(self.run.began().run));
        }
        let standing = self.decided().await?;
        if standing.is_some() {
            self.steps = 0;
        }
        Ok(standing)
    }

    async fn decided(&mut self) -> Result<Option<Standing>, Halt> {
        let now = self.services.now();
        self.refresh_calendar(now);
        match decide(&self.run, &self.view, &self.policy, now) {
            Decision::Record(entry) => {
                let kept = self.to_keep(&entry)?;
                self.append(*entry, kept).await?;
                Ok(None)
            }
            Decision::Do(effect) => {
                self.view.armed = false;
                self.keep_lease(call_timeout(&self.policy).saturating_add(SKEW)).await?;
                let (outcome, kept) = self.carry_out(&effect).await?;
                let entry = settle(&self.run, &effect, outcome, self.services.now());
                self.append(entry, kept).await?;
                Ok(None)
            }
            Decision::Look(look) => {
                self.look(look).await?;
                Ok(None)
            }
            Decision::Wait { until, why } => {
                self.outlook(Outlook::Waiting { until, why: why.to_string() });
                Ok(Some(Standing::Waiting { until, why }))
            }
            Decision::NeedsOperator(need) => {
                self.outlook(Outlook::NeedsOperator { why: need.why.clone(), next: need.next.clone() });
                Ok(Some(Standing::NeedsOperator(need)))
            }
            Decision::Ended => {
                self.outlook(Outlook::Ended);
                let end = self.run.end().cloned().unwrap_or(End::Abandoned { left: Vec::new() });
                Ok(Some(Standing::Ended(end)))
            }
        }
    }

    /// To be called after a short wait through which the lease was kept, before the next [`Session::work`].
    pub async fn waited(&mut self) -> Result<(), Halt> {
        self.view = self.view.after_wait();
        self.keep_lease(lease_life(&self.policy) / 2).await
    }

    /// Gives the lease back, so that another process need not wait for its end.
    pub async fn release(self) {
        self.rest().await;
    }

    /// Gives the lease back for a long wait: persons and other processes can act meanwhile. Before anything else
    /// [`Session::wake`].
    pub async fn rest(&self) {
        give_back(&self.services, &self.lease).await;
    }

    /// Takes the lease again after [`Session::rest`], with what others wrote meanwhile.
    pub async fn wake(&mut self) -> Result<(), Halt> {
        let (lease, leased_at) = leased(&self.services, &self.subject).await?;
        self.lease = lease;
        self.leased_at = leased_at;
        let id = self.run.began().run;
        let unreadable = |why: String| Halt::Unreadable { run: id, why };
        let stored = self.services.journal.run(id).await?;
        let before = self.run.seq();
        let mut run = self.run.clone();
        for record in stored.records.iter().filter(|record| record.seq > before) {
            let parsed = Record::parse(&record.record).map_err(|error| unreadable(error.to_string()))?;
            run.apply(&parsed).map_err(|error| unreadable(error.to_string()))?;
            self.timeline.send_modify(|timeline| timeline.add(parsed.at, record.seq, crate::told::line(&parsed.step)));
        }
        self.view = if run.seq() == before { self.view.after_wait() } else { View::default() };
        // an intent may have been another process's: only one that was just written here is sent without a look
        self.view.armed = false;
        self.run = run;
        Ok(())
    }

    /// Whether somebody else wrote to the run, or placed or lifted a hold, since [`Session::rest`].
    pub async fn disturbed(&self) -> Result<bool, Halt> {
        let journal = &self.services.journal;
        let moved = journal.run(self.run.began().run).await?.records.len() as u64 != self.run.seq();
        let held = self.view.journal.as_ref().map(|seen| seen.hold.clone());
        let changed = match held {
            Some(seen) => journal.hold(&self.subject.credential).await? != seen,
            None => false,
        };
        Ok(moved || changed)
    }

    fn refresh_calendar(&mut self, now: UnixMillis) {
        if now.since(self.calendar_of) >= Times::FRESH_FOR || now < self.calendar_of {
            self.policy.calendar = self.subject.times.calendar(now);
            self.calendar_of = now;
        }
    }

    /// How much longer the lease lasts, by the clock that is less generous.
    fn lease_left(&self) -> Duration {
        let now = self.services.clock.now();
        let by_wall = self.lease.expires_at.since(now.wall);
        let by_mono = self.leased_at.saturating_add(lease_life(&self.policy)).saturating_sub(now.mono);
        by_wall.min(by_mono)
    }

    /// Renews the lease if less than `needed` is left of it. A lease that was over, though nobody seems to have taken
    /// it, ends the session: what this process knows may be old.
    async fn keep_lease(&mut self, needed: Duration) -> Result<(), Halt> {
        if self.lease_left() >= needed {
            return Ok(());
        }
        let taken_over = || Halt::TakenOver(self.subject.credential.clone());
        let Some((lease, leased_at)) = take(&self.services, &self.lease.name, &self.policy).await? else {
            return Err(taken_over());
        };
        if lease.fence != self.lease.fence {
            give_back(&self.services, &lease).await;
            return Err(taken_over());
        }
        self.lease = lease;
        self.leased_at = leased_at;
        if self.lease_left() >= needed { Ok(()) } else { Err(taken_over()) }
    }
}

async fn take(services: &Services, name: &str, policy: &Policy) -> Result<Option<(HeldLease, Duration)>, JournalError> {
    let now = services.clock.now();
    let lease = services.journal.lease(name, &services.owner, now.wall, lease_life(policy)).await?;
    Ok(lease.map(|lease| (lease, now.mono)))
}

/// Takes the lease of a subject, for a session or a person's order.
pub(crate) async fn leased(services: &Services, subject: &Subject) -> Result<(HeldLease, Duration), Halt> {
    let taken = take(services, &lease_name(&subject.credential), &subject.policy).await?;
    taken.ok_or_else(|| Halt::Busy(subject.credential.clone()))
}

/// Gives a lease back. One that cannot be given back ends by itself, and changes nothing of what was done under it.
pub(crate) async fn give_back(services: &Services, lease: &HeldLease) {
    if let Err(error) = services.journal.release(lease).await {
        tracing::debug!(lease.name = %lease.name, "a lease ends by itself: {error}");
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("run", &self.run.began().run)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
