//! Users who log in with an authorization code, against the sandbox's Genesys Cloud and over a real state.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kh_broker::{Broker, CredentialSpec, SessionPolicy, UserSessions};
use kh_core::{
    Clock, Entropy, Now, PlatformKind, SecretBytes, Sha256, SystemClock, SystemEntropy,
    audit::AuditEvent,
    port::{
        AuditError, AuditLog, BoxFuture, SecretSource, SessionStore, SourceError, StateStore, StoredSecret,
        TokenBinding,
        security::{Security, TokenDigest},
    },
};
use kh_gateway::{Gateway, GatewayConfig, GatewayHandle, Metrics, Ports};
use kh_issuer::{Issuer, NewClient, NewTokens};
use kh_platform::{Address, GenesysEndpoint, HttpClient, PlainHttp, Timeouts};
use kh_sandbox::{
    Sandbox, SandboxHandle,
    config::{ClientConfig, SandboxConfig},
};
use kh_state::{LockedInstance, SqliteState};
use kh_token::TokenPolicy;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

use crate::{
    security::Journal,
    support::{Got, PATIENCE, metric, send_to},
};

/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const BACK: &str = "http%3A%2F%2Flocalhost%3A1%2Fback";

/// A platform token's life, and what brings one into its threshold.
const LIFE: u64 = 1000;
const DUE: Duration = Duration::from_secs(850);

#[derive(Default)]
struct Shifted(SystemClock, AtomicU64);

impl Clock for Shifted {
    fn now(&self) -> Now {
        self.0.now().plus(Duration::from_secs(self.1.load(Ordering::SeqCst)))
    }
}

#[derive(Default)]
struct Audit(Mutex<Vec<AuditEvent>>);

impl AuditLog for Audit {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        self.0.lock().unwrap().extend_from_slice(events);
        Ok(())
    }
}

/// One document.
struct Document(String);

impl SecretSource for Document {
    fn read<'a>(&'a self, _: &'a kh_core::SecretReference) -> BoxFuture<'a, Result<StoredSecret, SourceError>> {
        let value = SecretBytes::new(self.0.clone().into_bytes());
        Box::pin(async { Ok(StoredSecret { value, version: 1 }) })
    }

    fn version<'a>(&'a self, _: &'a kh_core::SecretReference) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async { Ok(1) })
    }
}

struct World {
    sandbox: SandboxHandle,
    /// Where keyholder takes the platform's token endpoint to be.
    login_url: String,
    clock: Arc<Shifted>,
    folder: tempfile::TempDir,
    server: Option<Server>,
    client: (String, String),
    /// What the security log was told.
    journal: Arc<Journal>,
}

/// One start of keyholder.
struct Server {
    gateway: GatewayHandle,
    sessions: Arc<UserSessions>,
    issuer: Arc<Issuer>,
    registry: Registry,
    cancel: CancellationToken,
}

impl World {
    async fn start(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        let mut client = ClientConfig::with_permissions("code", &[]);
        "CODE".clone_into(&mut client.grant_type);
        client.redirect_uris = vec!["http://localhost:1/back".to_owned()];
        client.token_seconds = LIFE;
        let mut config = SandboxConfig::default();
        config.genesys.clients = vec![client];
        config.behaviours.refresh_tokens_rotate = true;
        change(&mut config);
        let sandbox = Sandbox::start(config).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (clock, journal) = Default::default();
        let login_url = sandbox.genesys_url.clone();
        let client = Default::default();
        let mut world = Self { sandbox, login_url, clock, folder, server: None, client, journal };
        let server = world.serve().await;
        let new = |name: &str| NewClient {
            name: name.parse().unwrap(),
            credential: Some("users".parse().unwrap()),
            environment: None,
            scopes: Vec::new(),
            tokens: NewTokens::default(),
            allow: Vec::new(),
            allow_all: true,
            allow_secret_operations: false,
            ttl: None,
        };
        let (record, secret) = server.issuer.add_client(new("app"), "test").await.unwrap();
        world.client = (record.id.to_string(), secret.expose().to_owned());
        world.server = Some(server);
        world
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    async fn serve(&self) -> Server {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let audit: Arc<dyn AuditLog> = Arc::new(Audit::default());
        let state = Arc::new(SqliteState::open(&self.database(), audit, Arc::clone(&clock)).unwrap());
        let store = Arc::clone(&state) as Arc<dyn StateStore>;
        let issuer = Issuer::open(store, Arc::clone(&clock), Arc::clone(&entropy)).await.unwrap();
        let egress = Arc::new(kh_net::Egress::trusting(&[]).unwrap());
        let login = Address::parse(&self.login_url, PlainHttp::LoopbackOnly).unwrap();
        let http = HttpClient::new(Arc::clone(&egress), Timeouts::default(), Arc::clone(&clock));
        let admin = self.sandbox.admin();
        let document = json!({ "client_id": admin.id, "client_secret": admin.secret.expose() }).to_string();
        let spec = CredentialSpec {
            name: "users".parse().unwrap(),
            platform: "acme".parse().unwrap(),
            kind: PlatformKind::Genesys,
            environment: None,
            secret: "users".parse().unwrap(),
            endpoint: Arc::new(GenesysEndpoint::new(http, login)),
            egress,
            api_base: self.sandbox.genesys_url.clone(),
            auth_base: None,
            policy: TokenPolicy::default(),
            sessions: Some(SessionPolicy::default()),
            digest: Sha256::of(b"1"),
        };
        let runtime = tokio::runtime::Handle::current();
        let source = Arc::new(Document(document));
        let broker = Broker::new(vec![spec], source, Arc::clone(&clock), Arc::clone(&entropy), runtime);
        let instance = Arc::new(LockedInstance::claim(&self.database(), &*entropy).unwrap());
        let store = state as Arc<dyn SessionStore>;
        let sessions = UserSessions::new(&broker, store, instance, &SecretBytes::new(vec![7; 32])).unwrap();
        let cancel = CancellationToken::new();
        tokio::spawn(Arc::clone(&sessions).run(cancel.clone()));
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let ports = Ports {
            issuer: Arc::clone(&issuer),
            broker,
            sessions: Some(Arc::clone(&sessions)),
            clock,
            entropy,
            metrics,
            public_url: None,
            binding: kh_gateway::OwnBinding::default(),
            events: None,
            observer: None,
            security: Security { log: Some(self.journal.clone()), guard: None },
            proxies: Arc::default(),
        };
        let gateway = Gateway::start(GatewayConfig::plain("127.0.0.1:0".parse().unwrap()), ports).unwrap();
        Server { gateway, sessions, issuer, registry, cancel }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Ends this keyholder and starts another one over the same state.
    async fn restart(&mut self) {
        let server = self.server.take().unwrap();
        server.cancel.cancel();
        server.gateway.shutdown(Duration::from_secs(5)).await;
        self.server = Some(self.serve().await);
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Got {
        send_to(self.server().gateway.addresses()[0], request).await
    }

    /// What the user's browser brings back from the platform's login page.
    async fn code(&self) -> String {
        let address = self.sandbox.genesys_url.strip_prefix("http://").unwrap().parse().unwrap();
        let id = &self.sandbox.admin().id;
        let target = format!(
            "/oauth/authorize?response_type=code&client_id={id}&redirect_uri={BACK}&code_challenge={CHALLENGE}\
             &code_challenge_method=S256"
        );
        let request = Request::get(target).header("host", "sandbox").body(Full::default()).unwrap();
        let back = send_to(address, request).await;
        let location = back.header("location").to_owned();
        location.split_once("code=").unwrap_or_else(|| panic!("{back:?}")).1.to_owned()
    }

    async fn token(&self, form: &str) -> Got {
        let (id, secret) = &self.client;
        let body = format!("{form}&client_id={id}&client_secret={secret}");
        let request = Request::post("/oauth/token")
            .header("host", "keyholder")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        self.send(request).await
    }

    async fn exchange(&self, code: &str) -> Got {
        let form = format!("grant_type=authorization_code&code={code}&redirect_uri={BACK}&code_verifier={VERIFIER}");
        self.token(&form).await
    }

    /// A user's keyholder token.
    async fn login(&self) -> String {
        let got = self.exchange(&self.code().await).await;
        assert_eq!(got.status, 200, "{got:?}");
        got.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn call(&self, token: &str, call: &str) -> Got {
        let (method, target) = call.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "keyholder")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::default())
            .unwrap();
        self.send(request).await
    }

    /// The platform takes back every access token of its client.
    async fn revoke_platform_tokens(&self) {
        let control = self.sandbox.control_url.strip_prefix("http://").unwrap().parse().unwrap();
        let body = json!({ "client": self.sandbox.admin().id }).to_string();
        let revoke = Request::post("/_sandbox/tokens/revoke")
            .header("host", "sandbox")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let revoked = send_to(control, revoke).await;
        assert_eq!(revoked.status, 200, "{revoked:?}");
    }

    /// What the security log was told since it was asked last.
    fn told(&self) -> Vec<String> {
        self.journal.take_of(&self.client.0)
    }

    fn pass(&self, span: Duration) {
        self.clock.1.fetch_add(span.as_secs(), Ordering::SeqCst);
    }

    /// How often the platform's token endpoint was asked.
    fn asked(&self) -> usize {
        let seen = self.sandbox.requests();
        seen.iter().filter(|entry| entry.endpoint == "/oauth/token").count()
    }

    /// The platform tokens that calls of `endpoint` carried, each once.
    fn carried(&self) -> Vec<String> {
        let mut tokens: Vec<String> = Vec::new();
        for entry in self.sandbox.requests().iter().filter(|entry| entry.endpoint == ME) {
            let token = entry.token_sha256.clone().unwrap();
            if tokens.last() != Some(&token) {
                tokens.push(token);
            }
        }
        tokens
    }
}

/// Something that every user may read.
const ME: &str = "/api/v2/users/me";
const GET_ME: &str = "GET /api/v2/users/me";

/// What the security log is told of a call that was let through, and of one whose session has ended.
const PASSED: &str = "gateway ok bearer - app verified";
const ENDED: &str = "gateway session_ended bearer 401 app verified";

/// A user's code is good once: it does not go to the platform for a login that gets no token anyway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_tokens_must_be_bound_proves_it_before_the_platform_hears_of_the_code() {
    let world = World::start(|_| {}).await;
    world.server().issuer.set_token_binding(&world.client.0, TokenBinding::Dpop, "cli:test").await.unwrap();
    let (code, asked) = (world.code().await, world.asked());
    let refused = world.exchange(&code).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_dpop_proof")));
    assert_eq!(world.asked(), asked, "the platform heard nothing");
    world.server().issuer.set_token_binding(&world.client.0, TokenBinding::None, "cli:test").await.unwrap();
    assert_eq!(world.exchange(&code).await.status, 200, "the code was not used up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_opens_a_session_whose_platform_tokens_stay_here() {
    let mut world = World::start(|_| {}).await;
    let got = world.exchange(&world.code().await).await;
    let answer = got.json();
    let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(members, ["access_token", "expires_in", "token_type"], "no refresh token is given away");
    assert_eq!(got.header("cache-control"), "no-store");
    let token = answer["access_token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("kht_"));
    let me = world.call(&token, GET_ME).await;
    assert_eq!(me.status, 200, "{me:?}");
    let mine = Sha256::of(token.as_bytes()).to_hex();
    assert!(!world.carried().contains(&mine), "the platform never sees the keyholder token");
    let metadata = world.call(&token, "GET /.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["grant_types_supported"], json!(["client_credentials", "authorization_code"]));
    let described = world.call(&token, "GET /api/v2/tokens/me").await.json();
    assert_eq!(described["OAuthClient"]["authorizedGrantType"], "CODE");
    // a restart changes nothing, and asks the platform nothing
    let asked = world.asked();
    world.restart().await;
    assert_eq!(world.call(&token, GET_ME).await.status, 200);
    assert_eq!((world.asked(), world.carried().len()), (asked, 1));
    for file in std::fs::read_dir(world.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(13).any(|part| part == b"refresh_token"), "the state holds it sealed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_calls_in_the_threshold_renew_once_and_all_succeed() {
    let world = Arc::new(World::start(|_| {}).await);
    let token = world.login().await;
    assert_eq!(world.call(&token, GET_ME).await.status, 200);
    for round in 1..4 {
        world.pass(DUE);
        let calls = (0..64).map(|_| {
            let (world, token) = (Arc::clone(&world), token.clone());
            tokio::spawn(async move { world.call(&token, GET_ME).await.status })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap(), 200);
        }
        until(|| world.server().sessions.counts().renewed == round).await;
        assert_eq!(world.asked() as u64, 1 + round, "one login and one renewal a round");
        assert_eq!(world.call(&token, GET_ME).await.status, 200);
    }
    assert_eq!(world.server().sessions.counts().lost, 0);
    let carried = world.carried();
    assert!(carried.len() >= 4, "each fresh token went to the platform: {carried:?}");
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_401_is_healed_with_the_sessions_own_fresh_token() {
    let world = World::start(|_| {}).await;
    let token = world.login().await;
    assert_eq!(world.call(&token, GET_ME).await.status, 200);
    world.revoke_platform_tokens().await;
    assert_eq!(world.call(&token, GET_ME).await.status, 200);
    assert_eq!(world.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_is_told_with_a_401_that_makes_its_user_log_in_again() {
    let lost: Vec<kh_sandbox::FaultRule> = serde_json::from_value(json!([
        { "effect": { "kind": "drop_after" }, "match": { "endpoint": "/oauth/token", "nth": 2 } }
    ]))
    .unwrap();
    let mut world = World::start(|config| config.faults = lost).await;
    let token = world.login().await;
    world.pass(Duration::from_secs(LIFE));
    drop(world.told());
    let ended = world.call(&token, GET_ME).await;
    assert_eq!(ended.status, 401, "{ended:?}");
    assert_eq!(world.told(), [ENDED], "and nothing of a caller who was let through");
    assert!(ended.header("www-authenticate").contains(r#"error="invalid_token""#));
    assert_eq!(ended.json()["code"], "keyholder.session.ended");
    assert_eq!(world.asked(), 3, "the login, the renewal whose answer is lost, and the one retry");
    world.restart().await;
    assert_eq!(world.call(&token, GET_ME).await.json()["code"], "keyholder.session.ended");
    assert_eq!(world.told(), [ENDED]);
    assert_eq!(world.asked(), 3, "never again");
    let again = world.login().await;
    assert_eq!(world.call(&again, GET_ME).await.status, 200);
    assert_eq!(world.told().last().unwrap(), PASSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_during_a_call_is_told_by_the_callers_token_and_not_by_the_platforms() {
    let lost: Vec<kh_sandbox::FaultRule> = serde_json::from_value(json!([
        { "effect": { "kind": "drop_after" }, "match": { "endpoint": "/oauth/token", "nth": 2 } }
    ]))
    .unwrap();
    let world = World::start(|config| config.faults = lost).await;
    let token = world.login().await;
    world.revoke_platform_tokens().await;
    drop(world.told());
    // let through, refused by the platform, and not renewed
    assert_eq!(world.call(&token, GET_ME).await.json()["code"], "keyholder.session.ended");
    let mine = Some(TokenDigest::of(Sha256::of(token.as_bytes())));
    assert_eq!(world.journal.tokens(), [mine, mine]);
    assert_eq!(world.told(), [PASSED, ENDED]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_the_platforms_grace_a_lost_answer_costs_nothing() {
    let lost: Vec<kh_sandbox::FaultRule> = serde_json::from_value(json!([
        { "effect": { "kind": "drop_after" }, "match": { "endpoint": "/oauth/token", "nth": 2 } }
    ]))
    .unwrap();
    let world = World::start(|config| {
        config.faults = lost;
        config.behaviours.refresh_reuse_grace_seconds = 60;
    })
    .await;
    let token = world.login().await;
    world.pass(Duration::from_secs(LIFE));
    assert_eq!(world.call(&token, GET_ME).await.status, 200);
    assert_eq!(world.asked(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_the_platform_refuses_is_an_invalid_grant() {
    let world = World::start(|_| {}).await;
    let code = world.code().await;
    assert_eq!(world.exchange(&code).await.status, 200);
    for bad in [code.as_str(), "nonsense"] {
        let got = world.exchange(bad).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("invalid_grant")), "{got:?}");
        assert!(!String::from_utf8_lossy(&got.body).contains(bad), "no answer repeats a code");
    }
    assert_eq!(metric(&world.server().registry, r#"keyholder_issuer_logins_total{result="invalid_grant"}"#), 2);
    let got = world.token("grant_type=authorization_code").await;
    assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("invalid_request")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_grants_of_a_client_for_users_are_refused_and_a_wrong_secret_first() {
    let mut world = World::start(|_| {}).await;
    let asked = world.asked();
    let got = world.token("grant_type=client_credentials").await;
    assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("unauthorized_client")));
    assert_eq!(world.told(), ["token_endpoint unauthorized_client client_secret_post 400 app verified"]);
    let got = world.token("grant_type=refresh_token&refresh_token=x").await;
    assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("unsupported_grant_type")));
    world.client.1 = "khs_wrong".to_owned();
    for form in ["grant_type=client_credentials", "grant_type=authorization_code&code=x"] {
        let got = world.token(form).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (401, Some("invalid_client")), "{form}");
    }
    assert_eq!(world.asked(), asked, "the platform heard of none of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_the_token_back_ends_the_session_at_the_platform_and_no_other() {
    let world = World::start(|_| {}).await;
    let (one, two) = (world.login().await, world.login().await);
    for token in [&one, &two] {
        assert_eq!(world.call(token, GET_ME).await.status, 200);
    }
    assert_eq!(world.call(&one, "DELETE /api/v2/tokens/me").await.status, 200);
    let gone = world.call(&one, GET_ME).await;
    assert_eq!((gone.status, gone.json()["code"].as_str()), (401, Some("keyholder.caller.unauthenticated")));
    let deleted = || {
        let seen = world.sandbox.requests();
        seen.iter().filter(|entry| entry.method == "DELETE" && entry.status == Some(200)).count()
    };
    until(|| deleted() == 1).await;
    assert_eq!(world.call(&two, GET_ME).await.status, 200, "another user's session stays");
    // RFC 7009 does the same
    let (id, secret) = &world.client;
    let form = format!("token={two}&client_id={id}&client_secret={secret}");
    let request = Request::post("/oauth/revoke")
        .header("host", "keyholder")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))
        .unwrap();
    assert_eq!(world.send(request).await.status, 200);
    until(|| deleted() == 2).await;
    assert_eq!(world.call(&two, GET_ME).await.status, 401);
}

/// Stands before the sandbox: tells of each connection, and lets it through when it is told to.
async fn gate(to: SocketAddr, came: Arc<Notify>, go: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            came.notify_one();
            go.notified().await;
            let mut onward = TcpStream::connect(to).await.unwrap();
            // either side may end it
            drop(tokio::io::copy_bidirectional(&mut from, &mut onward).await);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_whose_caller_hung_up_is_finished_before_keyholder_ends() {
    let mut world = World::start(|_| {}).await;
    let code = world.code().await;
    let (came, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let sandbox = world.sandbox.genesys_url.strip_prefix("http://").unwrap().parse().unwrap();
    world.login_url = format!("http://{}", gate(sandbox, Arc::clone(&came), Arc::clone(&go)).await);
    world.restart().await;
    let (id, secret) = &world.client;
    let form = format!(
        "grant_type=authorization_code&code={code}&redirect_uri={BACK}&code_verifier={VERIFIER}&client_id={id}\
         &client_secret={secret}"
    );
    let request = format!(
        "POST /oauth/token HTTP/1.1\r\nhost: keyholder\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut caller = TcpStream::connect(world.server().gateway.addresses()[0]).await.unwrap();
    caller.write_all(request.as_bytes()).await.unwrap();
    tokio::time::timeout(PATIENCE, came.notified()).await.expect("the platform is asked");
    drop(caller);
    until(|| metric(&world.server().registry, "keyholder_gateway_connections") == 0).await;
    let Server { gateway, sessions, cancel, .. } = world.server.take().unwrap();
    let ending = tokio::spawn(gateway.shutdown(PATIENCE));
    go.notify_one();
    assert!(ending.await.unwrap(), "it was finished in time");
    assert_eq!(sessions.counts().begun, 1);
    cancel.cancel();
}
