//! What a person may order a run to do, and when.
//!
//! Invariant: an order only records a person's will; what follows from it goes through the same gates as ever.

use kh_core::{UnixMillis, port::Strategy};

use super::{Course, Entry, Run};
use crate::{
    effect::Effect,
    record::{Level, Order, Step},
    status::command,
};

/// Why an order was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// Why.
    pub why: &'static str,
    /// What to type instead, where there is something.
    pub next: Option<String>,
}

impl Run {
    /// The record of an order, where the run can take it now.
    pub fn order(&self, order: Order, actor: &str, reason: &str, now: UnixMillis) -> Result<Entry, Refused> {
        if let Some(why) = refusal(self, &order) {
            return Err(Refused { why, next: self.instead(&order) });
        }
        let step = Step::Ordered { order, actor: actor.to_owned(), reason: reason.to_owned() };
        Ok(Entry::of(now, step))
    }

    /// Whether the run can take `order` now.
    pub fn takes(&self, order: &Order) -> bool {
        refusal(self, order).is_none()
    }

    /// The command of another order, which the run takes.
    fn instead(&self, order: &Order) -> Option<String> {
        if self.ended.is_some() {
            return None;
        }
        if self.course == Course::Abandon {
            return Some(command::resume(self));
        }
        let goes_back = matches!(self.course, Course::Back { .. });
        match order {
            Order::Rollback | Order::Abort if goes_back => Some(command::resume(self)),
            Order::Abort if self.takes(&Order::Rollback) => Some(command::rollback(self)),
            Order::Hurry { .. } | Order::Rollback | Order::Abort => Some(command::abandon(self)),
            Order::Resume
            | Order::Abandon
            | Order::SkipHooks
            | Order::Adopt { .. }
            | Order::Own { .. }
            | Order::Foreign { .. } => None,
        }
    }
}

/// Why `order` cannot be taken now; none: it can.
pub(super) fn refusal(run: &Run, order: &Order) -> Option<&'static str> {
    if run.ended.is_some() {
        return Some("the run has ended");
    }
    if run.course == Course::Abandon {
        // it is over as soon as somebody goes on with it
        return (*order != Order::Resume).then_some("the run was abandoned");
    }
    let back = matches!(run.course, Course::Back { .. });
    let regenerated = run.begin.strategy == Strategy::Swap && run.attempts > 0;
    let kept = |ids: &[kh_core::rotation::ManagedId]| {
        let old = run.base.as_ref().and_then(|base| base.old_id.as_ref());
        let new = run.new.as_ref().and_then(|new| new.id.as_ref());
        ids.is_empty() || run.base.is_none() || ids.iter().any(|id| Some(id) == old || Some(id) == new)
    };
    match order {
        Order::SkipHooks if run.course_hooks().iter().all(super::HookState::settled) => Some("no hook is waiting"),
        Order::Adopt { store, .. } => {
            let conflict = run.open.as_ref().filter(|open| open.conflict.is_some());
            let same = conflict.is_some_and(|open| {
                matches!(&open.effect, Effect::Promote { store: found, document: crate::Escrow::New, .. } if found == store)
            });
            if same { None } else { Some("no promotion into this store found another version") }
        }
        Order::Own { ids } | Order::Foreign { ids } if kept(ids) => Some("the run uses this secret itself"),
        Order::Hurry { level } if *level <= run.begin.level => Some("the run is as urgent already"),
        Order::Hurry { .. } if back => Some("the run goes back, and makes the old secret live again"),
        Order::Hurry { .. } if run.prune_intended || regenerated => Some("the old secret is being deleted, or is gone"),
        Order::Hurry { level: Level::Kill } if run.attempts > 0 => {
            Some("a new secret is being made: revoke the old one")
        }
        Order::Rollback | Order::Abort if back => Some("the run goes back already"),
        Order::Rollback | Order::Abort if run.prune_intended => Some("the old secret is being deleted, or is gone"),
        Order::Rollback | Order::Abort if regenerated => {
            Some("the secret was regenerated in place, or may have been: the old one does not come back")
        }
        Order::Abort if run.touched() || run.stop_intended => Some("the new secret was promoted: roll back instead"),
        Order::Resume
        | Order::Abandon
        | Order::SkipHooks
        | Order::Own { .. }
        | Order::Foreign { .. }
        | Order::Hurry { .. }
        | Order::Rollback
        | Order::Abort => None,
    }
}
