//! The gate before a secret is taken away from its consumers: evidence that the other one is in use.
//!
//! Invariant: time alone never opens it. What is not known of consumers can be overridden by persons, on record; what is
//! known to be wrong cannot. On the way back nothing counts that was ordered or agreed to before it.

use kh_core::{
    Fingerprint, UnixMillis,
    port::{
        Strategy,
        rotation_journal::{ApprovalOf, Grade, Sighting},
    },
    rotation::ManagedId,
};

use super::{Answer, Ask, Block, Decision, Why};
use crate::{
    effect::Escrow,
    policy::{Consumer, Reads},
    record::{Basis, Evidence, Level, Step},
    run::Course,
    status::command,
    view::{Look, TryFailure},
};

/// Which secret stays and which goes.
pub(super) struct Side<'a> {
    pub(super) keep: &'a Fingerprint,
    pub(super) keep_id: Option<&'a ManagedId>,
    pub(super) keep_document: Escrow,
    pub(super) drop: &'a Fingerprint,
    pub(super) drop_id: &'a ManagedId,
    /// When the one that stays became live in every store.
    pub(super) since: UnixMillis,
}

impl Consumer {
    fn is(&self, name: &str) -> bool {
        name.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Ask<'_> {
    pub(super) fn reads_tokens(self, name: &str) -> bool {
        self.policy.consumers.iter().any(|consumer| consumer.reads == Reads::Tokens && consumer.is(name))
    }

    /// What allows taking `side.drop` away, or what must happen first.
    pub(super) fn gate(self, side: &Side<'_>) -> Answer<Basis> {
        let run = self.run;
        self.open_now()?;
        self.not_held()?;
        let evidence = self.evidence(side)?;
        let mut blocks = self.missing(side, &evidence)?;
        // Cheap looks come first; the others are made only when consumers are ready.
        let by = self.override_by(side)?;
        if blocks.iter().any(|block| by.is_empty() || !block.overridable()) {
            return Err(self.closed(side, blocks));
        }
        let overridden: Vec<_> = blocks.iter().map(ToString::to_string).collect();
        blocks = self.wrong(side)?;
        if !blocks.is_empty() {
            return Err(self.closed(side, blocks));
        }
        if let Some(uses) = self.counted(side)? {
            if by.is_empty() {
                return Err(self.closed(side, vec![Block::Counted { uses }]));
            }
            let block = Block::Counted { uses };
            let overridden = overridden.into_iter().chain([block.to_string()]).collect();
            return Ok(Basis { evidence, overridden, by });
        }
        let by = if overridden.is_empty() { Vec::new() } else { by };
        debug_assert!(run.open.is_none(), "the gate is asked between two changes");
        Ok(Basis { evidence, overridden, by })
    }

    /// Waits for what keeps the gate closed; when that takes too long a person is told.
    fn closed(self, side: &Side<'_>, blocks: Vec<Block>) -> Decision {
        let run = self.run;
        let late = self.now.since(side.since) >= self.policy.overlap_max;
        if late && run.alarm.is_none() {
            let why = Why::Consumers(blocks).to_string();
            return self.record(Step::Alarmed { why, next: command::approve(run, ApprovalOf::Prune) });
        }
        let poll = self.now.plus(self.policy.backoff.poll);
        let until = match blocks.first() {
            Some(Block::Overlap { until }) if blocks.len() == 1 => *until,
            _ => poll,
        };
        self.wait(until, Why::Consumers(blocks))
    }

    /// Whether a person wants the secret that goes to go soon. On the way back it is the new one, which nobody ordered
    /// to die.
    fn hurries(self) -> bool {
        self.run.begin.level.emergency() && self.run.course == Course::Forward
    }

    /// Persons who said that evidence need not be complete: of the secret that goes now.
    fn override_by(self, side: &Side<'_>) -> Answer<Vec<String>> {
        let run = self.run;
        if let Course::Back { since, .. } = run.course {
            return Ok(self.enough(self.approved_since(ApprovalOf::Prune, since)?));
        }
        let picked_up = self.now.since(side.since) >= self.policy.emergency.pickup;
        if run.begin.level == Level::Fast && picked_up {
            let mut by = self.approved(ApprovalOf::Revoke)?;
            by.insert(0, run.urgent().1.to_owned());
            return Ok(by);
        }
        Ok(self.enough(self.approved(ApprovalOf::Prune)?))
    }

    /// `by`, where they are as many as the policy asks; else nobody.
    fn enough(self, by: Vec<String>) -> Vec<String> {
        if by.len() >= self.policy.approvals.prune.max(1) { by } else { Vec::new() }
    }

    /// What is known of each consumer: expected ones first, then those that were seen and are alive.
    pub(super) fn evidence(self, side: &Side<'_>) -> Answer<Vec<Evidence>> {
        let sightings = &self.journal()?.sightings;
        // who is alive and was seen with no other one since has it now: it may have found it in the first store before
        // it was live in the last one, and has no reason to log in again
        let other = |seen: &Sighting, of: &Sighting| seen.consumer == of.consumer && seen.fingerprint != of.fingerprint;
        let holds = |own: &Sighting| {
            own.alive_until > self.now && !sightings.iter().any(|seen| other(seen, own) && seen.at >= own.at)
        };
        let fresh = |seen: &&Sighting| seen.fingerprint == *side.keep && (seen.at >= side.since || holds(seen));
        let mut evidence = Vec::new();
        for consumer in &self.policy.consumers {
            let best = sightings.iter().filter(|seen| consumer.is(&seen.consumer)).filter(fresh);
            let best = best.max_by_key(|seen| (seen.grade, seen.at));
            let cached = self.now.since(side.since) >= consumer.cache && consumer.grade_min == Grade::Ttl;
            evidence.push(Evidence {
                consumer: consumer.name.clone(),
                grade: best.map(|seen| seen.grade).or(cached.then_some(Grade::Ttl)),
                seen_version: best.and_then(|seen| seen.version.clone()),
                at: best.map(|seen| seen.at),
            });
        }
        let known = |name: &str| self.policy.consumers.iter().any(|consumer| consumer.is(name));
        for seen in sightings.iter().filter(fresh).filter(|seen| !known(&seen.consumer)) {
            evidence.push(Evidence {
                consumer: seen.consumer.clone(),
                grade: Some(seen.grade),
                seen_version: seen.version.clone(),
                at: Some(seen.at),
            });
        }
        Ok(evidence)
    }

    /// What consumers still lack.
    fn missing(self, side: &Side<'_>, evidence: &[Evidence]) -> Answer<Vec<Block>> {
        let run = self.run;
        let mut blocks = Vec::new();
        let until = side.since.plus(self.policy.overlap_min);
        if self.now < until && !self.hurries() {
            blocks.push(Block::Overlap { until });
        }
        for (consumer, found) in self.policy.consumers.iter().zip(evidence) {
            let enough = found.grade.is_some_and(|grade| grade >= consumer.grade_min);
            if !enough && consumer.waived.is_none() {
                blocks.push(Block::Unseen { consumer: consumer.name.clone() });
            }
        }
        if !evidence.iter().any(|found| found.grade.is_some_and(|grade| grade > Grade::Ttl)) {
            blocks.push(Block::NoConsumer);
        }
        blocks.extend(self.still_used(side)?);
        for (name, state) in run.begin.hooks.iter().zip(run.course_hooks()) {
            if !state.settled() {
                let reason = state.reason.clone().unwrap_or_else(|| "not called yet".to_owned());
                blocks.push(Block::Hook { name: name.clone(), reason });
            }
        }
        Ok(blocks)
    }

    /// Everybody who was seen with the secret that goes: within the quiet time, or alive and not seen with the other
    /// one since.
    fn still_used(self, side: &Side<'_>) -> Answer<Vec<Block>> {
        let sightings = &self.journal()?.sightings;
        let later = |old: &Sighting| {
            let mut same = sightings.iter().filter(|seen| seen.consumer == old.consumer);
            same.any(|seen| seen.fingerprint == *side.keep && seen.at > old.at)
        };
        let quiet = if self.hurries() { std::time::Duration::ZERO } else { self.policy.quiet };
        let with_old = sightings.iter().filter(|seen| seen.fingerprint == *side.drop);
        let used = with_old.filter(|seen| {
            let recent = self.now.since(seen.at) < quiet;
            recent || (seen.alive_until > self.now && !later(seen))
        });
        Ok(used.map(|seen| Block::StillUsed { consumer: seen.consumer.clone(), at: seen.at }).collect())
    }

    /// What is wrong in stores and on the platform, each looked at now.
    fn wrong(self, side: &Side<'_>) -> Answer<Vec<Block>> {
        let run = self.run;
        let mut blocks = Vec::new();
        for place in &run.begin.places {
            let live = self.live(&place.store)?;
            if live.fingerprint.as_ref() != Some(side.keep) {
                blocks.push(Block::NotLive { store: place.store.clone() });
            }
            let behind = live.behind.iter().map(|region| (place.store.clone(), region.clone()));
            blocks.extend(behind.map(|(store, region)| Block::Behind { store, region }));
        }
        let look = || Decision::Look(Look::Try { document: side.keep_document });
        let login = self.view.tries.get(&side.keep_document).filter(|tries| tries.fresh).ok_or_else(look)?;
        if let Some(TryFailure::Dead(reason) | TryFailure::Rights(reason) | TryFailure::Unreachable(reason)) =
            &login.failure
        {
            blocks.push(Block::Unverified { reason: reason.clone() });
        }
        if run.begin.strategy == Strategy::Swap {
            return Ok(blocks);
        }
        let list = self.list()?;
        self.reap(list)?;
        let stays = side.keep_id.and_then(|id| list.find(id));
        if !stays.is_some_and(|listed| listed.active) {
            blocks.push(Block::Gone);
        }
        let known = |id: &ManagedId| {
            let before = run.base.as_ref().is_some_and(|base| base.listed.contains(id));
            before || Some(id) == side.keep_id || id == side.drop_id || run.foreign.contains(id)
        };
        let strangers = list.secrets.iter().filter(|listed| !known(&listed.id) && !run.cleaned.contains(&listed.id));
        blocks.extend(strangers.map(|listed| Block::Stranger { id: listed.id.clone() }));
        Ok(blocks)
    }

    /// Uses of the secret that goes within the quiet time, as the platform counts them.
    fn counted(self, side: &Side<'_>) -> Answer<Option<u64>> {
        if self.hurries() {
            return Ok(None);
        }
        let since = side.since.max(self.now.minus(self.policy.quiet));
        let look = || Decision::Look(Look::Uses { id: side.drop_id.clone(), since, by: self.acting() });
        let uses = self.view.uses.as_ref().filter(|uses| uses.id == *side.drop_id).ok_or_else(look)?;
        Ok(uses.count.filter(|count| *count > 0))
    }
}
