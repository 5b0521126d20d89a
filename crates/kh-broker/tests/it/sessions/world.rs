//! A platform with users that takes a refresh token once (or not), and processes of keyholder over one real state that
//! can be killed.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_broker::{Broker, CredentialSpec, Lease, SessionError, SessionPolicy, UserSessions};
use kh_core::{
    ClientId, Clock, Entropy, Now, SecretBytes, SecretString, SeededEntropy, Sha256, SystemClock, SystemEntropy,
    audit::AuditEvent,
    credential::CredentialDocument,
    port::{
        AuditError, AuditLog, BoxFuture, ClientRecord, FetchError, Grant, GrantError, Instances, IssuedToken,
        SecretSource, SessionStore, StateStore, TokenEndpoint, TokenFormat, TokenRecord,
    },
    session::InstanceId,
};
use kh_state::{LockedInstance, SqliteState};
use tokio::{runtime::Runtime, sync::Semaphore};

use crate::fakes::FakeStore;

/// Life of an access token; it is renewed in its last fifth to third.
pub(crate) const LIFE: Duration = Duration::from_secs(100);
/// Moves a fresh access token into its threshold.
pub(crate) const DUE: Duration = Duration::from_secs(85);

/// What happens to one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Carried out, and the answer is lost.
    LostAfter,
    /// Never sent.
    NotSent,
    /// Refused for a while, which it may name.
    Limited(Option<Duration>),
    /// Refused for good, with this code.
    Refused(&'static str),
    Panic,
}

#[derive(Default)]
struct Users {
    script: VecDeque<Fault>,
    /// How often each refresh token was taken.
    uses: BTreeMap<String, u32>,
    newest: u64,
    over: bool,
    given_back: Vec<String>,
    asked: u32,
    /// Requests with a refresh token, whatever became of them.
    requests: u32,
    at_once: u32,
    most_at_once: u32,
}

/// The platform.
pub(crate) struct Platform {
    users: Mutex<Users>,
    pub(crate) rotates: bool,
    /// Uses of one refresh token that are answered with a token.
    pub(crate) takes: u32,
    /// Requests are answered while it has permits.
    pub(crate) gate: Semaphore,
}

impl Platform {
    fn answer(&self, token: Option<&str>) -> Result<IssuedToken, GrantError> {
        let mut users = self.users.lock().unwrap();
        let refused = || {
            let platform_code = "invalid_grant".to_owned();
            Err(GrantError::not_done(FetchError::Rejected { platform_code, correlation_id: None }))
        };
        if let Some(token) = token {
            let uses = users.uses.entry(token.to_owned()).or_default();
            *uses += 1;
            let too_often = self.rotates && *uses > self.takes;
            users.over |= too_often;
            if users.over {
                return refused();
            }
        }
        if self.rotates || token.is_none() {
            users.newest += 1;
        }
        users.asked += 1;
        let refresh = format!("refresh-{}", users.newest);
        Ok(IssuedToken {
            access_token: SecretString::new(format!("access-{}", users.asked)),
            expires_in: LIFE,
            refresh_token: (self.rotates || token.is_none()).then(|| SecretString::new(refresh)),
            scope: None,
            api_base: None,
            auth_base: None,
        })
    }

    async fn grant_one(&self, grant: Grant<'_>) -> Result<IssuedToken, GrantError> {
        let Grant::Refresh(token) = grant else { return self.answer(None) };
        let fault = {
            let mut users = self.users.lock().unwrap();
            users.requests += 1;
            users.at_once += 1;
            users.most_at_once = users.most_at_once.max(users.at_once);
            users.script.pop_front()
        };
        drop(self.gate.acquire().await.unwrap());
        tokio::task::yield_now().await;
        self.users.lock().unwrap().at_once -= 1;
        let transient = || FetchError::Transient {
            reason: "as the test says".into(),
            retry_after: None,
            unreachable: None,
            correlation_id: None,
        };
        match fault {
            None => self.answer(Some(token.expose())),
            Some(Fault::LostAfter) => {
                drop(self.answer(Some(token.expose())));
                Err(GrantError { cause: transient(), may_be_done: true })
            }
            Some(Fault::NotSent) => Err(GrantError::not_done(transient())),
            Some(Fault::Limited(retry_after)) => {
                Err(GrantError::not_done(FetchError::RateLimited { retry_after, correlation_id: None }))
            }
            Some(Fault::Refused(code)) => {
                let platform_code = code.to_owned();
                Err(GrantError::not_done(FetchError::Rejected { platform_code, correlation_id: None }))
            }
            Some(Fault::Panic) => panic!("the endpoint panics, as the script says"),
        }
    }

    pub(crate) fn next(&self, fault: Fault) {
        self.users.lock().unwrap().script.push_back(fault);
    }

    /// The user's login is revoked at the platform.
    pub(crate) fn revoke(&self) {
        self.users.lock().unwrap().over = true;
    }

    /// How often refresh tokens were taken, in all.
    pub(crate) fn uses(&self) -> u32 {
        self.users.lock().unwrap().uses.values().sum()
    }

    /// How many requests with refresh tokens came, refused ones too.
    pub(crate) fn requests(&self) -> u32 {
        self.users.lock().unwrap().requests
    }

    pub(crate) fn most_uses_of_one(&self) -> u32 {
        self.users.lock().unwrap().uses.values().copied().max().unwrap_or_default()
    }

    /// Carries a request with the newest refresh token out whose answer nobody hears; how often it was used by then.
    pub(crate) fn use_newest(&self) -> u32 {
        let newest = format!("refresh-{}", self.users.lock().unwrap().newest);
        self.users.lock().unwrap().at_once = 0;
        drop(self.answer(Some(&newest)));
        self.users.lock().unwrap().uses.get(&newest).copied().unwrap_or_default()
    }

    /// How many requests with refresh tokens wait at the gate.
    pub(crate) fn waiting(&self) -> u32 {
        self.users.lock().unwrap().at_once
    }

    pub(crate) fn most_at_once(&self) -> u32 {
        self.users.lock().unwrap().most_at_once
    }

    pub(crate) fn given_back(&self) -> Vec<String> {
        self.users.lock().unwrap().given_back.clone()
    }
}

impl TokenEndpoint for Platform {
    fn fetch<'a>(
        &'a self,
        _document: &'a CredentialDocument,
        _refresh: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<IssuedToken, FetchError>> {
        unreachable!("a credential for sessions has no token of its own")
    }

    fn grant<'a>(
        &'a self,
        _document: &'a CredentialDocument,
        grant: Grant<'a>,
    ) -> BoxFuture<'a, Result<IssuedToken, GrantError>> {
        Box::pin(self.grant_one(grant))
    }

    fn give_back<'a>(
        &'a self,
        _api_base: &'a str,
        access_token: &'a SecretString,
    ) -> BoxFuture<'a, Result<bool, FetchError>> {
        self.users.lock().unwrap().given_back.push(access_token.expose().to_owned());
        Box::pin(async { Ok(true) })
    }
}

/// The machine's clocks, moved on by hand.
#[derive(Default)]
pub(crate) struct ShiftedClock {
    real: SystemClock,
    both_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl ShiftedClock {
    pub(crate) fn advance(&self, span: Duration) {
        self.both_ms.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn jump(&self, span: Duration) {
        self.wall_ms.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Now {
        let mut now = self.real.now().plus(Duration::from_millis(self.both_ms.load(Ordering::SeqCst)));
        now.wall = now.wall.plus(Duration::from_millis(self.wall_ms.load(Ordering::SeqCst)));
        now
    }
}

/// An audit log in memory.
#[derive(Default)]
pub(crate) struct Audit(pub(crate) Mutex<Vec<AuditEvent>>);

impl AuditLog for Audit {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        self.0.lock().unwrap().extend_from_slice(events);
        Ok(())
    }
}

/// Believes that every other process is gone: what must never be believed.
pub(crate) struct Alone(pub(crate) InstanceId);

impl Instances for Alone {
    fn own(&self) -> InstanceId {
        self.0
    }

    fn is_gone(&self, instance: InstanceId) -> bool {
        instance != self.0
    }
}

/// One process of keyholder.
pub(crate) struct Process {
    pub(crate) sessions: Arc<UserSessions>,
    pub(crate) state: Arc<SqliteState>,
    broker: Arc<Broker>,
    runtime: Own,
}

/// A runtime that may be dropped inside another.
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Process {
    /// As SIGKILL: its tasks end where they are, and its locks go.
    pub(crate) fn kill(self) {
        let Self { sessions, state, broker, runtime } = self;
        drop(runtime);
        // the instance's lock goes with the last handle; a task that is being dropped may hold one for a moment
        let watch = Arc::downgrade(&sessions);
        drop((sessions, state, broker));
        while watch.strong_count() > 0 {
            std::thread::yield_now();
        }
    }

    pub(crate) async fn lease(&self, token: Sha256) -> Result<Arc<Lease>, SessionError> {
        let sessions = Arc::clone(&self.sessions);
        self.runtime.0.as_ref().unwrap().spawn(async move { sessions.lease(token).await }).await.unwrap()
    }

    pub(crate) async fn shared_lease(&self) -> Result<Arc<Lease>, kh_broker::TokenError> {
        self.broker.credential(&"acme".parse().unwrap()).unwrap().lease(Duration::ZERO).await
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.0.as_ref().unwrap().spawn(work)
    }
}

pub(crate) struct World {
    pub(crate) platform: Arc<Platform>,
    pub(crate) clock: Arc<ShiftedClock>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) policy: SessionPolicy,
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    /// A platform that rotates refresh tokens and takes each once.
    pub(crate) fn new() -> Self {
        Self::at(true, 1)
    }

    pub(crate) fn at(rotates: bool, takes: u32) -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Self {
            platform: Arc::new(Platform { users: Mutex::default(), rotates, takes, gate }),
            clock: Arc::default(),
            audit: Arc::default(),
            policy: SessionPolicy::default(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    pub(crate) fn start(&self) -> Process {
        let instance =
            || -> Arc<dyn Instances> { Arc::new(LockedInstance::claim(&self.database(), &SystemEntropy).unwrap()) };
        self.start_as(instance)
    }

    pub(crate) fn start_as(&self, instances: impl FnOnce() -> Arc<dyn Instances>) -> Process {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let audit = Arc::clone(&self.audit) as Arc<dyn AuditLog>;
        let state = Arc::new(SqliteState::open(&self.database(), audit, Arc::clone(&clock)).unwrap());
        let endpoint = Arc::clone(&self.platform) as Arc<dyn TokenEndpoint>;
        let unused = crate::fakes::FakeEndpoint::playing(&[]);
        let spec = CredentialSpec { endpoint, sessions: Some(self.policy), ..crate::fakes::spec("acme", &unused, "1") };
        let source = FakeStore::with_secret("right") as Arc<dyn SecretSource>;
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let broker = Broker::new(vec![spec], source, clock, entropy, runtime.handle().clone());
        let store = Arc::clone(&state) as Arc<dyn SessionStore>;
        let key = SecretBytes::new(vec![7; 32]);
        let sessions = UserSessions::new(&broker, store, instances(), &key).unwrap();
        Process { sessions, state, broker, runtime: Own(Some(runtime)) }
    }

    /// A client that may log users in.
    pub(crate) async fn client(&self, process: &Process, name: &str) -> ClientRecord {
        let record = ClientRecord {
            id: name.parse().unwrap(),
            name: name.parse().unwrap(),
            credential: Some("acme".parse().unwrap()),
            environment: None,
            secret_digests: Vec::new(),
            old_secrets_until: None,
            scopes: Vec::new(),
            token_format: TokenFormat::Opaque,
            audience: Vec::new(),
            may_introspect: false,
            token_binding: kh_core::port::TokenBinding::None,
            allow: Vec::new(),
            allow_all: true,
            allow_secret_operations: false,
            token_ttl_s: 1_000_000,
            enabled: true,
            created_at: self.clock.now().wall,
            updated_at: self.clock.now().wall,
        };
        process.state.add_client(record.clone(), self.event("client.add")).await.unwrap();
        record
    }

    pub(crate) fn event(&self, action: &str) -> AuditEvent {
        AuditEvent::new(&SystemEntropy, self.clock.now().wall, "test", action, "x")
    }

    /// A user logs in; the digest of the keyholder token that speaks for the session.
    pub(crate) async fn login(&self, process: &Process, client: &ClientId) -> Result<Sha256, SessionError> {
        let code = SecretString::copied("code");
        let credential = process.broker.credential(&"acme".parse().unwrap()).unwrap();
        let grant = Grant::Code { code: &code, redirect_uri: None, verifier: None };
        let granted = process.sessions.exchange(&credential, grant).await?;
        let mut digest = [0; 32];
        SystemEntropy.fill(&mut digest);
        let now = self.clock.now().wall;
        let token = TokenRecord {
            digest: Sha256(digest),
            client: client.clone(),
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(1_000_000)),
            scopes: None,
            confirmation: None,
        };
        let digest = token.digest;
        process.state.add_token(token).await.unwrap();
        process.sessions.begin(granted, digest, client, Duration::from_secs(1_000_000)).await?;
        Ok(digest)
    }

    /// A process, a client and a user who is logged in.
    pub(crate) async fn begun(&self) -> (Process, Sha256) {
        let process = self.start();
        let client = self.client(&process, "app").await;
        let token = self.login(&process, &client.id).await.unwrap();
        (process, token)
    }

    pub(crate) fn actions(&self) -> Vec<String> {
        self.audit.0.lock().unwrap().iter().map(|event| event.action.clone()).collect()
    }
}

/// Waits until `holds`; the test fails after a while.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came: {what}");
}

/// Randomness for what only has to differ.
pub(crate) fn instance(seed: u64) -> InstanceId {
    InstanceId::draw(&SeededEntropy::new(seed))
}
