//! The states and steps of the model.
//!
//! Invariant: a rotator's steps call the core and nothing else decides; only [`Setup`] says what may go wrong around it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use kh_core::port::{
    Strategy,
    rotation_journal::{Grade, Hold, Sighting},
};
use kh_rotation::{
    Begin, Decision, Effect, Entry, Escrow, Level, Look, Order, Outcome, Policy, Record, Run, Step, View, decide,
    policy::{Approvals, Backoff, Budget, Emergency, Reads, Verification},
    settle,
    view::{Checked, JournalView, List, Listed, Live, TryFailure, Uses},
};
use stateright::{Model, Property};

use crate::{
    sim::{START, begin_of, consumer},
    world::{Call, Cas, World, fp, id, number, version},
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
    let reads = if setup.strategy == Strategy::Swap { Reads::Tokens } else { Reads::Secret };
    Policy {
        overlap_min: zero,
        overlap_max: Duration::from_hours(1000),
        quiet: zero,
        verification: Verification { successes: 1, spacing: zero, deadline: Duration::from_hours(1) },
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
        // The policy asks for one success: more of them are no other state.
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

impl Setup {
    fn commutes(&self, effect: &Effect) -> bool {
        !self.bounded || !matches!(effect, Effect::Stop { .. } | Effect::Start { .. } | Effect::Regenerate { .. })
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

    fn step(&self, state: &mut State, action: &Action) -> Option<()> {
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
