//! What a run would do, without doing it: the core is run against a world in which everything goes well.
//!
//! Invariant: the effects of a plan are those that [`crate::decide()`] asks for; nothing here knows a strategy.

use std::{collections::BTreeMap, time::Duration};

use kh_core::{
    Fingerprint, UnixMillis,
    port::rotation_journal::{Approval, ApprovalOf, Grade, Sighting},
    rotation::{ManagedId, VersionId},
};
use serde::Serialize;

use crate::{
    decide::{Decision, decide},
    effect::{Effect, Escrow, Outcome},
    policy::Policy,
    record::{Begin, Record, Step},
    run::Run,
    settle::settle,
    view::{Checked, JournalView, List, Listed, Live, Look, Uses, View},
};

/// Most turns of one plan: a run of 20 stores and 20 hooks takes under 400.
const TURNS_MAX: usize = 4000;
/// The id and the version that stand for what does not exist yet.
const PLANNED: &str = "(new)";

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// The run would stop here.
    Obstacle,
    /// The run would go on, and an operator should know.
    Warning,
}

/// Something that a plan found out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlanFinding {
    /// How much it matters.
    pub weight: Weight,
    /// One sentence.
    pub text: String,
}

/// A change that would be made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedEffect {
    /// When, at the earliest: milliseconds since 1970.
    pub at: UnixMillis,
    /// The word for it.
    pub effect: &'static str,
    /// What exactly.
    pub what: String,
}

/// What a run would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Plan {
    /// What is in the way, and what to know; obstacles first.
    pub findings: Vec<PlanFinding>,
    /// The changes, in order.
    pub effects: Vec<PlannedEffect>,
    /// When the run would be over at the earliest; none when it would not get there.
    pub ends_at: Option<UnixMillis>,
}

/// Plans a run that would begin as `begin` says at `now`. `seen` holds what was looked at: [`View::check`],
/// [`View::list`], [`View::live`] of every store and [`View::journal`].
pub fn plan(begin: &Begin, seen: &View, policy: &Policy, now: UnixMillis) -> Plan {
    let mut plan = Plan { findings: static_findings(begin, seen, policy), effects: Vec::new(), ends_at: None };
    // The poll's length decides nothing here, and a long one makes a plan short.
    let mut policy = policy.clone();
    policy.backoff.poll = policy.backoff.poll.max(Duration::from_hours(1));
    match Run::begin(&Record::new(now, Step::Begun(Box::new(begin.clone())))) {
        Ok(run) => Optimist::new(run, seen, &policy, now).walk(&mut plan),
        Err(error) => plan.findings.push(PlanFinding { weight: Weight::Obstacle, text: error.why.to_owned() }),
    }
    plan.findings.sort_by_key(|finding| finding.weight);
    plan.findings.dedup();
    plan
}

fn static_findings(begin: &Begin, seen: &View, policy: &Policy) -> Vec<PlanFinding> {
    let obstacle = |text: String| PlanFinding { weight: Weight::Obstacle, text };
    let warning = |text: String| PlanFinding { weight: Weight::Warning, text };
    let mut findings = Vec::new();
    if let Err(error) = policy.checked() {
        findings.push(obstacle(format!("the policy does not fit together: {error}")));
    }
    if let Some(check) = &seen.check {
        findings.extend(check.obstacles.iter().cloned().map(obstacle));
        findings.extend(check.warnings.iter().cloned().map(warning));
    }
    let swap = begin.strategy == kh_core::port::Strategy::Swap;
    if policy.consumers.is_empty() && !swap && !begin.level.emergency() {
        findings.push(warning(
            "no consumer is expected: the old secret is kept until one is seen or a person agrees".into(),
        ));
    }
    if swap && !begin.platform.second_rotator {
        findings.push(warning(
            "there is no second rotator identity: a regenerate whose answer is lost needs a person".into(),
        ));
    }
    for store in begin.places.iter().map(|place| &place.store) {
        for region in seen.live.get(store).iter().flat_map(|live| &live.behind) {
            findings.push(warning(format!("{store} in {region} does not serve the live version")));
        }
    }
    if let Some(journal) = &seen.journal {
        if let Some(hold) = &journal.hold {
            findings.push(warning(format!("on hold, nothing is promoted or deleted: {}", hold.reason)));
        }
        let (of, need) = if begin.level.emergency() {
            ("the revocation", policy.approvals.revoke)
        } else {
            ("the start", policy.approvals.start)
        };
        if need > 0 {
            findings.push(warning(format!("{need} persons must agree to {of}")));
        }
    }
    findings
}

/// A run in a world where every call succeeds and every consumer takes up the new secret at once.
struct Optimist<'a> {
    run: Run,
    seen: &'a View,
    policy: &'a Policy,
    now: UnixMillis,
    view: View,
    made: bool,
    stopped: bool,
    deleted: Vec<ManagedId>,
    promoted: BTreeMap<String, Escrow>,
}

impl<'a> Optimist<'a> {
    fn new(run: Run, seen: &'a View, policy: &'a Policy, now: UnixMillis) -> Self {
        Self {
            run,
            seen,
            policy,
            now,
            view: View::default(),
            made: false,
            stopped: false,
            deleted: Vec::new(),
            promoted: BTreeMap::new(),
        }
    }

    fn walk(mut self, plan: &mut Plan) {
        let mut stop = |text: String| plan.findings.push(PlanFinding { weight: Weight::Obstacle, text });
        for _ in 0..TURNS_MAX {
            match decide(&self.run, &self.view, self.policy, self.now) {
                Decision::Record(entry) => {
                    if self.run.apply(&entry.record).is_err() {
                        return stop("the plan contradicts itself".into());
                    }
                    self.view = View::after_append(entry.intends());
                }
                Decision::Do(effect) => {
                    plan.effects.push(PlannedEffect {
                        at: self.now,
                        effect: effect.as_str(),
                        what: effect.to_string(),
                    });
                    let outcome = self.carry_out(&effect);
                    let entry = settle(&self.run, &effect, outcome, self.now);
                    if self.run.apply(&entry.record).is_err() {
                        return stop("the plan contradicts itself".into());
                    }
                    self.view = View::after_append(false);
                }
                Decision::Look(look) => {
                    if let Err(text) = self.look(&look) {
                        return stop(text);
                    }
                }
                Decision::Wait { until, .. } => {
                    self.now = until;
                    self.view = self.view.after_wait();
                }
                Decision::NeedsOperator(need) => return stop(need.why),
                Decision::Ended => {
                    plan.ends_at = Some(self.now);
                    return;
                }
            }
        }
        stop("the run would wait longer than a plan looks ahead".into());
    }

    /// A fingerprint that is not the old secret's.
    fn planned(&self) -> Fingerprint {
        let old = self.run.baseline().map(|base| base.old.as_str());
        let digit = if old == Some("0000000000000000") { "f" } else { "0" };
        Fingerprint::try_from(digit.repeat(16)).expect("sixteen equal hex digits are a fingerprint")
    }

    fn carry_out(&mut self, effect: &Effect) -> Outcome {
        match effect {
            Effect::Mint => Outcome::Minted { expires_at: self.now.plus(Duration::from_hours(24)) },
            Effect::Create { .. } => {
                self.made = true;
                Outcome::Created { id: Some(ManagedId(PLANNED.into())), fingerprint: self.planned() }
            }
            Effect::Regenerate { .. } => Outcome::Created { id: None, fingerprint: self.planned() },
            Effect::Promote { store, document, .. } => {
                self.promoted.insert(store.clone(), *document);
                Outcome::Promoted { version: VersionId(PLANNED.into()) }
            }
            Effect::Stop { .. } => {
                self.stopped = true;
                Outcome::Done
            }
            Effect::Prune { id, .. } | Effect::Cleanup { id, .. } => {
                self.deleted.push(id.clone());
                Outcome::Done
            }
            Effect::Stage { .. }
            | Effect::Unstage { .. }
            | Effect::Hook { .. }
            | Effect::Start { .. }
            | Effect::RevokeTokens => Outcome::Done,
        }
    }

    fn look(&mut self, look: &Look) -> Result<(), String> {
        match look {
            Look::Check { .. } => {
                // Its obstacles are findings already; the plan goes on to find others.
                let warnings = self.seen.check.as_ref().map(|check| check.warnings.clone()).unwrap_or_default();
                self.view.check = Some(Checked { obstacles: Vec::new(), warnings });
            }
            Look::List { .. } => self.view.list = Some(self.list()?),
            Look::Live { store } => {
                let live = self.live(store)?;
                self.view.live.insert(store.clone(), live);
            }
            Look::Try { document } => self.view.tried(*document, self.now, Ok(())),
            Look::Token => self.view.token = Some(true),
            Look::Journal => self.view.journal = Some(self.journal()),
            Look::Uses { id, since, .. } => {
                self.view.uses = Some(Uses { id: id.clone(), since: *since, count: None });
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<List, String> {
        let seen = self.seen.list.as_ref().ok_or("the platform's secrets were not listed")?;
        let old = self.run.baseline().and_then(|base| base.old_id.clone());
        let mut secrets: Vec<_> =
            seen.secrets.iter().filter(|listed| !self.deleted.contains(&listed.id)).cloned().collect();
        for listed in &mut secrets {
            listed.active &= !(self.stopped && Some(&listed.id) == old.as_ref());
        }
        if self.made {
            secrets.push(Listed { id: ManagedId(PLANNED.into()), name: Some(PLANNED.into()), active: true });
        }
        Ok(List { at: self.now, secrets })
    }

    fn live(&self, store: &str) -> Result<Live, String> {
        let seen = self.seen.live.get(store).ok_or_else(|| format!("the store {store} was not read"))?;
        let mut live = seen.clone();
        live.behind.clear();
        if self.promoted.contains_key(store) {
            live.version = Some(VersionId(PLANNED.into()));
            live.fingerprint = self.run.new_secret().map(|new| new.fingerprint.clone());
        }
        Ok(live)
    }

    fn journal(&self) -> JournalView {
        let seen = self.seen.journal.clone().unwrap_or_default();
        let many = self.policy.approvals.start.max(self.policy.approvals.revoke);
        let approvals = [ApprovalOf::Start, ApprovalOf::Revoke].into_iter().flat_map(|of| {
            (0..many).map(move |person| Approval {
                of,
                actor: format!("(person {person})"),
                at: UnixMillis(0),
                reason: String::new(),
            })
        });
        let prunes = seen.approvals.iter().filter(|given| given.of == ApprovalOf::Prune).cloned();
        let sightings = match (self.run.promoted_at(), self.run.new_secret()) {
            (Some(_), Some(new)) => self.pickups(&new.fingerprint),
            _ => seen.sightings.clone(),
        };
        JournalView { at: self.now, hold: None, approvals: approvals.chain(prunes).collect(), sightings }
    }

    /// Every expected consumer, and one for a credential that expects none, seen with the new secret now.
    fn pickups(&self, fingerprint: &Fingerprint) -> Vec<Sighting> {
        let names = self.policy.consumers.iter().map(|consumer| consumer.name.clone());
        let names: Vec<_> = if self.policy.consumers.is_empty() { vec![PLANNED.into()] } else { names.collect() };
        let sight = |consumer: String| Sighting {
            credential: self.run.began().credential.clone(),
            consumer,
            fingerprint: fingerprint.clone(),
            version: None,
            grade: Grade::Used,
            at: self.now,
            alive_until: self.now.plus(Duration::from_hours(1)),
        };
        names.into_iter().map(sight).collect()
    }
}
