//! The states and steps of the model.
//!
//! Invariant: a rotator's steps call the core and nothing else decides; only [`Setup`] says what may go wrong around it.

mod steps;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use kh_core::port::Strategy;
use kh_rotation::{
    Begin, Effect, Entry, Level, Policy, Record, Run, Step, View,
    policy::{Approvals, Backoff, Budget, Emergency, Reads, Verification},
};
use stateright::{Model, Property};

use crate::{
    sim::{START, begin_of, consumer},
    world::{Call, Cas, World, number},
};

/// How many processes there are.
pub(crate) const ROTATORS: usize = 2;

/// What may happen, how often, and what of the protection is switched off.
#[allow(clippy::struct_excessive_bools, reason = "each is one protection that a negative control takes away")]
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) strategy: Strategy,
    pub(crate) stores: usize,
    /// Processes that die.
    pub(crate) crashes: u8,
    /// Leases that run out under a living process.
    pub(crate) expiries: u8,
    /// Requests or answers that are lost; a lost request may still arrive.
    pub(crate) losses: u8,
    /// Holds that are placed.
    pub(crate) holds: u8,
    /// Orders to roll back.
    pub(crate) rollbacks: u8,
    /// How stores compare versions.
    pub(crate) cas: Cas,
    /// Whether the journal looks at fences and positions.
    pub(crate) fenced: bool,
    /// Whether the journal looks at the hold.
    pub(crate) hold_checked: bool,
    /// Whether sightings are made up as soon as something is promoted: a prune by time.
    pub(crate) forged: bool,
    /// Whether intents to stop or delete are kept by the journal.
    pub(crate) deletes_journalled: bool,
    /// Whether calls that do not commute (stop, start, regenerate) are over before the next owner acts, and are sent only
    /// under the newest lease.
    pub(crate) bounded: bool,
    /// Whether the same is so for promotions: what a store without compare-and-set needs.
    pub(crate) bounded_stores: bool,
}

impl Setup {
    pub(crate) fn of(strategy: Strategy) -> Self {
        Self {
            strategy,
            stores: 1,
            crashes: 0,
            expiries: 0,
            losses: 0,
            holds: 0,
            rollbacks: 0,
            cas: Cas::Honest,
            fenced: true,
            hold_checked: true,
            forged: false,
            deletes_journalled: true,
            bounded: true,
            bounded_stores: false,
        }
    }

    fn begin(&self) -> Begin {
        let mut begin = begin_of(self.strategy, Level::Regular, self.stores);
        begin.platform.settles_within_ms = 0;
        begin.platform.active_max = None;
        begin
    }
}

fn name(consumer: usize) -> String {
    format!("c{consumer}")
}

/// Every span is zero: time stands still, so whatever the model finds safe is safe without any assumption on time.
fn policy(setup: &Setup) -> Policy {
    let zero = Duration::ZERO;
    let swap = setup.strategy == Strategy::Swap;
    let reads = if swap { Reads::Tokens } else { Reads::Secret };
    // A swap asks for one before the promotion and for the others after it.
    let successes = if swap { 2 } else { 1 };
    Policy {
        overlap_min: zero,
        overlap_max: Duration::from_hours(1000),
        quiet: zero,
        verification: Verification { successes, spacing: zero, deadline: Duration::from_hours(1) },
        consumers: (0..setup.stores).map(|index| consumer(&name(index), reads)).collect(),
        approvals: Approvals { start: 0, prune: 1, revoke: 0 },
        budget: Budget { per_run: 2, per_day: 9 },
        watch: Some(zero),
        call_bound: zero,
        backoff: Backoff { first: zero, most: zero, tries: 4, poll: zero },
        emergency: Emergency { pickup: zero, revoke: zero },
        ..Policy::default()
    }
}

/// Records with a digest of all of them, so that a state is hashed quickly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) records: Arc<Vec<Record>>,
    digest: u64,
    /// Ids that some intent named for deletion.
    pub(crate) condemned: Vec<u32>,
}

impl Log {
    fn push(&mut self, record: &Record) {
        self.digest = chain(self.digest, record);
        if let Step::Intended { effect: Effect::Prune { id, .. } | Effect::Cleanup { id, .. }, .. } = &record.step {
            self.condemned.push(number(id));
        }
        Arc::make_mut(&mut self.records).push(record.clone());
    }

    pub(crate) fn ended(&self) -> bool {
        matches!(self.records.last(), Some(Record { step: Step::Ended { .. }, .. }))
    }
}

impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Hash for Log {
    fn hash<H: Hasher>(&self, into: &mut H) {
        self.digest.hash(into);
    }
}

fn chain(digest: u64, next: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    digest.hash(&mut hasher);
    next.hash(&mut hasher);
    hasher.finish()
}

/// What a process is at.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    Thinking,
    /// A call is under way.
    Sent(Box<Call>),
    /// The answer is there and not recorded.
    Answered(Box<Entry>),
}

/// One rotator's process. Its run is the fold of the records it knows.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) fence: u8,
    pub(crate) run: Arc<Run>,
    run_digest: u64,
    view: Arc<View>,
    view_digest: u64,
    pub(crate) phase: Phase,
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        let of = |process: &Self| (process.fence, process.run_digest, process.view_digest);
        of(self) == of(other) && self.phase == other.phase
    }
}

impl Hash for Process {
    fn hash<H: Hasher>(&self, into: &mut H) {
        (self.fence, self.run_digest, self.view_digest, &self.phase).hash(into);
    }
}

impl Process {
    fn see(&mut self, mut view: View) {
        // The core waits for one success at a time: more of them are no other state.
        for tries in view.tries.values_mut() {
            tries.successes = tries.successes.min(1);
        }
        self.view_digest = if view == View::default() { 0 } else { chain(1, &format!("{view:?}")) };
        self.view = Arc::new(view);
    }

    fn take(&mut self, record: &Record) {
        self.run_digest = chain(self.run_digest, record);
        Arc::make_mut(&mut self.run).apply(record).expect("the core follows its own records");
    }
}

/// Whoever reads a store: what it has cached, and what it was last seen to log in with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Reader {
    pub(crate) cached: u32,
    pub(crate) seen: u32,
}

/// What happened that no part of the world remembers.
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that happened")]
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ghost {
    /// Attempts that were sent.
    sent: Vec<u32>,
    /// One was sent twice.
    pub(crate) twice: bool,
    /// Something was taken away or promoted while a hold stood.
    pub(crate) hold_broken: bool,
    /// A process took over from another one.
    pub(crate) taken_over: bool,
    /// A create arrived after the newest rotator's last list: whoever lists next finds it by its label.
    pub(crate) unlisted: bool,
    /// A hold kept an intent from being written.
    pub(crate) hold_kept: bool,
    /// An append was refused by its fence.
    pub(crate) fenced_off: bool,
}

#[derive(Clone, PartialEq, Hash, Debug)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) log: Log,
    pub(crate) fence: u8,
    pub(crate) held: bool,
    pub(crate) rotators: [Option<Process>; ROTATORS],
    /// Calls whose sender does not wait any more.
    pub(crate) late: Vec<Call>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) ghost: Ghost,
    crashes: u8,
    expiries: u8,
    losses: u8,
    holds: u8,
    rollbacks: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    /// A process gets the lease and reads the journal.
    Take(usize),
    /// It asks the core and does what it says.
    Think(usize),
    /// Its call is carried out and answered.
    Arrive(usize),
    /// Its call is carried out, the answer is lost.
    LoseAnswer(usize),
    /// It hears nothing; the call may arrive later.
    LoseRequest(usize),
    /// It records the answer.
    Note(usize),
    /// It dies; what it sent may arrive later.
    Crash(usize),
    /// A late call arrives.
    Late(usize),
    /// A consumer reads its store and logs in.
    Read(usize),
    Hold,
    Unhold,
    Rollback,
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut log = Log::default();
        log.push(&Record::new(START, Step::Begun(Box::new(self.begin()))));
        let state = State {
            world: World { cas: self.cas, ..World::new(self.stores) },
            log,
            fence: 0,
            held: false,
            rotators: [None, None],
            late: Vec::new(),
            readers: vec![Reader { cached: 1, seen: 1 }; self.stores],
            ghost: Ghost::default(),
            crashes: self.crashes,
            expiries: self.expiries,
            losses: self.losses,
            holds: self.holds,
            rollbacks: self.rollbacks,
        };
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, process) in state.rotators.iter().enumerate() {
            let Some(process) = process else {
                let idle = state.rotators.iter().flatten().all(|other| other.fence != state.fence);
                // The first of two idle processes takes the lease: they are alike.
                let first = index == 0 || state.rotators[0].is_some();
                if !state.log.ended() && first && (idle || state.expiries > 0) {
                    actions.push(Action::Take(index));
                }
                continue;
            };
            match &process.phase {
                Phase::Thinking => actions.push(Action::Think(index)),
                Phase::Sent(_) => {
                    actions.push(Action::Arrive(index));
                    if state.losses > 0 {
                        actions.extend([Action::LoseAnswer(index), Action::LoseRequest(index)]);
                    }
                }
                Phase::Answered(_) => actions.push(Action::Note(index)),
            }
            if state.crashes > 0 {
                actions.push(Action::Crash(index));
            }
        }
        actions.extend((0..state.late.len()).map(Action::Late));
        for (index, reader) in state.readers.iter().enumerate() {
            let value = state.world.stores[index].value;
            if *reader != (Reader { cached: value, seen: value }) {
                actions.push(Action::Read(index));
            }
        }
        if state.holds > 0 && !state.held && !state.log.ended() {
            actions.push(Action::Hold);
        }
        if state.held {
            actions.push(Action::Unhold);
        }
        if state.rollbacks > 0 && !state.log.ended() {
            actions.push(Action::Rollback);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        self.step(&mut state, &action).map(|()| state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::properties::of(self)
    }
}
