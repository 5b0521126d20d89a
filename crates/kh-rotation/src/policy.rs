//! What an operator asks of a credential's rotation.
//!
//! Invariant: nothing here lets an old secret die by time alone; [`Policy::checked`] refuses numbers that would.

use std::time::Duration;

use kh_core::{UnixMillis, port::rotation_journal::Grade};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The rules for one credential. Spans are in real time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Oldest that a secret is meant to get. Default 90 days.
    pub interval: Duration,
    /// How long before that a rotation begins at the latest. Default 15 days.
    pub lead: Duration,
    /// Runs are spread over this span before the latest beginning, by a hash of credential and generation. Default 3 days.
    pub jitter: Duration,
    /// When something may be promoted or pruned and a scheduled run may begin.
    pub calendar: Calendar,
    /// Least time between the promotion and the prune. Default 24 h.
    pub overlap_min: Duration,
    /// Time after the promotion at which an overlap that has not ended alarms. Never prunes. Default 7 days.
    pub overlap_max: Duration,
    /// How long nobody may have been seen with the old secret. Default 2 h: longer than the longest token life.
    pub quiet: Duration,
    /// When the new secret counts as good.
    pub verification: Verification,
    /// Consumers that must be seen with the new secret.
    pub consumers: Vec<Consumer>,
    /// How many persons must agree.
    pub approvals: Approvals,
    /// How many secrets may be made.
    pub budget: Budget,
    /// How long the old secret stays stopped before it is deleted, and how long the run watches after that. None: the
    /// longest life of an access token, as the platform tells.
    pub watch: Option<Duration>,
    /// Longest that one call to the platform may take, with the lease's end and the skew of clocks: what was sent by an
    /// earlier owner of the lease is over after this span. Default 2 min.
    pub call_bound: Duration,
    /// Waits after failures.
    pub backoff: Backoff,
    /// Deadlines of urgent runs.
    pub emergency: Emergency,
}

/// Verification of a new secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verification {
    /// Logins in a row that must succeed. Default 3.
    pub successes: u32,
    /// Time between two of them. Default 2 s.
    pub spacing: Duration,
    /// Time within which they must have succeeded; failures before are not held against the secret. Default 10 min.
    pub deadline: Duration,
}

/// What a consumer reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reads {
    /// Access tokens from keyholder (gateway, broker): it never holds the secret.
    Tokens,
    /// The secret from a store or an agent.
    Secret,
}

/// A consumer that must take up the new secret. It stands for itself and for every replica `name/...`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consumer {
    /// Its name, as in sightings.
    pub name: String,
    /// What it reads.
    pub reads: Reads,
    /// How well it must be known that it uses the new secret.
    pub grade_min: Grade,
    /// For [`Grade::Ttl`]: how long after the promotion it may still have the old one cached.
    pub cache: Duration,
    /// Who said that the rotation need not wait for it, and why.
    pub waived: Option<Waiver>,
}

/// A consumer that need not be seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiver {
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// How many different persons must agree; 0 asks nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Approvals {
    /// Before a regular run changes anything. Default 0.
    pub start: usize,
    /// To prune without the evidence of every consumer; at least 1. Default 1.
    pub prune: usize,
    /// Before an urgent run takes the old secret away. 0: the order to begin it is enough. Default 0.
    pub revoke: usize,
}

/// How many secrets may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Attempts of one run. Default 2.
    pub per_run: u32,
    /// Attempts of all runs of the credential within 24 h. Default 4.
    pub per_day: u32,
}

/// Waits after failures: doubled from `first` to `most`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// After the first failure. Default 2 s.
    pub first: Duration,
    /// The longest one. Default 10 min.
    pub most: Duration,
    /// Failures of one step in a row after which a person must look. Default 8.
    pub tries: u32,
    /// How often a wait without a known end looks again. Default 30 s.
    pub poll: Duration,
}

impl Backoff {
    /// The wait after the `failures`th failure in a row.
    pub fn after(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1).min(31)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}

/// Deadlines of urgent runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Emergency {
    /// E1: time after the promotion at which the old secret dies without evidence. Default 5 min.
    pub pickup: Duration,
    /// E2: time after the order, or after the persons whom it needs had agreed, at which the old secret dies although the
    /// new one is not live. Default 60 s.
    pub revoke: Duration,
}

/// A stretch of time, `from` included, `to` not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Its beginning.
    pub from: UnixMillis,
    /// Its end.
    pub to: UnixMillis,
}

/// Windows and blackouts of the coming weeks, resolved from their time zones by the caller.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Calendar {
    /// When changes may be made; none: always.
    pub windows: Option<Vec<Span>>,
    /// When no change may be made, whatever the windows say.
    pub blackouts: Vec<Span>,
}

impl Calendar {
    /// None when a change may be made at `now`; else when to look again: the next opening that is known, or `later`.
    pub fn closed_until(&self, now: UnixMillis, later: UnixMillis) -> Option<UnixMillis> {
        let within = |span: &&Span| span.from <= now && now < span.to;
        if let Some(blackout) = self.blackouts.iter().find(within) {
            return Some(blackout.to);
        }
        let windows = self.windows.as_ref()?;
        if windows.iter().any(|span| within(&span)) {
            return None;
        }
        Some(windows.iter().map(|span| span.from).filter(|from| *from > now).min().unwrap_or(later))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            interval: 90 * DAY,
            lead: 15 * DAY,
            jitter: 3 * DAY,
            calendar: Calendar::default(),
            overlap_min: DAY,
            overlap_max: 7 * DAY,
            quiet: 2 * HOUR,
            verification: Verification {
                successes: 3,
                spacing: Duration::from_secs(2),
                deadline: Duration::from_mins(10),
            },
            consumers: Vec::new(),
            approvals: Approvals { start: 0, prune: 1, revoke: 0 },
            budget: Budget { per_run: 2, per_day: 4 },
            watch: None,
            call_bound: Duration::from_mins(2),
            backoff: Backoff {
                first: Duration::from_secs(2),
                most: Duration::from_mins(10),
                tries: 8,
                poll: Duration::from_secs(30),
            },
            emergency: Emergency { pickup: Duration::from_mins(5), revoke: Duration::from_mins(1) },
        }
    }
}

/// Why a policy was refused: a sentence that names the setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub &'static str);

impl Policy {
    /// Checks that the numbers fit together.
    pub fn checked(&self) -> Result<(), PolicyError> {
        let rules = [
            (
                self.interval > self.lead.saturating_add(self.jitter),
                "interval must be longer than lead and jitter together",
            ),
            (self.overlap_max > self.overlap_min, "overlap_max must be longer than overlap_min"),
            (self.verification.successes >= 1, "verification needs at least one success"),
            (
                self.verification.deadline > self.verification.spacing.saturating_mul(self.verification.successes),
                "the verification deadline is shorter than its successes need",
            ),
            (self.approvals.prune >= 1, "a prune without evidence needs at least one approval"),
            (
                self.budget.per_run >= 1 && self.budget.per_day >= self.budget.per_run,
                "per_day must be at least per_run, and that at least 1",
            ),
            (
                self.backoff.tries >= 1 && !self.backoff.first.is_zero(),
                "backoff needs a first wait and at least one try",
            ),
            (!self.backoff.poll.is_zero(), "poll must not be zero"),
        ];
        for (holds, sentence) in rules {
            if !holds {
                return Err(PolicyError(sentence));
            }
        }
        Ok(())
    }
}
