//! How a run looks from outside: its state, and the JSON of `keyholder rotate status`.
//!
//! Invariant: a status is computed from the run and the newest decision; it decides nothing.

pub mod command;

use kh_core::{
    Fingerprint, UnixMillis,
    port::{Strategy, rotation_journal::Grade},
    rotation::{RunId, VersionId},
};
use serde::{Deserialize, Serialize};

use crate::{
    decide::Decision,
    effect::{Effect, Escrow},
    record::{End, Evidence},
    run::{Course, Run},
};

/// The state of a run, in the words of the documentation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Begun; not approved, or not looked at.
    Planned,
    /// Everything was looked at; nothing is changed yet.
    Preflight,
    /// A secret is being made.
    CreateIntent,
    /// The new secret exists and is not verified.
    Created,
    /// The new secret works.
    Verified,
    /// The new document lies in every store where consumers do not look.
    Staged,
    /// Stores are being switched.
    PromoteIntent,
    /// The new document is live everywhere and both secrets work.
    Overlap,
    /// The old secret is being stopped or deleted.
    PruneIntent,
    /// The old secret is stopped and can be started again.
    Stopped,
    /// The old secret is gone; the run watches whether anything fails.
    Pruned,
    /// A secret that nobody uses is being deleted.
    CleanupIntent,
    /// The old document is being made live again, or the new secret deleted.
    RollbackIntent,
    /// A person must decide.
    NeedsOperator,
    /// Ended: the new secret is live and the old one dead.
    Completed,
    /// Ended: the old secret is live and the new one deleted.
    RolledBack,
    /// Ended before anything was promoted.
    Aborted,
    /// Ended: the old secret is dead and not replaced.
    Killed,
    /// Ended by a person as it stood.
    Abandoned,
}

impl State {
    /// The word in logs, metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Preflight => "preflight",
            Self::CreateIntent => "create_intent",
            Self::Created => "created",
            Self::Verified => "verified",
            Self::Staged => "staged",
            Self::PromoteIntent => "promote_intent",
            Self::Overlap => "overlap",
            Self::PruneIntent => "prune_intent",
            Self::Stopped => "stopped",
            Self::Pruned => "pruned",
            Self::CleanupIntent => "cleanup_intent",
            Self::RollbackIntent => "rollback_intent",
            Self::NeedsOperator => "needs_operator",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Killed => "killed",
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether the run is over.
    pub fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::RolledBack | Self::Aborted | Self::Killed | Self::Abandoned)
    }
}

impl Run {
    /// Its state.
    pub fn state(&self) -> State {
        if let Some((end, _)) = &self.ended {
            return match end {
                End::Completed { .. } => State::Completed,
                End::RolledBack { .. } => State::RolledBack,
                End::Aborted { .. } => State::Aborted,
                End::Killed => State::Killed,
                End::Abandoned { .. } => State::Abandoned,
            };
        }
        if self.need().is_some() {
            return State::NeedsOperator;
        }
        if matches!(self.course, Course::Back { .. } | Course::Abandon) {
            return State::RollbackIntent;
        }
        if let Some(open) = &self.open {
            match open.effect {
                Effect::Create { .. } | Effect::Regenerate { .. } => return State::CreateIntent,
                Effect::Promote { document: Escrow::New, .. } => return State::PromoteIntent,
                Effect::Cleanup { .. } => return State::CleanupIntent,
                Effect::Stop { .. } | Effect::Prune { .. } => return State::PruneIntent,
                Effect::Mint
                | Effect::Stage { .. }
                | Effect::Promote { .. }
                | Effect::Unstage { .. }
                | Effect::Hook { .. }
                | Effect::Start { .. }
                | Effect::RevokeTokens => {}
            }
        }
        self.settled_state()
    }

    fn settled_state(&self) -> State {
        match (&self.base, &self.new) {
            (None, _) => State::Planned,
            (Some(_), None) => State::Preflight,
            (Some(_), Some(_)) if self.promoted_at.is_some() && self.pruned_at.is_some() => State::Pruned,
            (Some(_), Some(_)) if self.stopped_at.is_some() => State::Stopped,
            (Some(_), Some(_)) if self.promoted_at.is_some() => State::Overlap,
            (Some(_), Some(_)) if self.touched() => State::PromoteIntent,
            (Some(_), Some(_)) if !self.verified => State::Created,
            (Some(_), Some(_)) if self.stores.iter().all(|store| store.staged) => State::Staged,
            (Some(_), Some(_)) => State::Verified,
        }
    }
}

/// One secret in a [`Status`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SecretLine {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// The version under which the first store serves or served it.
    pub version: Option<VersionId>,
}

/// One consumer in a [`Status`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct EvidenceLine {
    /// The consumer.
    pub consumer: String,
    /// How well it is known that it uses the new secret.
    pub grade: Option<Grade>,
    /// The version that it was seen with.
    pub seen_version: Option<VersionId>,
    /// When.
    pub at: Option<UnixMillis>,
}

impl From<&Evidence> for EvidenceLine {
    fn from(found: &Evidence) -> Self {
        Self {
            consumer: found.consumer.clone(),
            grade: found.grade,
            seen_version: found.seen_version.clone(),
            at: found.at,
        }
    }
}

/// The time without a login in a [`Status`], see [`Run::gap`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct GapLine {
    /// Its beginning, milliseconds since 1970.
    pub from: UnixMillis,
    /// How long it was, milliseconds; none while it lasts.
    pub ms: Option<u64>,
}

/// A run as `keyholder rotate status --output json` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Status {
    /// The run.
    pub run_id: RunId,
    /// Whose secret it replaces.
    pub credential: String,
    /// How.
    pub strategy: Strategy,
    /// Its state.
    pub state: State,
    /// The old secret, once it was looked at.
    pub old: Option<SecretLine>,
    /// The new secret, once there is one.
    pub new: Option<SecretLine>,
    /// Swap: when nobody could log in with what the stores held.
    pub gap: Option<GapLine>,
    /// What is known of consumers.
    pub evidence: Vec<EvidenceLine>,
    /// In an emergency: `revoked`, or why access tokens made with the old secret live on, and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
    /// What it waits for or why it needs a person.
    pub reason: Option<String>,
    /// When it goes on by itself, milliseconds since 1970.
    pub next_at: Option<UnixMillis>,
    /// The command that a person may want to type now.
    pub next_command: Option<String>,
}

/// The status of `run`, with what [`crate::decide()`] said last and what is known of consumers.
pub fn status(run: &Run, decision: Option<&Decision>, evidence: &[Evidence]) -> Status {
    let version = |new: bool| {
        let planned = run.base.as_ref().and_then(|base| base.expected.first()).cloned().flatten();
        let store = run.stores.first();
        if new { store.and_then(|store| store.promoted.clone()) } else { planned }
    };
    let (next_at, waits) = match decision {
        Some(Decision::Wait { until, why }) => (Some(*until), Some(why.to_string())),
        _ => (None, None),
    };
    let need = run.need();
    Status {
        run_id: run.begin.run,
        credential: run.begin.credential.to_string(),
        strategy: run.begin.strategy,
        state: run.state(),
        old: run.base.as_ref().map(|base| SecretLine { fingerprint: base.old.clone(), version: version(false) }),
        new: run.new.as_ref().map(|new| SecretLine { fingerprint: new.fingerprint.clone(), version: version(true) }),
        gap: run.gap().map(|(from, until)| GapLine { from, ms: until.map(|until| until.0.saturating_sub(from.0)) }),
        evidence: evidence.iter().map(EvidenceLine::from).collect(),
        tokens: run.tokens_revoked.then(|| run.tokens_left.clone().unwrap_or_else(|| "revoked".to_owned())),
        reason: need.map(|need| need.why.clone()).or(waits),
        next_at,
        next_command: need.map(|need| need.next.clone()),
    }
}
