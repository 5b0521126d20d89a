//! A renewal by another process, on a paused clock: over a store in memory, because a disk answers in real time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kh_broker::{Broker, CredentialSpec, SessionError, SessionPolicy, TokenError, UserSessions};
use kh_core::{
    Clock, SecretBytes, SecretString, Sha256, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{
        BeginError, BoxFuture, Grant, Instances, SecretSource, SessionLimits, SessionRecord, SessionStore, StateError,
        TokenEndpoint,
    },
    session::{InstanceId, RefreshJournal, RefreshPhase, SessionEnd, SessionName},
};
use tokio::{runtime::Handle, time::Instant};

use super::{
    ALL, LIFE,
    world::{World, instance},
};
use crate::fakes::{FakeEndpoint, FakeStore, spec, tokio_clock};

/// One session.
#[derive(Default)]
struct Store(Mutex<Option<SessionRecord>>);

impl SessionStore for Store {
    fn begin_session(&self, record: SessionRecord, _: SessionLimits) -> BoxFuture<'_, Result<(), BeginError>> {
        *self.0.lock().unwrap() = Some(record);
        Box::pin(async { Ok(()) })
    }

    fn session(&self, _: Sha256) -> BoxFuture<'_, Result<Option<SessionRecord>, StateError>> {
        let record = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(record) })
    }

    fn renew_session(
        &self,
        _: Sha256,
        seen: u64,
        journal: RefreshJournal,
        sealed: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<u64>, StateError>> {
        let mut stored = self.0.lock().unwrap();
        let version = stored.as_mut().filter(|record| record.version == seen).map(|record| {
            (record.version, record.journal, record.sealed) = (seen + 1, journal, Some(sealed));
            record.version
        });
        drop(stored);
        Box::pin(async move { Ok(version) })
    }

    fn end_session(&self, _: Sha256, _: SessionEnd, _: AuditEvent) -> BoxFuture<'_, Result<bool, StateError>> {
        unreachable!("nothing ends it")
    }

    fn touch_sessions(&self, _: Vec<(Sha256, UnixMillis)>) -> BoxFuture<'_, Result<(), StateError>> {
        unreachable!("nobody tends it")
    }

    fn overdue_sessions(&self, _: UnixMillis, _: u32) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>> {
        unreachable!("nobody tends it")
    }

    fn sessions_to_close(&self, _: u32) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>> {
        unreachable!("nobody tends it")
    }

    fn close_session(&self, _: Sha256) -> BoxFuture<'_, Result<(), StateError>> {
        unreachable!("nobody tends it")
    }

    fn forget_sessions(&self, _: UnixMillis, _: u32) -> BoxFuture<'_, Result<usize, StateError>> {
        unreachable!("nobody tends it")
    }

    fn sessions_after(
        &self,
        _: Option<Sha256>,
        _: Option<kh_core::ClientId>,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>> {
        unreachable!("nobody lists it")
    }

    fn sessions_named(&self, _: SessionName) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>> {
        unreachable!("nobody names it")
    }
}

/// A process among others that are all there.
struct Named(InstanceId);

impl Instances for Named {
    fn own(&self) -> InstanceId {
        self.0
    }

    fn is_gone(&self, _: InstanceId) -> bool {
        false
    }
}

struct Bench {
    world: World,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

impl Bench {
    fn new() -> Self {
        Self { world: World::new(), store: Arc::default(), clock: tokio_clock() }
    }

    /// A process of keyholder.
    fn start(&self, seed: u64) -> (Arc<Broker>, Arc<UserSessions>) {
        let endpoint = Arc::clone(&self.world.platform) as Arc<dyn TokenEndpoint>;
        let usual = spec("acme", &FakeEndpoint::playing(&[]), "1");
        let spec = CredentialSpec { endpoint, sessions: Some(SessionPolicy::default()), ..usual };
        let source = FakeStore::with_secret("right") as Arc<dyn SecretSource>;
        let clock = Arc::clone(&self.clock);
        let broker = Broker::new(vec![spec], source, clock, Arc::new(SystemEntropy), Handle::current());
        let store = Arc::clone(&self.store) as Arc<dyn SessionStore>;
        let instances = Arc::new(Named(instance(seed)));
        let sessions = UserSessions::new(&broker, store, instances, &SecretBytes::new(vec![7; 32])).unwrap();
        (broker, sessions)
    }

    /// A user logs in.
    async fn login(&self, (broker, sessions): &(Arc<Broker>, Arc<UserSessions>)) -> Sha256 {
        let credential = broker.credential(&"acme".parse().unwrap()).unwrap();
        let code = SecretString::copied("code");
        let grant = Grant::Code { code: &code, redirect_uri: None, verifier: None };
        let granted = sessions.exchange(&credential, grant).await.unwrap();
        let token = Sha256::of(b"the keyholder token");
        sessions.begin(granted, token, &"app".parse().unwrap(), Duration::from_hours(9)).await.unwrap();
        token
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_by_another_process_is_waited_for_as_long_as_it_may_take() {
    let bench = Bench::new();
    let (one, (_, two)) = (bench.start(1), bench.start(2));
    let token = bench.login(&one).await;
    two.lease(token).await.unwrap();
    tokio::time::sleep(LIFE).await;
    let platform = &bench.world.platform;
    platform.gate.forget_permits(ALL);
    let lease_of = |sessions: Arc<UserSessions>| {
        tokio::spawn(async move { sessions.lease(token).await.unwrap().token().expose().to_owned() })
    };
    let renewing = lease_of(one.1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(platform.waiting(), 1);
    let looking = lease_of(two);
    tokio::time::sleep(Duration::from_secs(12)).await;
    platform.gate.add_permits(ALL);
    assert_eq!((renewing.await.unwrap(), looking.await.unwrap()), ("access-2".to_owned(), "access-2".to_owned()));
    assert_eq!((platform.uses(), platform.most_at_once()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_ends_is_given_up() {
    let bench = Bench::new();
    let one = bench.start(1);
    let token = bench.login(&one).await;
    let record = bench.store.session(token).await.unwrap().unwrap();
    let journal = RefreshJournal { phase: RefreshPhase::Sent { by: instance(9) }, ..record.journal };
    bench.store.renew_session(token, record.version, journal, record.sealed.unwrap()).await.unwrap();
    tokio::time::sleep(LIFE).await;
    let start = Instant::now();
    let error = one.1.lease(token).await.unwrap_err();
    assert!(matches!(error, SessionError::Token(TokenError::GaveUp)), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 25, "the deadline of a renewal, and the tries of its record");
    assert_eq!(bench.world.platform.uses(), 0);
}
