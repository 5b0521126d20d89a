//! A driver in a few lines: the loop that the real one runs, on a virtual clock and without failures of its own.
//!
//! Invariant: what is recorded is read back from JSON before it is applied, so that every record has passed its form.

use std::{collections::VecDeque, time::Duration};

use kh_core::{
    UnixMillis,
    port::{
        Strategy,
        rotation_journal::{Approval, ApprovalOf, Grade, Hold, Sighting},
        secret_management::Rotator,
    },
    rotation::RunId,
};
use kh_rotation::{
    Begin, Decision, Effect, End, Entry, Escrow, Level, Look, Order, Outcome, Place, PlatformFacts, Policy, Record,
    Run, Step, View, decide,
    policy::{Consumer, Reads},
    settle,
    view::{Checked, JournalView, List, Listed, Live, LookFailure, TryFailure, Uses},
};

use super::world::{Call, World, fp, id};

pub(crate) const START: UnixMillis = UnixMillis(1_800_000_000_000);

/// What a call does before it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing arrives; the sender knows.
    NotDone,
    /// Nothing arrives; the sender is told so, and when it may send again.
    Throttled(Duration),
    /// Nothing arrives; the sender does not know.
    LostRequest,
    /// It is carried out; the sender does not know.
    LostAnswer,
    /// The process dies before it sends.
    CrashBefore,
    /// The process dies after it was carried out.
    CrashAfter,
}

#[allow(clippy::struct_excessive_bools, reason = "each is one knob of a story")]
pub(crate) struct Sim {
    pub(crate) world: World,
    pub(crate) journal: Vec<Record>,
    pub(crate) run: Run,
    pub(crate) view: View,
    pub(crate) policy: Policy,
    pub(crate) now: UnixMillis,
    pub(crate) hold: Option<Hold>,
    pub(crate) approvals: Vec<Approval>,
    pub(crate) sightings: Vec<Sighting>,
    /// Obstacles that a check finds.
    pub(crate) obstacles: Vec<String>,
    /// Uses of the old secret that the platform counts.
    pub(crate) uses: Option<u64>,
    /// Faults of the next calls, by the effect's name.
    pub(crate) faults: VecDeque<(&'static str, Fault)>,
    /// What the next calls do, one entry for each; none left: they succeed.
    pub(crate) script: VecDeque<Option<Fault>>,
    /// Effects that were sent, by name.
    pub(crate) sent: Vec<Effect>,
    /// Whether new secrets log in.
    pub(crate) new_works: bool,
    /// Whether old tokens outlive a regenerate.
    pub(crate) old_tokens: bool,
    /// Looks that fail for the platform.
    pub(crate) unreachable: bool,
    /// Whether the platform tells names.
    pub(crate) names: bool,
    /// Regions of store `a` that are behind.
    pub(crate) behind: Vec<String>,
}

pub(crate) fn begin_of(strategy: Strategy, level: Level, stores: usize) -> Begin {
    let place =
        |index: usize| Place { store: char::from(b'a' + index as u8).to_string(), path: "acme".parse().unwrap() };
    Begin {
        run: RunId(uuid::Uuid::from_u128(7)),
        credential: "acme".parse().unwrap(),
        strategy,
        level,
        generation: 2,
        by: Rotator::First,
        own: false,
        places: (0..stores).map(place).collect(),
        hooks: Vec::new(),
        platform: PlatformFacts {
            reversible_stop: strategy == Strategy::Pair,
            active_max: Some(4),
            settles_within_ms: 1000,
            token_life_max_ms: 900_000,
            second_rotator: true,
        },
        earlier: Vec::new(),
        actor: "ann".into(),
        reason: "scheduled".into(),
    }
}

pub(crate) fn consumer(name: &str, reads: Reads) -> Consumer {
    Consumer { name: name.into(), reads, grade_min: Grade::Used, cache: Duration::ZERO, waived: None }
}

pub(crate) fn policy() -> Policy {
    Policy { consumers: vec![consumer("gateway", Reads::Tokens)], ..Policy::default() }
}

impl Sim {
    #[allow(clippy::needless_pass_by_value, reason = "stories read better")]
    pub(crate) fn new(begin: Begin) -> Self {
        let first = Record::new(START, Step::Begun(Box::new(begin.clone())));
        Self {
            world: World::new(begin.places.len()),
            run: Run::begin(&first).unwrap(),
            journal: vec![first],
            view: View::default(),
            policy: policy(),
            now: START,
            hold: None,
            approvals: Vec::new(),
            sightings: Vec::new(),
            obstacles: Vec::new(),
            uses: Some(0),
            faults: VecDeque::new(),
            script: VecDeque::new(),
            sent: Vec::new(),
            new_works: true,
            old_tokens: true,
            unreachable: false,
            names: true,
            behind: Vec::new(),
        }
    }

    pub(crate) fn of(strategy: Strategy) -> Self {
        Self::new(begin_of(strategy, Level::Regular, 1))
    }

    pub(crate) fn sent(&self) -> Vec<&'static str> {
        self.sent.iter().map(Effect::as_str).collect()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.sent.iter().filter(|effect| effect.as_str() == name).count()
    }

    pub(crate) fn see(&mut self, consumer: &str, secret: u32, grade: Grade) {
        self.sightings.retain(|seen| seen.consumer != consumer || seen.fingerprint != fp(secret));
        self.sightings.push(Sighting {
            credential: "acme".parse().unwrap(),
            consumer: consumer.into(),
            fingerprint: fp(secret),
            version: None,
            grade,
            at: self.now,
            alive_until: self.now.plus(Duration::from_hours(1)),
        });
    }

    pub(crate) fn approve(&mut self, of: ApprovalOf, actor: &str) {
        self.approvals.push(Approval { of, actor: actor.into(), at: self.now, reason: "test".into() });
    }

    pub(crate) fn order(&mut self, order: Order) {
        let entry = self.run.order(order, "ann", "test", self.now).unwrap();
        self.append(&entry);
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        self.view = self.view.after_wait();
    }

    /// The number of the secret that a document of the escrow holds.
    pub(crate) fn document(&self, document: Escrow) -> u32 {
        let fingerprint = match document {
            Escrow::New => self.run.new_secret().map(|new| new.fingerprint.clone()),
            Escrow::Old | Escrow::Token => self.run.baseline().map(|base| base.old.clone()),
        };
        fingerprint.map_or(0, |found| u32::from_str_radix(found.as_str(), 16).unwrap())
    }

    fn append(&mut self, entry: &Entry) -> bool {
        if entry.unless_held && self.hold.is_some() {
            self.view = View::default();
            return false;
        }
        let record = Record::parse(&entry.record.to_json()).unwrap();
        assert_eq!(record, entry.record);
        self.run.apply(&record).unwrap();
        self.journal.push(record);
        self.view = View::after_append(entry.intends());
        true
    }

    /// The process dies: only journal and world are left.
    pub(crate) fn crash(&mut self) {
        self.run = Run::replay(&self.journal).unwrap();
        self.view = View::default();
    }

    fn carry_out(&mut self, effect: &Effect) {
        self.view.armed = false;
        let value = match effect {
            Effect::Stage { document, .. } => self.document(*document),
            _ => 0,
        };
        let call = Call { effect: effect.clone(), value, run: self.run.began().run, reread: None };
        let fault = self.faults.front().copied().filter(|(name, _)| *name == effect.as_str()).map(|(_, fault)| fault);
        if fault.is_some() {
            self.faults.pop_front();
        }
        let fault = fault.or_else(|| self.script.pop_front().flatten());
        if fault == Some(Fault::CrashBefore) {
            return self.crash();
        }
        self.sent.push(effect.clone());
        let lost = || Outcome::Unknown { reason: "timed out".into() };
        let outcome = match fault {
            None => self.world.arrive(&call),
            Some(Fault::NotDone) => Outcome::NotDone { reason: "503".into(), retry_after_ms: None },
            Some(Fault::Throttled(span)) => {
                let retry_after_ms = Some(u64::try_from(span.as_millis()).unwrap());
                Outcome::NotDone { reason: "429".into(), retry_after_ms }
            }
            Some(Fault::LostRequest) => lost(),
            Some(Fault::LostAnswer) => {
                self.world.arrive(&call);
                lost()
            }
            Some(Fault::CrashBefore | Fault::CrashAfter) => {
                self.world.arrive(&call);
                return self.crash();
            }
        };
        let entry = settle(&self.run, effect, outcome, self.now);
        assert!(self.append(&entry));
    }

    pub(crate) fn look(&mut self, look: &Look) {
        let of_platform = matches!(look, Look::List { .. } | Look::Check { .. } | Look::Try { .. } | Look::Uses { .. });
        if self.unreachable && of_platform {
            let failure = LookFailure { look: look.clone(), at: self.now, reason: "503".into(), refused: false };
            return self.view.look_failed(failure);
        }
        self.view.looked();
        match look {
            Look::Check { .. } => {
                self.view.check = Some(Checked { obstacles: self.obstacles.clone(), warnings: Vec::new() });
            }
            Look::List { .. } => {
                let name = |label: Option<String>| label.filter(|_| self.names);
                let secrets = self.world.platform.secrets.iter().map(|secret| Listed {
                    id: id(secret.id),
                    name: name(secret.label.clone()),
                    active: secret.active,
                });
                self.view.list = Some(List { at: self.now, secrets: secrets.collect() });
            }
            Look::Live { store } => {
                let behind = if store == "a" { self.behind.clone() } else { Vec::new() };
                let found = self.world.store(store).clone();
                let serves = found.live().map(|_| found.value);
                let live = Live {
                    version: found.live(),
                    fingerprint: serves.map(fp),
                    id: serves.map(id),
                    run: found.run,
                    behind,
                };
                self.view.live.insert(store.clone(), live);
            }
            Look::Try { document } => {
                let value = self.document(*document);
                let works = self.world.platform.accepts(value) && (self.new_works || *document != Escrow::New);
                let result = if works { Ok(()) } else { Err(TryFailure::Dead("invalid_client".into())) };
                self.view.tried(*document, self.now, result);
            }
            Look::Token => self.view.token = Some(self.old_tokens),
            Look::Journal => {
                self.view.journal = Some(JournalView {
                    at: self.now,
                    hold: self.hold.clone(),
                    approvals: self.approvals.clone(),
                    sightings: self.sightings.clone(),
                });
            }
            Look::Uses { id, since, .. } => {
                self.view.uses = Some(Uses { id: id.clone(), since: *since, count: self.uses });
            }
        }
    }

    /// One turn of the loop; `Some` when there is nothing to do now.
    pub(crate) fn turn(&mut self) -> Option<Decision> {
        let decision = decide(&self.run, &self.view, &self.policy, self.now);
        match &decision {
            Decision::Record(entry) => {
                self.append(entry);
            }
            Decision::Do(effect) => self.carry_out(effect),
            Decision::Look(look) => self.look(look),
            Decision::Wait { .. } | Decision::NeedsOperator(_) | Decision::Ended => return Some(decision),
        }
        None
    }

    /// Until the run has ended, needs a person, or waits beyond `until`.
    pub(crate) fn drive_until(&mut self, until: UnixMillis) -> Decision {
        for _ in 0..1_000_000 {
            match self.turn() {
                Some(Decision::Wait { until: next, .. }) if next <= until => {
                    self.now = self.now.max(next);
                    self.view = self.view.after_wait();
                }
                Some(decision) => return decision,
                None => {}
            }
        }
        panic!("the run does not come to rest: {:?}", self.journal.iter().rev().take(6).collect::<Vec<_>>());
    }

    /// For `span`, and then tells where the run is.
    pub(crate) fn drive(&mut self, span: Duration) -> Decision {
        let until = self.now.plus(span);
        let decision = self.drive_until(until);
        if matches!(decision, Decision::Wait { .. }) {
            self.now = until;
            self.view = self.view.after_wait();
        }
        decision
    }

    pub(crate) fn end(&self) -> Option<&End> {
        self.run.end()
    }
}
