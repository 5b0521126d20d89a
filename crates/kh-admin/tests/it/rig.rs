//! A broker over a fake platform and a fake store, behind a real listener on loopback.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, http::Response};
use kh_admin::{
    AdminPorts, ApiPorts, AuditDesk, BrokerPorts, Callers, Guard, Limits, Operator, Operators, ProfileProxy, Pulse,
    ReadyCheck, RevocationDesk, SessionDesk, SocketGuard, SocketListener, StatusSource,
    admin::{self, AuditStatus, ConfigStatus, Status},
    bind_loopback, broker_api, serve_with,
};
use kh_audit::FileAuditLog;
use kh_broker::{Broker, Credential, CredentialSpec, UserSessions};
use kh_core::{
    Clock, Code, Entropy, Fingerprinter, ManualClock, Now, PlatformKind, SecretBytes, SecretName, SecretString,
    SeededEntropy, UnixMillis,
    audit::AuditEvent,
    credential::CredentialDocument,
    issued::{IssuedKind, issue},
    port::{
        AuditLog, BoxFuture, Expected, FetchError, IssuedToken, RevocationStore, SecretMetadata, SecretStore,
        SessionStore, SightingLog, StoreError, StoredSecret, TokenEndpoint,
        security::{AuthenticationEvent, Security, SecurityLog},
    },
};
use kh_inbound::{Caps, Revocations};
use kh_issuer::{Issuer, IssuerOptions};
use kh_state::{LockedInstance, SqliteState};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::pickup::FakeJournal;

/// 2026-11-21T00:00:00Z.
pub(crate) const START: UnixMillis = UnixMillis(1_795_219_200_000);

/// What the fake platform does with the next logins.
#[derive(Clone, Copy)]
pub(crate) enum Mood {
    Issue,
    /// A token with a letter that HTTP allows in a header and that is not ASCII.
    IssueForeign,
    Reject,
    Limit,
    Down,
    Hang,
}

pub(crate) struct FakePlatform {
    pub(crate) mood: Mutex<Mood>,
    pub(crate) fetches: Mutex<u32>,
    /// Life of the next tokens.
    pub(crate) life: Mutex<Duration>,
    /// Set forward by so much while a login is under way.
    pub(crate) delay: Mutex<Option<(ManualClock, Duration)>>,
}

impl FakePlatform {
    pub(crate) fn fetches(&self) -> u32 {
        *self.fetches.lock().unwrap()
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

impl TokenEndpoint for FakePlatform {
    fn fetch<'a>(
        &'a self,
        _: &'a CredentialDocument,
        _: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<IssuedToken, FetchError>> {
        let mood = *self.mood.lock().unwrap();
        let number = {
            let mut fetches = self.fetches.lock().unwrap();
            *fetches += 1;
            *fetches
        };
        let correlation_id = Some("corr-1".to_owned());
        let life = *self.life.lock().unwrap();
        let delay = self.delay.lock().unwrap().clone();
        Box::pin(async move {
            if let Some((clock, by)) = delay {
                tokio::task::yield_now().await;
                clock.advance(by);
            }
            match mood {
                Mood::Issue | Mood::IssueForeign => Ok(IssuedToken {
                    access_token: SecretString::new(match mood {
                        Mood::IssueForeign => format!("t\u{f6}ken-{number}"),
                        _ => format!("token-{number}"),
                    }),
                    expires_in: life,
                    refresh_token: None,
                    scope: None,
                    api_base: None,
                    auth_base: None,
                }),
                Mood::Reject => {
                    Err(FetchError::Rejected { platform_code: "invalid_client".to_owned(), correlation_id })
                }
                Mood::Limit => {
                    Err(FetchError::RateLimited { retry_after: Some(Duration::from_mins(5)), correlation_id })
                }
                Mood::Down => Err(FetchError::Transient {
                    reason: "the connection failed".to_owned(),
                    retry_after: Some(Duration::from_mins(5)),
                    unreachable: Some(Code::UPSTREAM_UNREACHABLE),
                    correlation_id: None,
                }),
                Mood::Hang => std::future::pending().await,
            }
        })
    }
}

/// Holds one document; everything that writes is refused.
struct FakeStore;

fn read_only() -> StoreError {
    StoreError::Unavailable { reason: "read only".to_owned(), source: None }
}

impl SecretStore for FakeStore {
    fn get<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<StoredSecret, StoreError>> {
        let document = br#"{"client_id":"cid","client_secret":"MARKED-SECRET"}"#.to_vec();
        let known = name.as_str() == "acme";
        Box::pin(async move {
            if known {
                return Ok(StoredSecret { value: SecretBytes::new(document), version: 1 });
            }
            Err(StoreError::NotFound(name.clone()))
        })
    }

    fn newest_version<'a>(&'a self, _: &'a SecretName) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Ok(1) })
    }

    fn put<'a>(
        &'a self,
        _: &'a SecretName,
        _: SecretBytes,
        _: Expected,
        _: AuditEvent,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Err(read_only()) })
    }

    fn remove<'a>(&'a self, _: &'a SecretName, _: Expected, _: AuditEvent) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Err(read_only()) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SecretMetadata>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Answers what it was given, and counts.
#[derive(Default)]
pub(crate) struct FakeProxy {
    pub(crate) forwarded: Mutex<Vec<String>>,
}

impl ProfileProxy for FakeProxy {
    fn forward(
        &self,
        request: Request<Body>,
        credential: Arc<Credential>,
        prefix_len: usize,
    ) -> BoxFuture<'_, Response<Body>> {
        let (head, body) = request.into_parts();
        let rest = head.uri.path_and_query().unwrap().as_str()[prefix_len..].to_owned();
        let names: Vec<_> = head.headers.keys().map(ToString::to_string).collect();
        let line = format!("{} {} {rest} {}", head.method, credential.name(), names.join(","));
        self.forwarded.lock().unwrap().push(line.clone());
        Box::pin(async move {
            // the body is passed on as it comes
            Response::builder().header("x-line", line).body(body).unwrap()
        })
    }
}

/// Keeps what the security log is told.
#[derive(Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<AuthenticationEvent>>);

impl SecurityLog for Heard {
    fn record(&self, event: AuthenticationEvent) {
        self.0.lock().unwrap().push(event);
    }

    fn wants_success(&self, _issuer: &str, _subject: &str, _address: Option<std::net::IpAddr>, _now: Now) -> bool {
        false
    }
}

pub(crate) struct Rig {
    pub(crate) heard: Arc<Heard>,
    pub(crate) journal: Arc<FakeJournal>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) address: SocketAddr,
    pub(crate) socket: Option<(tempfile::TempDir, PathBuf)>,
    pub(crate) proxy: Arc<FakeProxy>,
    pub(crate) platform: Arc<FakePlatform>,
    pub(crate) clock: ManualClock,
    pub(crate) cancel: CancellationToken,
    pub(crate) server: Option<JoinHandle<()>>,
    pub(crate) router: Router,
    /// State and audit log of the admin API.
    pub(crate) folder: Option<tempfile::TempDir>,
    pub(crate) api: Option<ApiPorts>,
    token: SecretString,
}

/// Which of the listeners.
pub(crate) enum Surface {
    Broker,
    /// The broker on a unix socket.
    Socket(SocketGuard, Callers),
    Admin(Probes),
}

/// What the admin listener probes.
#[derive(Default)]
pub(crate) struct Probes {
    pub(crate) checks: Vec<Arc<dyn ReadyCheck>>,
    pub(crate) pulses: Vec<Arc<dyn Pulse>>,
    pub(crate) draining: CancellationToken,
    /// Beside the one of the guard token.
    pub(crate) operators: Vec<Operator>,
}

/// A registry of clients and an audit log, both real, in a folder.
async fn api(folder: &Path, clock: &Arc<dyn Clock>, broker: &Arc<Broker>) -> ApiPorts {
    let (path, checkpoints) = (folder.join("audit.log"), folder.join("audit.checkpoints"));
    let seed = SecretBytes::new(vec![7; 32]);
    let log = FileAuditLog::open(&path, &checkpoints, &seed, Arc::clone(clock)).unwrap();
    let public_key = log.public_key();
    let log: Arc<dyn AuditLog> = Arc::new(log);
    let state = SqliteState::open(&folder.join("state.db"), Arc::clone(&log), Arc::clone(clock)).unwrap();
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(3));
    let state = Arc::new(state);
    let store = Arc::clone(&state) as Arc<dyn RevocationStore>;
    let revocations = Arc::new(Revocations::new(store, Caps::default()));
    let options = IssuerOptions { revocations: Some(Arc::clone(&revocations) as _), ..IssuerOptions::default() };
    let sessions = Arc::clone(&state) as Arc<dyn SessionStore>;
    let instance = LockedInstance::claim(&folder.join("state.db"), &*entropy).unwrap();
    let key = SecretBytes::new(vec![9; 32]);
    let own = UserSessions::new(broker, Arc::clone(&sessions), Arc::new(instance), &key).unwrap();
    let sessions = SessionDesk { store: sessions, sessions: own };
    let issuer = Issuer::open_as(state, Arc::clone(clock), Arc::clone(&entropy), options).await.unwrap();
    let revocations = RevocationDesk { revocations, fingerprints: Arc::new(Fingerprinter::new(b"test")) };
    let audit = AuditDesk { log, path, checkpoints, key: public_key };
    ApiPorts { issuer, audit, revocations, sessions, clock: Arc::clone(clock), entropy }
}

struct FakeStatus(Arc<Broker>);

impl StatusSource for FakeStatus {
    fn status(&self) -> BoxFuture<'_, Status> {
        let status = Status {
            version: "0.1.0",
            pid: 1,
            started_at: START,
            uptime_seconds: 0,
            draining: false,
            in_flight: 0,
            config: ConfigStatus { file: None, sha256: String::new(), loaded_at: START, last_reload: None },
            listeners: Vec::new(),
            tls: None,
            credentials: self.0.status(),
            stores: Vec::new(),
            clients: 0,
            live_tokens: 0,
            limits: std::collections::BTreeMap::default(),
            audit: AuditStatus { path: "audit.log".into(), ready: true, entries: 0, head: None },
        };
        Box::pin(async { status })
    }
}

pub(crate) async fn start(surface: Surface) -> Rig {
    start_with(surface, Limits::default()).await
}

pub(crate) async fn start_with(surface: Surface, limits: Limits) -> Rig {
    let clock = ManualClock::at(START);
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let platform = Arc::new(FakePlatform {
        mood: Mutex::new(Mood::Issue),
        fetches: Mutex::new(0),
        life: Mutex::new(Duration::from_hours(1)),
        delay: Mutex::new(None),
    });
    let spec = |name: &str, secret: &str| CredentialSpec {
        sessions: None,
        name: name.parse().unwrap(),
        platform: "acme-eu".parse().unwrap(),
        kind: PlatformKind::Genesys,
        environment: None,
        secret: secret.parse().unwrap(),
        endpoint: Arc::clone(&platform) as Arc<dyn TokenEndpoint>,
        egress: Arc::new(kh_net::Egress::trusting(&[]).unwrap()),
        api_base: "https://api.mypurecloud.de".to_owned(),
        auth_base: None,
        policy: kh_token::TokenPolicy::default(),
        digest: kh_core::Sha256::of(b"1"),
    };
    let broker = Broker::new(
        vec![spec("acme", "acme"), spec("team/acme.eu", "acme"), spec("nosecret", "nosecret")],
        Arc::new(FakeStore),
        Arc::clone(&shared),
        Arc::new(SeededEntropy::new(1)),
        tokio::runtime::Handle::current(),
    );
    let token = issue(IssuedKind::Guard, &SeededEntropy::new(2));
    let guard = Guard::new(&token);
    let proxy = Arc::new(FakeProxy::default());
    let journal = Arc::new(FakeJournal::default());
    let kept = Arc::clone(&broker);
    let heard = Arc::new(Heard::default());
    let security = Security { log: Some(heard.clone()), guard: None };
    let (mut bound, mut folder, mut kept_api) = (None, None, None);
    let ports = || {
        let forwarder = Arc::clone(&proxy) as Arc<dyn ProfileProxy>;
        let reports = Arc::clone(&journal) as Arc<dyn SightingLog>;
        BrokerPorts::new(Arc::clone(&broker), guard.clone(), Arc::clone(&shared))
            .with_proxy(forwarder)
            .with_journal(reports)
            .watched_by(security.clone())
    };
    let router = match surface {
        Surface::Broker => broker_api::router(ports()),
        Surface::Socket(socket_guard, callers) => {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("broker.sock");
            bound = Some((SocketListener::bind(&path, callers).unwrap(), (folder, path)));
            broker_api::router(BrokerPorts { socket_guard, ..ports() })
        }
        Surface::Admin(Probes { checks, pulses, draining, operators }) => {
            let mut registry = Registry::default();
            let counter = Counter::<u64>::default();
            counter.inc_by(7);
            registry.register("keyholder_test", "A test counter", counter);
            let status = Arc::new(FakeStatus(Arc::clone(&broker)));
            let (registry, checks, pulses) = (Arc::new(registry), checks.into(), pulses.into());
            let all = Operators::default();
            all.replace(operators.into_iter().chain([Operator::local(&guard)]));
            let operators = all;
            let place = tempfile::tempdir().unwrap();
            let ports = api(place.path(), &shared, &broker).await;
            (folder, kept_api) = (Some(place), Some(ports.clone()));
            let (api, security) = (ports, security.clone());
            admin::router(AdminPorts { broker, operators, registry, checks, pulses, draining, status, api, security })
        }
    };
    let listener = bind_loopback("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let (server, socket) = match bound {
        None => (tokio::spawn(serve_with(listener, router.clone(), limits, cancel.clone())), None),
        Some((bound, place)) => (tokio::spawn(serve_with(bound, router.clone(), limits, cancel.clone())), Some(place)),
    };
    Rig {
        heard,
        journal,
        broker: kept,
        address,
        socket,
        proxy,
        platform,
        clock,
        cancel,
        server: Some(server),
        router,
        folder,
        api: kept_api,
        token,
    }
}

/// TCP or unix.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// A parsed answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The code of a problem document, with its other members checked.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["type"], format!("urn:keyholder:error:{}", code.strip_prefix("keyholder.").unwrap()));
        assert!(problem["title"].is_string() && problem["detail"].is_string() && problem["hints"].is_array());
        assert!(!self.body.contains("MARKED-SECRET") && !self.body.contains("token-"), "{self:?}");
        code.to_owned()
    }
}

impl Rig {
    pub(crate) fn guard(&self) -> String {
        format!("X-Keyholder-Token: {}\r\n", self.token.expose())
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token.expose())
    }

    pub(crate) fn token(&self) -> &str {
        self.token.expose()
    }

    pub(crate) async fn connect(&self) -> Box<dyn Stream> {
        match &self.socket {
            Some((_, path)) => Box::new(UnixStream::connect(path).await.unwrap()),
            None => Box::new(TcpStream::connect(self.address).await.unwrap()),
        }
    }

    /// How many requests were forwarded.
    pub(crate) fn forwarded(&self) -> usize {
        self.proxy.forwarded.lock().unwrap().len()
    }

    /// Nothing reached the platform, neither as a login nor as a call.
    pub(crate) fn assert_untouched(&self) {
        assert_eq!((self.platform.fetches(), self.forwarded()), (0, 0));
    }

    /// Sends exactly these bytes on a connection of its own and reads until the end.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = self.connect().await;
        // the server may refuse before it has read everything
        drop(stream.write_all(bytes).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Reply { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// A request with a good Host, `Connection: close`, and `headers` (each ending in CRLF).
    pub(crate) async fn send(&self, line: &str, headers: &str, body: &str) -> Reply {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let host = self.address;
        let text = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{headers}\r\n{body}");
        self.raw(text.as_bytes()).await.unwrap()
    }

    /// `GET` with the guard token.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path}"), &self.guard(), "").await
    }

    /// `POST` with the guard token.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.send(&format!("POST {path}"), &self.guard(), body).await
    }
}
