//! The broker's HTTP contract: tokens for local programs.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/token/{profile}[?min_ttl=SECONDS][&environment=NAME]` | 200 with the token, its life and where it is good for |
//! | `GET /v1/header/{profile}[?environment=NAME]` | 200 `{"authorizationHeader":"Bearer ..."}` |
//! | `POST /v1/token/{profile}/invalidate` | 204; the body names the bad token by digest, so an old report is harmless |
//! | `POST /v1/pickup` | 204; which secret a program uses that reads it itself, see [`pickup`] |
//! | `GET /healthz`, `GET /readyz` | 200, or 503 while a credential cannot be used; no guard token needed |
//! | any method, `/{profile}/...` | the platform's answer, see [`crate::proxy`] |
//!
//! A profile is a credential's name (a `/` in it is written `%2F`). Invariant: hygiene first, guard second, only then
//! is anything looked up; so a refused request never causes a fetch.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    http::{Response, StatusCode},
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use kh_broker::{Broker, Credential, Lease, TokenError};
use kh_core::{
    Clock, Code, CredentialName, EnvironmentName, Now, Problem, Retry, Sha256, environment,
    port::{
        SightingLog,
        security::{Security, Site},
    },
};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    admin::are_usable,
    guard::{Guard, Presented, Shown, presented},
    hygiene::{self, HostRule, MethodRule},
    problem,
    proxy::{self, ProfileProxy},
    serve::{Peer, bounded},
    telling::{self, Tried},
};

mod body;
pub mod pickup;

/// Largest accepted request body: `{"sha256":"<64 hex digits>"}` and room for blanks.
pub const BODY_MAX: usize = 1024;

/// Longest time for a request's body: it is one line from this machine.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Most digits of `min_ttl`: more seconds than any token lives.
const MIN_TTL_DIGITS: usize = 9;

/// How often a token that aged below `min_ttl` between the broker and the answer is asked for again. Twice is rare: a
/// machine that was suspended just then.
const AGED_MAX: u32 = 3;

/// What lets a caller in who comes through the unix socket, whose user was checked before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketGuard {
    /// The user is enough. A guard token may be shown and must then be the right one.
    User,
    /// The guard token as well, as on TCP.
    UserAndToken,
}

/// How a caller gets a credential of production.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Production {
    /// It says so in the request, if it takes part in the check at all.
    Asked,
    /// A person said so when this broker was started.
    Agreed,
}

/// What the broker listener needs.
#[derive(Clone)]
pub struct BrokerPorts {
    /// Where tokens come from.
    pub broker: Arc<Broker>,
    /// Who may ask.
    pub guard: Guard,
    /// Who may ask through a unix socket.
    pub socket_guard: SocketGuard,
    /// How production is got.
    pub production: Production,
    /// The broker's clock.
    pub clock: Arc<dyn Clock>,
    /// Where `/{profile}/...` goes; without it such a path is not found.
    pub proxy: Option<Arc<dyn ProfileProxy>>,
    /// Where reports of programs that read a secret themselves go; without it they are refused.
    pub journal: Option<Arc<dyn SightingLog>>,
    /// Is told who was not let in.
    pub security: Security,
}

impl BrokerPorts {
    /// A broker without a proxy, whose socket asks for the user alone.
    pub fn new(broker: Arc<Broker>, guard: Guard, clock: Arc<dyn Clock>) -> Self {
        let (socket_guard, production) = (SocketGuard::User, Production::Asked);
        let (proxy, journal, security) = (None, None, Security::default());
        Self { broker, guard, socket_guard, production, clock, proxy, journal, security }
    }

    /// The same with a proxy.
    pub fn with_proxy(self, proxy: Arc<dyn ProfileProxy>) -> Self {
        Self { proxy: Some(proxy), ..self }
    }

    /// The same that tells of callers who were not let in.
    pub fn watched_by(self, security: Security) -> Self {
        Self { security, ..self }
    }

    /// The same that takes reports of pick-ups.
    pub fn with_journal(self, journal: Arc<dyn SightingLog>) -> Self {
        Self { journal: Some(journal), ..self }
    }
}

/// The broker's routes. Serve it with [`crate::serve()`], which bounds time and connections.
pub fn router(ports: BrokerPorts) -> Router {
    Router::new()
        .route("/v1/token/{profile}", get(token))
        .route("/v1/token/{profile}/invalidate", post(invalidate))
        .route("/v1/header/{profile}", get(header))
        .route("/v1/pickup", post(pickup::pickup))
        .route("/healthz", get(|| async { body::plain("ok\n") }))
        .route("/readyz", get(ready))
        .fallback(|| async { problem::answer(&Problem::new(Code::NOT_FOUND, "there is no such path here")) })
        .method_not_allowed_fallback(|| async {
            problem::answer(&Problem::new(Code::METHOD_NOT_ALLOWED, "this path does not answer that method"))
        })
        .layer(from_fn_with_state(ports.clone(), gate))
        .with_state(ports)
}

/// Hygiene and guard, before any route.
async fn gate(State(ports): State<BrokerPorts>, request: Request, next: Next) -> Response<Body> {
    let proxy = ports.proxy.as_deref().filter(|_| proxy::is_forwarded(request.uri().path()));
    let methods = if proxy.is_some() { MethodRule::Forwarded } else { MethodRule::Answered };
    let checked = hygiene::check(request.method(), request.uri(), request.headers(), HostRule::Loopback, methods);
    if let Err(refusal) = checked {
        tracing::warn!(reason = %refusal, "the broker listener refused a request that no local program sends");
        return problem::answer(&refusal.problem());
    }
    let open = matches!(request.uri().path(), "/healthz" | "/readyz");
    if !open && !is_let_in(&ports, &request, proxy.is_some()) {
        let (reason, token) = match presented(request.headers()) {
            Presented::Nothing => ("token_missing", None),
            Presented::Token(digest) => ("token_unknown", Some(digest)),
            Presented::Ambiguous => ("authorization_malformed", None),
        };
        let tried = Tried { site: Site::Broker, reason, token, status: Code::GUARD_REFUSED.status() };
        telling::failed(&ports.security, &*ports.clock, &request, tried);
        let refused = Problem::new(Code::GUARD_REFUSED, "the header X-Keyholder-Token is missing or wrong")
            .hint("send the content of the file that KEYHOLDER_TOKEN_FILE names");
        return problem::answer(&refused);
    }
    match proxy {
        Some(proxy) => proxy::forward(&ports, proxy, request).await,
        None => bounded(request, next).await,
    }
}

/// Whether the guard lets this request in. SDKs can be given an access token but no header, so what is forwarded may
/// show the guard token as `Authorization: Bearer`.
fn is_let_in(ports: &BrokerPorts, request: &Request, forwarded: bool) -> bool {
    let headers = request.headers();
    let by_socket = matches!(request.extensions().get::<Peer>(), Some(Peer::Unix { .. }));
    if by_socket && ports.socket_guard == SocketGuard::User {
        return ports.guard.shown(headers) != Shown::Wrong;
    }
    if forwarded { ports.guard.accepts_bearer(headers) } else { ports.guard.accepts(headers) }
}

async fn ready(State(ports): State<BrokerPorts>) -> Response<Body> {
    if are_usable(&ports.broker.status()) {
        return body::plain("ready\n");
    }
    problem::answer(&Problem::new(Code::TOKEN_UNAVAILABLE, "the platform refuses every credential"))
}

type ProfilePath = Result<Path<String>, PathRejection>;

async fn token(State(ports): State<BrokerPorts>, profile: ProfilePath, RawQuery(query): RawQuery) -> Response<Body> {
    let Some(wanted) = parse_query(query.as_deref().unwrap_or("")) else {
        return malformed("the parameters are min_ttl, in whole seconds, and environment, each at most once");
    };
    let Some(credential) = find(&ports, profile) else { return unknown() };
    if let Some(problem) = environment_problem(&ports, &credential, &wanted) {
        return problem::answer(&problem);
    }
    match lease(&credential, &*ports.clock, wanted.min_ttl.unwrap_or_default()).await {
        Ok((lease, now)) => body::token(&lease, credential.spec(), now),
        Err(error) => failure(&error),
    }
}

/// A token that has `min_ttl` left at the moment of the answer, and that moment: a caller may be woken long after its
/// token was chosen.
async fn lease(credential: &Credential, clock: &dyn Clock, min_ttl: Duration) -> Result<(Arc<Lease>, Now), TokenError> {
    for _ in 0..AGED_MAX {
        let lease = credential.lease(min_ttl).await?;
        let now = clock.now();
        let remaining = lease.remaining(now);
        if remaining >= min_ttl && !remaining.is_zero() {
            return Ok((lease, now));
        }
    }
    Err(TokenError::GaveUp)
}

async fn header(State(ports): State<BrokerPorts>, profile: ProfilePath, RawQuery(query): RawQuery) -> Response<Body> {
    let wanted = parse_query(query.as_deref().unwrap_or("")).filter(|wanted| wanted.min_ttl.is_none());
    let Some(wanted) = wanted else { return malformed("the only parameter is environment") };
    let Some(credential) = find(&ports, profile) else { return unknown() };
    if let Some(problem) = environment_problem(&ports, &credential, &wanted) {
        return problem::answer(&problem);
    }
    match lease(&credential, &*ports.clock, Duration::ZERO).await {
        Ok((lease, _)) => body::header(&lease),
        Err(error) => failure(&error),
    }
}

async fn invalidate(State(ports): State<BrokerPorts>, profile: ProfilePath, request: Body) -> Response<Body> {
    let Some(credential) = find(&ports, profile) else { return unknown() };
    let Ok(body) = timeout(BODY_TIME, to_bytes(request, BODY_MAX)).await else {
        return malformed("the body did not come in time");
    };
    let Ok(bytes) = body else {
        let detail = format!("the body is longer than {BODY_MAX} bytes or broke off");
        return problem::answer(&Problem::new(Code::REQUEST_TOO_LARGE, detail));
    };
    let Some(sha256) = parse_report(&bytes) else {
        return malformed("the body must be {\"sha256\":\"<64 hex digits of the bad token's digest>\"}");
    };
    credential.invalidate(sha256);
    body::nothing(StatusCode::NO_CONTENT)
}

fn find(ports: &BrokerPorts, profile: ProfilePath) -> Option<Arc<Credential>> {
    let Path(profile) = profile.ok()?;
    let name: CredentialName = profile.parse().ok()?;
    ports.broker.credential(&name)
}

fn unknown() -> Response<Body> {
    problem::answer(&Problem::new(Code::NOT_FOUND, "there is no profile of this name"))
}

fn malformed(detail: &'static str) -> Response<Body> {
    problem::answer(&Problem::new(Code::REQUEST_MALFORMED, detail))
}

/// What a query asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// How long the token must live at least.
    pub min_ttl: Option<Duration>,
    /// Which environment the caller means: `environment=NAME`, or `environment=` for "none was named". Without the
    /// parameter the caller does not take part, and nothing is checked.
    pub environment: Option<Option<EnvironmentName>>,
}

/// Reads a query. An unknown or doubled parameter is `None`: a typo must not silently drop what the caller counts on.
pub fn parse_query(query: &str) -> Option<Wanted> {
    let mut wanted = Wanted::default();
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        match pair.split_once('=')? {
            ("min_ttl", digits) if wanted.min_ttl.is_none() => wanted.min_ttl = Some(parse_seconds(digits)?),
            ("environment", "") if wanted.environment.is_none() => wanted.environment = Some(None),
            ("environment", name) if wanted.environment.is_none() => {
                wanted.environment = Some(Some(name.parse().ok()?));
            }
            _ => return None,
        }
    }
    Some(wanted)
}

fn parse_seconds(digits: &str) -> Option<Duration> {
    let plain = digits.len() <= MIN_TTL_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain).map(Duration::from_secs)
}

/// Why a caller who says which environment it means may not have this credential, if so.
fn environment_problem(ports: &BrokerPorts, credential: &Credential, wanted: &Wanted) -> Option<Problem> {
    let own = credential.spec().environment.as_ref();
    let asked = match (&wanted.environment, ports.production) {
        (None, _) | (Some(None), Production::Agreed) => return None,
        (Some(asked), _) => asked.as_ref(),
    };
    let refused = environment::permit(own, asked).err()?;
    let problem = Problem::new(refused.code(), refused.to_string());
    Some(match own {
        Some(own) => problem.hint(format!("if that is what you mean, say --environment {own}")),
        None => problem.hint("leave --environment out, or give the credential an environment"),
    })
}

/// The digest in an invalidation report.
pub fn parse_report(body: &[u8]) -> Option<Sha256> {
    #[derive(Deserialize)]
    struct Report {
        sha256: String,
    }
    let report: Report = serde_json::from_slice(body).ok()?;
    Sha256::from_hex(&report.sha256)
}

/// A token error as an answer, with the platform's code and correlation id, and when to try again.
fn failure(error: &TokenError) -> Response<Body> {
    let mut detail = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        detail = format!("{detail}: {source}");
    }
    let mut problem = Problem::new(error.code(), detail);
    problem.correlation_id = error.correlation_id().map(str::to_owned);
    match error.retry() {
        Retry::After(wait) => problem::answer_after(&problem, wait),
        Retry::Never | Retry::Now => problem::answer(&problem),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let named = |name: &str| Some(Some(name.parse().unwrap()));
        for (query, min_ttl, environment) in [
            ("", None, None),
            ("min_ttl=0", seconds(0), None),
            ("min_ttl=120", seconds(120), None),
            ("min_ttl=999999999", seconds(999_999_999), None),
            ("environment=", None, Some(None)),
            ("environment=production", None, named("production")),
            ("environment=staging&min_ttl=7", seconds(7), named("staging")),
            ("min_ttl=7&environment=", seconds(7), Some(None)),
        ] {
            assert_eq!(parse_query(query), Some(Wanted { min_ttl, environment }), "{query}");
        }
        for bad in [
            "min_ttl=",
            "min_ttl=1000000000",
            "min_ttl=-1",
            "min_ttl=+1",
            "min_ttl=1.5",
            "min_ttl=1&min_ttl=2",
            "min_tll=1",
            "min_ttl",
            "environment=Production",
            "environment=%70roduction",
            "environment=a&environment=a",
            "environment",
            "x=1",
            "&",
            "min_ttl=1&",
        ] {
            assert_eq!(parse_query(bad), None, "{bad}");
        }
    }

    #[test]
    fn reports() {
        let hex = Sha256::of(b"t").to_hex();
        let good = format!(r#"{{"sha256":"{hex}"}}"#);
        assert_eq!(parse_report(good.as_bytes()), Some(Sha256::of(b"t")));
        for bad in ["", "null", "{}", r#"{"sha256":""}"#, r#"{"sha256":7}"#, &hex, &good[..20]] {
            assert_eq!(parse_report(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(query in ".{0,40}", body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let read = parse_query(&query).is_some();
            prop_assert!(!read || query.is_empty() || query.starts_with("min_ttl=") || query.starts_with("environment="));
            prop_assert!(parse_report(&body).is_none());
        }
    }
}
