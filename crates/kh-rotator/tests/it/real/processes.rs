//! The rotators of a history: each lives until its gate kills it, and the next one takes over what it left.
//!
//! Invariant: a process shares nothing with the next one but files, the platform and its machine's clock.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kh_core::{
    Clock, Entropy, Fingerprinter, SecretBytes, SeededEntropy, UnixMillis,
    audit::AuditEvent,
    port::{
        BoxFuture, DeliveryHook, JournalError, RotationJournal, SecretTarget, SightingLog, TargetError,
        rotation_journal::{Append, Approval, ApprovalOf, Grade, HeldLease, Hold, NewRun, Sighting, StoredRun},
        secret_management::Rotator,
        secret_target::{LiveSecret, Replica, TargetCheck, TargetTraits},
    },
    rotation::{ManagedId, Marker, RunId, SecretPath, VersionId, WriteToken},
};
use kh_rotation::{Need, Order};
use kh_rotator::{
    EscrowKey, Halt, NotBegun, NotTaken, Patience, Person, Services, Standing, Store, Subject, Times, Wanted, drive,
    open, orders,
};
use tokio_util::sync::CancellationToken;

use super::{
    relay::Relay,
    stage::StageTimer,
    world::{PLACES, RealWorld, Without, open_store, target},
};
use crate::{
    gate::{Fault, Gate, GatedJournal},
    world::open_state,
};

/// A process looks again at the latest after this, as the schedule does.
const AGAIN: Duration = Duration::from_mins(10);

/// Needs of a person after which that person gives up.
const NEEDS_MAX: u64 = 6;

/// The embedded store with places to die, lost requests and lost answers in front of it, and a witness behind.
struct GatedTarget {
    inner: Arc<dyn SecretTarget>,
    gate: Arc<Gate>,
    world: Arc<RealWorld>,
}

impl GatedTarget {
    async fn change<T>(&self, what: &str, work: BoxFuture<'_, Result<T, TargetError>>) -> Result<T, TargetError> {
        self.gate.pass(&format!("{what}, before")).await;
        let unknown = || TargetError::Unknown("the connection broke".to_owned());
        let done = match self.gate.fault(what) {
            Fault::NotDone => return Err(TargetError::Unavailable("sealed".to_owned())),
            Fault::RequestLost => Err(unknown()),
            Fault::None => work.await,
            Fault::AnswerLost => {
                self.world.met("an answer of the store was lost");
                work.await.and_then(|_| Err(unknown()))
            }
        };
        self.gate.pass(&format!("{what}, after")).await;
        done
    }

    /// Promotes, and sees from outside whether what was replaced is what was expected.
    async fn witnessed(
        &self,
        path: &SecretPath,
        token: WriteToken,
        expect: Option<&VersionId>,
    ) -> Result<VersionId, TargetError> {
        let before = self.inner.live(path).await.ok();
        let blind = before.as_ref().map(|live| live.version.clone());
        let given = if self.world.without == Without::CompareAndSet { blind.as_ref() } else { expect };
        let promoted = self.inner.promote(path, token, given).await?;
        let own =
            before.as_ref().and_then(|live| Marker::read(&live.value)).is_some_and(|marker| marker.write == token);
        let replaced = before.map(|live| live.version);
        if !own && replaced.as_ref() != expect {
            self.world.wrong(format!("{path}: {replaced:?} was replaced, and {expect:?} was looked at"));
        }
        self.world.observe("a promotion").await;
        Ok(promoted)
    }
}

impl SecretTarget for GatedTarget {
    fn traits(&self) -> TargetTraits {
        self.inner.traits()
    }
    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        self.inner.live(path)
    }
    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        self.inner.live_version(path)
    }
    fn check<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<TargetCheck, TargetError>> {
        self.inner.check(path)
    }
    fn stage<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        value: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(self.change("stage", self.inner.stage(path, token, value)))
    }
    fn staged<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
    ) -> BoxFuture<'a, Result<Option<SecretBytes>, TargetError>> {
        self.inner.staged(path, token)
    }
    fn promote<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        expect: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(self.change("promote", Box::pin(self.witnessed(path, token, expect))))
    }
    fn unstage<'a>(&'a self, path: &'a SecretPath, token: WriteToken) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(self.change("unstage", self.inner.unstage(path, token)))
    }
    fn replicas<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        self.inner.replicas(path)
    }
    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        self.inner.list(prefix, limit)
    }
}

/// A journal from which a rule was taken away.
struct Maimed {
    inner: Arc<dyn RotationJournal>,
    without: Without,
    world: Arc<RealWorld>,
}

impl SightingLog for Maimed {
    fn sight(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.sight(sighting)
    }
}

impl RotationJournal for Maimed {
    fn lease<'a>(
        &'a self,
        name: &'a str,
        owner: &'a str,
        now: UnixMillis,
        life: Duration,
    ) -> BoxFuture<'a, Result<Option<HeldLease>, JournalError>> {
        if self.without == Without::Lease {
            // one owner for all, and no end: everybody has the lease always, with one fence
            return self.inner.lease(name, "everybody", now, Duration::from_hours(24 * 365));
        }
        self.inner.lease(name, owner, now, life)
    }
    fn release<'a>(&'a self, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), JournalError>> {
        if self.without == Without::Lease { Box::pin(async { Ok(()) }) } else { self.inner.release(lease) }
    }
    fn begin(&self, run: NewRun, lease: HeldLease, event: AuditEvent) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.begin(run, lease, event)
    }
    fn append(&self, append: Append) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.append(append)
    }
    fn run(&self, id: RunId) -> BoxFuture<'_, Result<StoredRun, JournalError>> {
        self.inner.run(id)
    }
    fn runs<'a>(
        &'a self,
        credential: Option<&'a kh_core::CredentialName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredRun>, JournalError>> {
        self.inner.runs(credential, limit)
    }
    fn unfinished(&self) -> BoxFuture<'_, Result<Vec<StoredRun>, JournalError>> {
        self.inner.unfinished()
    }
    fn escrow<'a>(&'a self, run: RunId, name: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, JournalError>> {
        self.inner.escrow(run, name)
    }
    fn hold<'a>(
        &'a self,
        credential: &'a kh_core::CredentialName,
    ) -> BoxFuture<'a, Result<Option<Hold>, JournalError>> {
        self.inner.hold(credential)
    }
    fn set_hold<'a>(
        &'a self,
        credential: &'a kh_core::CredentialName,
        hold: Option<Hold>,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.inner.set_hold(credential, hold, event)
    }
    fn approve(&self, run: RunId, approval: Approval, event: AuditEvent) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.approve(run, approval, event)
    }
    fn approvals(&self, run: RunId) -> BoxFuture<'_, Result<Vec<Approval>, JournalError>> {
        self.inner.approvals(run)
    }
    fn sightings<'a>(
        &'a self,
        credential: &'a kh_core::CredentialName,
    ) -> BoxFuture<'a, Result<Vec<Sighting>, JournalError>> {
        if self.without != Without::Evidence {
            return self.inner.sightings(credential);
        }
        Box::pin(async move {
            // everybody is said to use what the first place serves
            let live = self.world.live(PLACES[0]).await;
            let fingerprint = live.fingerprint(&Fingerprinter::new(b"installation"));
            let now = self.world.now();
            let seen = ["gateway", "application"].map(|consumer| Sighting {
                credential: credential.clone(),
                consumer: consumer.to_owned(),
                fingerprint: fingerprint.clone(),
                version: None,
                grade: Grade::Used,
                at: now,
                alive_until: now.plus(Duration::from_mins(30)),
            });
            Ok(seen.to_vec())
        })
    }
}

/// One process slot of a history.
pub(crate) struct Slot {
    pub(crate) number: usize,
    pub(crate) gate: Arc<Gate>,
    pub(crate) relay: Relay,
    pub(crate) random: SeededEntropy,
    pub(crate) world: Arc<RealWorld>,
}

impl Slot {
    pub(crate) async fn new(world: &Arc<RealWorld>, number: usize) -> Self {
        let gate = Arc::new(Gate::default());
        let relay = Relay::start(world.organisation.upstream(world.way), &gate, world).await;
        let random = SeededEntropy::new(world.seed.wrapping_mul(31).wrapping_add(number as u64));
        Self { number, gate, relay, random, world: Arc::clone(world) }
    }

    pub(crate) fn services(&self, boot: u64) -> Arc<Services> {
        let world = &self.world;
        let machine = &world.machines[self.number];
        let file: Arc<dyn RotationJournal> = Arc::new(open_state(&world.folder, &world.audit, machine));
        let maimed = matches!(world.without, Without::Lease | Without::Evidence);
        let inner: Arc<dyn RotationJournal> = if maimed {
            Arc::new(Maimed { inner: file, without: world.without, world: Arc::clone(world) })
        } else {
            file
        };
        Arc::new(Services {
            journal: Arc::new(GatedJournal { inner, gate: Arc::clone(&self.gate), traps: Arc::default() }),
            notifier: Arc::<crate::stores::MemoryNotifier>::clone(&world.notifier),
            clock: Arc::new(machine.clone()),
            timer: Arc::new(StageTimer(Arc::clone(&world.stage))),
            entropy: Arc::new(SeededEntropy::new(world.seed * 1000 + boot)),
            escrow: EscrowKey::new(&SecretBytes::new(vec![7; 32])).unwrap(),
            fingerprinter: Arc::new(Fingerprinter::new(b"installation")),
            owner: format!("process {boot}"),
        })
    }

    pub(crate) fn subject(&self) -> Arc<Subject> {
        let world = &self.world;
        let machine = &world.machines[self.number];
        let adapters =
            world.organisation.adapters(world.way, &self.relay.url, &(Arc::new(machine.clone()) as Arc<dyn Clock>));
        let file = open_store(&world.folder, &world.audit, machine);
        let inner: Arc<dyn SecretTarget> = Arc::new(target(&file, machine));
        let place = |place: &&str| Store {
            name: (*place).to_owned(),
            path: place.parse().unwrap(),
            target: Arc::new(GatedTarget {
                inner: Arc::clone(&inner),
                gate: Arc::clone(&self.gate),
                world: Arc::clone(world),
            }),
        };
        Arc::new(Subject {
            credential: world.credential.clone(),
            platform: "platform".parse().unwrap(),
            own: false,
            strategy: Some(world.way.strategy()),
            policy: world.policy.clone(),
            times: Times::default(),
            stores: PLACES.iter().map(place).collect(),
            management: adapters.management,
            act_with: None,
            by: Rotator::First,
            second_rotator: true,
            endpoint: adapters.endpoint,
            hooks: vec![Arc::<crate::stores::MemoryHook>::clone(&world.hook) as Arc<dyn DeliveryHook>],
            supply: None,
            revoker: None,
        })
    }

    /// Processes one after the other, until it is over.
    pub(crate) async fn live(self) {
        let world = Arc::clone(&self.world);
        let mut lives = 0;
        while !world.over.load(Ordering::SeqCst) {
            lives += 1;
            let boot = world.boots.fetch_add(1, Ordering::SeqCst);
            let (services, subject) = (self.services(boot), self.subject());
            let lived = tokio::select! {
                biased;
                () = self.gate.died() => None,
                () = self.work(&services, &subject) => Some(()),
            };
            self.gate.revive();
            if lived.is_none() {
                world.met("killed");
                if lives > 1 {
                    world.met("killed twice");
                }
                world.stage.rest(Duration::from_secs(1 + self.random.below(120))).await;
            }
        }
    }

    async fn work(&self, services: &Arc<Services>, subject: &Arc<Subject>) {
        let world = &self.world;
        let stop = CancellationToken::new();
        while !world.over.load(Ordering::SeqCst) {
            if let Some(end) = world.newest().await.and_then(|run| run.end().cloned()) {
                *world.end.lock().unwrap() = Some(end);
                world.over.store(true, Ordering::SeqCst);
                return;
            }
            let wait = match open(services, subject, Some(Wanted::scheduled())).await {
                Ok(Some(mut session)) => match drive(&mut session, services, Patience::UntilWaiting, &stop).await {
                    Ok(Some(Standing::Waiting { until, .. })) => until.since(services.now()).min(AGAIN),
                    Ok(Some(Standing::NeedsOperator(need))) => self.decide(services, &need).await,
                    Ok(Some(Standing::Ended(_)) | None) => Duration::ZERO,
                    Err(error) => self.halted(&error),
                },
                Ok(None) => Duration::from_secs(30),
                Err(NotBegun::Halt(error)) => self.halted(&error),
                Err(error) => {
                    world.wrong(format!("it did not begin: {error}"));
                    Duration::from_mins(1)
                }
            };
            world.stage.rest(wait).await;
        }
    }

    fn halted(&self, error: &Halt) -> Duration {
        match error {
            Halt::Busy(_) => self.world.met("kept out"),
            Halt::TakenOver(_) | Halt::Journal(JournalError::Fenced(_) | JournalError::MovedOn(_)) => {
                self.world.met("taken over");
            }
            other => self.world.wrong(format!("it halted: {other}")),
        }
        Duration::from_secs(15)
    }

    /// A person reads what the run says and types it.
    async fn decide(&self, services: &Arc<Services>, need: &Need) -> Duration {
        let world = &self.world;
        world.met("a person was needed");
        let words: Vec<_> = need.next.split(' ').collect();
        if words.len() < 4 || words[..2] != ["keyholder", "rotate"] {
            world.wrong(format!("no command helps: {need:?}"));
        }
        let needs = world.tally.0.lock().unwrap().get("a person was needed").copied().unwrap_or(0);
        let after = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1));
        let typed = match words.get(2).copied() {
            _ if needs > NEEDS_MAX => Order::Abandon,
            Some("resume") => match (after("--own"), after("--adopt").and_then(|text| text.split_once('='))) {
                (Some(id), _) => Order::Own { ids: vec![ManagedId((*id).to_owned())] },
                (_, Some((store, version))) => {
                    world.met("a version was adopted");
                    Order::Adopt { store: store.to_owned(), version: VersionId(version.to_owned()) }
                }
                _ => Order::Resume,
            },
            Some("abort") if !words.contains(&"--leave") => Order::Abort,
            Some("rollback") => Order::Rollback,
            Some("approve") => {
                let person = Person { actor: "cli:ops".to_owned(), reason: "because".to_owned() };
                orders::approve(services, &world.credential, ApprovalOf::Prune, &person).await.ok();
                return Duration::from_mins(1);
            }
            _ => Order::Abandon,
        };
        let person = Person { actor: "cli:ops".to_owned(), reason: "because".to_owned() };
        if let Err(refused @ NotTaken::Refused(_)) = orders::order(services, &world.credential, typed, &person).await {
            world.wrong(format!("what the run says is refused: {need:?}: {refused}"));
            orders::order(services, &world.credential, Order::Abandon, &person).await.ok();
        }
        Duration::from_mins(5)
    }
}

/// What a person does unasked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Hold,
    Unhold,
    Rollback,
    Abort,
    /// `secret set` with the secret that is in force.
    Rewrite(usize),
}

/// A person acts after `at`.
pub(crate) fn acts(world: &Arc<RealWorld>, at: Duration, act: Act) {
    let world = Arc::clone(world);
    let stage = Arc::clone(&world.stage);
    stage.enter(at, async move {
        if world.over.load(Ordering::SeqCst) {
            return;
        }
        let services = Services {
            journal: Arc::<kh_state::SqliteState>::clone(&world.side),
            notifier: Arc::<crate::stores::MemoryNotifier>::clone(&world.notifier),
            clock: Arc::new(world.clock.clone()),
            timer: Arc::new(StageTimer(Arc::clone(&world.stage))),
            // each shell draws its own ids
            entropy: Arc::new(SeededEntropy::new(
                world.seed.wrapping_mul(7919)
                    ^ u64::try_from(at.as_millis()).unwrap()
                    ^ (u64::from(act == Act::Unhold) << 40),
            )),
            escrow: EscrowKey::new(&SecretBytes::new(vec![7; 32])).unwrap(),
            fingerprinter: Arc::new(Fingerprinter::new(b"installation")),
            owner: format!("a shell at {at:?}"),
        };
        let person = Person { actor: "cli:ops".to_owned(), reason: "because".to_owned() };
        let name = &world.credential;
        // too late is no error of the simulation: the run may be over
        match act {
            Act::Hold => {
                orders::hold(&services, name, &person).await.ok();
                world.met("held");
            }
            Act::Unhold => {
                orders::unhold(&services, name, &person).await.ok();
            }
            Act::Rollback => {
                orders::order(&services, name, Order::Rollback, &person).await.ok();
            }
            Act::Abort => {
                orders::order(&services, name, Order::Abort, &person).await.ok();
            }
            Act::Rewrite(place) => {
                let mut document = world.live(PLACES[place]).await;
                document.marker = None;
                world.write_by_hand(PLACES[place], &document).await;
                world.met("written by hand");
            }
        }
    });
}

/// A machine's wall clock is set.
pub(crate) fn jumps(world: &Arc<RealWorld>, at: Duration, machine: usize, by_ms: i64) {
    let world = Arc::clone(world);
    let stage = Arc::clone(&world.stage);
    stage.enter(at, async move {
        // while a lost request may still arrive, a clock that runs ahead would make it look impossible
        if by_ms > 5_000 && world.on_their_way(0) > 0 {
            return;
        }
        let clock = &world.machines[machine];
        let wall = clock.now().wall.0;
        clock.jump_wall(UnixMillis(wall.saturating_add_signed(by_ms)));
        world.met("a clock was set");
    });
}
