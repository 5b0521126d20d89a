//! The steps of the model: what a process, the network, a consumer or a person does.
//!
//! Invariant: a process does what the core says, and nothing else.

use std::{sync::Arc, time::Duration};

use kh_core::port::{
    Strategy,
    rotation_journal::{Grade, Hold, Sighting},
};
use kh_rotation::{
    Decision, Effect, Entry, Escrow, Look, Order, Outcome, Run, Step, View, decide, settle,
    view::{Checked, JournalView, List, Listed, Live, TryFailure, Uses},
};

use super::{Action, Phase, Process, ROTATORS, Reader, Setup, State, name, policy};
use crate::{
    sim::START,
    world::{Call, Cas, fp, id, version},
};

impl Setup {
    fn commutes(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Stop { .. } | Effect::Start { .. } | Effect::Regenerate { .. } => !self.bounded,
            Effect::Promote { .. } => !self.bounded_stores,
            _ => true,
        }
    }

    /// Whether a call that does not commute is under way anywhere but at `except`.
    fn under_way(&self, state: &State, except: usize) -> bool {
        let sent = state.rotators.iter().enumerate().any(|(index, process)| {
            let call = process.as_ref().and_then(|process| match &process.phase {
                Phase::Sent(call) => Some(call),
                Phase::Thinking | Phase::Answered(_) => None,
            });
            index != except && call.is_some_and(|call| !self.commutes(&call.effect))
        });
        sent || state.late.iter().any(|call| !self.commutes(&call.effect))
    }

    fn lease(state: &mut State, index: usize) -> Option<()> {
        let other = state.rotators.iter().any(|process| process.as_ref().is_some_and(|p| p.fence == state.fence));
        if other {
            state.expiries = state.expiries.checked_sub(1)?;
        }
        let run = Run::replay(state.log.records.iter()).ok()?;
        state.fence += 1;
        state.ghost.taken_over |= state.log.records.len() > 1;
        let process = Process {
            fence: state.fence,
            run: Arc::new(run),
            run_digest: state.log.digest,
            view: Arc::default(),
            view_digest: 0,
            phase: Phase::Thinking,
        };
        state.rotators[index] = Some(process);
        Some(())
    }

    fn think(&self, state: &mut State, index: usize) -> Option<()> {
        let process = state.rotators[index].as_ref()?;
        if process.phase != Phase::Thinking {
            return None;
        }
        match decide(&process.run, &process.view, &policy(self), START) {
            Decision::Record(entry) => self.append(state, index, &entry),
            Decision::Do(effect) => self.send(state, index, effect),
            Decision::Look(look) => self.look(state, index, &look),
            Decision::Wait { .. } => {
                let process = state.rotators[index].as_mut()?;
                let view = process.view.after_wait();
                if view == *process.view {
                    return None;
                }
                process.see(view);
                Some(())
            }
            Decision::NeedsOperator(_) => None,
            Decision::Ended => {
                state.rotators[index] = None;
                Some(())
            }
        }
    }

    fn append(&self, state: &mut State, index: usize, entry: &Entry) -> Option<()> {
        let process = state.rotators[index].as_mut()?;
        process.phase = Phase::Thinking;
        let effect = match &entry.record.step {
            Step::Intended { effect, .. } => Some(effect),
            Step::Settled { .. } => process.run.open().map(|open| &open.effect),
            _ => None,
        };
        let takes =
            |effect: &Effect| matches!(effect, Effect::Stop { .. } | Effect::Prune { .. } | Effect::Cleanup { .. });
        if !self.deletes_journalled && effect.is_some_and(takes) {
            process.take(&entry.record);
            process.see(View::after_append(entry.intends()));
            return Some(());
        }
        if self.fenced && process.fence != state.fence {
            state.ghost.fenced_off = true;
            state.rotators[index] = None;
            return Some(());
        }
        if self.fenced && self.deletes_journalled && process.run_digest != state.log.digest {
            // A person's order came between: the process reads the journal again.
            process.run = Arc::new(Run::replay(state.log.records.iter()).expect("the core follows its own records"));
            process.run_digest = state.log.digest;
            process.see(View::default());
            return Some(());
        }
        if entry.unless_held && state.held {
            if self.hold_checked {
                state.ghost.hold_kept = true;
                process.see(View::default());
                return Some(());
            }
            state.ghost.hold_broken = true;
        }
        process.take(&entry.record);
        process.see(View::after_append(entry.intends()));
        state.log.push(&entry.record);
        Some(())
    }

    fn send(&self, state: &mut State, index: usize, effect: Effect) -> Option<()> {
        let in_flight = self.under_way(state, index);
        let process = state.rotators[index].as_mut()?;
        if !self.commutes(&effect) {
            if process.fence != state.fence {
                state.rotators[index] = None;
                return Some(());
            }
            if in_flight {
                return None;
            }
        }
        if let Effect::Create { attempt, .. } | Effect::Regenerate { attempt, .. } = &effect {
            state.ghost.twice |= state.ghost.sent.contains(attempt);
            state.ghost.sent.push(*attempt);
        }
        let document = |which: Escrow| document(&process.run, which);
        let value = match &effect {
            Effect::Stage { document: which, .. } => document(*which),
            _ => 0,
        };
        let reread = match &effect {
            Effect::Promote { store, .. } if self.cas == Cas::Reread => Some(state.world.store(store).version),
            _ => None,
        };
        let mut view = (*process.view).clone();
        view.armed = false;
        process.see(view);
        process.phase = Phase::Sent(Box::new(Call { run: process.run.began().run, effect, value, reread }));
        Some(())
    }

    fn look(&self, state: &mut State, index: usize, look: &Look) -> Option<()> {
        // What became of a regenerate is asked only when none can be under way.
        let undecided = matches!(look, Look::Try { document: Escrow::Old });
        if undecided && self.strategy == Strategy::Swap && self.under_way(state, ROTATORS) {
            return None;
        }
        let process = state.rotators[index].as_ref()?;
        let mut view = (*process.view).clone();
        let run = Arc::clone(&process.run);
        let world = &mut state.world;
        match look {
            Look::Check { .. } => view.check = Some(Checked::default()),
            Look::List { .. } => {
                let listed = world.platform.secrets.iter().map(|secret| Listed {
                    id: id(secret.id),
                    name: secret.label.clone(),
                    active: secret.active,
                });
                view.list = Some(List { at: START, secrets: listed.collect() });
                state.ghost.unlisted &= process.fence != state.fence;
            }
            Look::Live { store } => {
                let found = world.store(store);
                let live = Live {
                    version: Some(version(found.version)),
                    fingerprint: Some(fp(found.value)),
                    id: Some(id(found.value)),
                    run: found.run,
                    behind: Vec::new(),
                };
                view.live.insert(store.clone(), live);
            }
            Look::Try { document: which } => {
                let works = world.platform.accepts(document(&run, *which));
                let result = if works { Ok(()) } else { Err(TryFailure::Dead("invalid_client".into())) };
                view.tried(*which, START, result);
            }
            Look::Token => view.token = Some(true),
            Look::Journal => {
                let hold = || Hold { since: START, actor: "bob".into(), reason: "keep".into() };
                let readers = state.readers.iter().enumerate();
                let seen = readers.map(|(index, reader)| sighting(index, self.claimed(&run, *reader)));
                view.journal = Some(JournalView {
                    at: START,
                    hold: state.held.then(hold),
                    approvals: Vec::new(),
                    sightings: seen.collect(),
                });
            }
            Look::Uses { id, since, .. } => view.uses = Some(Uses { id: id.clone(), since: *since, count: None }),
        }
        state.rotators[index].as_mut()?.see(view);
        Some(())
    }

    /// The secret that the journal tells of a consumer.
    fn claimed(&self, run: &Run, reader: Reader) -> u32 {
        if self.forged && run.promoted_at().is_some() { document(run, Escrow::New) } else { reader.seen }
    }

    /// Carries out what `index` sent, and answers.
    fn arrive(state: &mut State, index: usize, answered: bool) -> Option<()> {
        let process = state.rotators[index].as_mut()?;
        let Phase::Sent(call) = process.phase.clone() else { return None };
        state.ghost.unlisted |= process.fence != state.fence && matches!(call.effect, Effect::Create { .. });
        let outcome = state.world.arrive(&call);
        Self::answer(state, index, &call, if answered { outcome } else { unknown() })
    }

    fn answer(state: &mut State, index: usize, call: &Call, outcome: Outcome) -> Option<()> {
        let process = state.rotators[index].as_mut()?;
        let entry = settle(&process.run, &call.effect, outcome, START);
        process.phase = Phase::Answered(Box::new(entry));
        Some(())
    }

    pub(super) fn step(&self, state: &mut State, action: &Action) -> Option<()> {
        match *action {
            Action::Take(index) => Self::lease(state, index),
            Action::Think(index) => self.think(state, index),
            Action::Arrive(index) => Self::arrive(state, index, true),
            Action::LoseAnswer(index) => {
                state.losses -= 1;
                Self::arrive(state, index, false)
            }
            Action::LoseRequest(index) => {
                state.losses -= 1;
                let Phase::Sent(call) = state.rotators[index].as_ref()?.phase.clone() else { return None };
                state.late.push((*call).clone());
                Self::answer(state, index, &call, unknown())
            }
            Action::Note(index) => {
                let Phase::Answered(entry) = state.rotators[index].as_ref()?.phase.clone() else { return None };
                self.append(state, index, &entry)
            }
            Action::Crash(index) => {
                state.crashes -= 1;
                if let Phase::Sent(call) = state.rotators[index].take()?.phase {
                    state.late.push(*call);
                }
                Some(())
            }
            Action::Late(which) => {
                let call = state.late.remove(which);
                state.ghost.unlisted |= matches!(call.effect, Effect::Create { .. });
                state.world.arrive(&call);
                Some(())
            }
            Action::Read(index) => {
                let value = state.world.stores[index].value;
                state.readers[index] = Reader { cached: value, seen: value };
                Some(())
            }
            Action::Hold => {
                state.holds -= 1;
                state.held = true;
                Some(())
            }
            Action::Unhold => {
                state.held = false;
                Some(())
            }
            Action::Rollback => {
                state.rollbacks -= 1;
                let run = Run::replay(state.log.records.iter()).ok()?;
                let entry = run.order(Order::Rollback, "ann", "", START).ok()?;
                state.log.push(&entry.record);
                Some(())
            }
        }
    }
}

fn unknown() -> Outcome {
    Outcome::Unknown { reason: "no answer".into() }
}

fn document(run: &Run, which: Escrow) -> u32 {
    let fingerprint = match which {
        Escrow::New => run.new_secret().map(|new| new.fingerprint.clone()),
        Escrow::Old | Escrow::Token => run.baseline().map(|base| base.old.clone()),
    };
    fingerprint.map_or(0, |found| u32::from_str_radix(found.as_str(), 16).unwrap())
}

fn sighting(index: usize, secret: u32) -> Sighting {
    Sighting {
        credential: "acme".parse().unwrap(),
        consumer: name(index),
        fingerprint: fp(secret),
        version: None,
        grade: Grade::Used,
        at: START,
        alive_until: START.plus(Duration::from_hours(1)),
    }
}
