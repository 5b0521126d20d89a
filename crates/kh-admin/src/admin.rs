//! The admin listener: health, metrics, status.
//!
//! `/livez`, `/readyz` and `/metrics` are open to this machine; everything else, and everything for anybody further
//! away, needs the guard token (`Authorization: Bearer` or `X-Keyholder-Token`). Invariant: no answer holds a secret.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Response, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    routing::get,
};
use kh_broker::{Broker, CredentialState, CredentialStatus};
use kh_core::{
    Code, Problem,
    port::{BoxFuture, SecretStore, StateStore},
};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    guard::Guard,
    hygiene::{self, HostRule, MethodRule},
    problem,
    serve::{Peer, bounded},
};

/// Longest time for one readiness check: probes usually give up after a few seconds.
const CHECK_TIME: Duration = Duration::from_secs(2);

/// One thing that has to work for keyholder to be ready.
pub trait ReadyCheck: Send + Sync {
    /// Its name in the answer, such as `store`.
    fn name(&self) -> &'static str;
    /// The code of what does not work.
    fn check(&self) -> BoxFuture<'_, Result<(), Code>>;
}

/// The secret store can be read.
pub struct StoreCheck(pub Arc<dyn SecretStore>);

impl ReadyCheck for StoreCheck {
    fn name(&self) -> &'static str {
        "store"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Code>> {
        Box::pin(async { self.0.list().await.map(drop).map_err(|error| error.code()) })
    }
}

/// The state can be read.
pub struct StateCheck(pub Arc<dyn StateStore>);

impl ReadyCheck for StateCheck {
    fn name(&self) -> &'static str {
        "state"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Code>> {
        Box::pin(async { self.0.change_counter().await.map(drop).map_err(|error| error.code()) })
    }
}

/// What the admin listener needs.
#[derive(Clone)]
pub struct AdminPorts {
    /// Whose credentials are told about.
    pub broker: Arc<Broker>,
    /// Who may see more than health and metrics.
    pub guard: Guard,
    /// The metrics of all parts.
    pub registry: Arc<Registry>,
    /// What else has to work.
    pub checks: Arc<[Arc<dyn ReadyCheck>]>,
    /// Version of keyholder, for the status.
    pub version: &'static str,
}

/// The admin routes. Serve it with [`crate::serve()`], which also tells the peer: without it every path needs the token.
pub fn router(ports: AdminPorts) -> Router {
    Router::new()
        .route("/livez", get(|| async { text("text/plain", "ok\n".to_owned()) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .fallback(|| async { problem::answer(&Problem::new(Code::NOT_FOUND, "there is no such path here")) })
        .method_not_allowed_fallback(|| async {
            problem::answer(&Problem::new(Code::METHOD_NOT_ALLOWED, "this path does not answer that method"))
        })
        .layer(from_fn_with_state(ports.clone(), gate))
        .with_state(ports)
}

async fn gate(State(ports): State<AdminPorts>, request: Request, next: Next) -> Response<Body> {
    let local = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_local());
    let hosts = if local { HostRule::Loopback } else { HostRule::Any };
    if let Err(refusal) =
        hygiene::check(request.method(), request.uri(), request.headers(), hosts, MethodRule::Answered)
    {
        tracing::warn!(reason = %refusal, "the admin listener refused a request");
        return problem::answer(&refusal.problem());
    }
    let open = local && matches!(request.uri().path(), "/livez" | "/readyz" | "/metrics");
    if !open && !ports.guard.accepts_bearer(request.headers()) {
        let refused = Problem::new(Code::GUARD_REFUSED, "the admin token is missing or wrong")
            .hint("send it as X-Keyholder-Token or as Authorization: Bearer");
        return problem::answer(&refused);
    }
    bounded(request, next).await
}

/// Whether a caller who asks for this credential's token now may hope for one. A credential that nobody asked for yet
/// counts as usable.
pub(crate) fn is_usable(status: &CredentialStatus) -> bool {
    match status.state {
        CredentialState::Ready | CredentialState::Refreshing | CredentialState::Empty | CredentialState::Fetching => {
            true
        }
        CredentialState::Rejected | CredentialState::Waiting => false,
    }
}

#[derive(Serialize)]
struct Verdict {
    name: String,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Vec<Verdict>,
    credentials: Vec<Verdict>,
}

async fn ready(State(ports): State<AdminPorts>) -> Response<Body> {
    let mut checks = Vec::with_capacity(ports.checks.len());
    for check in ports.checks.iter() {
        let failed = match timeout(CHECK_TIME, check.check()).await {
            Ok(Ok(())) => None,
            Ok(Err(code)) => Some(code),
            Err(_) => Some(Code::UPSTREAM_TIMEOUT),
        };
        checks.push(Verdict { name: check.name().to_owned(), ready: failed.is_none(), code: failed });
    }
    let credentials: Vec<_> = ports.broker.status().iter().map(verdict).collect();
    let ready = checks.iter().chain(&credentials).all(|verdict| verdict.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Readiness { ready, checks, credentials })
}

fn verdict(status: &CredentialStatus) -> Verdict {
    let ready = is_usable(status);
    let code = (!ready).then(|| status.last_error.unwrap_or(Code::TOKEN_UNAVAILABLE));
    Verdict { name: status.name.to_string(), ready, code }
}

async fn metrics(State(ports): State<AdminPorts>) -> Response<Body> {
    let mut out = String::new();
    match prometheus_client::encoding::text::encode(&mut out, &ports.registry) {
        Ok(()) => text("application/openmetrics-text; version=1.0.0; charset=utf-8", out),
        Err(_) => problem::answer(&Problem::new(Code::INTERNAL, "the metrics could not be written")),
    }
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    credentials: Vec<CredentialStatus>,
}

async fn status(State(ports): State<AdminPorts>) -> Response<Body> {
    json(StatusCode::OK, &Status { version: ports.version, credentials: ports.broker.status() })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let Ok(body) = serde_json::to_string(body) else {
        return problem::answer(&Problem::new(Code::INTERNAL, "the answer could not be written"));
    };
    let mut answer = text("application/json", body);
    *answer.status_mut() = status;
    answer
}

fn text(content_type: &'static str, body: String) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
