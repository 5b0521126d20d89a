//! One rotation run: the fold of its records.
//!
//! Invariant: a [`Run`] is a function of its records alone. A record that cannot follow the ones before it is an error:
//! the journal is damaged, and nothing is done on the strength of it.

mod apply;
mod order;

use kh_core::{
    Fingerprint, UnixMillis,
    port::{Promotion, Strategy, secret_management::Rotator},
    rotation::{ManagedId, Marker, RunId, VersionId, WriteToken},
};
use uuid::Uuid;

pub use self::{apply::Impossible, order::Refused};
use crate::{
    effect::{Acting, Effect, Escrow, Outcome},
    record::{Baseline, Basis, Begin, Earlier, End, LIST_MAX, Record, Step},
};

/// What stands in the name or description of a secret that `run` made at its `attempt`: it says whose it is.
pub fn label(run: RunId, attempt: u32) -> String {
    format!("keyholder {run} {attempt}")
}

/// The run that `text` names as its maker, where it is one of [`label`]'s. A platform may put more around it, its own
/// mention of keyholder too.
pub fn labelled(text: &str) -> Option<RunId> {
    text.split("keyholder ").skip(1).find_map(|rest| rest.split_whitespace().next()?.parse().ok())
}

/// The intent that has no outcome yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Open {
    /// The change.
    pub effect: Effect,
    /// When it was written.
    pub at: UnixMillis,
    /// When its call last answered that it may have been done.
    pub unknown_at: Option<UnixMillis>,
    /// What a store holds instead of the expected version.
    pub conflict: Option<Option<VersionId>>,
}

/// The secret that the run made.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NewSecret {
    /// Its id; none where it was regenerated in place.
    pub id: Option<ManagedId>,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// When its making was recorded.
    pub at: UnixMillis,
}

/// What the run did to one store.
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that did or did not happen")]
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct StoreState {
    /// The new document is staged.
    pub(crate) staged: bool,
    /// Somebody wrote there since it was staged: where that was a new beginning, what was staged went with the old one.
    pub(crate) stale: bool,
    /// A promotion was intended: it may become live at any time until the store's version has moved on.
    pub(crate) touched: bool,
    /// The new document is live.
    pub(crate) promoted: Option<VersionId>,
    /// The old document is staged again.
    pub(crate) back_staged: bool,
    /// The old document is live again.
    pub(crate) back: Option<VersionId>,
}

/// What became of one hook.
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that did or did not happen")]
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct HookState {
    pub(crate) done: bool,
    pub(crate) skipped: bool,
    pub(crate) failures: u32,
    /// Its last call failed, whatever was ordered since.
    pub(crate) failing: bool,
    pub(crate) retry_at: Option<UnixMillis>,
    pub(crate) refused: bool,
    pub(crate) reason: Option<String>,
}

impl HookState {
    pub(crate) fn settled(&self) -> bool {
        self.done || self.skipped
    }
}

/// Where a run goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Course {
    Forward,
    /// The old secret stays. `abort`: nothing was promoted.
    Back {
        since: UnixMillis,
        abort: bool,
    },
    /// Ends as it stands.
    Abandon,
}

/// Why a run needs a person, and what to type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Need {
    /// Why.
    pub why: String,
    /// The command.
    pub next: String,
}

/// One rotation run.
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that did or did not happen, set by one record")]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Run {
    pub(crate) begin: Begin,
    pub(crate) began_at: UnixMillis,
    pub(crate) seq: u64,
    pub(crate) last_at: UnixMillis,
    pub(crate) approved: bool,
    /// When the persons whom it needs, at the level that it has now, had agreed.
    pub(crate) approved_at: Option<UnixMillis>,
    /// When and by whom it was made urgent after it had begun.
    pub(crate) hurried: Option<(UnixMillis, String)>,
    pub(crate) base: Option<Baseline>,
    pub(crate) base_at: UnixMillis,
    pub(crate) open: Option<Open>,
    pub(crate) failures: u32,
    pub(crate) retry_at: Option<UnixMillis>,
    pub(crate) failure: Option<String>,
    pub(crate) refused: Option<String>,
    /// The platform refused to make one more, and nothing that could make room was done since.
    pub(crate) full: bool,
    pub(crate) attempts: u32,
    /// Attempts that may have made a secret.
    pub(crate) spent: u32,
    pub(crate) intents: Vec<UnixMillis>,
    pub(crate) made: Vec<(ManagedId, Option<Fingerprint>)>,
    pub(crate) orphans: Vec<ManagedId>,
    pub(crate) cleaned: Vec<ManagedId>,
    pub(crate) foreign: Vec<ManagedId>,
    pub(crate) new: Option<NewSecret>,
    pub(crate) verified: bool,
    /// Swap: the logins that are still wanted after the promotion succeeded as well.
    pub(crate) confirmed: bool,
    pub(crate) lost: bool,
    /// Swap: from when on the old secret may be dead.
    pub(crate) dead_since: Option<UnixMillis>,
    pub(crate) minted: Option<UnixMillis>,
    pub(crate) mint_over: bool,
    pub(crate) old_tokens: Option<bool>,
    pub(crate) stores: Vec<StoreState>,
    pub(crate) promoted_at: Option<UnixMillis>,
    pub(crate) back_at: Option<UnixMillis>,
    pub(crate) hooks: Vec<HookState>,
    pub(crate) back_hooks: Vec<HookState>,
    pub(crate) stop_intended: bool,
    pub(crate) stopped_at: Option<UnixMillis>,
    pub(crate) prune_intended: bool,
    pub(crate) pruned_at: Option<UnixMillis>,
    pub(crate) new_cleaned: bool,
    pub(crate) tokens_revoked: bool,
    /// Why access tokens made with the old secret were left alone.
    pub(crate) tokens_left: Option<String>,
    pub(crate) basis: Option<Basis>,
    pub(crate) course: Course,
    pub(crate) alarm: Option<Need>,
    pub(crate) stuck: Option<Need>,
    pub(crate) ended: Option<(End, UnixMillis)>,
}

impl Run {
    /// A run that begins: the fold of its first record, which is to be journalled with `RotationJournal::begin`.
    pub fn begin(record: &Record) -> Result<Self, Impossible> {
        apply::begin(record)
    }

    /// The fold of all records of a run, oldest first.
    pub fn replay<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self, Impossible> {
        let mut records = records.into_iter();
        let mut run = Self::begin(records.next().ok_or(Impossible { seq: 1, why: "there is no record" })?)?;
        for record in records {
            run.apply(record)?;
        }
        Ok(run)
    }

    /// Takes the next record.
    pub fn apply(&mut self, record: &Record) -> Result<(), Impossible> {
        apply::apply(self, record)
    }

    /// How it began.
    pub fn began(&self) -> &Begin {
        &self.begin
    }

    /// When it began.
    pub fn began_at(&self) -> UnixMillis {
        self.began_at
    }

    /// Since when it is as urgent as it is, and by whose order.
    pub(crate) fn urgent(&self) -> (UnixMillis, &str) {
        match &self.hurried {
            Some((at, by)) => (*at, by),
            None => (self.began_at, &self.begin.actor),
        }
    }

    /// From when on it may take the old secret away as urgently as it was ordered to.
    pub(crate) fn urgent_since(&self) -> UnixMillis {
        let ordered_at = self.urgent().0;
        self.approved_at.map_or(ordered_at, |agreed_at| agreed_at.max(ordered_at))
    }

    /// The position of its newest record, from 1 upward: the next one is written at `seq() + 1`.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The intent that has no outcome yet.
    pub fn open(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// What was there before anything was changed.
    pub fn baseline(&self) -> Option<&Baseline> {
        self.base.as_ref()
    }

    /// The secret that the run made, if there is one now.
    pub fn new_secret(&self) -> Option<&NewSecret> {
        self.new.as_ref()
    }

    /// When the new document was live in every store.
    pub fn promoted_at(&self) -> Option<UnixMillis> {
        self.promoted_at
    }

    /// When the old secret was deleted, or died by being regenerated.
    pub fn pruned_at(&self) -> Option<UnixMillis> {
        self.pruned_at
    }

    /// When the old secret was stopped, where it was and has not been started again.
    pub fn stopped_at(&self) -> Option<UnixMillis> {
        self.stopped_at
    }

    /// Whether access tokens made with the old secret were dealt with: revoked, or known to be left alone.
    pub fn tokens_revoked(&self) -> bool {
        self.tokens_revoked
    }

    /// Whether access tokens made with the old secret outlived it, where that was observed (swap).
    pub fn old_tokens_alive(&self) -> Option<bool> {
        self.old_tokens
    }

    /// Swap: the time in which the stores may have held a secret that is dead, at the most: from the intent to regenerate
    /// to the promotion. The end is none while it lasts. None in a run that leaves the old secret alive meanwhile.
    pub fn gap(&self) -> Option<(UnixMillis, Option<UnixMillis>)> {
        self.dead_since.map(|from| (from, self.promoted_at))
    }

    /// How it ended.
    pub fn end(&self) -> Option<&End> {
        self.ended.as_ref().map(|(end, _)| end)
    }

    /// Why it needs a person, where it does: it stands still, or it waits and somebody should look.
    pub fn need(&self) -> Option<&Need> {
        self.stuck.as_ref().or(self.alarm.as_ref())
    }

    /// Whether it stands still until a person decides.
    pub fn stands_still(&self) -> bool {
        self.stuck.is_some()
    }

    /// What allowed the newest stop or prune.
    pub fn basis(&self) -> Option<&Basis> {
        self.basis.as_ref()
    }

    /// What the next run of the credential has to know of this one.
    pub fn earlier(&self) -> Earlier {
        Earlier { run: self.begin.run, created: self.made.clone(), intents: self.intents.clone() }
    }

    /// The id of a new document's write.
    pub(crate) fn write(&self, store: &str, document: Escrow) -> WriteToken {
        let purpose = match document {
            Escrow::New => format!("promote {}", self.attempts),
            Escrow::Old | Escrow::Token => "rollback".to_owned(),
        };
        WriteToken::of(self.begin.run, store, &purpose)
    }

    /// What goes beside the credential as `_kh` when `effect` (a [`Effect::Stage`]) is carried out. The same for every
    /// repetition, so that the store sees the same document.
    pub fn marker(&self, effect: &Effect) -> Option<Marker> {
        let Effect::Stage { token, document, .. } = effect else { return None };
        let (generation, fingerprint, created_at) = match document {
            Escrow::New => {
                let new = self.new.as_ref()?;
                (self.begin.generation, new.fingerprint.clone(), new.at)
            }
            Escrow::Old => (self.begin.generation.saturating_sub(1), self.base.as_ref()?.old.clone(), self.base_at),
            Escrow::Token => return None,
        };
        Some(Marker { run: self.begin.run, write: *token, generation, fingerprint, created_at })
    }

    /// What a hook is told when `effect` (a [`Effect::Hook`]) is carried out.
    pub fn promotion(&self, effect: &Effect) -> Option<Promotion> {
        let Effect::Hook { delivery, document, .. } = effect else { return None };
        let back = *document == Escrow::Old;
        let stores = self.begin.places.iter().zip(&self.stores).filter_map(|(place, state)| {
            let version = if back { state.back.as_ref() } else { state.promoted.as_ref() };
            Some((place.store.clone(), place.path.to_string(), version?.clone()))
        });
        let (generation, fingerprint, promoted_at) = if back {
            (self.begin.generation.saturating_sub(1), self.base.as_ref()?.old.clone(), self.back_at?)
        } else {
            (self.begin.generation, self.new.as_ref()?.fingerprint.clone(), self.promoted_at?)
        };
        Some(Promotion {
            run: self.begin.run,
            delivery: *delivery,
            credential: self.begin.credential.clone(),
            generation,
            fingerprint,
            stores: stores.collect(),
            promoted_at,
        })
    }

    /// Names one delivery to a hook.
    pub(crate) fn delivery(&self, hook: &str, document: Escrow) -> Uuid {
        Uuid::new_v5(&self.begin.run.0, format!("hook\n{hook}\n{}", document.as_str()).as_bytes())
    }

    /// Who acts on the platform now.
    pub(crate) fn acting(&self) -> Acting {
        let other = match self.begin.by {
            Rotator::First => Rotator::Second,
            Rotator::Second => Rotator::First,
        };
        if self.lost {
            return Acting::Rotator(other);
        }
        if !self.begin.own {
            return Acting::Rotator(self.begin.by);
        }
        if self.begin.platform.second_rotator {
            return Acting::Rotator(other);
        }
        if matches!(self.course, Course::Back { .. }) || (self.minted.is_none() && self.new.is_none()) {
            return Acting::Rotator(self.begin.by);
        }
        if self.verified { Acting::NewSecret } else { Acting::EscrowedToken }
    }

    /// Whether a token has to be minted before anything is changed.
    pub(crate) fn wants_token(&self) -> bool {
        let alone = self.begin.own && !self.begin.platform.second_rotator;
        (self.begin.strategy == Strategy::Swap || alone) && self.minted.is_none() && !self.mint_over
    }

    /// Whether `id`, which the platform lists under `name`, was made by a run of this credential whose record of it
    /// was lost: it carries that run's label, and no run recorded having it.
    pub(crate) fn orphaned(&self, id: &ManagedId, name: Option<&str>) -> bool {
        let Some(maker) = name.and_then(labelled) else { return false };
        let recorded = |made: &[(ManagedId, Option<Fingerprint>)]| made.iter().any(|(made, _)| made == id);
        let old = self.base.as_ref().and_then(|base| base.old_id.as_ref());
        if old == Some(id) || recorded(&self.made) || self.foreign.contains(id) {
            return false;
        }
        maker == self.begin.run
            || self.begin.earlier.iter().any(|earlier| earlier.run == maker && !recorded(&earlier.created))
    }

    /// Whether the last call of a hook failed.
    pub fn hook_is_failing(&self, name: &str, document: Escrow) -> bool {
        let states = if document == Escrow::Old { &self.back_hooks } else { &self.hooks };
        self.begin.hooks.iter().zip(states).any(|(hook, state)| hook == name && state.failing)
    }

    /// Hooks of the present course.
    pub(crate) fn course_hooks(&self) -> &[HookState] {
        if matches!(self.course, Course::Back { .. }) { &self.back_hooks } else { &self.hooks }
    }

    /// Whether a store may hold or still get the new document.
    pub(crate) fn touched(&self) -> bool {
        self.stores.iter().any(|store| store.touched)
    }

    /// What this run made and has not deleted.
    pub(crate) fn left(&self) -> Vec<ManagedId> {
        let made = self.made.iter().map(|(id, _)| id);
        let mut left: Vec<_> = made.chain(&self.orphans).filter(|id| !self.cleaned.contains(id)).cloned().collect();
        left.sort();
        left.dedup();
        left
    }
}

/// Escrow that changes together with a record.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct EscrowDuty {
    /// The driver seals what it just got under this name, in the same transaction.
    pub keep: Option<Escrow>,
    /// These are forgotten in the same transaction.
    pub forget: Vec<Escrow>,
}

/// A record to append, with what belongs into the same transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// The record.
    pub record: Record,
    /// Escrow that changes with it.
    pub escrow: EscrowDuty,
    /// Must be refused while a hold stands, in the same transaction.
    pub unless_held: bool,
    /// Whether the run ends with it.
    pub ends: bool,
}

impl Entry {
    /// Wraps a record; what goes with it follows from the record.
    pub fn of(at: UnixMillis, step: Step) -> Self {
        let mut escrow = EscrowDuty::default();
        let mut unless_held = false;
        let ends = matches!(step, Step::Ended { .. });
        match &step {
            Step::Preflighted(_) => escrow.keep = Some(Escrow::Old),
            Step::Settled { outcome: Outcome::Created { .. } } => escrow.keep = Some(Escrow::New),
            Step::Settled { outcome: Outcome::Minted { .. } } => escrow.keep = Some(Escrow::Token),
            Step::Rejected { .. } => escrow.forget = vec![Escrow::New],
            Step::Ended { .. } => escrow.forget = vec![Escrow::New, Escrow::Old, Escrow::Token],
            Step::Intended { effect, .. } => unless_held = effect.held(),
            _ => {}
        }
        Self { record: Record::new(at, step), escrow, unless_held, ends }
    }

    /// Whether it is an intent: the driver then sets [`crate::View::armed`].
    pub fn intends(&self) -> bool {
        matches!(self.record.step, Step::Intended { .. })
    }
}

/// Whether a list is short enough for a record.
pub(crate) fn fits(count: usize) -> bool {
    count <= LIST_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_with_whatever_stands_around_it() {
        let run = RunId(Uuid::from_u128(7));
        let label = label(run, 2);
        for name in
            [label.clone(), format!("app [{label}]"), format!("app [keyholder {label}]"), format!("keyholder {label}")]
        {
            assert_eq!(labelled(&name), Some(run), "{name}");
        }
        for name in ["", "app", "keyholder", "keyholder x 1", "app [keyholder pair c1]"] {
            assert_eq!(labelled(name), None, "{name}");
        }
    }
}
