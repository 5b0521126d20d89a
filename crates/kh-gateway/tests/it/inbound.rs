//! The site in front of the user's own API.

mod admission;
mod backends;
mod behind_proxies;
mod bound;
mod forwarding;
mod guarding;
mod program;
mod slow;
mod smuggling;
mod telling;
mod tunnels;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Request};
use http_body_util::Full;
use kh_core::{
    Confirmation, Hashed, Identity, Now, SystemClock, SystemEntropy, UnixMillis,
    port::{
        BoxFuture,
        security::{Security, SecurityLog},
    },
};
use kh_gateway::{
    Gateway, GatewayConfig, GatewayHandle, InboundPorts, Metrics,
    inbound::{
        Api, ApiSpec, Authorization, Denied, IdentityField, IdentityHeader, Inbound, InboundMetrics, IssuerNames,
        Proxies, SenderRules, SentHost, TokenVerifier,
    },
    observe::Observer,
};
use kh_policy::{ClaimTest, Condition, Requirement, RouteRule, RouteTable, Value};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::{
    support::{Got, PATIENCE, metric, raw_to, send_to},
    upstream::{Upstream, reply, whole},
};

const ISSUER: &str = "https://issuer.example";
const OTHER: &str = "https://other.example";

/// What [`Tokens`] allow the clocks to differ by.
const LEEWAY: Duration = Duration::from_secs(1);

/// Knows whom tokens speak for, and remembers those that it verified, as the real one does.
#[derive(Default)]
struct Tokens {
    all: HashMap<&'static str, Result<Arc<Identity>, Denied>>,
    verified: Mutex<HashSet<Vec<u8>>>,
    /// Tokens that are not taken any more, whatever `all` says.
    ended: Mutex<HashMap<&'static str, Denied>>,
    /// Whose tokens are taken where a token was verified last.
    taken: Mutex<Vec<String>>,
}

impl Tokens {
    /// A token leaves the memory, and nothing else happens to it.
    fn forget(&self, token: &str) {
        self.verified.lock().remove(token.as_bytes());
    }

    fn remembers(&self, token: &str) -> bool {
        self.verified.lock().contains(token.as_bytes())
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().clone()
    }

    /// A token is not taken from now on.
    fn end(&self, token: &'static str, denied: Denied) {
        self.ended.lock().insert(token, denied);
        self.forget(token);
    }
}

impl TokenVerifier for Tokens {
    fn known(&self, token: Hashed<'_>, _now: Now) -> Option<Arc<Identity>> {
        let known = self.verified.lock().contains(token.bytes());
        known.then(|| self.all[std::str::from_utf8(token.bytes()).unwrap()].clone().unwrap())
    }

    fn verify<'a>(
        &'a self,
        token: Hashed<'a>,
        taken: &'a [Arc<str>],
        _now: Now,
    ) -> BoxFuture<'a, Result<Arc<Identity>, Denied>> {
        Box::pin(async move {
            *self.taken.lock() = taken.iter().map(ToString::to_string).collect();
            tokio::task::yield_now().await;
            let unknown = || Err(denied("unrecognised", None));
            let text = std::str::from_utf8(token.bytes()).unwrap_or_default();
            if let Some(denied) = self.ended.lock().get(text) {
                return Err(denied.clone());
            }
            let found = self.all.get(text).cloned().unwrap_or_else(unknown);
            if found.is_ok() {
                self.verified.lock().insert(token.bytes().to_vec());
            }
            found
        })
    }

    fn taken_until(&self, identity: &Identity) -> Option<UnixMillis> {
        identity.expires_at().map(|end| end.plus(LEEWAY))
    }
}

fn denied(reason: &'static str, retry_after: Option<Duration>) -> Denied {
    Denied { reason, retry_after, issuer: Some("idp".into()), client: None }
}

fn identity(issuer: &str, subject: &str, scopes: &[&str]) -> kh_core::identity::IdentityBuilder {
    let builder = Identity::builder(issuer.into()).subject(subject).client("reports-job").token_id("t1");
    scopes.iter().fold(builder, |builder, scope| builder.scope(scope))
}

fn tokens() -> Tokens {
    let good = |builder: kh_core::identity::IdentityBuilder| Ok(Arc::new(builder.build().unwrap()));
    let all = HashMap::from([
        ("reader", good(identity(ISSUER, "alice", &["reports:read"]))),
        ("writer", good(identity(ISSUER, "bob", &["reports:read", "reports:write"]))),
        ("nothing", good(identity(ISSUER, "carol", &[]))),
        ("prefix", good(identity(ISSUER, "dave", &["reports:rea", "reports:readall", "reports"]))),
        ("acme", good(identity(ISSUER, "erin", &[]).claim_text("tenant", "acme"))),
        ("umlaut", good(identity(ISSUER, "j\u{f6}rg", &["reports:read"]))),
        ("other", good(identity(OTHER, "alice", &["reports:read"]))),
        ("stranger", good(identity("https://stranger.example", "alice", &["reports:read"]))),
        ("bound", good(identity(ISSUER, "alice", &["reports:read"]).confirmation(Confirmation::Jkt([7; 32])))),
        ("of-key", good(identity(ISSUER, "alice", &["reports:read"]).confirmation(bound::of_key()))),
        ("of-certificate", good(identity(ISSUER, "alice", &["reports:read"]).confirmation(bound::of_certificate()))),
        ("expired", Err(denied("expired", None))),
        ("revoked", Err(denied("revoked", None))),
        // once good: it is known whose it was
        ("ended", Err(Denied { client: Some("nightly".into()), ..denied("expired", None) })),
        ("elsewhere", Err(denied("issuer_not_of_route", None))),
        ("forged", Err(denied("signature_invalid", None))),
        ("later", Err(denied("keys_unavailable", Some(Duration::from_secs(7))))),
    ]);
    Tokens { all, ..Tokens::default() }
}

fn routes() -> RouteTable {
    let line = |text: &str| RouteRule::parse_line(text).unwrap();
    let tenant = Condition::new("tenant", ClaimTest::Equals(Value::Text("acme".into()))).unwrap();
    let tenant = Requirement::any_token().with_conditions(vec![tenant]).unwrap();
    RouteTable::new(vec![
        line("GET /reports=reports:read"),
        line("GET /reports/{id}=reports:read"),
        line("POST /reports=reports:read reports:write"),
        line("GET /any="),
        line("POST /any="),
        line("GET /socket=reports:read"),
        RouteRule::new("GET /health", Requirement::Public).unwrap(),
        RouteRule::new("GET /tenant", tenant).unwrap(),
        line("GET /of-other=").from_issuers(&["other"]),
        line("GET /hosted=").on_hosts(&["api.example"]).unwrap(),
    ])
    .unwrap()
}

/// How a site differs from the usual one.
struct Setup {
    config: GatewayConfig,
    upstream: String,
    tokens: Arc<Tokens>,
    routes: RouteTable,
    authorization: Authorization,
    host: SentHost,
    proxies: Proxies,
    senders: SenderRules,
    proof_bytes: usize,
    security: Security,
    observer: Option<Arc<dyn Observer>>,
}

/// A site with an API behind it.
struct Site {
    address: SocketAddr,
    inbound: Arc<Inbound>,
    registry: Registry,
    gateway: GatewayHandle,
}

fn spec(upstream: &str, routes: RouteTable, authorization: Authorization, host: SentHost) -> ApiSpec {
    let header = |name, tells| IdentityHeader { name: HeaderName::from_static(name), tells };
    let issuer = |name: &str, iss: &str| IssuerNames { name: name.into(), issuers: vec![iss.into()] };
    ApiSpec {
        routes,
        verifier: Arc::new(tokens()),
        issuers: vec![issuer("idp", ISSUER), issuer("other", OTHER)],
        upstream: upstream.to_owned(),
        egress: Arc::new(kh_net::Egress::trusting(&[]).unwrap()),
        identity_headers: vec![
            header("x-user", IdentityField::Subject),
            header("x-client", IdentityField::Client),
            header("x-scopes", IdentityField::Scopes),
            header("x-tenant", IdentityField::Claim("tenant".into())),
        ],
        authorization,
        host,
    }
}

impl Setup {
    fn new(upstream: SocketAddr) -> Self {
        Self {
            config: GatewayConfig::plain("127.0.0.1:0".parse().unwrap()),
            upstream: format!("http://{upstream}"),
            tokens: Arc::new(tokens()),
            routes: routes(),
            authorization: Authorization::Remove,
            host: SentHost::Upstream,
            proxies: Proxies::default(),
            senders: SenderRules::default(),
            proof_bytes: kh_gateway::sender::PROOF_MEMORY_BYTES,
            security: Security::default(),
            observer: None,
        }
    }

    fn start(self) -> Site {
        let clock = Arc::new(SystemClock::new());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let counts = InboundMetrics::register(&mut registry, clock.clone());
        let api = Api::new(spec(&self.upstream, self.routes, self.authorization, self.host)).unwrap();
        let api = api.verified_by(self.tokens).behind(self.proxies).with_senders(self.senders).unwrap();
        let inbound = Inbound::with_proof_memory("api", api, &counts, self.security, self.proof_bytes);
        let ports = InboundPorts {
            site: Arc::clone(&inbound),
            clock,
            entropy: Arc::new(SystemEntropy),
            metrics,
            observer: self.observer,
        };
        let gateway = Gateway::start_inbound(self.config, ports).unwrap();
        Site { address: gateway.addresses()[0], inbound, registry, gateway }
    }
}

impl Site {
    fn request(&self, call: &str, token: &str, body: &str) -> Request<Full<Bytes>> {
        let (method, target) = call.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(target).header("host", self.address.to_string());
        let request = if token.is_empty() { request } else { request.header("authorization", token) };
        request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Got {
        send_to(self.address, request).await
    }

    /// `METHOD target` with `Bearer token`, or without if that is empty.
    async fn call(&self, call: &str, token: &str) -> Got {
        let token = if token.is_empty() { String::new() } else { format!("Bearer {token}") };
        self.send(self.request(call, &token, "")).await
    }

    async fn raw(&self, text: &str) -> String {
        raw_to(self.address, text.as_bytes()).await
    }

    /// Sends all at once and reads until the gateway closes; the sending side stays open.
    async fn talk(&self, text: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the gateway closes").unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn metric(&self, line: &str) -> u64 {
        metric(&self.registry, line)
    }
}

/// An API that answers with the body that it got and the cookies of its own.
async fn echo() -> Upstream {
    Upstream::start(|request| {
        Box::pin(async {
            let body = whole(request.into_body()).await;
            let headers = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("alt-svc", "h3=\":443\""), ("etag", "x")];
            reply(200, &headers, body)
        })
    })
    .await
}

async fn site() -> (Upstream, Site) {
    let upstream = echo().await;
    let site = Setup::new(upstream.address).start();
    (upstream, site)
}
