//! The way back: the old secret is made live again and the new one deleted.
//!
//! Invariant: a store into which the new document was or may be promoted gets the old one under the next version, so
//! that no late promotion succeeds; and the new secret is deleted behind the same gate as the old one on the way forward.

use kh_core::UnixMillis;

use super::{Answer, Ask, Decision, Why, gate::Side};
use crate::{
    effect::{Effect, Escrow},
    record::{Baseline, End, Step},
    status::command,
    view::TryFailure,
};

impl Ask<'_> {
    pub(super) fn back(self, since: UnixMillis, abort: bool) -> Answer<Decision> {
        let run = self.run;
        let end = |unknown| if abort { End::Aborted { unknown } } else { End::RolledBack { unknown } };
        let Some(base) = &run.base else { return Ok(self.record(Step::Ended { end: end(Vec::new()) })) };
        self.start_old(base, since)?;
        if run.touched() {
            self.old_works(since)?;
            self.restore()?;
            self.call_hooks(Escrow::Old)?;
        }
        self.clean_orphans()?;
        self.drop_new(base)?;
        self.unstage()?;
        let unknown = self.sweep()?;
        Ok(self.record(Step::Ended { end: end(unknown) }))
    }

    /// What was stopped works again, once no stop can still be under way.
    fn start_old(self, base: &Baseline, since: UnixMillis) -> Answer<()> {
        let (true, Some(id)) = (self.run.stop_intended, &base.old_id) else { return Ok(()) };
        let newest = self.run.stopped_at.map_or(since, |stopped| stopped.max(since));
        let until = newest.plus(self.policy.call_bound);
        if self.now < until {
            return Err(self.wait(until, Why::Settling));
        }
        Err(self.intend(Effect::Start { id: id.clone(), by: self.acting() }))
    }

    fn old_works(self, since: UnixMillis) -> Answer<()> {
        if self.run.back_at.is_some() {
            return Ok(());
        }
        match self.logins(Escrow::Old, self.policy.verification.successes, since)? {
            Ok(_) => Ok(()),
            Err(TryFailure::Dead(why) | TryFailure::Rights(why) | TryFailure::Unreachable(why)) => {
                let leave = command::abandon(self.run);
                let serves_new = self.run.stores.iter().all(|store| store.promoted.is_some() && store.back.is_none());
                let then = if serves_new {
                    "every store keeps the new one"
                } else {
                    "the one in escrow is forgotten, and a store that serves the old one needs one that is set by hand"
                };
                let why = format!(
                    "the old secret does not work, so it is not made live again: {why}. If it is gone, end the run with \
                     `{leave}`: {then}"
                );
                Err(self.stuck(why, command::resume(self.run)))
            }
        }
    }

    fn restore(self) -> Answer<()> {
        let run = self.run;
        for (index, (place, state)) in run.begin.places.iter().zip(&run.stores).enumerate() {
            if !state.touched || state.back.is_some() {
                continue;
            }
            let store = place.store.clone();
            let token = run.write(&store, Escrow::Old);
            if !state.back_staged {
                return Err(self.intend(Effect::Stage { store, token, document: Escrow::Old }));
            }
            let expect = run.expectation(index, Escrow::Old);
            return Err(self.intend(Effect::Promote { store, token, document: Escrow::Old, expect }));
        }
        Ok(())
    }

    fn drop_new(self, base: &Baseline) -> Answer<()> {
        let run = self.run;
        let (Some(new), false) = (&run.new, run.new_cleaned) else { return Ok(()) };
        let Some(id) = &new.id else { return Ok(()) };
        let effect = Effect::Cleanup { id: id.clone(), by: self.acting() };
        let Some(back_at) = run.back_at else {
            self.not_held()?;
            return Err(self.intend(effect));
        };
        let basis = self.gate(&Side {
            keep: &base.old,
            keep_id: base.old_id.as_ref(),
            keep_document: Escrow::Old,
            drop: &new.fingerprint,
            drop_id: id,
            since: back_at,
        })?;
        Err(self.record(Step::Intended { effect, basis: Some(Box::new(basis)) }))
    }

    fn unstage(self) -> Answer<()> {
        let run = self.run;
        for (place, state) in run.begin.places.iter().zip(&run.stores) {
            if state.staged {
                let token = run.write(&place.store, Escrow::New);
                return Err(self.intend(Effect::Unstage { store: place.store.clone(), token }));
            }
        }
        Ok(())
    }
}
