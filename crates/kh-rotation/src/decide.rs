//! What to do next.
//!
//! Invariant: a change is asked for only while its intent is the newest thing that the journal knows of it, and only if
//! this process wrote the intent itself or repeating it does no harm. What else is unknown is looked at, never guessed.

mod back;
mod forward;
mod gate;
mod open;

use std::{fmt, time::Duration};

use kh_core::{
    UnixMillis,
    port::rotation_journal::{Approval, ApprovalOf},
    rotation::ManagedId,
};

use crate::{
    effect::{Acting, Effect, Escrow},
    policy::Policy,
    record::{End, Level, Step},
    run::{Course, Entry, Need, Run},
    status::command,
    view::{JournalView, List, Live, Look, TryFailure, View},
};

/// The longest wait that is taken from the other side's word: a limit per day, or a date in a wrong time zone, is no reason
/// to leave a run alone for days.
const ASKED_MAX: Duration = Duration::from_hours(1);

/// What a run does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Append this under the fence, then ask again with [`View::after_append`].
    Record(Box<Entry>),
    /// Carry this out. Clear [`View::armed`] before it is sent; then [`crate::settle()`] and append.
    Do(Effect),
    /// Look at this, put it into the view and ask again. Changes nothing.
    Look(Look),
    /// Nothing can be done before `until`; then ask again with [`View::after_wait`]. An order, an approval or a sighting
    /// may come earlier.
    Wait {
        /// When to ask again.
        until: UnixMillis,
        /// What is waited for.
        why: Why,
    },
    /// The run stands still until a person decides.
    NeedsOperator(Need),
    /// The run is over.
    Ended,
}

/// What a run waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// No change may be made now: a blackout, or outside of the windows.
    Calendar,
    /// A hold stands.
    Hold(String),
    /// Persons who agree.
    Approval {
        /// To what.
        of: ApprovalOf,
        /// How many did.
        have: usize,
        /// How many must.
        need: usize,
    },
    /// The next try after a failure.
    Failure(String),
    /// A call that may still be under way, or a list that may not show it yet.
    Settling,
    /// The next login with the new secret, or with the old one on the way back.
    Verification,
    /// Consumers: what keeps the prune from happening.
    Consumers(Vec<Block>),
    /// The time after a stop or a prune in which a failure would show.
    Watch,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calendar => f.write_str("outside of the times for changes"),
            Self::Hold(reason) => write!(f, "on hold: {reason}"),
            Self::Approval { of, have, need } => {
                let what = match of {
                    ApprovalOf::Start => "the start",
                    ApprovalOf::Prune => "the prune without evidence",
                    ApprovalOf::Revoke => "the revocation",
                };
                write!(f, "{have} of {need} persons agreed to {what}")
            }
            Self::Failure(reason) => write!(f, "trying again after a failure: {reason}"),
            Self::Settling => f.write_str("until a call whose answer was lost has come to its end"),
            Self::Verification => f.write_str("for the next login that verifies the secret"),
            Self::Consumers(blocks) => {
                let mut lines = blocks.iter();
                match lines.next() {
                    Some(first) => write!(f, "{first}")?,
                    None => f.write_str("for consumers")?,
                }
                lines.try_for_each(|block| write!(f, "; {block}"))
            }
            Self::Watch => f.write_str("watching whether anything fails without the old secret"),
        }
    }
}

/// What keeps a secret from being deleted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Block {
    /// The least time of the overlap is not over.
    Overlap {
        /// When it is.
        until: UnixMillis,
    },
    /// No consumer is known that could have taken up the other secret.
    NoConsumer,
    /// An expected consumer was not seen well enough with the secret that stays.
    Unseen {
        /// The consumer.
        consumer: String,
    },
    /// A consumer was seen with the secret that goes.
    StillUsed {
        /// The consumer.
        consumer: String,
        /// When.
        at: UnixMillis,
    },
    /// The platform counted uses of the secret that goes.
    Counted {
        /// How many.
        uses: u64,
    },
    /// A hook did not succeed.
    Hook {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A store does not serve the secret that stays.
    NotLive {
        /// The store.
        store: String,
    },
    /// A copy in another region does not serve it.
    Behind {
        /// The store.
        store: String,
        /// The region.
        region: String,
    },
    /// The secret that stays does not log in now.
    Unverified {
        /// Why.
        reason: String,
    },
    /// The platform does not list the secret that stays as active.
    Gone,
    /// The platform lists one that nobody accounts for.
    Stranger {
        /// Its id.
        id: ManagedId,
    },
}

impl Block {
    /// Whether a person may override it: it is about what is not known of consumers, never about what is known to be
    /// wrong.
    pub fn overridable(&self) -> bool {
        match self {
            Self::NoConsumer
            | Self::Unseen { .. }
            | Self::StillUsed { .. }
            | Self::Counted { .. }
            | Self::Hook { .. } => true,
            Self::Overlap { .. }
            | Self::NotLive { .. }
            | Self::Behind { .. }
            | Self::Unverified { .. }
            | Self::Gone
            | Self::Stranger { .. } => false,
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap { .. } => f.write_str("the least overlap is not over"),
            Self::NoConsumer => f.write_str("no consumer is known that uses the secret"),
            Self::Unseen { consumer } => write!(f, "{consumer} was not seen with the secret that stays"),
            Self::StillUsed { consumer, .. } => write!(f, "{consumer} was seen with the secret that goes"),
            Self::Counted { uses } => write!(f, "the platform counted {uses} uses of the secret that goes"),
            Self::Hook { name, reason } => write!(f, "the hook {name} did not succeed: {reason}"),
            Self::NotLive { store } => write!(f, "{store} does not serve the secret that stays"),
            Self::Behind { store, region } => write!(f, "{store} in {region} does not serve the secret that stays"),
            Self::Unverified { reason } => write!(f, "the secret that stays does not log in now: {reason}"),
            Self::Gone => f.write_str("the platform does not list the secret that stays as active"),
            Self::Stranger { id } => write!(f, "the platform lists {id}, which nobody accounts for"),
        }
    }
}

/// Decides what `run` does next.
///
/// `view` is what this process observed since its last change; `now` is wall time.
pub fn decide(run: &Run, view: &View, policy: &Policy, now: UnixMillis) -> Decision {
    let ask = Ask { run, view, policy, now };
    match ask.next() {
        Ok(decision) | Err(decision) => decision,
    }
}

/// One question: a step returns early, with `Err`, as soon as it knows what must happen before the step can be taken.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) run: &'a Run,
    pub(crate) view: &'a View,
    pub(crate) policy: &'a Policy,
    pub(crate) now: UnixMillis,
}

/// What a step knows, or what must happen first.
pub(crate) type Answer<T> = Result<T, Decision>;

impl<'a> Ask<'a> {
    fn next(self) -> Answer<Decision> {
        let run = self.run;
        if run.ended.is_some() {
            return Ok(Decision::Ended);
        }
        if run.course == Course::Abandon {
            return Err(self.record(Step::Ended { end: End::Abandoned { left: run.left() } }));
        }
        if let Some(need) = &run.stuck {
            return Err(Decision::NeedsOperator(need.clone()));
        }
        self.failed_look()?;
        if let Some(open) = &run.open {
            return self.unanswered(open);
        }
        self.failed_effect()?;
        match run.course {
            Course::Forward => self.forward(),
            Course::Back { since, abort } => self.back(since, abort),
            Course::Abandon => Ok(Decision::Ended),
        }
    }

    pub(crate) fn record(self, step: Step) -> Decision {
        Decision::Record(Box::new(Entry::of(self.now, step)))
    }

    pub(crate) fn intend(self, effect: Effect) -> Decision {
        self.record(Step::Intended { effect, basis: None })
    }

    pub(crate) fn stuck(self, why: impl Into<String>, next: String) -> Decision {
        self.record(Step::Stuck { why: why.into(), next })
    }

    pub(crate) fn wait(self, until: UnixMillis, why: Why) -> Decision {
        let soonest = UnixMillis(self.now.0.saturating_add(1));
        Decision::Wait { until: until.max(soonest), why }
    }

    pub(crate) fn poll(self, why: Why) -> Decision {
        self.wait(self.now.plus(self.policy.backoff.poll), why)
    }

    /// A look that failed is tried again later; one that was refused, or fails for long, is a person's.
    fn failed_look(self) -> Answer<()> {
        let Some(failed) = &self.view.failed else { return Ok(()) };
        if failed.refused {
            return Err(self.stuck(failed.reason.clone(), command::resume(self.run)));
        }
        if self.view.failures >= self.policy.backoff.tries && self.run.alarm.is_none() {
            let (why, next) = (failed.reason.clone(), command::status(self.run));
            return Err(self.record(Step::Alarmed { why, next }));
        }
        let until = failed.at.plus(self.policy.backoff.after(self.view.failures));
        Err(self.wait(until, Why::Failure(failed.reason.clone())))
    }

    /// The step that failed last is tried again later; one that was refused, or fails too often, is a person's.
    pub(crate) fn failed_effect(self) -> Answer<()> {
        let run = self.run;
        if let Some(reason) = &run.refused {
            return Err(self.stuck(reason.clone(), command::resume(run)));
        }
        let Some(reason) = &run.failure else { return Ok(()) };
        if run.failures >= self.policy.backoff.tries {
            return Err(self.stuck(reason.clone(), command::resume(run)));
        }
        let waited = run.last_at.plus(self.policy.backoff.after(run.failures));
        let longest = run.last_at.plus(self.asked_max());
        let until = run.retry_at.map_or(waited, |asked| asked.min(longest).max(waited));
        if self.now < until {
            return Err(self.wait(until, Why::Failure(reason.clone())));
        }
        Ok(())
    }

    /// The longest wait that the other side may ask for. Where a secret leaked, or nobody can log in, it is no longer than
    /// one of the run's own.
    fn asked_max(self) -> Duration {
        let run = self.run;
        let in_the_gap = run.gap().is_some_and(|(_, until)| until.is_none());
        if run.begin.level.emergency() || in_the_gap { self.policy.backoff.most.min(ASKED_MAX) } else { ASKED_MAX }
    }

    pub(crate) fn list(self) -> Answer<&'a List> {
        self.view.list.as_ref().ok_or(Decision::Look(Look::List { by: self.run.acting() }))
    }

    pub(crate) fn journal(self) -> Answer<&'a JournalView> {
        self.view.journal.as_ref().ok_or(Decision::Look(Look::Journal))
    }

    pub(crate) fn live(self, store: &str) -> Answer<&'a Live> {
        self.view.live.get(store).ok_or_else(|| Decision::Look(Look::Live { store: store.to_owned() }))
    }

    /// Waits while a hold stands.
    pub(crate) fn not_held(self) -> Answer<()> {
        match &self.journal()?.hold {
            Some(hold) => Err(self.poll(Why::Hold(hold.reason.clone()))),
            None => Ok(()),
        }
    }

    /// Waits while the calendar is closed, except in an emergency.
    pub(crate) fn open_now(self) -> Answer<()> {
        if self.run.begin.level.emergency() {
            return Ok(());
        }
        let later = self.now.plus(self.policy.backoff.most);
        match self.policy.calendar.closed_until(self.now, later) {
            Some(until) => Err(self.wait(until, Why::Calendar)),
            None => Ok(()),
        }
    }

    /// The different persons who agreed to `of`.
    pub(crate) fn approved(self, of: ApprovalOf) -> Answer<Vec<String>> {
        self.approved_since(of, UnixMillis(0))
    }

    /// The different persons who agreed to `of` at `since` or later.
    pub(crate) fn approved_since(self, of: ApprovalOf, since: UnixMillis) -> Answer<Vec<String>> {
        let approvals = &self.journal()?.approvals;
        let given = approvals.iter().filter(|approval| approval.of == of && approval.at >= since);
        let mut persons: Vec<_> = given.map(|Approval { actor, .. }| actor.clone()).collect();
        persons.sort();
        persons.dedup();
        Ok(persons)
    }

    /// `count` logins in a row with a document of the escrow, `spacing` apart; `since` is when the time for them began.
    /// `Ok(Err(..))` when that time is over.
    pub(crate) fn logins(self, document: Escrow, count: u32, since: UnixMillis) -> Answer<Result<u32, TryFailure>> {
        let look = Decision::Look(Look::Try { document });
        let Some(tries) = self.view.tries.get(&document) else { return Err(look) };
        if tries.successes >= count {
            return Ok(Ok(tries.successes));
        }
        let verification = &self.policy.verification;
        let over = self.now.since(since) >= verification.deadline;
        if let Some(failure) = tries.failure.as_ref().filter(|_| over) {
            return Ok(Err(failure.clone()));
        }
        let next = tries.last_at.plus(verification.spacing);
        if self.now < next { Err(self.wait(next, Why::Verification)) } else { Err(look) }
    }

    /// Whether the run may act at all: enough persons agreed.
    pub(crate) fn may_begin(self) -> Answer<()> {
        let run = self.run;
        let (of, need) = if run.begin.level == Level::Regular {
            (ApprovalOf::Start, self.policy.approvals.start)
        } else {
            (ApprovalOf::Revoke, self.policy.approvals.revoke)
        };
        if run.approved || need == 0 {
            return Ok(());
        }
        let by = self.approved(of)?;
        if by.len() < need {
            return Err(self.poll(Why::Approval { of, have: by.len(), need }));
        }
        Err(self.record(Step::Approved { of, by }))
    }

    /// Who lists and deletes.
    pub(crate) fn acting(self) -> Acting {
        self.run.acting()
    }
}
