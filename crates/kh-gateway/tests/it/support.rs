//! A keyholder in a test: issuer, broker, gateway and a client to talk to it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kh_broker::{Broker, Credential, CredentialSpec};
use kh_core::{
    EnvironmentName, PlatformKind, SystemClock, SystemEntropy,
    port::{AllowRule, security::Security},
};
use kh_gateway::{
    Gateway, GatewayConfig, GatewayHandle, Given, Listen, Metrics, Ports, inbound::Proxies, observe::Observer,
};
use kh_issuer::{Authority, Issuer, IssuerOptions, NewClient, NewTokens, SigningKeys, SigningPolicy};
use kh_token::TokenPolicy;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::stores::{MemorySecrets, MemoryState, OneSecret, Tokens, shared};

/// Long enough for a busy machine, short enough for a hung test to say so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the kernel keeps on either side of a narrow connection: little, so that what nobody reads soon waits in the
/// gateway, and small steps are seen there.
const NARROW_BYTES: u16 = 32 * 1024;

/// A socket whose connections are narrow on the gateway's side.
pub(crate) fn narrow_listen() -> Listen {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(NARROW_BYTES.into()).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(64).unwrap();
    Listen::Given(Given::Tcp(socket.into()))
}

/// A connection that is narrow on the caller's side.
pub(crate) async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(NARROW_BYTES.into()).unwrap();
    socket.connect(address).await.unwrap()
}

/// How a world differs from the usual one.
pub(crate) struct Setup {
    pub(crate) kind: PlatformKind,
    pub(crate) api_base: String,
    pub(crate) auth_base: Option<String>,
    pub(crate) allow: Vec<&'static str>,
    pub(crate) allow_all: bool,
    pub(crate) config: GatewayConfig,
    pub(crate) egress: Arc<kh_net::Egress>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) public_url: Option<&'static str>,
    pub(crate) binding: kh_gateway::OwnBinding,
    pub(crate) events: Option<kh_gateway::Events>,
    /// The issuer identifier; none: all tokens are opaque.
    pub(crate) issuer: Option<&'static str>,
    /// Of the client and of its credential.
    pub(crate) environments: (Option<&'static str>, Option<&'static str>),
    pub(crate) security: Security,
    pub(crate) proxies: Proxies,
}

fn named(environment: Option<&str>) -> Option<EnvironmentName> {
    environment.map(|name| name.parse().unwrap())
}

impl Setup {
    /// A Genesys client that may call everything but the guarded operations.
    pub(crate) fn new(upstream: SocketAddr) -> Self {
        Self {
            kind: PlatformKind::Genesys,
            api_base: format!("http://{upstream}"),
            auth_base: None,
            allow: Vec::new(),
            allow_all: true,
            config: GatewayConfig::plain("127.0.0.1:0".parse().unwrap()),
            egress: Arc::new(kh_net::Egress::trusting(&[]).unwrap()),
            observer: None,
            public_url: None,
            binding: kh_gateway::OwnBinding::default(),
            events: None,
            issuer: None,
            environments: (None, None),
            security: Security::default(),
            proxies: Proxies::default(),
        }
    }

    pub(crate) async fn start(self) -> World {
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        let authority = match self.issuer {
            None => None,
            Some(name) => {
                let store = shared(MemorySecrets::default());
                let policy = SigningPolicy::default();
                let keys = SigningKeys::open(store, clock.clone(), entropy.clone(), policy).await.unwrap();
                keys.tend().await.unwrap();
                Some(Authority { issuer: name.parse().unwrap(), keys })
            }
        };
        let state = shared(MemoryState::default());
        let issuer =
            Issuer::open_as(state, clock.clone(), entropy.clone(), IssuerOptions { authority, revocations: None })
                .await
                .unwrap();
        let tokens = shared(Tokens::default());
        let spec = CredentialSpec {
            sessions: None,
            name: "acme".parse().unwrap(),
            platform: "acme".parse().unwrap(),
            kind: self.kind,
            environment: named(self.environments.1),
            secret: "acme".parse().unwrap(),
            endpoint: tokens.clone(),
            egress: self.egress,
            api_base: self.api_base,
            auth_base: self.auth_base,
            policy: TokenPolicy::default(),
            digest: kh_core::Sha256::of(b"1"),
        };
        let runtime = tokio::runtime::Handle::current();
        let broker = Broker::new(vec![spec], shared(OneSecret), clock.clone(), entropy.clone(), runtime);
        let new = NewClient {
            name: "app".parse().unwrap(),
            credential: Some("acme".parse().unwrap()),
            environment: named(self.environments.0),
            scopes: Vec::new(),
            tokens: NewTokens::default(),
            allow: self.allow.iter().map(|rule| AllowRule((*rule).to_owned())).collect(),
            allow_all: self.allow_all,
            allow_secret_operations: false,
            ttl: None,
        };
        let (record, secret) = issuer.add_client(new, "cli:test").await.unwrap();
        let login = issuer.login(record.id.as_str(), &secret).await.unwrap();
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let ports = Ports {
            sessions: None,
            issuer: issuer.clone(),
            broker: broker.clone(),
            clock,
            entropy,
            metrics,
            public_url: self.public_url.map(Arc::from),
            binding: self.binding,
            events: self.events,
            observer: self.observer,
            security: self.security,
            proxies: Arc::new(self.proxies),
        };
        let gateway = Gateway::start(self.config, ports.clone()).unwrap();
        World {
            address: gateway.addresses().first().copied().unwrap_or(([127, 0, 0, 1], 0).into()),
            ports,
            gateway,
            issuer,
            broker,
            tokens,
            registry,
            client_id: record.id.to_string(),
            client_secret: secret.expose().to_owned(),
            token: login.access_token.expose().to_owned(),
        }
    }
}

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) gateway: GatewayHandle,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) tokens: Arc<Tokens>,
    registry: Registry,
    ports: Ports,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) token: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl World {
    /// What the gateway works with.
    pub(crate) fn ports(&self) -> Ports {
        self.ports.clone()
    }

    /// The client's platform credential.
    pub(crate) fn credential(&self) -> Arc<Credential> {
        self.broker.credential(&"acme".parse().unwrap()).unwrap()
    }

    /// A request with the client's token.
    pub(crate) fn request(&self, call: &str, body: &str) -> Request<Full<Bytes>> {
        let (method, target) = call.split_once(' ').unwrap();
        Request::builder()
            .method(method)
            .uri(target)
            .header("host", self.address.to_string())
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap()
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Got {
        send_to(self.address, request).await
    }

    /// `METHOD target` without a body.
    pub(crate) async fn call(&self, call: &str) -> Got {
        self.send(self.request(call, "")).await
    }

    /// See [`raw_to`].
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        raw_to(self.address, bytes).await
    }

    /// The value of one metric line.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        metric(&self.registry, line)
    }

    /// All metric lines.
    pub(crate) fn scrape(&self) -> String {
        scrape(&self.registry)
    }
}

/// The value of one metric line.
pub(crate) fn metric(registry: &Registry, line: &str) -> u64 {
    let text = scrape(registry);
    let found = text.lines().find_map(|row| row.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {line} in\n{text}")).parse().unwrap()
}

fn scrape(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

/// Sends a request on a connection of its own.
pub(crate) async fn send_to(address: SocketAddr, request: Request<Full<Bytes>>) -> Got {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let got = read(sender.send_request(request).await.unwrap()).await;
    drop(sender);
    driver.abort();
    got
}

/// Sends raw bytes and reads until the gateway closes. The sending side is closed once an answer begins: before, that
/// would mean that the caller is gone.
pub(crate) async fn raw_to(address: SocketAddr, bytes: &[u8]) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let bytes = bytes.to_vec();
    let sending = tokio::spawn(async move {
        // the gateway may answer and close before everything is written
        drop(to.write_all(&bytes).await);
        to
    });
    let mut answer = Vec::new();
    let reading = async {
        let first = from.read_buf(&mut answer).await;
        drop(sending.await.unwrap().shutdown().await);
        if matches!(first, Ok(1..)) {
            drop(from.read_to_end(&mut answer).await);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the gateway closes");
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) async fn read(response: http::Response<hyper::body::Incoming>) -> Got {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Got { status: parts.status.as_u16(), headers: parts.headers, body }
}

#[track_caller]
pub(crate) fn assert_status(got: &Got, status: StatusCode) {
    assert_eq!(got.status, status.as_u16(), "{got:?}");
}
