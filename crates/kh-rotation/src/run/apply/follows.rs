//! Which intent may follow which records.
//!
//! Invariant: an intent names only what the journal names: its own writes, its expected versions, the ids it may delete.

use kh_core::port::{Strategy, rotation_journal::Grade};

use super::{Fold, ensure};
use crate::{
    effect::{Effect, Escrow},
    record::Basis,
    run::{Course, Run, fits},
};

/// Whether the intent of `effect` may be the next record.
pub(super) fn follows(run: &Run, effect: &Effect, basis: Option<&Basis>) -> Fold {
    let forward = run.course == Course::Forward;
    let by_id = run.begin.strategy != Strategy::Swap;
    let old = run.base.as_ref().and_then(|base| base.old_id.as_ref());
    let next_attempt = |attempt: u32| attempt == run.attempts.saturating_add(1);
    let index = |store: &str| run.store_index(store).ok_or("the run has no such store");
    match effect {
        Effect::Mint => ensure(run.minted.is_none() && run.new.is_none(), "the token was minted already"),
        Effect::Create { attempt, listed, .. } => {
            ensure(forward && by_id && run.new.is_none() && next_attempt(*attempt), "no secret is to be made now")?;
            ensure(fits(listed.len()), "it is longer than a record may be")
        }
        Effect::Regenerate { attempt, .. } => {
            ensure(forward && !by_id && run.new.is_none() && next_attempt(*attempt), "no secret is to be made now")
        }
        Effect::Stage { store, token, document } => {
            index(store)?;
            let made = if *document == Escrow::New { forward && run.verified } else { !forward && run.touched() };
            ensure(*token == run.write(store, *document), "the write has another name")?;
            ensure(made, "nothing is to be staged now")
        }
        Effect::Promote { store, token, document, expect } => {
            let index = index(store)?;
            let state = run.stores.get(index).ok_or("the run has no such store")?;
            let staged = if *document == Escrow::New { forward && state.staged } else { !forward && state.back_staged };
            ensure(*token == run.write(store, *document), "the write has another name")?;
            ensure(*expect == run.expectation(index, *document), "it expects another version than was journalled")?;
            ensure(staged, "nothing is staged there")
        }
        Effect::Unstage { store, .. } => {
            index(store)?;
            ensure(!forward, "only what is rolled back is unstaged")
        }
        Effect::Hook { name, document, .. } => {
            ensure(run.begin.hooks.contains(name), "the run has no such hook")?;
            let live = if *document == Escrow::Old { run.back_at } else { run.promoted_at };
            ensure(live.is_some(), "a hook is called after the promotion")
        }
        Effect::Stop { id, .. } | Effect::Prune { id, .. } => {
            ensure(forward && Some(id) == old, "only the journalled old secret is taken away")?;
            ensure(run.pruned_at.is_none(), "the old secret is gone already")?;
            allowed(run, basis)
        }
        Effect::Start { id, .. } => {
            ensure(Some(id) == old && run.stop_intended && !run.prune_intended, "nothing was stopped")
        }
        Effect::Cleanup { id, .. } => {
            let mine = run.new.as_ref().is_some_and(|new| new.id.as_ref() == Some(id));
            let unused = !forward && mine && (!run.touched() || (run.back_at.is_some() && basis.is_some_and(evident)));
            ensure(unused || run.orphans.contains(id), "only what the journal names is deleted")
        }
        Effect::RevokeTokens => ensure(run.begin.level.emergency(), "tokens are revoked in an emergency only"),
    }
}

/// Evidence before a prune: from every consumer, or a person's override, or a person's emergency.
fn allowed(run: &Run, basis: Option<&Basis>) -> Fold {
    if run.begin.level.emergency() {
        return ensure(basis.is_some(), "a prune says what it is based on");
    }
    let basis = basis.ok_or("a prune says what it is based on")?;
    ensure(run.promoted_at.is_some() && run.verified, "the new secret is not live")?;
    ensure(evident(basis), "no consumer was seen with the new secret and nobody overrode it")
}

/// Whether somebody was seen with the secret that stays, or a person said that this does not matter.
fn evident(basis: &Basis) -> bool {
    let overridden = !basis.overridden.is_empty() && !basis.by.is_empty();
    let seen = basis.evidence.iter().any(|evidence| evidence.grade.is_some_and(|grade| grade > Grade::Ttl));
    overridden || (basis.overridden.is_empty() && seen)
}
