//! One history's world: a credential at a real platform, its two places in a real store, the journal in its file,
//! consumers that cache, and everything that was seen to go wrong.
//!
//! Invariant: what must hold is looked at from outside, with the platform's and the store's own answers, after every
//! change.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use kh_core::{
    Clock, CredentialName, Fingerprinter, ManualClock, SecretBytes, SystemEntropy, UnixMillis,
    credential::CredentialDocument,
    port::{
        AuditLog, Expected, RotationJournal, SecretStore, SecretTarget, SightingLog,
        rotation_journal::{Grade, Sighting, StoredRun},
        secret_management::Rotator,
    },
};
use kh_rotation::{Effect, End, Policy, Record, Run, Step, policy::Reads};
use kh_state::SqliteState;
use kh_store::{EmbeddedTarget, FileStore, StoreKey, unlock};
use serde_json::Value;

use super::{
    organisation::{Adapters, Organisation, Way},
    relay::{LATE_MAX, Tally, Weather},
    stage::Stage,
};
use crate::{
    gate::Gate,
    stores::{MemoryHook, MemoryNotifier},
    world::{MemoryAudit, open_state, policy},
};

/// How often consumers log in.
const TICK: Duration = Duration::from_mins(7);

/// Where the credential is in the store.
pub(crate) const PLACES: [&str; 2] = ["acme", "replica.acme"];

/// What is taken away from the product to see whether the simulation notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Without {
    /// Nothing: the product as it is.
    #[default]
    Nothing,
    /// The store's compare-and-set.
    CompareAndSet,
    /// The lease and its fence: everybody gets it.
    Lease,
    /// The evidence of consumers: all are said to have been seen.
    Evidence,
    /// The network's promise that no request arrives later than the bound on calls.
    BoundOnCalls,
}

pub(crate) struct RealWorld {
    pub(crate) seed: u64,
    pub(crate) way: Way,
    pub(crate) without: Without,
    pub(crate) organisation: Arc<Organisation>,
    pub(crate) folder: tempfile::TempDir,
    /// The platform's time.
    pub(crate) clock: ManualClock,
    /// Each process's machine.
    pub(crate) machines: Vec<ManualClock>,
    pub(crate) stage: Arc<Stage>,
    pub(crate) weather: Mutex<Weather>,
    pub(crate) tally: Tally,
    pub(crate) audit: Arc<MemoryAudit>,
    pub(crate) notifier: Arc<MemoryNotifier>,
    pub(crate) hook: Arc<MemoryHook>,
    pub(crate) credential: CredentialName,
    pub(crate) policy: Policy,
    pub(crate) side: Arc<SqliteState>,
    pub(crate) shelf: Arc<FileStore>,
    observer: Adapters,
    answered: Mutex<Vec<String>>,
    on_their_way: AtomicI64,
    spent: Mutex<BTreeSet<(String, u64)>>,
    secrets: Mutex<BTreeSet<String>>,
    pub(crate) broken: Mutex<Vec<String>>,
    pub(crate) end: Mutex<Option<End>>,
    pub(crate) over: AtomicBool,
    pub(crate) boots: AtomicU64,
    /// Logins of consumers that failed.
    pub(crate) failed: AtomicU64,
}

fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

pub(crate) fn open_store(folder: &tempfile::TempDir, audit: &Arc<MemoryAudit>, clock: &ManualClock) -> Arc<FileStore> {
    let key = StoreKey::from_raw(SecretBytes::new(vec![3; 32])).unwrap();
    let unlocked = unlock(&folder.path().join("secrets.db"), &key, Arc::new(SystemEntropy)).unwrap();
    let audit: Arc<dyn AuditLog> = Arc::<MemoryAudit>::clone(audit);
    Arc::new(FileStore::open(unlocked, audit, Arc::new(clock.clone())).unwrap())
}

pub(crate) fn target(store: &Arc<FileStore>, clock: &ManualClock) -> EmbeddedTarget {
    let store = Arc::clone(store) as Arc<dyn SecretStore>;
    EmbeddedTarget::new(store, Arc::new(clock.clone()), Arc::new(SystemEntropy), "keyholder")
}

pub(crate) fn parsed(stored: &StoredRun) -> Vec<Record> {
    stored.records.iter().map(|record| Record::parse(&record.record).unwrap()).collect()
}

/// How a history begins.
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) way: Way,
    pub(crate) without: Without,
    pub(crate) processes: usize,
    pub(crate) weather: Weather,
}

impl RealWorld {
    pub(crate) async fn new(organisation: &Arc<Organisation>, setting: Setting) -> Arc<Self> {
        let Setting { seed, way, without, processes, weather } = setting;
        let first = organisation.credential(way, &format!("integration {seed}")).await;
        let clock = ManualClock::at(organisation.now());
        let machines: Vec<_> = (0..processes).map(|_| ManualClock::at(organisation.now())).collect();
        let all = machines.iter().chain([&clock]).cloned().collect();
        let platform = Arc::clone(organisation);
        let stage = Stage::new(all, Box::new(move |span| assert!(platform.sandbox.pass(span))));
        let folder = folder();
        let audit = Arc::new(MemoryAudit::default());
        let side = Arc::new(open_state(&folder, &audit, &clock));
        let shelf = open_store(&folder, &audit, &clock);
        let mut policy = policy();
        if way == Way::Swap {
            policy.consumers.retain(|consumer| consumer.reads == Reads::Tokens);
        }
        let world = Arc::new(Self {
            hook: Arc::new(MemoryHook {
                told: Mutex::default(),
                refuses: Mutex::default(),
                gate: Arc::new(Gate::default()),
            }),
            observer: organisation.observer(way),
            organisation: Arc::clone(organisation),
            notifier: Arc::default(),
            tally: Tally::default(),
            answered: Mutex::default(),
            on_their_way: AtomicI64::new(0),
            spent: Mutex::default(),
            secrets: Mutex::default(),
            broken: Mutex::default(),
            end: Mutex::default(),
            over: AtomicBool::new(false),
            boots: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            credential: "acme-prod".parse().unwrap(),
            weather: Mutex::new(weather),
            seed,
            way,
            without,
            folder,
            clock,
            machines,
            stage,
            audit,
            policy,
            side,
            shelf,
        });
        for place in PLACES {
            world.write_by_hand(place, &first).await;
        }
        world
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now().wall
    }

    /// A person's `secret set`.
    pub(crate) async fn write_by_hand(&self, place: &str, document: &CredentialDocument) {
        let name = place.parse().unwrap();
        let event = kh_core::audit::AuditEvent::new(&SystemEntropy, self.now(), "cli:ops", "secret.set", place);
        self.shelf.put(&name, document.to_json(), Expected::Any, event).await.unwrap();
    }

    pub(crate) async fn live(&self, place: &str) -> CredentialDocument {
        let live = target(&self.shelf, &self.clock).live(&place.parse().unwrap()).await.unwrap();
        CredentialDocument::parse(&live.value).unwrap()
    }

    pub(crate) fn met(&self, what: &str) {
        self.tally.add(what);
    }

    fn met_times(&self, what: &str) -> u64 {
        self.tally.0.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    pub(crate) fn wrong(&self, what: String) {
        self.broken.lock().unwrap().push(what);
    }

    /// Requests that somebody gave up and that will still arrive.
    pub(crate) fn on_their_way(&self, more: i64) -> i64 {
        self.on_their_way.fetch_add(more, Ordering::SeqCst) + more
    }

    /// The platform answered a changing request.
    pub(crate) fn answered(&self, what: &str, status: StatusCode, late: bool) {
        if late && status.is_success() {
            self.met("a late request was applied");
            if what == self.way.making().0 {
                self.met("a late creation or regeneration was applied");
            }
        }
        self.answered.lock().unwrap().push(what.to_owned());
    }

    /// Secrets that an answer told.
    pub(crate) fn learn_secrets(&self, body: &[u8]) {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let nested = body.get("resultSet").unwrap_or(&body);
        let told = [nested.get("secret"), nested.get("accessKeySecret"), body.get("access_token")];
        self.secrets.lock().unwrap().extend(told.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    }

    pub(crate) async fn runs(&self) -> Vec<StoredRun> {
        self.side.runs(Some(&self.credential), 10).await.unwrap()
    }

    pub(crate) async fn newest(&self) -> Option<Run> {
        let stored = self.runs().await.into_iter().next()?;
        Some(Run::replay(&parsed(&stored)).unwrap())
    }

    /// A changing request reaches the network: its intent is the last record of the journal, and it is the first one.
    pub(crate) async fn arrives(&self, what: &str) {
        let (making, effect) = self.way.making();
        if what != making {
            return;
        }
        let Some(stored) = self.runs().await.into_iter().next() else {
            return self.wrong(format!("{what} without a run"));
        };
        let seq = stored.records.len() as u64;
        match parsed(&stored).pop().map(|record| record.step) {
            Some(Step::Intended { effect: intended, .. }) if intended.as_str() == effect => {}
            last => self.wrong(format!("{what} was sent without an intent: the last record is {last:?}")),
        }
        if !self.spent.lock().unwrap().insert((stored.id.to_string(), seq)) {
            self.wrong(format!("{what} was sent twice for one intent"));
        }
    }

    /// After a change: what the store serves logs in. A swap has one secret, which is dead from its regeneration until
    /// the new one is promoted.
    pub(crate) async fn observe(&self, after: &str) {
        if self.way == Way::Swap {
            return;
        }
        for place in PLACES {
            if !self.organisation.logs_in(self.way, &self.live(place).await).await {
                self.wrong(format!("after {after}: {place} serves a dead secret"));
            }
        }
    }

    /// Consumers go about their work until it is over.
    pub(crate) async fn consume(self: Arc<Self>) {
        let mut application = (Duration::ZERO, self.live(PLACES[0]).await);
        // how long the application keeps what it read: less than the least overlap, or much more
        let cache = Duration::from_mins(10 + 20 * (self.seed % 5));
        while !self.over.load(Ordering::SeqCst) {
            self.used("gateway", &self.live(PLACES[0]).await).await;
            if self.way != Way::Swap {
                if self.stage.now().saturating_sub(application.0) >= cache {
                    application = (self.stage.now(), self.live(PLACES[1]).await);
                }
                self.used("application", &application.1).await;
            }
            self.stage.rest(TICK).await;
        }
    }

    async fn used(&self, consumer: &str, document: &CredentialDocument) {
        if !self.organisation.logs_in(self.way, document).await {
            self.failed.fetch_add(1, Ordering::SeqCst);
            if self.way != Way::Swap {
                self.wrong(format!("{consumer} could not log in"));
            }
            return;
        }
        let sighting = Sighting {
            credential: self.credential.clone(),
            consumer: consumer.to_owned(),
            fingerprint: document.fingerprint(&Fingerprinter::new(b"installation")),
            version: None,
            grade: Grade::Used,
            at: self.now(),
            alive_until: self.now().plus(Duration::from_mins(30)),
        };
        self.side.sight(sighting).await.unwrap();
    }

    /// What must hold when all is over.
    pub(crate) async fn settle(&self) {
        let end = self.end.lock().unwrap().clone();
        let mut live = BTreeSet::new();
        for place in PLACES {
            let document = self.live(place).await;
            // what a person was told to give up: an answer was lost, and the attempts after it are used up
            let lost = self.met_times("a regenerated secret was lost");
            let spent = lost + self.met_times("a regenerate was found not done");
            let told = lost > 0 && spent >= u64::from(self.policy.budget.per_run);
            let given_up = self.way == Way::Swap && told && matches!(end, Some(End::Abandoned { .. }));
            if !given_up && !self.organisation.logs_in(self.way, &document).await {
                self.wrong(format!("{place} serves a dead secret at the end: {end:?}"));
            }
            live.extend(self.observer.management.id_of(&document));
        }
        if self.way != Way::Swap {
            self.no_orphan(&live, end.as_ref()).await;
        }
        if !matches!(end, Some(End::Abandoned { .. })) {
            let names = self.shelf.list().await.unwrap();
            if names.len() != PLACES.len() {
                self.wrong(format!("something stays staged: {names:?}"));
            }
        }
        self.intents().await;
        self.secrecy();
    }

    async fn no_orphan(&self, live: &BTreeSet<kh_core::rotation::ManagedId>, end: Option<&End>) {
        let told = match end {
            Some(End::Completed { unknown } | End::RolledBack { unknown } | End::Aborted { unknown }) => {
                unknown.clone()
            }
            Some(End::Abandoned { left }) => left.clone(),
            Some(End::Killed) | None => Vec::new(),
        };
        let current = self.live(PLACES[0]).await;
        let listed = self.observer.management.list(&current, Rotator::First).await.unwrap();
        let secrets_api = self.way == Way::Secrets;
        // the secrets API does not say in a document which secret it is: as many as are left must be told
        let orphans: Vec<_> = listed.iter().filter(|one| !live.contains(&one.id) && !told.contains(&one.id)).collect();
        let allowed = usize::from(secrets_api && live.is_empty());
        if orphans.len() > allowed {
            self.wrong(format!("not listed anywhere: {orphans:?} at {end:?}"));
        }
    }

    /// No more was made than was intended, and each record is audited once.
    async fn intents(&self) {
        let (making, effect) = self.way.making();
        let (mut intended, mut records) = (0, 0);
        for stored in self.runs().await {
            for record in parsed(&stored) {
                records += 1;
                if let Step::Intended { effect: found, .. } = &record.step {
                    intended += usize::from(found.as_str() == effect);
                    if let (Effect::Stop { .. } | Effect::Prune { .. }, Step::Intended { basis: None, .. }) =
                        (found, &record.step)
                    {
                        self.wrong("a secret was taken away without a basis".to_owned());
                    }
                }
            }
        }
        let sent = self.answered.lock().unwrap().iter().filter(|what| *what == making).count();
        if sent > intended {
            self.wrong(format!("{sent} of {making} for {intended} intents"));
        }
        let audited = self.audit.0.lock().unwrap();
        let of_runs = audited.iter().filter(|event| event.detail.iter().any(|(key, _)| key == "seq")).count();
        if of_runs != records {
            self.wrong(format!("{records} records, {of_runs} in the audit log"));
        }
    }

    /// No secret that the platform ever told lies in the clear.
    fn secrecy(&self) {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            all.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        let told = format!("{:?}{:?}", self.audit.0.lock().unwrap(), self.notifier.0.lock().unwrap());
        all.extend(told.into_bytes());
        let all = String::from_utf8_lossy(&all);
        let secrets = self.secrets.lock().unwrap();
        if secrets.iter().any(|secret| secret.len() > 20 && all.contains(secret.as_str())) {
            self.wrong("a secret lies in the clear".to_owned());
        }
    }

    /// What the network may do with a request at the latest.
    pub(crate) fn late_max(without: Without) -> Duration {
        if without == Without::BoundOnCalls { Duration::from_mins(20) } else { LATE_MAX }
    }
}
