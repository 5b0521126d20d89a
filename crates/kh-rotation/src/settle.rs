//! From an answer to the next record.
//!
//! Invariant: an answer that cannot belong to its call, or that would put a secret in use at risk, becomes
//! [`Outcome::Unknown`]: it is looked up, not believed.

use kh_core::UnixMillis;

use crate::{
    effect::{Effect, Escrow, Outcome},
    record::Step,
    run::{Entry, Run},
};

/// The record of what became of `effect`, the run's open intent.
pub fn settle(run: &Run, effect: &Effect, outcome: Outcome, now: UnixMillis) -> Entry {
    let odd = |what: &str| Outcome::Unknown { reason: format!("the answer to {} {what}", effect.as_str()) };
    let outcome = match (&outcome, effect) {
        (Outcome::Created { id: None, .. }, Effect::Create { .. }) => odd("names no id"),
        (Outcome::Created { id: Some(id), .. }, Effect::Create { listed, .. }) if listed.contains(id) => {
            odd("names a secret that was there before")
        }
        (Outcome::Created { fingerprint, .. }, Effect::Create { .. } | Effect::Regenerate { .. })
            if run.baseline().is_some_and(|base| base.old == *fingerprint) =>
        {
            odd("holds the old secret")
        }
        _ if answers(&outcome, effect) => outcome,
        _ => odd("is of another kind"),
    };
    let dead = match (&outcome, effect) {
        (Outcome::Created { .. }, Effect::Regenerate { .. }) => true,
        // until the new one is live it names the client
        (Outcome::Done, Effect::Prune { .. }) => run.promoted_at().is_some(),
        _ => false,
    };
    let mut entry = Entry::of(now, Step::Settled { outcome });
    if dead {
        entry.escrow.forget.push(Escrow::Old);
    }
    entry
}

/// Whether a call of `effect` can answer so.
fn answers(outcome: &Outcome, effect: &Effect) -> bool {
    match outcome {
        Outcome::NotDone { .. } | Outcome::Refused { .. } | Outcome::Unknown { .. } => true,
        Outcome::Created { .. } => matches!(effect, Effect::Create { .. } | Effect::Regenerate { .. }),
        Outcome::Minted { .. } => matches!(effect, Effect::Mint),
        Outcome::Promoted { .. } | Outcome::Conflict { .. } => matches!(effect, Effect::Promote { .. }),
        Outcome::Done => {
            !matches!(effect, Effect::Mint | Effect::Create { .. } | Effect::Regenerate { .. } | Effect::Promote { .. })
        }
    }
}
