//! Fake ports: a token endpoint that plays a script, a secret store in memory, a clock on tokio's (pausable) time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_broker::{Broker, Credential, CredentialSpec};
use kh_core::{
    Clock, Code, Entropy, Now, PlatformKind, SecretBytes, SecretName, SecretString, SeededEntropy, Sha256, UnixMillis,
    audit::AuditEvent,
    credential::CredentialDocument,
    port::{
        BoxFuture, Expected, FetchError, IssuedToken, SecretMetadata, SecretSource, SecretStore, StoreError,
        StoredSecret, TokenEndpoint,
    },
};
use kh_token::TokenPolicy;
use tokio::{runtime::Handle, sync::Semaphore, time::Instant};

/// What the endpoint does with one request.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Token {
        life: u64,
    },
    TokenWithRefresh {
        life: u64,
    },
    Rejected,
    RefreshRefused,
    RateLimited {
        retry_after: u64,
    },
    /// Refuses with this code.
    Refuses(&'static str),
    /// Answers, and neither with a token nor with a refusal.
    Broken,
    Down,
    Panic,
    Hang,
    BadBytes,
}

/// A token endpoint that answers from a script, and with ordinary tokens when the script is over.
pub(crate) struct FakeEndpoint {
    script: Mutex<VecDeque<Answer>>,
    pub(crate) calls: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    in_flight: AtomicU64,
    pub(crate) overlapped: AtomicBool,
    /// Requests pass while it has permits.
    pub(crate) gate: Semaphore,
    pub(crate) good_secret: Mutex<String>,
}

struct InFlight<'a>(&'a FakeEndpoint);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakeEndpoint {
    pub(crate) fn playing(script: &[Answer]) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.iter().copied().collect()),
            calls: AtomicU64::new(0),
            refreshes: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            overlapped: AtomicBool::new(false),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            good_secret: Mutex::new("right".into()),
        })
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn then(&self, answer: Answer) {
        self.script.lock().unwrap().push_back(answer);
    }

    /// Forgets the rest of the script.
    pub(crate) fn clear(&self) {
        self.script.lock().unwrap().clear();
    }

    async fn answer(
        &self,
        document: &CredentialDocument,
        refresh: Option<&SecretString>,
    ) -> Result<IssuedToken, FetchError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if refresh.is_some() {
            self.refreshes.fetch_add(1, Ordering::SeqCst);
        }
        if self.in_flight.fetch_add(1, Ordering::SeqCst) > 0 {
            self.overlapped.store(true, Ordering::SeqCst);
        }
        let _in_flight = InFlight(self);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        drop(self.gate.acquire().await.expect("the gate is never closed"));
        let is_right = document.client_secret.as_ref().map(SecretString::expose)
            == Some(self.good_secret.lock().unwrap().as_str());
        let next = self.script.lock().unwrap().pop_front();
        let rejected = |code: &str| {
            Err(FetchError::Rejected { platform_code: code.into(), correlation_id: Some("corr-1".into()) })
        };
        let token = |life: u64, refresh: bool, text: String| {
            Ok(IssuedToken {
                access_token: SecretString::new(text),
                expires_in: Duration::from_secs(life),
                refresh_token: refresh.then(|| SecretString::new(format!("refresh-{number}"))),
                scope: None,
                api_base: None,
                auth_base: None,
            })
        };
        match next.unwrap_or(Answer::Token { life: 1000 }) {
            _ if !is_right => rejected("invalid_client"),
            Answer::Token { life } => token(life, false, format!("token-{number}")),
            Answer::TokenWithRefresh { life } => token(life, true, format!("token-{number}")),
            Answer::BadBytes => token(1000, false, "to\nken".into()),
            Answer::Rejected => rejected("invalid_client"),
            Answer::RefreshRefused => rejected("invalid_grant"),
            Answer::Refuses(code) => rejected(code),
            Answer::Broken => Err(FetchError::Transient {
                reason: "the token endpoint answered 404".into(),
                retry_after: None,
                unreachable: None,
                correlation_id: None,
            }),
            Answer::RateLimited { retry_after } => Err(FetchError::RateLimited {
                retry_after: Some(Duration::from_secs(retry_after)),
                correlation_id: None,
            }),
            Answer::Down => Err(FetchError::Transient {
                reason: "connection refused".into(),
                retry_after: None,
                unreachable: Some(Code::UPSTREAM_UNREACHABLE),
                correlation_id: None,
            }),
            Answer::Panic => panic!("the endpoint panics, as the script says"),
            Answer::Hang => std::future::pending().await,
        }
    }
}

impl TokenEndpoint for FakeEndpoint {
    fn fetch<'a>(
        &'a self,
        document: &'a CredentialDocument,
        refresh: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<IssuedToken, FetchError>> {
        Box::pin(self.answer(document, refresh))
    }
}

/// A secret store with one secret.
pub(crate) struct FakeStore {
    document: Mutex<(String, u64)>,
    pub(crate) is_down: AtomicBool,
    pub(crate) reads: AtomicU64,
}

impl FakeStore {
    pub(crate) fn with_secret(secret: &str) -> Arc<Self> {
        let store = Self { document: Mutex::default(), is_down: AtomicBool::new(false), reads: AtomicU64::new(0) };
        store.write(secret);
        Arc::new(store)
    }

    pub(crate) fn write(&self, secret: &str) {
        self.write_document(format!(r#"{{"client_id":"id","client_secret":"{secret}"}}"#));
    }

    pub(crate) fn write_document(&self, text: String) {
        let mut document = self.document.lock().unwrap();
        *document = (text, document.1 + 1);
    }

    fn check(&self) -> Result<(String, u64), StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable { reason: "down, as the test says".into(), source: None });
        }
        Ok(self.document.lock().unwrap().clone())
    }
}

impl SecretStore for FakeStore {
    fn get<'a>(&'a self, _name: &'a SecretName) -> BoxFuture<'a, Result<StoredSecret, StoreError>> {
        Box::pin(async {
            self.reads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let (value, version) = self.check()?;
            Ok(StoredSecret { value: SecretBytes::new(value.into_bytes()), version })
        })
    }

    fn newest_version<'a>(&'a self, _name: &'a SecretName) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Ok(self.check()?.1) })
    }

    fn put<'a>(
        &'a self,
        _name: &'a SecretName,
        _value: SecretBytes,
        _expected: Expected,
        _event: AuditEvent,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        unreachable!("the broker never writes secrets")
    }

    fn remove<'a>(
        &'a self,
        _name: &'a SecretName,
        _expected: Expected,
        _event: AuditEvent,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        unreachable!("the broker never removes secrets")
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SecretMetadata>, StoreError>> {
        unreachable!("the broker never lists secrets")
    }
}

/// Both clocks on tokio's time, which a test can pause.
pub(crate) struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Now {
        Now { wall: UnixMillis(1_800_000_000_000), mono: Duration::from_secs(9) }.plus(self.0.elapsed())
    }
}

pub(crate) fn tokio_clock() -> Arc<dyn Clock> {
    Arc::new(TokioClock(Instant::now()))
}

/// A credential with the usual policy; `edition` stands for everything that its digest covers.
pub(crate) fn spec(name: &str, endpoint: &Arc<FakeEndpoint>, edition: &str) -> CredentialSpec {
    CredentialSpec {
        sessions: None,
        name: name.parse().unwrap(),
        platform: "acme-prod".parse().unwrap(),
        kind: PlatformKind::Genesys,
        environment: None,
        secret: "acme/login".parse().unwrap(),
        endpoint: Arc::clone(endpoint) as Arc<dyn TokenEndpoint>,
        egress: Arc::new(kh_net::Egress::trusting(&[]).unwrap()),
        api_base: "https://api.example".into(),
        auth_base: None,
        policy: TokenPolicy::default(),
        digest: Sha256::of(edition.as_bytes()),
    }
}

/// A broker with one credential.
pub(crate) struct Bench {
    pub(crate) broker: Arc<Broker>,
    pub(crate) credential: Arc<Credential>,
    pub(crate) endpoint: Arc<FakeEndpoint>,
    pub(crate) store: Arc<FakeStore>,
}

impl Bench {
    pub(crate) fn new(script: &[Answer]) -> Self {
        Self::with(script, "right", TokenPolicy::default(), tokio_clock(), Handle::current())
    }

    pub(crate) fn with(
        script: &[Answer],
        secret: &str,
        policy: TokenPolicy,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Self {
        let (endpoint, store) = (FakeEndpoint::playing(script), FakeStore::with_secret(secret));
        let spec = CredentialSpec { policy, ..spec("acme", &endpoint, "1") };
        let name = spec.name.clone();
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(42));
        let broker = Broker::new(vec![spec], Arc::clone(&store) as Arc<dyn SecretSource>, clock, entropy, runtime);
        let credential = broker.credential(&name).unwrap();
        Self { broker, credential, endpoint, store }
    }

    /// Leases a token without a wish for its life.
    pub(crate) async fn lease(&self) -> Result<Arc<kh_broker::Lease>, kh_broker::TokenError> {
        self.credential.lease(Duration::ZERO).await
    }
}
