//! Rotations in real time against the sandbox with the platform's limits: the schedule spreads them, the adapters keep
//! the limit, and the platform never has to say no.
//!
//! Invariant: what the platform saw is read from its own journal. The short form has the platform's rate in shorter
//! windows; the long form has the published windows of a minute.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Clock, Fingerprinter, SecretBytes, SystemClock, SystemEntropy,
    audit::AuditEvent,
    port::{
        AuditLog, Expected, RotationJournal, SecretStore, SecretTarget, SightingLog,
        rotation_journal::{Grade, Sighting},
        secret_management::Rotator,
    },
    rotation::{Marker, RunId, WriteToken},
};
use kh_rotation::{End, Policy, Run};
use kh_rotator::{EscrowKey, Limits, Scheduler, Services, Store, Subject, Times, TokioTimer};
use kh_sandbox::{ClientConfig, SandboxConfig};
use kh_state::SqliteState;
use kh_store::{EmbeddedTarget, FileStore, StoreKey, unlock};
use tokio_util::sync::CancellationToken;

use super::{
    organisation::{Organisation, Way, document},
    world::parsed,
};
use crate::{
    stores::MemoryNotifier,
    world::{MemoryAudit, policy},
};

/// Rotations without and with `KEYHOLDER_LONG=1`.
const ROTATIONS: usize = 8;
const ROTATIONS_LONG: usize = 50;

/// Looks at the journal before it must be over, a tenth of a second apart.
const LOOKS_MAX: u32 = 20_000;

/// Clients of the sandbox before those that are rotated.
const ROTATORS: usize = 2;

fn platform(rotations: usize, long: bool) -> SandboxConfig {
    let mut config = SandboxConfig::default();
    let client = |name: &str| {
        let mut client = ClientConfig::with_permissions(name, &[]);
        client.roles = vec!["admin".to_owned()];
        client
    };
    let names = (0..rotations).map(|number| format!("integration {number}"));
    let rotators = ["rotator one", "rotator two"].map(str::to_owned);
    config.genesys.clients = rotators.into_iter().chain(names).map(|name| client(&name)).collect();
    if !long {
        config.limits.requests_per_token = 50;
        config.limits.window_seconds = 2;
    }
    config
}

/// Everything of one keyholder.
struct Keyholder {
    _folder: tempfile::TempDir,
    state: Arc<SqliteState>,
    store: Arc<FileStore>,
    clock: Arc<dyn Clock>,
    subjects: Vec<Arc<Subject>>,
    scheduler: Arc<Scheduler>,
}

impl Keyholder {
    async fn start(organisation: &Organisation, rotations: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let audit: Arc<dyn AuditLog> = Arc::new(MemoryAudit::default());
        let path = folder.path().join("state.db");
        let state = Arc::new(SqliteState::open(&path, Arc::clone(&audit), Arc::clone(&clock)).unwrap());
        let key = StoreKey::from_raw(SecretBytes::new(vec![3; 32])).unwrap();
        let unlocked = unlock(&folder.path().join("secrets.db"), &key, Arc::new(SystemEntropy)).unwrap();
        let store = Arc::new(FileStore::open(unlocked, audit, Arc::clone(&clock)).unwrap());
        let kept = Arc::clone(&store) as Arc<dyn SecretStore>;
        let target: Arc<dyn SecretTarget> =
            Arc::new(EmbeddedTarget::new(kept, Arc::clone(&clock), Arc::new(SystemEntropy), "keyholder"));
        let adapters = organisation.adapters(Way::Pair, &organisation.sandbox.genesys_url, &clock);
        let mut subjects = Vec::new();
        for number in 0..rotations {
            let name = format!("integration-{number}");
            write(organisation, &store, &*clock, number, &name).await;
            subjects.push(Arc::new(Subject {
                credential: name.parse().unwrap(),
                platform: "genesys".parse().unwrap(),
                own: false,
                strategy: None,
                policy: short(rotations),
                times: Times::default(),
                stores: vec![Store { path: name.parse().unwrap(), name, target: Arc::clone(&target) }],
                management: Arc::clone(&adapters.management),
                act_with: None,
                by: Rotator::First,
                second_rotator: true,
                endpoint: Arc::clone(&adapters.endpoint),
                hooks: Vec::new(),
                supply: None,
                revoker: None,
            }));
        }
        let services = Arc::new(Services {
            journal: Arc::<SqliteState>::clone(&state),
            notifier: Arc::<MemoryNotifier>::default(),
            clock: Arc::clone(&clock),
            timer: Arc::new(TokioTimer),
            entropy: Arc::new(SystemEntropy),
            escrow: EscrowKey::new(&SecretBytes::new(vec![7; 32])).unwrap(),
            fingerprinter: Arc::new(Fingerprinter::new(b"installation")),
            owner: "keyholder".to_owned(),
        });
        let limits = Limits { poll: Duration::from_millis(100), ..Limits::default() };
        let scheduler = Scheduler::new(services, subjects.clone(), limits);
        Self { _folder: folder, state, store, clock, subjects, scheduler }
    }

    /// The gateway uses whatever the store serves.
    async fn use_all(&self) {
        for subject in &self.subjects {
            let name = subject.credential.as_str().parse().unwrap();
            let live = self.store.get(&name).await.unwrap();
            let live = kh_core::credential::CredentialDocument::parse(&live.value).unwrap();
            let now = self.clock.now().wall;
            let sighting = Sighting {
                credential: subject.credential.clone(),
                consumer: "gateway".to_owned(),
                fingerprint: live.fingerprint(&Fingerprinter::new(b"installation")),
                version: None,
                grade: Grade::Used,
                at: now,
                alive_until: now.plus(Duration::from_mins(30)),
            };
            self.state.sight(sighting).await.unwrap();
        }
    }

    /// How the runs that are over ended.
    async fn ends(&self) -> Vec<End> {
        let runs = self.state.runs(None, 1000).await.unwrap();
        runs.iter().filter_map(|run| Run::replay(&parsed(run)).unwrap().end().cloned()).collect()
    }
}

/// A secret that keyholder made 80 days ago, so that it is due now and its successor is not.
async fn write(organisation: &Organisation, store: &FileStore, clock: &dyn Clock, number: usize, name: &str) {
    let client = &organisation.sandbox.clients[ROTATORS + number];
    let mut first = document(&client.id, client.secret.expose());
    let (run, now) = (RunId(uuid::Uuid::from_u128(1)), clock.now().wall);
    first.marker = Some(Marker {
        run,
        write: WriteToken::of(run, "one", "promote"),
        generation: 1,
        fingerprint: first.fingerprint(&Fingerprinter::new(b"installation")),
        created_at: now.minus(Duration::from_hours(80 * 24)),
    });
    let event = AuditEvent::new(&SystemEntropy, now, "cli:ops", "secret.set", name);
    store.put(&name.parse().unwrap(), first.to_json(), Expected::Any, event).await.unwrap();
}

/// As quick as real time asks for; what is looked at is the same.
fn short(rotations: usize) -> Policy {
    let second = Duration::from_secs(1);
    let mut policy = policy();
    policy.consumers.truncate(1);
    policy.overlap_min = second;
    policy.quiet = second;
    policy.watch = Some(second);
    // each look and each try of the new secret is a login, and the platform takes 60 a minute of one client: the long
    // form, where a run may wait for a whole window, has the default pace of tries
    if rotations <= ROTATIONS {
        policy.verification.spacing = Duration::from_millis(100);
    }
    policy.backoff.poll = if rotations <= ROTATIONS { second } else { 5 * second };
    policy
}

#[tokio::test]
async fn rotations_in_real_time_are_never_refused_by_the_platforms_limit() {
    let long = std::env::var("KEYHOLDER_LONG").is_ok();
    let rotations = if long { ROTATIONS_LONG } else { ROTATIONS };
    let config = platform(rotations, long);
    let allowed = config.limits.requests_per_token as usize;
    let organisation = Organisation::with(config).await;
    let keyholder = Keyholder::start(&organisation, rotations).await;
    let stop = CancellationToken::new();
    let working = tokio::spawn(Arc::clone(&keyholder.scheduler).run(stop.clone()));
    let mut looks = 0;
    let ends = loop {
        keyholder.use_all().await;
        let ends = keyholder.ends().await;
        if ends.len() >= rotations {
            break ends;
        }
        looks += 1;
        assert!(looks < LOOKS_MAX, "only {} are over: {:#?}", ends.len(), keyholder.scheduler.overview().borrow());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    stop.cancel();
    working.await.unwrap();
    assert!(ends.iter().all(|end| *end == End::Completed { unknown: Vec::new() }), "{ends:?}");
    let requests = organisation.sandbox.requests();
    let refused = |status: u16, login: bool| {
        requests
            .iter()
            .filter(|request| request.status == Some(status) && request.endpoint.contains("/oauth/token") == login)
            .count()
    };
    let rotator = &organisation.sandbox.clients[0].id;
    let asked = requests.iter().filter(|request| request.client.as_ref() == Some(rotator)).count();
    println!(
        "{rotations} rotations in real time: {} requests, {asked} of them with the rotator's token, of which a window \
         allows {allowed}; refused by a limit: {} calls and {} logins",
        requests.len(),
        refused(429, false),
        refused(400, true) + refused(429, true)
    );
    assert!(asked > 2 * allowed, "{asked} requests do not show that the limit is kept");
    assert_eq!(refused(429, false), 0);
    assert_eq!(refused(400, true) + refused(429, true), 0);
    organisation.sandbox.shutdown().await;
}
