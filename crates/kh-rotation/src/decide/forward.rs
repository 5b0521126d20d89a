//! The way forward: from the preflight to the dead old secret.
//!
//! Invariant: each rung reads what the journal says is done and asks for the first thing that is not. The old secret is
//! taken away only behind the gate, or by a person's emergency.

use std::time::Duration;

use kh_core::{
    UnixMillis,
    port::{Strategy, rotation_journal::ApprovalOf},
    rotation::ManagedId,
};

use super::{Answer, Ask, Block, Decision, Why, gate::Side};
use crate::{
    effect::{Effect, Escrow},
    policy::Reads,
    record::{Baseline, Basis, End, Level, Order, Step},
    run::{NewSecret, label},
    status::command,
    view::{List, Look, TryFailure},
};

const DAY: Duration = Duration::from_hours(24);

impl Ask<'_> {
    pub(super) fn forward(self) -> Answer<Decision> {
        let run = self.run;
        self.may_begin()?;
        let Some(base) = &run.base else { return self.preflight() };
        if run.begin.level == Level::Kill {
            return self.kill(base);
        }
        if run.wants_token() {
            if run.begin.strategy == Strategy::Swap {
                // the token is to be young when the secret dies: nothing may be waited for after it
                self.may_regenerate()?;
            }
            return Err(self.intend(Effect::Mint));
        }
        self.clean_orphans()?;
        if run.begin.level == Level::Revoke {
            self.revoke_in_time(base)?;
        }
        let Some(new) = &run.new else { return self.make(base) };
        self.verify(new)?;
        self.publish()?;
        self.old_tokens()?;
        self.call_hooks(Escrow::New)?;
        if run.pruned_at.is_none() {
            return self.take_old_away(base);
        }
        if run.begin.level.emergency() && !run.tokens_revoked {
            return Err(self.intend(Effect::RevokeTokens));
        }
        self.confirm()?;
        self.watch()?;
        self.hooks_done()?;
        let unknown = self.sweep()?;
        Ok(self.record(Step::Ended { end: End::Completed { unknown } }))
    }

    /// Everything is looked at before anything is changed.
    fn preflight(self) -> Answer<Decision> {
        let run = self.run;
        let by = self.acting();
        let resume = command::resume(run);
        if run.begin.own && run.begin.strategy == Strategy::Swap && !run.begin.platform.second_rotator {
            let why = "the rotator cannot regenerate its own secret in place: configure its second identity";
            return Err(self.stuck(why, resume));
        }
        let check = self.view.check.as_ref().ok_or(Decision::Look(Look::Check { by }))?;
        if let Some(obstacle) = check.obstacles.first().filter(|_| !run.begin.level.emergency()) {
            return Err(self.stuck(obstacle.clone(), resume));
        }
        let mut expected = Vec::with_capacity(run.begin.places.len());
        let mut old = None;
        let mut named = None;
        for place in &run.begin.places {
            let live = self.live(&place.store)?;
            expected.push(live.version.clone());
            named = named.or_else(|| live.id.clone());
            let Some(fingerprint) = &live.fingerprint else { continue };
            if old.get_or_insert_with(|| fingerprint.clone()) != fingerprint {
                let why = format!("{} serves another secret than the stores before it", place.store);
                return Err(self.stuck(why, resume));
            }
        }
        let Some(old) = old else {
            return Err(self.stuck("no store holds the secret that is to be replaced", resume));
        };
        let swap = run.begin.strategy == Strategy::Swap;
        let (old_id, mut listed) = if swap {
            (named, Vec::new())
        } else {
            let list = self.list()?;
            let recorded = run.begin.earlier.iter().flat_map(|earlier| &earlier.created);
            let known = recorded.filter(|(_, made)| made.as_ref() == Some(&old)).map(|(id, _)| id.clone()).next();
            let Some(id) = the_old_one(list, named, known) else {
                let why = "the platform does not list the secret that the stores hold, or lists several it could be";
                return Err(self.stuck(why, resume));
            };
            (Some(id), list.secrets.iter().map(|listed| listed.id.clone()).collect())
        };
        listed.sort();
        listed.dedup();
        Ok(self.record(Step::Preflighted(Box::new(Baseline { old, old_id, listed, expected }))))
    }

    /// E3: the old secret dies and is not replaced.
    fn kill(self, base: &Baseline) -> Answer<Decision> {
        let run = self.run;
        if run.stopped_at.is_none() && run.pruned_at.is_none() {
            if let Some(id) = &base.old_id
                && self.is_last(id)?
            {
                let why = "the platform does not take the last secret of a client away: disable the client there, one of \
                    keyholder's own with `keyholder client disable`, and end this run";
                return Err(self.stuck(why, command::abandon(run)));
            }
            return self.emergency_stop(base, "killed by order, without a replacement");
        }
        if !run.tokens_revoked {
            return Err(self.intend(Effect::RevokeTokens));
        }
        Ok(self.record(Step::Ended { end: End::Killed }))
    }

    /// Whether `id` is the last secret of a client that must have one: where none can be stopped, the platform deletes
    /// one only beside another (`last.secret`).
    fn is_last(self, id: &ManagedId) -> Answer<bool> {
        if self.run.begin.platform.reversible_stop {
            return Ok(false);
        }
        Ok(self.list()?.secrets.iter().all(|listed| listed.id == *id))
    }

    /// Takes the old secret away on a person's order alone.
    fn emergency_stop(self, base: &Baseline, why: &str) -> Answer<Decision> {
        let run = self.run;
        let Some(id) = base.old_id.clone() else {
            return Err(
                self.stuck("the platform gives the secret no id by which it could be stopped", command::abort(run))
            );
        };
        self.not_held()?;
        let mut by = self.approved(ApprovalOf::Revoke)?;
        by.insert(0, run.urgent().1.to_owned());
        let basis = Basis { evidence: Vec::new(), overridden: vec![why.to_owned()], by };
        let effect = if run.begin.platform.reversible_stop && run.stopped_at.is_none() {
            Effect::Stop { id, by: self.acting() }
        } else {
            Effect::Prune { id, by: self.acting() }
        };
        Err(self.record(Step::Intended { effect, basis: Some(Box::new(basis)) }))
    }

    /// E2: when the new secret is not live in time, or there is no room for it, the old one dies first.
    fn revoke_in_time(self, base: &Baseline) -> Answer<()> {
        let run = self.run;
        let dead = run.stopped_at.is_some() || run.pruned_at.is_some();
        let full = run.full && run.new.is_none();
        let over = full || self.now.since(run.urgent_since()) >= self.policy.emergency.revoke;
        // One that can be stopped is not deleted to make room: the new one is made after its model.
        let in_the_way = full && run.pruned_at.is_none() && !run.begin.platform.reversible_stop;
        if run.begin.strategy == Strategy::Swap || run.promoted_at.is_some() || !over || (dead && !in_the_way) {
            return Ok(());
        }
        // The last one dies when there is another one, and no sooner whatever is ordered.
        if let Some(id) = base.old_id.as_ref().filter(|_| !full && run.new.is_none())
            && self.is_last(id)?
        {
            return Ok(());
        }
        self.emergency_stop(base, "revoked by order before the new secret is live").map(drop)
    }

    fn make(self, base: &Baseline) -> Answer<Decision> {
        let run = self.run;
        if run.spent >= self.policy.budget.per_run {
            return Err(self.out_of_attempts());
        }
        let earlier = run.begin.earlier.iter().flat_map(|earlier| &earlier.intents);
        let today = earlier.chain(&run.intents).filter(|at| self.now.since(**at) < DAY).count();
        if today >= self.policy.budget.per_day as usize {
            let why = format!("{today} secrets were made within 24 hours");
            return Err(self.stuck(why, command::resume(run)));
        }
        let attempt = run.attempts.saturating_add(1);
        if run.begin.strategy == Strategy::Swap {
            return self.regenerate(attempt);
        }
        if run.full && run.stopped_at.is_some() && run.pruned_at.is_none() {
            let why = "the platform takes no more secrets. The old one is stopped, and is kept as the model of the new \
                one: delete one that is not in use";
            return Err(self.stuck(why, command::resume(run)));
        }
        let list = self.list()?;
        self.reap(list)?;
        let active = list.secrets.iter().filter(|listed| listed.active).count();
        if run.begin.platform.active_max.is_some_and(|most| active >= most as usize) {
            let why =
                format!("the platform holds {active} active secrets and takes no more: delete one that is not in use");
            // What is stopped is not counted: its deletion would make no room.
            if run.begin.level == Level::Revoke && run.pruned_at.is_none() && run.stopped_at.is_none() {
                return self.emergency_stop(base, "revoked by order to make room for the new secret");
            }
            return Err(self.stuck(why, command::resume(run)));
        }
        let mut listed: Vec<_> = list.secrets.iter().map(|listed| listed.id.clone()).collect();
        listed.sort();
        listed.dedup();
        Err(self.intend(Effect::Create { attempt, label: label(run.begin.run, attempt), listed, by: self.acting() }))
    }

    /// The budget is spent. An abort promises that the old secret is as it was: where the run cannot, it takes none.
    fn out_of_attempts(self) -> Decision {
        let run = self.run;
        let why = format!("{} attempts to make a secret did not succeed", run.spent);
        if run.takes(&Order::Abort) {
            return self.stuck(why, command::abort(run));
        }
        let left = if run.lost || run.pruned_at.is_some() {
            ", and the old secret is dead: set a new secret by hand".to_owned()
        } else if run.stopped_at.is_some() {
            format!(", and the old secret is stopped: end this run and begin another with `{}`", command::now(run))
        } else {
            String::new()
        };
        self.stuck(format!("{why}{left}"), command::abandon(run))
    }

    /// The one secret dies by being replaced: nobody may read it but keyholder.
    fn regenerate(self, attempt: u32) -> Answer<Decision> {
        let run = self.run;
        if run.lost && !run.begin.platform.second_rotator {
            let why = "the answer to a regenerate was lost and the old secret is dead: set a new secret by hand";
            return Err(self.stuck(why, command::abandon(run)));
        }
        self.may_regenerate()?;
        Err(self.intend(Effect::Regenerate { attempt, by: self.acting() }))
    }

    /// Whether the secret may die now. Where it is dead already only a hold keeps the next one from being made.
    fn may_regenerate(self) -> Answer<()> {
        let run = self.run;
        self.not_held()?;
        if run.lost {
            return Ok(());
        }
        self.open_now()?;
        let journal = self.journal()?;
        let declared = self.policy.consumers.iter().filter(|consumer| consumer.reads == Reads::Secret);
        let mut direct: Vec<_> = declared.map(|consumer| consumer.name.clone()).collect();
        let seen = journal.sightings.iter().filter(|seen| seen.alive_until > self.now);
        direct.extend(seen.map(|seen| seen.consumer.clone()).filter(|name| !self.reads_tokens(name)));
        let by = self.approved(ApprovalOf::Prune)?;
        if let Some(consumer) = direct.first().filter(|_| by.len() < self.policy.approvals.prune) {
            let why = format!("{consumer} reads the secret itself and would fail from a swap until it reads again");
            return Err(self.stuck(why, command::approve(run, ApprovalOf::Prune)));
        }
        Ok(())
    }

    /// A swap asks for one login only before it promotes: its old secret is dead, so that waiting for more of them protects
    /// nobody and makes the time longer in which nobody can log in. The others follow, see [`Ask::confirm`].
    fn verify(self, new: &NewSecret) -> Answer<()> {
        let run = self.run;
        if run.verified {
            return Ok(());
        }
        let swap = run.begin.strategy == Strategy::Swap;
        let wanted = if swap { 1 } else { self.policy.verification.successes };
        match self.enough_logins(wanted, new.at)? {
            Ok(successes) => Err(self.record(Step::Verified { successes })),
            Err(why) if swap => {
                let why = format!("the regenerated secret does not work: {why}. {}", self.or_leave());
                Err(self.stuck(why, command::resume(run)))
            }
            Err(why) => Err(self.record(Step::Rejected { why })),
        }
    }

    /// Swap: the logins that were not waited for before the promotion.
    fn confirm(self) -> Answer<()> {
        let run = self.run;
        let wanted = self.policy.verification.successes.saturating_sub(1);
        let Some(promoted_at) = run.promoted_at.filter(|_| run.begin.strategy == Strategy::Swap) else { return Ok(()) };
        if run.confirmed || wanted == 0 {
            return Ok(());
        }
        match self.enough_logins(wanted, promoted_at)? {
            Ok(successes) => Err(self.record(Step::Verified { successes })),
            Err(why) => {
                let why = format!(
                    "the regenerated secret worked once and does not work any more: {why}. {}",
                    self.or_leave()
                );
                Err(self.stuck(why, command::resume(run)))
            }
        }
    }

    /// `wanted` logins in a row with the new secret since `since`; `Ok(Err(..))` when the platform still refuses it at the
    /// end of the time for them. While nothing can be found out a person is told, and it is tried on.
    fn enough_logins(self, wanted: u32, since: UnixMillis) -> Answer<Result<u32, String>> {
        let run = self.run;
        match self.logins(Escrow::New, wanted, since)? {
            Ok(successes) => Ok(Ok(successes)),
            Err(TryFailure::Dead(why) | TryFailure::Rights(why)) => Ok(Err(why)),
            Err(TryFailure::Unreachable(reason)) => {
                if run.alarm.is_none() {
                    return Err(self.record(Step::Alarmed { why: reason, next: command::status(run) }));
                }
                let last = self.view.tries.get(&Escrow::New).map_or(self.now, |tries| tries.last_at);
                let next = last.plus(self.policy.backoff.poll);
                if self.now < next {
                    return Err(self.wait(next, Why::Failure(reason)));
                }
                Err(Decision::Look(Look::Try { document: Escrow::New }))
            }
        }
    }

    /// `resume` tries a secret again; one that somebody else replaced never works again.
    fn or_leave(self) -> String {
        format!("If somebody replaced it, end the run with `{}` and begin another", command::abandon(self.run))
    }

    /// Stages the new document in every store, then promotes one after the other.
    fn publish(self) -> Answer<()> {
        let run = self.run;
        if run.promoted_at.is_some() {
            return Ok(());
        }
        for (place, state) in run.begin.places.iter().zip(&run.stores) {
            if (!state.staged || state.stale) && state.promoted.is_none() {
                let token = run.write(&place.store, Escrow::New);
                return Err(self.intend(Effect::Stage { store: place.store.clone(), token, document: Escrow::New }));
            }
        }
        if run.begin.strategy != Strategy::Swap {
            self.open_now()?;
        }
        self.not_held()?;
        for (index, (place, state)) in run.begin.places.iter().zip(&run.stores).enumerate() {
            if state.promoted.is_none() {
                let store = place.store.clone();
                let token = run.write(&store, Escrow::New);
                let expect = run.expectation(index, Escrow::New);
                return Err(self.intend(Effect::Promote { store, token, document: Escrow::New, expect }));
            }
        }
        Ok(())
    }

    /// Swap: whether a token that was made with the old secret outlived it.
    fn old_tokens(self) -> Answer<()> {
        let run = self.run;
        if run.begin.strategy != Strategy::Swap || run.minted.is_none() || run.old_tokens.is_some() {
            return Ok(());
        }
        // After the token's own end nothing can be learned from it.
        if run.minted.is_some_and(|until| until <= self.now) {
            return Ok(());
        }
        let alive = self.view.token.ok_or(Decision::Look(Look::Token))?;
        Err(self.record(Step::OldTokens { alive }))
    }

    /// Calls each hook until it succeeds. One that does not is no reason to stop calling the others: it blocks the gate.
    pub(super) fn call_hooks(self, document: Escrow) -> Answer<()> {
        let run = self.run;
        for (name, state) in run.begin.hooks.iter().zip(run.course_hooks()) {
            let waits =
                state.retry_at.is_some_and(|failed| self.now < failed.plus(self.policy.backoff.after(state.failures)));
            if state.settled() || state.refused || waits {
                continue;
            }
            let delivery = run.delivery(name, document);
            return Err(self.intend(Effect::Hook { name: name.clone(), delivery, document }));
        }
        Ok(())
    }

    /// Swap: no gate stands before the old secret's end, so the run itself stays open while a hook did not succeed.
    fn hooks_done(self) -> Answer<()> {
        let run = self.run;
        if run.begin.strategy != Strategy::Swap {
            return Ok(());
        }
        let mut hooks = run.begin.hooks.iter().zip(run.course_hooks());
        let Some((name, state)) = hooks.find(|(_, state)| !state.settled()) else { return Ok(()) };
        let reason = state.reason.clone().unwrap_or_else(|| "not called yet".to_owned());
        let block = Block::Hook { name: name.clone(), reason };
        if run.alarm.is_none() {
            return Err(self.record(Step::Alarmed { why: block.to_string(), next: command::status(run) }));
        }
        let again = state.retry_at.map(|failed| failed.plus(self.policy.backoff.after(state.failures)));
        let until = again.filter(|_| !state.refused).unwrap_or_else(|| self.now.plus(self.policy.backoff.poll));
        Err(self.wait(until, Why::Consumers(vec![block])))
    }

    /// Stops the old secret where that can be undone, watches, and deletes it.
    fn take_old_away(self, base: &Baseline) -> Answer<Decision> {
        let run = self.run;
        let Some(id) = base.old_id.clone() else {
            return Err(self.stuck("the old secret has no id by which it could be deleted", command::abandon(run)));
        };
        let (Some(promoted_at), Some(new)) = (run.promoted_at, run.new.as_ref()) else {
            return Err(self.stuck("the new secret is not live", command::status(run)));
        };
        if run.begin.level == Level::Revoke {
            return self.emergency_stop(base, "revoked by order, without waiting for consumers");
        }
        let side = Side {
            keep: &new.fingerprint,
            keep_id: new.id.as_ref(),
            keep_document: Escrow::New,
            drop: &base.old,
            drop_id: &id,
            since: promoted_at,
        };
        if let Some(stopped_at) = run.stopped_at {
            // Once its deletion was intended a late call may still delete it: it is not started again.
            if !run.prune_intended
                && let Some(consumer) = self.failing_since(&base.old, stopped_at)?
            {
                return self.undo_stop(&id, &consumer, stopped_at);
            }
            let until = stopped_at.plus(self.watch_for());
            if self.now < until && run.begin.level == Level::Regular {
                return Err(self.wait(until.min(self.now.plus(self.policy.backoff.poll)), Why::Watch));
            }
        }
        let basis = self.gate(&side)?;
        let by = self.acting();
        let effect = if run.begin.platform.reversible_stop && run.stopped_at.is_none() {
            Effect::Stop { id, by }
        } else {
            Effect::Prune { id, by }
        };
        Ok(self.record(Step::Intended { effect, basis: Some(Box::new(basis)) }))
    }

    /// Somebody misses what was stopped: a person is told, and it works again once no stop can still be under way.
    fn undo_stop(self, id: &ManagedId, consumer: &str, stopped_at: UnixMillis) -> Answer<Decision> {
        let run = self.run;
        let why = format!("{consumer} still uses the old secret {id}, which was stopped");
        if run.alarm.is_none() {
            return Err(self.record(Step::Alarmed { why, next: command::rollback(run) }));
        }
        let until = stopped_at.plus(self.policy.call_bound);
        if self.now < until {
            return Err(self.wait(until, Why::Settling));
        }
        Err(self.intend(Effect::Start { id: id.clone(), by: self.acting() }))
    }

    /// The consumer that was seen with `fingerprint` after `since`.
    pub(super) fn failing_since(self, fingerprint: &kh_core::Fingerprint, since: UnixMillis) -> Answer<Option<String>> {
        let mut seen = self.journal()?.sightings.iter().filter(|seen| seen.fingerprint == *fingerprint);
        Ok(seen.find(|seen| seen.at > since).map(|seen| seen.consumer.clone()))
    }

    fn watch_for(self) -> Duration {
        self.policy.watch.unwrap_or(Duration::from_millis(self.run.begin.platform.token_life_max_ms))
    }

    /// After the old secret's death: whoever still used it fails when the last token made with it has run out.
    fn watch(self) -> Answer<()> {
        let run = self.run;
        let (Some(base), Some(pruned_at)) = (&run.base, run.pruned_at) else { return Ok(()) };
        let began = run.promoted_at.map_or(pruned_at, |promoted| promoted.max(pruned_at));
        // After a swap the broker of every process that uses it is refused once, maybe a moment after the promotion.
        let swap = run.begin.strategy == Strategy::Swap;
        let missed = if swap { began.plus(self.policy.backoff.poll) } else { began };
        if let Some(consumer) = self.failing_since(&base.old, missed)?
            && run.alarm.is_none()
        {
            let why = format!("{consumer} was seen with the old secret after its end");
            return Err(self.record(Step::Alarmed { why, next: command::status(run) }));
        }
        let until = began.plus(self.watch_for());
        if self.now < until {
            return Err(self.wait(until.min(self.now.plus(self.policy.backoff.poll)), Why::Watch));
        }
        match self.logins(Escrow::New, 1, until)? {
            Ok(_) => Ok(()),
            Err(TryFailure::Dead(why) | TryFailure::Rights(why) | TryFailure::Unreachable(why)) => {
                let why = format!("the new secret does not work any more: {why}. {}", self.or_leave());
                Err(self.stuck(why, command::resume(run)))
            }
        }
    }

    /// Deletes what was found to be an orphan.
    pub(super) fn clean_orphans(self) -> Answer<()> {
        let run = self.run;
        let Some(id) = run.orphans.first() else { return Ok(()) };
        // The old one is gone, so that this may be the last one: then it goes when there is another one.
        if run.pruned_at.is_some() && run.new.is_none() && self.is_last(id)? {
            return Ok(());
        }
        self.not_held()?;
        Err(self.intend(Effect::Cleanup { id: id.clone(), by: self.acting() }))
    }

    /// Names the orphans of a list.
    pub(super) fn reap(self, list: &List) -> Answer<()> {
        let run = self.run;
        let listed =
            list.secrets.iter().filter(|listed| !run.cleaned.contains(&listed.id) && !run.orphans.contains(&listed.id));
        let orphans = listed.filter(|listed| run.orphaned(&listed.id, listed.name.as_deref()));
        let ids: Vec<_> = orphans.map(|listed| listed.id.clone()).collect();
        if ids.is_empty() { Ok(()) } else { Err(self.record(Step::Orphaned { ids })) }
    }

    /// The last look at the platform: orphans go, strangers are told.
    pub(super) fn sweep(self) -> Answer<Vec<ManagedId>> {
        let run = self.run;
        if run.begin.strategy == Strategy::Swap {
            return Ok(Vec::new());
        }
        let list = self.list()?;
        self.reap(list)?;
        let base = run.base.as_ref();
        let mut unknown: Vec<_> = list.secrets.iter().map(|listed| listed.id.clone()).collect();
        unknown.retain(|id| {
            let new = run.new.as_ref().and_then(|new| new.id.as_ref());
            Some(id) != new && base.is_none_or(|base| base.old_id.as_ref() != Some(id) && !base.listed.contains(id))
        });
        Ok(unknown)
    }
}

/// Which of the list is the secret that the stores hold: the one that the document names, or that a run recorded, or the
/// only one there is.
fn the_old_one(list: &List, named: Option<ManagedId>, recorded: Option<ManagedId>) -> Option<ManagedId> {
    if let Some(id) = named.or(recorded) {
        return list.find(&id).map(|listed| listed.id.clone());
    }
    let mut all = list.secrets.iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Some(only.id.clone()),
        _ => None,
    }
}
