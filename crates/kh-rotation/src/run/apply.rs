//! Folding records into a run, and what may follow what.
//!
//! Invariant: every arm either refuses the record or leaves the run in a state that some history of the core reaches.

mod follows;

use kh_core::{
    Fingerprint, UnixMillis,
    port::{Strategy, rotation_journal::ApprovalOf},
    rotation::{ManagedId, VersionId},
};

use self::follows::follows;
use super::{Course, HookState, Need, NewSecret, Open, Run, StoreState, fits};
use crate::{
    effect::{Effect, Escrow, Outcome},
    record::{Baseline, Basis, End, Finding, Level, Order, RECORD_VERSION, Record, Step},
};

/// A record that cannot follow the ones before it: the journal is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rotation journal is damaged at record {seq}: {why}")]
pub struct Impossible {
    /// Its position, from 1 upward.
    pub seq: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

type Fold = Result<(), &'static str>;

fn ensure(holds: bool, why: &'static str) -> Fold {
    if holds { Ok(()) } else { Err(why) }
}

pub(super) fn begin(record: &Record) -> Result<Run, Impossible> {
    let first = |why| Impossible { seq: 1, why };
    if record.v != RECORD_VERSION {
        return Err(first("it has another version"));
    }
    let Step::Begun(begin) = &record.step else { return Err(first("a run begins with its beginning")) };
    let begin = (**begin).clone();
    if begin.places.is_empty() && begin.level != Level::Kill {
        return Err(first("a credential without a store cannot be rotated"));
    }
    let lists = [begin.places.len(), begin.hooks.len(), begin.earlier.len()];
    if !lists.into_iter().all(fits) {
        return Err(first("it is longer than a record may be"));
    }
    let hooks = vec![HookState::default(); begin.hooks.len()];
    Ok(Run {
        stores: vec![StoreState::default(); begin.places.len()],
        began_at: record.at,
        seq: 1,
        last_at: record.at,
        approved: false,
        approved_at: None,
        hurried: None,
        base: None,
        base_at: record.at,
        open: None,
        failures: 0,
        retry_at: None,
        failure: None,
        refused: None,
        full: false,
        attempts: 0,
        spent: 0,
        intents: Vec::new(),
        made: Vec::new(),
        orphans: Vec::new(),
        cleaned: Vec::new(),
        foreign: Vec::new(),
        new: None,
        verified: false,
        confirmed: false,
        lost: false,
        dead_since: None,
        minted: None,
        mint_over: false,
        old_tokens: None,
        promoted_at: None,
        back_at: None,
        back_hooks: hooks.clone(),
        hooks,
        stop_intended: false,
        stopped_at: None,
        prune_intended: false,
        pruned_at: None,
        new_cleaned: false,
        tokens_revoked: false,
        tokens_left: None,
        basis: None,
        course: Course::Forward,
        alarm: None,
        stuck: None,
        ended: None,
        begin,
    })
}

pub(super) fn apply(run: &mut Run, record: &Record) -> Result<(), Impossible> {
    let seq = run.seq.saturating_add(1);
    let checked = ensure(record.v == RECORD_VERSION, "it has another version")
        .and_then(|()| ensure(run.ended.is_none(), "the run has ended"))
        .and_then(|()| step(run, record.at, &record.step));
    checked.map_err(|why| Impossible { seq, why })?;
    run.seq = seq;
    run.last_at = run.last_at.max(record.at);
    Ok(())
}

fn step(run: &mut Run, at: UnixMillis, step: &Step) -> Fold {
    let by_person = matches!(step, Step::Ordered { .. } | Step::Ended { .. });
    ensure(run.stuck.is_none() || by_person, "the run stands still until a person decides")?;
    let answers = matches!(
        step,
        Step::Settled { .. } | Step::Resolved { .. } | Step::Ordered { .. } | Step::Alarmed { .. } | Step::Stuck { .. }
    );
    let abandoned = run.course == Course::Abandon;
    ensure(run.open.is_none() || answers || abandoned, "an intent is open")?;
    match step {
        Step::Begun(_) => Err("a run begins once"),
        Step::Approved { of, .. } => {
            ensure(!run.approved && *of != ApprovalOf::Prune, "the run was approved already")?;
            run.approved = true;
            run.approved_at = Some(at);
            Ok(())
        }
        Step::Preflighted(base) => preflighted(run, at, base),
        Step::Intended { effect, basis } => intended(run, at, effect, basis.as_deref()),
        Step::Settled { outcome } => settled(run, at, outcome),
        Step::Resolved { finding } => resolved(run, at, finding),
        Step::Orphaned { ids } => {
            ensure(!ids.iter().all(|id| run.orphans.contains(id)), "these are known already")?;
            orphaned(run, ids)
        }
        Step::Verified { .. } => {
            let again = run.begin.strategy == Strategy::Swap && run.promoted_at.is_some() && !run.confirmed;
            ensure(run.new.is_some() && (!run.verified || again), "there is nothing to verify")?;
            run.confirmed = run.verified;
            run.verified = true;
            Ok(())
        }
        Step::Rejected { .. } => rejected(run),
        Step::OldTokens { alive } => {
            ensure(run.minted.is_some() && run.new.is_some() && run.old_tokens.is_none(), "no old token is known")?;
            run.old_tokens = Some(*alive);
            Ok(())
        }
        Step::Ordered { order, actor, .. } => ordered(run, at, order, actor),
        Step::Alarmed { why, next } => {
            run.alarm = Some(Need { why: why.clone(), next: next.clone() });
            Ok(())
        }
        Step::Stuck { why, next } => {
            run.stuck = Some(Need { why: why.clone(), next: next.clone() });
            Ok(())
        }
        Step::Ended { end } => ended(run, at, end),
    }
}

fn preflighted(run: &mut Run, at: UnixMillis, base: &Baseline) -> Fold {
    ensure(run.base.is_none() && run.course == Course::Forward, "the preflight is over already")?;
    ensure(base.expected.len() == run.begin.places.len(), "it expects other stores than the run has")?;
    ensure(fits(base.listed.len()), "it is longer than a record may be")?;
    let by_id = run.begin.strategy != Strategy::Swap;
    ensure(!by_id || base.old_id.as_ref().is_some_and(|id| base.listed.contains(id)), "the old secret is not listed")?;
    run.base = Some(base.clone());
    run.base_at = at;
    run.calm();
    Ok(())
}

impl Run {
    /// Forgets failures: a step succeeded, or a person said to try again.
    fn calm(&mut self) {
        self.failures = 0;
        self.retry_at = None;
        self.failure = None;
        self.refused = None;
    }

    fn store_index(&self, name: &str) -> Option<usize> {
        self.begin.places.iter().position(|place| place.store == name)
    }

    fn store(&mut self, name: &str) -> Result<&mut StoreState, &'static str> {
        let index = self.store_index(name).ok_or("the run has no such store")?;
        self.stores.get_mut(index).ok_or("the run has no such store")
    }

    fn hook(&mut self, name: &str, document: Escrow) -> Result<&mut HookState, &'static str> {
        let index = self.begin.hooks.iter().position(|hook| hook == name).ok_or("the run has no such hook")?;
        let hooks = if document == Escrow::Old { &mut self.back_hooks } else { &mut self.hooks };
        hooks.get_mut(index).ok_or("the run has no such hook")
    }

    /// The version that the next promotion in the store at `index` replaces.
    pub(crate) fn expectation(&self, index: usize, document: Escrow) -> Option<VersionId> {
        let planned = self.base.as_ref().and_then(|base| base.expected.get(index)).cloned().flatten();
        let promoted = self.stores.get(index).and_then(|store| store.promoted.clone());
        if document == Escrow::Old { promoted.or(planned) } else { planned }
    }
}

fn intended(run: &mut Run, at: UnixMillis, effect: &Effect, basis: Option<&Basis>) -> Fold {
    ensure(run.base.is_some(), "nothing may be changed before the preflight")?;
    ensure(run.course != Course::Abandon, "the run was abandoned")?;
    follows(run, effect, basis)?;
    match effect {
        Effect::Create { attempt, .. } | Effect::Regenerate { attempt, .. } => {
            run.attempts = *attempt;
            run.spent = run.spent.saturating_add(1);
            run.intents.push(at);
            if matches!(effect, Effect::Regenerate { .. }) {
                run.dead_since.get_or_insert(at);
            }
            for store in &mut run.stores {
                store.staged = false;
            }
        }
        Effect::Promote { store, document: Escrow::New, .. } => run.store(store)?.touched = true,
        Effect::Stop { .. } => run.stop_intended = true,
        Effect::Prune { .. } => run.prune_intended = true,
        _ => {}
    }
    if let Some(basis) = basis {
        run.basis = Some(basis.clone());
    }
    // What a person was told to look at is over when the run goes on; not while it undoes a stop.
    if !matches!(effect, Effect::Start { .. } | Effect::Hook { .. } | Effect::Cleanup { .. } | Effect::RevokeTokens) {
        run.alarm = None;
    }
    run.open = Some(Open { effect: effect.clone(), at, unknown_at: None, conflict: None });
    Ok(())
}

fn settled(run: &mut Run, at: UnixMillis, outcome: &Outcome) -> Fold {
    let open = run.open.as_ref().ok_or("there is no intent to settle")?;
    let effect = open.effect.clone();
    match outcome {
        Outcome::Unknown { reason } => {
            if let Some(open) = &mut run.open {
                open.unknown_at = Some(at);
            }
            return failed(run, at, &effect, reason, None);
        }
        Outcome::Conflict { found } => {
            ensure(matches!(effect, Effect::Promote { .. }), "only a promotion can conflict")?;
            if let Some(open) = &mut run.open {
                open.conflict = Some(found.clone());
            }
            return Ok(());
        }
        Outcome::NotDone { reason, retry_after_ms } => {
            run.open = None;
            refund(run, &effect);
            return failed(run, at, &effect, reason, *retry_after_ms);
        }
        Outcome::Refused { reason, full } => {
            run.open = None;
            refund(run, &effect);
            return refused(run, &effect, reason, *full);
        }
        Outcome::Done | Outcome::Created { .. } | Outcome::Minted { .. } | Outcome::Promoted { .. } => {}
    }
    match (&effect, outcome) {
        (Effect::Create { listed, .. }, Outcome::Created { id: Some(id), fingerprint }) => {
            ensure(!listed.contains(id), "the new secret was listed before it was made")?;
            made(run, at, Some(id.clone()), fingerprint);
        }
        (Effect::Regenerate { .. }, Outcome::Created { id, fingerprint }) => {
            made(run, at, id.clone(), fingerprint);
            run.pruned_at = Some(at);
        }
        (Effect::Mint, Outcome::Minted { expires_at }) => run.minted = Some(*expires_at),
        (Effect::Promote { store, document, .. }, Outcome::Promoted { version }) => {
            promoted(run, at, store, *document, version)?;
        }
        (_, Outcome::Done) => done(run, at, &effect)?,
        _ => return Err("the outcome does not belong to the open intent"),
    }
    run.open = None;
    run.calm();
    Ok(())
}

/// The platform said that nothing was made, so the attempt does not count.
fn refund(run: &mut Run, effect: &Effect) {
    if matches!(effect, Effect::Create { .. } | Effect::Regenerate { .. }) {
        run.spent = run.spent.saturating_sub(1);
        run.intents.pop();
        alive_after_all(run);
    }
}

/// A regenerate was not carried out: the old secret lives, unless an earlier one ended it.
fn alive_after_all(run: &mut Run) {
    if !run.lost {
        run.dead_since = None;
    }
}

fn made(run: &mut Run, at: UnixMillis, id: Option<ManagedId>, fingerprint: &Fingerprint) {
    if let Some(id) = &id {
        run.made.push((id.clone(), Some(fingerprint.clone())));
    }
    run.new = Some(NewSecret { id, fingerprint: fingerprint.clone(), at });
    run.full = false;
}

fn promoted(run: &mut Run, at: UnixMillis, store: &str, document: Escrow, version: &VersionId) -> Fold {
    let state = run.store(store)?;
    if document == Escrow::Old {
        state.back = Some(version.clone());
        if run.stores.iter().all(|store| !store.touched || store.back.is_some()) {
            run.back_at = Some(at);
        }
        return Ok(());
    }
    state.promoted = Some(version.clone());
    if run.stores.iter().all(|store| store.promoted.is_some()) {
        run.promoted_at = Some(at);
    }
    Ok(())
}

fn done(run: &mut Run, at: UnixMillis, effect: &Effect) -> Fold {
    match effect {
        Effect::Stage { store, document: Escrow::Old, .. } => run.store(store)?.back_staged = true,
        Effect::Stage { store, document: Escrow::New | Escrow::Token, .. } => {
            let state = run.store(store)?;
            (state.staged, state.stale) = (true, false);
        }
        Effect::Unstage { store, .. } => run.store(store)?.staged = false,
        Effect::Hook { name, document, .. } => {
            let hook = run.hook(name, *document)?;
            (hook.done, hook.failing) = (true, false);
        }
        Effect::Stop { .. } => {
            run.stopped_at = Some(at);
            // where only active ones are counted there is room now
            run.full = false;
        }
        Effect::Start { .. } => {
            run.stopped_at = None;
            run.stop_intended = false;
        }
        Effect::Prune { .. } => run.pruned_at = Some(at),
        Effect::Cleanup { id, .. } => {
            run.orphans.retain(|orphan| orphan != id);
            run.cleaned.push(id.clone());
            run.full = false;
            if run.new.as_ref().is_some_and(|new| new.id.as_ref() == Some(id)) {
                run.new_cleaned = true;
            }
        }
        Effect::RevokeTokens => run.tokens_revoked = true,
        Effect::Mint | Effect::Create { .. } | Effect::Regenerate { .. } | Effect::Promote { .. } => {
            return Err("the outcome does not belong to the open intent");
        }
    }
    Ok(())
}

fn failed(run: &mut Run, at: UnixMillis, effect: &Effect, reason: &str, retry_after_ms: Option<u64>) -> Fold {
    let after = retry_after_ms.map(|ms| UnixMillis(at.0.saturating_add(ms)));
    if let Effect::Hook { name, document, .. } = effect {
        run.open = None;
        let hook = run.hook(name, *document)?;
        hook.failures = hook.failures.saturating_add(1);
        hook.failing = true;
        hook.retry_at = Some(after.unwrap_or(at));
        hook.reason = Some(reason.to_owned());
        return Ok(());
    }
    run.failures = run.failures.saturating_add(1);
    run.retry_at = Some(after.unwrap_or(at));
    run.failure = Some(reason.to_owned());
    Ok(())
}

fn refused(run: &mut Run, effect: &Effect, reason: &str, full: bool) -> Fold {
    match effect {
        Effect::Hook { name, document, .. } => {
            let hook = run.hook(name, *document)?;
            hook.refused = true;
            hook.failures = hook.failures.saturating_add(1);
            hook.failing = true;
            hook.reason = Some(reason.to_owned());
        }
        // What is not there to be revoked, or a staged document that nobody reads, is no reason to stand still.
        Effect::RevokeTokens => {
            run.tokens_revoked = true;
            run.tokens_left = Some(reason.to_owned());
        }
        Effect::Unstage { store, .. } => run.store(store)?.staged = false,
        Effect::Mint if run.begin.level.emergency() => run.mint_over = true,
        Effect::Create { .. } if full && run.begin.level == Level::Revoke && !run.prune_intended => run.full = true,
        _ => run.refused = Some(reason.to_owned()),
    }
    Ok(())
}

fn resolved(run: &mut Run, at: UnixMillis, finding: &Finding) -> Fold {
    let open = run.open.as_ref().ok_or("there is no intent to resolve")?;
    let effect = open.effect.clone();
    let conflict = open.conflict.is_some();
    match (&effect, finding) {
        (Effect::Create { .. } | Effect::Regenerate { .. }, Finding::NotDone) => alive_after_all(run),
        (Effect::Create { listed, .. }, Finding::Orphans { ids }) => {
            ensure(ids.iter().all(|id| !listed.contains(id)), "an orphan was listed before it was made")?;
            orphaned(run, ids)?;
        }
        (Effect::Regenerate { .. }, Finding::Lost) => {
            run.lost = true;
            run.pruned_at = Some(at);
        }
        (Effect::Promote { store, document, .. }, Finding::Live { version }) => {
            ensure(conflict, "the promotion has no conflict")?;
            promoted(run, at, store, *document, version)?;
        }
        _ => return Err("the finding does not belong to the open intent"),
    }
    run.open = None;
    run.calm();
    Ok(())
}

fn orphaned(run: &mut Run, ids: &[ManagedId]) -> Fold {
    let base = run.base.as_ref().ok_or("nothing was listed yet")?;
    let old = base.old_id.as_ref();
    let kept = run.new.as_ref().and_then(|new| new.id.as_ref());
    let own = ids.iter().any(|id| Some(id) == old || Some(id) == kept);
    ensure(!ids.is_empty() && fits(ids.len()) && !own, "a secret in use is no orphan")?;
    for id in ids {
        if !run.orphans.contains(id) {
            run.orphans.push(id.clone());
        }
    }
    Ok(())
}

fn rejected(run: &mut Run) -> Fold {
    let new = run.new.take().ok_or("there is no new secret")?;
    let untouched = !run.touched() && run.begin.strategy != Strategy::Swap;
    ensure(untouched && !run.verified, "a secret that was verified is not rejected")?;
    run.orphans.extend(new.id);
    run.calm();
    Ok(())
}

fn ordered(run: &mut Run, at: UnixMillis, order: &Order, actor: &str) -> Fold {
    ensure(super::order::refusal(run, order).is_none(), "the order was not possible")?;
    run.stuck = None;
    run.alarm = None;
    run.calm();
    for hook in run.hooks.iter_mut().chain(&mut run.back_hooks) {
        hook.refused = false;
        hook.retry_at = None;
        hook.failures = 0;
        hook.skipped |= *order == Order::SkipHooks && !hook.done;
    }
    match order {
        Order::Resume => run.full = false,
        Order::SkipHooks => {}
        Order::Adopt { store, version } => {
            let index = run.store_index(store).ok_or("the run has no such store")?;
            let base = run.base.as_mut().ok_or("nothing is expected yet")?;
            *base.expected.get_mut(index).ok_or("the run has no such store")? = Some(version.clone());
            run.store(store)?.stale = true;
            run.open = None;
        }
        Order::Own { ids } => orphaned(run, ids)?,
        Order::Foreign { ids } => run.foreign.extend(ids.iter().cloned()),
        Order::Hurry { level } => {
            run.begin.level = *level;
            run.hurried = Some((at, actor.to_owned()));
            // who agreed to a plain run did not agree to this
            run.approved = false;
            run.approved_at = None;
        }
        Order::Rollback | Order::Abort => {
            run.course = Course::Back { since: at, abort: *order == Order::Abort };
            // A promotion that found another version there will not happen any more.
            run.open = run.open.take().filter(|open| open.conflict.is_none());
        }
        Order::Abandon => run.course = Course::Abandon,
    }
    Ok(())
}

fn ended(run: &mut Run, at: UnixMillis, end: &End) -> Fold {
    let back = |abort: bool| matches!(run.course, Course::Back { abort: was, .. } if was == abort);
    let cleaned = run.new.is_none() || run.new_cleaned;
    let fits = match end {
        End::Completed { .. } => {
            run.course == Course::Forward
                && run.promoted_at.is_some()
                && run.pruned_at.is_some()
                && run.orphans.is_empty()
        }
        End::RolledBack { .. } => back(false) && cleaned && run.orphans.is_empty(),
        End::Aborted { .. } => back(true) && cleaned && run.orphans.is_empty(),
        End::Killed => run.begin.level == Level::Kill && (run.stopped_at.is_some() || run.pruned_at.is_some()),
        End::Abandoned { .. } => run.course == Course::Abandon,
    };
    ensure(fits, "the run cannot have ended so")?;
    run.ended = Some((end.clone(), at));
    run.open = None;
    run.stuck = None;
    Ok(())
}
