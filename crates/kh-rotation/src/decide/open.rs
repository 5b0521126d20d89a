//! Intents whose call this process did not send, or whose answer was lost.
//!
//! Invariant: a create or a regenerate is sent once, by the process that wrote its intent. Any other one is looked up,
//! after the time in which it could still be under way.

use kh_core::{UnixMillis, rotation::ManagedId};

use super::{Answer, Ask, Decision, Why};
use crate::{
    effect::{Effect, Escrow},
    record::{Finding, Step},
    run::Open,
    status::command,
    view::{Listed, TryFailure},
};

impl Ask<'_> {
    pub(super) fn unanswered(self, open: &Open) -> Answer<Decision> {
        if let Some(found) = &open.conflict {
            return self.conflict(open, found.as_ref().map(|found| found.0.as_str()));
        }
        if self.view.armed && open.unknown_at.is_none() {
            return Ok(Decision::Do(open.effect.clone()));
        }
        if open.effect.repeatable() {
            self.failed_effect()?;
            if open.effect.held() {
                self.not_held()?;
            }
            return Ok(Decision::Do(open.effect.clone()));
        }
        let settled = self.settled_by(open);
        if self.now < settled {
            return Err(self.wait(settled, Why::Settling));
        }
        match &open.effect {
            Effect::Create { listed, .. } => self.lost_create(listed, settled),
            _ => self.lost_regenerate(settled),
        }
    }

    /// When a call of this intent is over, whoever sent it, and a list shows what it did.
    fn settled_by(self, open: &Open) -> UnixMillis {
        let settles = std::time::Duration::from_millis(self.run.begin.platform.settles_within_ms);
        let newest = open.unknown_at.map_or(open.at, |unknown| unknown.max(open.at));
        newest.plus(self.policy.call_bound).plus(settles)
    }

    fn lost_create(self, before: &[ManagedId], settled: UnixMillis) -> Answer<Decision> {
        let run = self.run;
        let list = self.list()?;
        if list.at < settled {
            return Err(Decision::Look(crate::Look::List { by: self.acting() }));
        }
        let known = |listed: &&Listed| {
            let id = &listed.id;
            before.contains(id)
                || run.cleaned.contains(id)
                || run.orphans.contains(id)
                || run.foreign.contains(id)
                || run.made.iter().any(|(made, _)| made == id)
        };
        let fresh: Vec<_> = list.secrets.iter().filter(|listed| !known(listed)).collect();
        // One with a name that is not ours was made by somebody else meanwhile. One without a name could be ours.
        let nameless = fresh.iter().find(|listed| listed.name.is_none());
        if let Some(Listed { id, .. }) = nameless {
            let why = format!("the answer to a create was lost, and the platform now lists {id} without a name");
            return Err(self.stuck(why, command::own(run, id)));
        }
        let ids: Vec<_> = fresh
            .into_iter()
            .filter(|listed| run.orphaned(&listed.id, listed.name.as_deref()))
            .map(|listed| listed.id.clone())
            .collect();
        let finding = if ids.is_empty() { Finding::NotDone } else { Finding::Orphans { ids } };
        Ok(self.record(Step::Resolved { finding }))
    }

    /// The old secret tells: while it works, the regenerate was not carried out.
    fn lost_regenerate(self, settled: UnixMillis) -> Answer<Decision> {
        let look = Decision::Look(crate::Look::Try { document: Escrow::Old });
        let Some(tries) = self.view.tries.get(&Escrow::Old).filter(|tries| tries.last_at >= settled) else {
            return Err(look);
        };
        match &tries.failure {
            Some(TryFailure::Dead(_)) => Ok(self.record(Step::Resolved { finding: Finding::Lost })),
            None | Some(TryFailure::Rights(_)) => Ok(self.record(Step::Resolved { finding: Finding::NotDone })),
            Some(TryFailure::Unreachable(reason)) => {
                let next = tries.last_at.plus(self.policy.backoff.first);
                if self.now < next { Err(self.wait(next, Why::Failure(reason.clone()))) } else { Err(look) }
            }
        }
    }

    /// The store moved on from the expected version. Where it serves our secret all the same, the promotion is done.
    fn conflict(self, open: &Open, found: Option<&str>) -> Answer<Decision> {
        let Effect::Promote { store, document, .. } = &open.effect else {
            return Err(self.stuck("the journal has a conflict without a promotion", command::status(self.run)));
        };
        let live = self.live(store)?;
        let ours = match document {
            Escrow::Old => self.run.base.as_ref().map(|base| &base.old),
            Escrow::New | Escrow::Token => self.run.new.as_ref().map(|new| &new.fingerprint),
        };
        let Some(at) = &live.version else {
            // there is no version to adopt before somebody writes one
            let again = match document {
                Escrow::New | Escrow::Token => "write one there again, and it is replaced by the new one".to_owned(),
                Escrow::Old => {
                    let leave = command::abandon(self.run);
                    format!("write the old one there again, or end the run with `{leave}` and set a new secret by hand")
                }
            };
            let why = format!("{store} has no document any more, somebody removed it: {again}");
            return Err(self.stuck(why, command::resume(self.run)));
        };
        if live.fingerprint.is_some() && live.fingerprint.as_ref() == ours {
            return Ok(self.record(Step::Resolved { finding: Finding::Live { version: at.clone() } }));
        }
        let seen = at.0.as_str();
        let why =
            format!("{store} has the version {}, not the expected one: somebody else wrote it", found.unwrap_or(seen));
        let next = match document {
            Escrow::New | Escrow::Token => command::adopt(self.run, store, seen),
            Escrow::Old => command::resume(self.run),
        };
        Err(self.stuck(why, next))
    }
}
