//! What must hold in every state, and what must happen in some.
//!
//! Invariant: the names of the safety properties are those of the decision record.

use kh_core::port::Strategy;
use kh_rotation::{Effect, Finding, Step, record::End};
use stateright::Property;

use super::space::{Phase, Setup, State};
use crate::world::{fp, number};

pub(crate) const LIVE: &str = "I1 what a store serves logs in";
pub(crate) const CONSUMER: &str = "I1 what a consumer has cached logs in";
pub(crate) const JOURNALLED: &str = "I2 nothing is deleted that the journal does not name";
pub(crate) const LEFT: &str = "I3 at the end nothing is left that is not listed";
pub(crate) const ONCE: &str = "I6 each create or regenerate is sent once under its own intent";
pub(crate) const HELD: &str = "a hold is never ignored";
pub(crate) const KNOWN: &str = "swap: while no regenerate is open, the journal knows the valid secret";
pub(crate) const PROVEN: &str = "swap: only a secret that has logged in is made live";
pub(crate) const SERVED: &str = "swap: what the stores serve at the end logs in";

pub(crate) const SHORT: &str = "I9 no history makes the journal grow without end";

fn quiet(state: &State) -> bool {
    let sent = |process: &super::space::Process| matches!(process.phase, Phase::Sent(_));
    state.late.is_empty() && !state.rotators.iter().flatten().any(sent)
}

fn end(state: &State) -> Option<&End> {
    match &state.log.records.last()?.step {
        Step::Ended { end } => Some(end),
        _ => None,
    }
}

fn live(_: &Setup, state: &State) -> bool {
    state.world.stores.iter().all(|store| state.world.platform.accepts(store.value))
}

fn consumer(_: &Setup, state: &State) -> bool {
    state.readers.iter().all(|reader| state.world.platform.accepts(reader.cached))
}

fn journalled(_: &Setup, state: &State) -> bool {
    state.world.platform.deleted.iter().all(|deleted| state.log.condemned.contains(deleted))
}

fn left(_: &Setup, state: &State) -> bool {
    let Some(end) = end(state) else { return true };
    if !quiet(state) || state.ghost.unlisted {
        return true;
    }
    let (End::Completed { unknown } | End::RolledBack { unknown } | End::Aborted { unknown }) = end else {
        return true;
    };
    let serves = |value: u32| state.world.stores.iter().any(|store| store.value == value);
    let listed = |id: u32| unknown.iter().any(|unknown| number(unknown) == id);
    state.world.platform.secrets.iter().all(|secret| serves(secret.value) || listed(secret.id))
}

fn known(_: &Setup, state: &State) -> bool {
    let mut valid = None;
    let mut open = false;
    for record in state.log.records.iter() {
        match &record.step {
            Step::Preflighted(base) => valid = Some(base.old.clone()),
            // Where the secret is lost, the run says so.
            Step::Intended { effect: Effect::Regenerate { .. }, .. } | Step::Resolved { finding: Finding::Lost } => {
                open = true;
            }
            Step::Settled { outcome: kh_rotation::Outcome::Created { fingerprint, .. } } => {
                valid = Some(fingerprint.clone());
                open = false;
            }
            Step::Resolved { finding: Finding::NotDone } => open = false,
            _ => {}
        }
    }
    open || valid.is_none_or(|valid| state.world.platform.secrets.iter().any(|secret| fp(secret.value) == valid))
}

/// The records before each promotion have a login with the newest secret.
fn proven(_: &Setup, state: &State) -> bool {
    let mut logged_in = false;
    state.log.records.iter().all(|record| match &record.step {
        Step::Settled { outcome: kh_rotation::Outcome::Created { .. } } => {
            logged_in = false;
            true
        }
        Step::Verified { .. } => {
            logged_in = true;
            true
        }
        Step::Intended { effect: Effect::Promote { .. }, .. } => logged_in,
        _ => true,
    })
}

fn served(setup: &Setup, state: &State) -> bool {
    !matches!(end(state), Some(End::Completed { .. })) || live(setup, state)
}

fn verified(state: &State) -> usize {
    state.log.records.iter().filter(|record| matches!(record.step, Step::Verified { .. })).count()
}

fn recorded(state: &State, test: impl Fn(&Step) -> bool) -> bool {
    state.log.records.iter().any(|record| test(&record.step))
}

pub(crate) fn of(setup: &Setup) -> Vec<Property<Setup>> {
    let mut all = vec![
        Property::always(JOURNALLED, journalled),
        Property::always(SHORT, |_, state: &State| state.log.records.len() < 48),
        Property::always(LEFT, left),
        Property::always(ONCE, |_, state: &State| !state.ghost.twice),
        Property::always(HELD, |_, state: &State| !state.ghost.hold_broken),
        Property::sometimes("a run completes", |_, state: &State| matches!(end(state), Some(End::Completed { .. }))),
    ];
    if setup.strategy == Strategy::Swap {
        all.extend([
            Property::always(KNOWN, known),
            Property::always(PROVEN, proven),
            Property::always(SERVED, served),
            Property::always("swap: one that ends well was tried again after it was made live", |_, state: &State| {
                !matches!(end(state), Some(End::Completed { .. })) || verified(state) == 2
            }),
        ]);
    } else {
        all.extend([Property::always(LIVE, live), Property::always(CONSUMER, consumer)]);
    }
    all.extend(interesting(setup));
    all
}

/// The cases that a model which proves anything must have reached.
fn interesting(setup: &Setup) -> Vec<Property<Setup>> {
    let mut some: Vec<Property<Setup>> = Vec::new();
    if setup.crashes > 0 {
        some.push(Property::sometimes("a run completes after a take-over", |_, state: &State| {
            state.ghost.taken_over && matches!(end(state), Some(End::Completed { .. }))
        }));
    }
    if setup.expiries > 0 && setup.fenced {
        some.push(Property::sometimes("a stale rotator is fenced off", |_, state: &State| state.ghost.fenced_off));
    }
    if setup.losses > 0 && setup.strategy != Strategy::Swap {
        some.extend([
            Property::sometimes("an orphan is found and deleted", |_, state: &State| {
                recorded(state, |step| {
                    matches!(step, Step::Orphaned { .. } | Step::Resolved { finding: Finding::Orphans { .. } })
                }) && matches!(end(state), Some(End::Completed { .. }))
            }),
            Property::sometimes("a create that was judged lost arrives after all", |_, state: &State| {
                state.ghost.unlisted && end(state).is_some()
            }),
        ]);
    }
    if setup.losses > 0 && setup.strategy == Strategy::Swap {
        some.extend([
            Property::sometimes("a regenerate's answer is lost and it was carried out", |_, state: &State| {
                recorded(state, |step| matches!(step, Step::Resolved { finding: Finding::Lost }))
                    && matches!(end(state), Some(End::Completed { .. }))
            }),
            Property::sometimes("a regenerate is lost and was not carried out", |_, state: &State| {
                recorded(state, |step| matches!(step, Step::Resolved { finding: Finding::NotDone }))
            }),
        ]);
    }
    if setup.rollbacks > 0 {
        some.extend([Property::sometimes("a run is rolled back after a promotion", |_, state: &State| {
            let promoted = recorded(state, |step| {
                matches!(step, Step::Settled { outcome: kh_rotation::Outcome::Promoted { .. } })
            });
            promoted && matches!(end(state), Some(End::RolledBack { .. }))
        })]);
    }
    let compared = setup.cas == crate::world::Cas::Honest;
    if compared && setup.rollbacks > 0 && (setup.losses > 0 || setup.crashes > 0) {
        some.push(Property::sometimes("a store refuses a late promotion", |_, state: &State| state.world.refused > 0));
    }
    if setup.holds > 0 && setup.hold_checked {
        some.push(Property::sometimes("the journal refuses an intent under a hold", |_, state: &State| {
            state.ghost.hold_kept
        }));
    }
    some
}
