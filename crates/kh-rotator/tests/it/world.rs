//! Everything around one rotation: a platform, two stores, a hook, consumers that cache, persons, and the journal in its
//! file. A process lives until it is killed; the next one finds what it left.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_core::{
    Clock, CredentialName, Fingerprinter, ManualClock, SecretBytes, SeededEntropy, UnixMillis,
    audit::AuditEvent,
    credential::CredentialDocument,
    port::{
        AuditError, AuditLog, BoxFuture, DeliveryHook, RotationJournal, SecretTarget, SightingLog, Strategy,
        rotation_journal::{ApprovalOf, Grade, Sighting},
        secret_management::Rotator,
    },
    rotation::ManagedId,
};
use kh_rotation::{
    Effect, End, Level, Order, Outcome, Policy, Record, Run, Step,
    policy::{Approvals, Backoff, Budget, Consumer, Reads, Verification},
};
use kh_rotator::{
    EscrowKey, Halt, NotBegun, NotTaken, Person, Services, Session, Standing, Store, Subject, Timer, Times,
    TokenRevoker, Wanted, open, orders,
};
use kh_state::SqliteState;

use crate::{
    gate::{Gate, GatedJournal, Traps},
    platform::{Call, Endpoint, Platform},
    stores::{MemoryHook, MemoryNotifier, MemoryStore},
};

/// Where tests start: 2026-01-01.
pub(crate) const START: UnixMillis = UnixMillis(1_767_225_600_000);

/// How often consumers log in.
const TICK: Duration = Duration::from_mins(5);

/// How long the application keeps the secret that it read.
const CACHE: Duration = Duration::from_mins(15);

/// No rotation takes longer, in virtual time.
const PATIENCE: Duration = Duration::from_hours(12 * 24);

#[derive(Default)]
pub(crate) struct MemoryAudit(pub(crate) Mutex<Vec<AuditEvent>>);

impl AuditLog for MemoryAudit {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        let mut known = self.0.lock().unwrap();
        for event in events {
            if known.iter().rev().take(300).all(|other| other.id != event.id) {
                known.push(event.clone());
            }
        }
        Ok(())
    }
}

/// Waits by moving the clock.
struct VirtualTimer(ManualClock);

impl Timer for VirtualTimer {
    fn sleep(&self, span: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0.advance(span);
            tokio::task::yield_now().await;
        })
    }
}

struct Application {
    read_at: UnixMillis,
    document: CredentialDocument,
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) gate: Arc<Gate>,
    pub(crate) platform: Arc<Platform>,
    pub(crate) revoker: Option<Arc<dyn TokenRevoker>>,
    pub(crate) stores: Vec<Arc<MemoryStore>>,
    pub(crate) hook: Arc<MemoryHook>,
    pub(crate) notifier: Arc<MemoryNotifier>,
    pub(crate) audit: Arc<MemoryAudit>,
    pub(crate) credential: CredentialName,
    pub(crate) policy: Policy,
    pub(crate) side: Arc<SqliteState>,
    /// Which store each consumer reads.
    pub(crate) application_reads: Mutex<usize>,
    /// The document that an application deployed to the wrong place goes on using.
    pub(crate) stuck_application: Mutex<Option<CredentialDocument>>,
    application: Mutex<Application>,
    ticked: Mutex<UnixMillis>,
    boots: AtomicU64,
    pub(crate) logins: AtomicU64,
    pub(crate) failures: Mutex<Vec<String>>,
    pub(crate) traps: Arc<Traps>,
    /// What persons do, and when.
    pub(crate) acts: Mutex<Vec<(UnixMillis, Act)>>,
    /// The generation after which it is over.
    pub(crate) until_generation: AtomicU64,
    /// When the rotation under way began.
    pub(crate) patience_from: Mutex<UnixMillis>,
    seed: u64,
}

/// What a person does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Hold,
    Unhold,
    Order(Order),
    Approve(ApprovalOf, &'static str),
}

fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

pub(crate) fn policy() -> Policy {
    let consumer = |name: &str, reads| Consumer {
        name: name.to_owned(),
        reads,
        grade_min: Grade::Used,
        cache: CACHE,
        waived: None,
    };
    Policy {
        overlap_min: Duration::from_mins(20),
        quiet: Duration::from_mins(8),
        verification: Verification { successes: 2, spacing: Duration::from_secs(2), deadline: Duration::from_mins(10) },
        consumers: vec![consumer("gateway", Reads::Tokens), consumer("application", Reads::Secret)],
        approvals: Approvals { start: 0, prune: 1, revoke: 0 },
        budget: Budget { per_run: 4, per_day: 8 },
        watch: Some(Duration::from_mins(10)),
        backoff: Backoff {
            first: Duration::from_secs(2),
            most: Duration::from_mins(10),
            tries: 8,
            poll: Duration::from_mins(5),
        },
        ..Policy::default()
    }
}

impl World {
    pub(crate) fn new(strategy: Strategy, seed: u64) -> Self {
        let clock = ManualClock::at(START);
        let gate = Arc::new(Gate::default());
        let platform = Arc::new(Platform::new(strategy, clock.clone(), Arc::clone(&gate)));
        let first = platform.first();
        let stores: Vec<_> =
            ["one", "two"].iter().map(|name| Arc::new(MemoryStore::new(name, &first, Arc::clone(&gate)))).collect();
        let folder = folder();
        let audit = Arc::new(MemoryAudit::default());
        let side = Arc::new(open_state(&folder, &audit, &clock));
        let mut policy = policy();
        if strategy == Strategy::Swap {
            policy.consumers.truncate(1);
        }
        if strategy != Strategy::Swap {
            let (seen, on) = (stores.clone(), Arc::clone(&platform));
            gate.watch(Box::new(move || {
                let dead = seen.iter().find(|store| !on.accepts(&store.document()));
                dead.map(|_| "a store serves a dead secret".to_owned())
            }));
        }
        Self {
            hook: Arc::new(MemoryHook { told: Mutex::default(), refuses: Mutex::default(), gate: Arc::clone(&gate) }),
            notifier: Arc::default(),
            revoker: None,
            application: Mutex::new(Application { read_at: START, document: first }),
            application_reads: Mutex::new(0),
            stuck_application: Mutex::default(),
            ticked: Mutex::new(START),
            boots: AtomicU64::new(0),
            logins: AtomicU64::new(0),
            failures: Mutex::default(),
            traps: Arc::default(),
            acts: Mutex::default(),
            until_generation: AtomicU64::new(2),
            patience_from: Mutex::new(START),
            credential: "acme-prod".parse().unwrap(),
            folder,
            clock,
            gate,
            platform,
            stores,
            audit,
            policy,
            side,
            seed,
        }
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now().wall
    }

    fn strategy(&self) -> Strategy {
        self.platform.strategy
    }

    /// A process starts: another owner, its own connections to the journal's file.
    pub(crate) fn boot(&self) -> Arc<Services> {
        let boot = self.boots.fetch_add(1, Ordering::SeqCst);
        let inner: Arc<dyn RotationJournal> = Arc::new(open_state(&self.folder, &self.audit, &self.clock));
        Arc::new(Services {
            journal: Arc::new(GatedJournal { inner, gate: Arc::clone(&self.gate), traps: Arc::clone(&self.traps) }),
            notifier: Arc::<MemoryNotifier>::clone(&self.notifier),
            clock: Arc::new(self.clock.clone()),
            timer: Arc::new(VirtualTimer(self.clock.clone())),
            entropy: Arc::new(SeededEntropy::new(self.seed * 1000 + boot)),
            escrow: EscrowKey::new(&SecretBytes::new(vec![7; 32])).unwrap(),
            fingerprinter: Arc::new(Fingerprinter::new(b"installation")),
            owner: format!("process {boot}"),
        })
    }

    pub(crate) fn subject(&self) -> Arc<Subject> {
        let stores = self.stores.iter().zip(["one", "two"]).map(|(store, name)| Store {
            name: name.to_owned(),
            path: "kv/acme".parse().unwrap(),
            target: Arc::<MemoryStore>::clone(store) as Arc<dyn SecretTarget>,
        });
        Arc::new(Subject {
            credential: self.credential.clone(),
            platform: "genesys".parse().unwrap(),
            own: false,
            strategy: None,
            policy: self.policy.clone(),
            times: Times::default(),
            stores: stores.collect(),
            management: Arc::<Platform>::clone(&self.platform),
            act_with: None,
            by: Rotator::First,
            second_rotator: true,
            endpoint: Arc::new(Endpoint(Arc::clone(&self.platform))),
            hooks: vec![Arc::<MemoryHook>::clone(&self.hook) as Arc<dyn DeliveryHook>],
            supply: None,
            revoker: self.revoker.clone(),
        })
    }

    pub(crate) async fn newest(&self) -> Option<Run> {
        let stored = self.side.runs(Some(&self.credential), 1).await.unwrap().into_iter().next()?;
        let records: Vec<_> = stored.records.iter().map(|record| Record::parse(&record.record).unwrap()).collect();
        Some(Run::replay(&records).unwrap())
    }

    /// Lets time pass, with the consumers going about their work.
    pub(crate) async fn pass_until(&self, until: UnixMillis) {
        while self.now() < until {
            self.clock.advance(until.since(self.now()).min(TICK));
            let due = self.now().since(*self.ticked.lock().unwrap()) >= TICK;
            if due {
                *self.ticked.lock().unwrap() = self.now();
                self.tick().await;
            }
        }
        assert!(
            self.now().since(*self.patience_from.lock().unwrap()) < PATIENCE,
            "it never ends: {:#?}",
            self.gate.trace().iter().rev().take(30).collect::<Vec<_>>()
        );
    }

    /// Services of a person's own process.
    pub(crate) fn person(&self, name: &str) -> (Services, Person) {
        let services = Services {
            journal: Arc::<SqliteState>::clone(&self.side),
            notifier: Arc::<MemoryNotifier>::clone(&self.notifier),
            clock: Arc::new(self.clock.clone()),
            timer: Arc::new(VirtualTimer(self.clock.clone())),
            entropy: Arc::new(kh_core::SystemEntropy),
            escrow: EscrowKey::new(&SecretBytes::new(vec![7; 32])).unwrap(),
            fingerprinter: Arc::new(Fingerprinter::new(b"installation")),
            owner: format!("the shell of {name}"),
        };
        (services, Person { actor: format!("cli:{name}"), reason: "because".to_owned() })
    }

    /// A person acts now. Whether the act was taken.
    pub(crate) async fn act(&self, act: Act) -> Result<(), NotTaken> {
        let name = if let Act::Approve(_, name) = &act { name } else { "ops" };
        let (services, person) = self.person(name);
        match act {
            Act::Hold => orders::hold(&services, &self.credential, &person).await.map_err(NotTaken::from),
            Act::Unhold => orders::unhold(&services, &self.credential, &person).await.map_err(NotTaken::from),
            Act::Order(order) => orders::order(&services, &self.credential, order, &person).await.map(drop),
            Act::Approve(of, _) => orders::approve(&services, &self.credential, of, &person).await.map(drop),
        }
    }

    async fn tick(&self) {
        let now = self.now();
        let due: Vec<Act> = {
            let mut acts = self.acts.lock().unwrap();
            let (due, later) = acts.drain(..).partition(|(at, _)| *at <= now);
            *acts = later;
            let due: Vec<(UnixMillis, Act)> = due;
            due.into_iter().map(|(_, act)| act).collect()
        };
        for act in due {
            // too late is no error of the test: the run may be over
            self.act(act).await.ok();
        }
        self.used("gateway", &self.stores[0].document()).await;
        if self.strategy() == Strategy::Swap {
            return;
        }
        let document = {
            let mut application = self.application.lock().unwrap();
            if now.since(application.read_at) >= CACHE {
                let reads = *self.application_reads.lock().unwrap();
                *application = Application { read_at: now, document: self.stores[reads].document() };
            }
            application.document.copied()
        };
        let deployed = self.stuck_application.lock().unwrap().as_ref().map(CredentialDocument::copied);
        self.used("application", &deployed.unwrap_or(document)).await;
    }

    async fn used(&self, consumer: &str, document: &CredentialDocument) {
        self.logins.fetch_add(1, Ordering::SeqCst);
        if self.platform.login(document).is_none() {
            self.failures.lock().unwrap().push(format!("{consumer} at {:?}", self.now()));
            return;
        }
        let fingerprint = document.fingerprint(&Fingerprinter::new(b"installation"));
        self.side
            .sight(Sighting {
                credential: self.credential.clone(),
                consumer: consumer.to_owned(),
                fingerprint,
                version: None,
                grade: Grade::Used,
                at: self.now(),
                alive_until: self.now().plus(Duration::from_mins(30)),
            })
            .await
            .unwrap();
    }

    /// One process works until its run is over, needs a person, or it dies (none).
    pub(crate) async fn live(&self, wanted: &Wanted) -> Option<Standing> {
        let services = self.boot();
        let subject = self.subject();
        let lived = tokio::select! {
            biased;
            () = self.gate.died() => None,
            standing = self.work(&services, &subject, wanted) => Some(standing),
        };
        self.gate.revive();
        lived
    }

    async fn work(&self, services: &Arc<Services>, subject: &Arc<Subject>, wanted: &Wanted) -> Standing {
        loop {
            if let Some(run) = self.newest().await
                && run.began().generation >= self.until_generation.load(Ordering::SeqCst)
                && let Some(end) = run.end()
            {
                return Standing::Ended(end.clone());
            }
            match open(services, subject, Some(wanted.clone())).await {
                Err(NotBegun::Halt(Halt::Busy(_))) => self.pass_until(self.now().plus(Duration::from_secs(30))).await,
                Err(error) => panic!("{error}"),
                Ok(session) => match self.drive(session.unwrap()).await {
                    Ok(standing) => return standing,
                    Err(Halt::TakenOver(_) | Halt::Busy(_)) => {}
                    Err(error) => panic!("{error}"),
                },
            }
        }
    }

    pub(crate) async fn drive(&self, mut session: Session) -> Result<Standing, Halt> {
        loop {
            let standing = session.work().await?;
            let Standing::Waiting { until, .. } = standing else {
                session.release().await;
                return Ok(standing);
            };
            if until.since(self.now()) <= Duration::from_secs(15) {
                self.pass_until(until).await;
                session.waited().await?;
                continue;
            }
            session.rest().await;
            self.pass_until(until).await;
            session.wake().await?;
        }
    }

    /// Processes one after the other, each killed where the gate says, until the run is over.
    pub(crate) async fn until_standing(&self, wanted: &Wanted) -> (Standing, u32) {
        for lives in 1..50 {
            if let Some(standing) = self.live(wanted).await {
                return (standing, lives);
            }
        }
        panic!("fifty lives are too many");
    }

    /// Everything that must hold once a run is over, however it went.
    pub(crate) async fn check(&self, end: &End) -> BTreeMap<&'static str, u64> {
        let run = self.newest().await.unwrap();
        assert_eq!(self.gate.broken(), <[String; 0]>::default(), "the live document always logs in");
        if self.strategy() != Strategy::Swap {
            assert_eq!(*self.failures.lock().unwrap(), <[String; 0]>::default(), "no consumer failed");
        }
        let (rows, calls, secrets, limit_met) = {
            let state = self.platform.state.lock().unwrap();
            (state.rows.clone(), state.calls.clone(), state.secrets.clone(), state.limit_met)
        };
        assert!(!limit_met, "the platform's limit was never met");
        let stays: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
        let [only] = &rows[..] else { panic!("not one secret is left: {stays:?} after {calls:?}") };
        assert!(only.active);
        for store in &self.stores {
            assert!(self.platform.accepts(&store.document()), "every store serves the one that is left");
            assert_eq!(store.staged_count(), 0, "nothing stays staged");
        }
        if *end == (End::Completed { unknown: Vec::new() }) {
            assert_ne!(only.secret, secrets[0], "it is a new one");
            let told = self.hook.told.lock().unwrap();
            assert!(
                told.iter().all(|(_, secret)| *secret == only.secret) && !told.is_empty(),
                "the hook got it: {told:?} {:#?}",
                self.gate.trace()
            );
            assert!(told.iter().all(|(promotion, _)| promotion.delivery == told[0].0.delivery), "under one name");
        }
        self.check_intents(&run, &calls).await;
        self.check_secrecy(&secrets);
        let mut counts = BTreeMap::new();
        for call in &calls {
            let word = match call {
                Call::Create(_) => "created",
                Call::Regenerate => "regenerated",
                Call::Stop(_) => "stopped",
                Call::Start(_) => "started",
                Call::Delete(_) => "deleted",
            };
            *counts.entry(word).or_default() += 1;
        }
        counts
    }

    /// Each change on the platform has an intent of its own in the journal; evidence precedes every prune.
    async fn check_intents(&self, run: &Run, calls: &[Call]) {
        let stored = self.side.run(run.began().run).await.unwrap();
        let records: Vec<_> = stored.records.iter().map(|record| Record::parse(&record.record).unwrap()).collect();
        let intended: Vec<_> = records
            .iter()
            .filter_map(|record| match &record.step {
                Step::Intended { effect, basis } => Some((effect, basis)),
                _ => None,
            })
            .collect();
        let names = |wanted: &ManagedId, kinds: &[&str]| {
            intended.iter().any(|(effect, _)| match effect {
                Effect::Stop { id, .. }
                | Effect::Start { id, .. }
                | Effect::Prune { id, .. }
                | Effect::Cleanup { id, .. } => id == wanted && kinds.contains(&effect.as_str()),
                _ => false,
            })
        };
        for call in calls {
            match call {
                Call::Delete(id) => assert!(names(id, &["prune", "cleanup"]), "{id} was deleted without an intent"),
                Call::Stop(id) => assert!(names(id, &["stop", "cleanup"]), "{id} was stopped without an intent"),
                Call::Start(id) => assert!(names(id, &["start"]), "{id} was started without an intent"),
                Call::Create(_) | Call::Regenerate => {}
            }
        }
        let count = |word: &str| intended.iter().filter(|(effect, _)| effect.as_str() == word).count();
        let regenerated = calls.iter().filter(|call| **call == Call::Regenerate).count();
        assert!(regenerated <= count("regenerate"), "each regenerate has an intent of its own");
        let mut labels: Vec<_> =
            calls.iter().filter_map(|call| if let Call::Create(label) = call { Some(label) } else { None }).collect();
        let created = labels.len();
        labels.sort();
        labels.dedup();
        assert_eq!(labels.len(), created, "no create was sent twice");
        assert!(created <= count("create"), "each create has an intent of its own: {calls:?} {intended:#?}");
        let spent = spent(&records);
        assert!(spent <= self.policy.budget.per_run as usize, "{spent} creates were spent: {records:#?}");
        if run.began().level == Level::Regular {
            for (effect, basis) in &intended {
                if !matches!(effect, Effect::Stop { .. } | Effect::Prune { .. }) {
                    continue;
                }
                let basis = basis.as_ref().expect("a prune names what allowed it");
                let all = self.policy.consumers.iter().all(|consumer| {
                    let mut of = basis.evidence.iter().filter(|found| found.consumer == consumer.name);
                    of.any(|found| found.grade == Some(Grade::Used))
                });
                assert!(all || !basis.by.is_empty(), "evidence or a person precedes every prune: {basis:?}");
            }
        }
        let audited = self.audit.0.lock().unwrap();
        let of_run = audited.iter().filter(|event| {
            event.detail.contains(&("run".to_owned(), run.began().run.to_string()))
                && event.detail.iter().any(|(key, _)| key == "seq")
        });
        assert_eq!(of_run.count(), records.len(), "each record is audited once");
    }

    /// No secret in the clear, in the journal's file, its log, the audit log or a notice.
    fn check_secrecy(&self, secrets: &[String]) {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            all.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        all.extend(format!("{:?}", self.audit.0.lock().unwrap()).into_bytes());
        all.extend(format!("{:?}", self.notifier.0.lock().unwrap()).into_bytes());
        assert!(!secrets.is_empty());
        let mark = crate::platform::MARK.as_bytes();
        assert!(!all.windows(mark.len()).any(|part| part == mark), "a secret lies in the clear");
    }
}

pub(crate) fn open_state(folder: &tempfile::TempDir, audit: &Arc<MemoryAudit>, clock: &ManualClock) -> SqliteState {
    let audit: Arc<dyn AuditLog> = Arc::<MemoryAudit>::clone(audit);
    SqliteState::open(&folder.path().join("state.db"), audit, Arc::new(clock.clone())).unwrap()
}

/// Creates of a run that count: all but those of which the platform itself said that nothing was made.
fn spent(records: &[Record]) -> usize {
    let (mut spent, mut open) = (0, false);
    for record in records {
        match &record.step {
            Step::Intended { effect, .. } => {
                open = matches!(effect, Effect::Create { .. });
                spent += usize::from(open);
            }
            Step::Settled { outcome: Outcome::NotDone { .. } | Outcome::Refused { .. } } if open => spent -= 1,
            _ => {}
        }
    }
    spent
}
