//! Processes of keyholder on a paused clock: over a state in memory, because a disk answers in real time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kh_broker::{Broker, CredentialSpec, SessionPolicy, UserSessions};
use kh_core::{
    Clock, SecretBytes, SecretString, Sha256, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{
        BeginError, BoxFuture, Grant, Instances, SecretSource, SessionLimits, SessionRecord, SessionStore, StateError,
        TokenEndpoint,
    },
    session::{InstanceId, RefreshJournal, SessionEnd, SessionName},
};
use tokio::runtime::Handle;

use super::world::{Platform, World, instance};
use crate::fakes::{FakeEndpoint, FakeStore, spec, tokio_clock};

/// The sessions, in memory.
#[derive(Default)]
pub(crate) struct Store(Mutex<BTreeMap<Sha256, SessionRecord>>);

impl SessionStore for Store {
    fn begin_session(&self, record: SessionRecord, _: SessionLimits) -> BoxFuture<'_, Result<(), BeginError>> {
        self.0.lock().unwrap().insert(record.token, record);
        Box::pin(async { Ok(()) })
    }

    fn session(&self, token: Sha256) -> BoxFuture<'_, Result<Option<SessionRecord>, StateError>> {
        let record = self.0.lock().unwrap().get(&token).cloned();
        Box::pin(async move { Ok(record) })
    }

    fn renew_session(
        &self,
        token: Sha256,
        seen: u64,
        journal: RefreshJournal,
        sealed: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<u64>, StateError>> {
        let mut stored = self.0.lock().unwrap();
        let version = stored.get_mut(&token).filter(|record| record.version == seen).map(|record| {
            (record.version, record.journal, record.sealed) = (seen + 1, journal, Some(sealed));
            record.version
        });
        drop(stored);
        Box::pin(async move { Ok(version) })
    }

    fn end_session(&self, token: Sha256, end: SessionEnd, _: AuditEvent) -> BoxFuture<'_, Result<bool, StateError>> {
        let mut stored = self.0.lock().unwrap();
        let alive = stored.get_mut(&token).filter(|record| record.end.is_none());
        let ended = alive.map(|record| record.end = Some(end)).is_some();
        drop(stored);
        Box::pin(async move { Ok(ended) })
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

/// A platform, a state and a secret store.
pub(crate) struct Bench {
    pub(crate) platform: Arc<Platform>,
    pub(crate) store: Arc<Store>,
    pub(crate) source: Arc<FakeStore>,
    clock: Arc<dyn Clock>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (platform, source) = (World::new().platform, FakeStore::with_secret("right"));
        Self { platform, store: Arc::default(), source, clock: tokio_clock() }
    }

    /// A process of keyholder.
    pub(crate) fn start(&self, seed: u64) -> (Arc<Broker>, Arc<UserSessions>) {
        let endpoint = Arc::clone(&self.platform) as Arc<dyn TokenEndpoint>;
        let usual = spec("acme", &FakeEndpoint::playing(&[]), "1");
        let spec = CredentialSpec { endpoint, sessions: Some(SessionPolicy::default()), ..usual };
        let source = Arc::clone(&self.source) as Arc<dyn SecretSource>;
        let clock = Arc::clone(&self.clock);
        let broker = Broker::new(vec![spec], source, clock, Arc::new(SystemEntropy), Handle::current());
        let store = Arc::clone(&self.store) as Arc<dyn SessionStore>;
        let instances = Arc::new(Named(instance(seed)));
        let sessions = UserSessions::new(&broker, store, instances, &SecretBytes::new(vec![7; 32])).unwrap();
        (broker, sessions)
    }

    /// A user logs in.
    pub(crate) async fn login(&self, process: &(Arc<Broker>, Arc<UserSessions>)) -> Sha256 {
        self.login_of("the user", process).await
    }

    /// The same for one of several.
    pub(crate) async fn login_of(&self, user: &str, (broker, sessions): &(Arc<Broker>, Arc<UserSessions>)) -> Sha256 {
        let credential = broker.credential(&"acme".parse().unwrap()).unwrap();
        let code = SecretString::copied("code");
        let grant = Grant::Code { code: &code, redirect_uri: None, verifier: None };
        let granted = sessions.exchange(&credential, grant).await.unwrap();
        let token = Sha256::of(user.as_bytes());
        sessions.begin(granted, token, &"app".parse().unwrap(), Duration::from_hours(9)).await.unwrap();
        token
    }
}
