//! The admin listener: health, metrics, status.
//!
//! `/livez`, `/readyz` and `/metrics` are open to this machine; everything else, and everything for anybody further
//! away, is for operators: by token (`Authorization: Bearer` or `X-Keyholder-Token`) or by client certificate. The
//! guard token of the listener's own file makes one with every right.

mod health;
mod status;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Response, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    routing::get,
};
use kh_broker::Broker;
use kh_core::{
    Code, Problem,
    port::{
        BoxFuture, SecretStore, StateStore,
        security::{Security, Site},
    },
};
use kh_net::PeerCertificate;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub(crate) use health::are_usable;
pub use status::{
    AuditStatus, ConfigStatus, ListenerStatus, ReloadStatus, Status, StatusSource, StoreStatus, TlsStatus,
};

use crate::{
    api::{self, ApiPorts},
    guard::{Presented, presented},
    hygiene::{self, HostRule, MethodRule},
    operators::Operators,
    problem,
    serve::{Peer, bounded},
    telling::{self, Tried},
};

/// One part that has to move for the process to be worth keeping, such as a thread.
pub trait Pulse: Send + Sync {
    /// Its name in the answer, such as `gateway worker 0`.
    fn name(&self) -> String;
    /// Whether it moved lately. Must not block.
    fn beats(&self) -> bool;
}

/// One thing that has to work for keyholder to be ready.
pub trait ReadyCheck: Send + Sync {
    /// Its name in the answer, such as `store`.
    fn name(&self) -> &'static str;
    /// The code of what does not work.
    fn check(&self) -> BoxFuture<'_, Result<(), Code>>;
    /// Whether keyholder serves its callers as well without it: then it is told and makes nothing unready.
    fn is_advisory(&self) -> bool {
        false
    }
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
    pub operators: Operators,
    /// The metrics of all parts.
    pub registry: Arc<Registry>,
    /// What else has to work.
    pub checks: Arc<[Arc<dyn ReadyCheck>]>,
    /// What has to move.
    pub pulses: Arc<[Arc<dyn Pulse>]>,
    /// Cancelled from the stop signal on: load balancers must not send anything more.
    pub draining: CancellationToken,
    /// What is told about the whole process.
    pub status: Arc<dyn StatusSource>,
    /// What operators may do beside looking.
    pub api: ApiPorts,
    /// Is told who was not let in.
    pub security: Security,
}

/// The admin routes. Serve it with [`crate::serve()`], which also tells the peer: without it every path needs the token.
pub fn router(ports: AdminPorts) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status::status))
        .with_state(ports.clone())
        .merge(api::router(ports.api.clone(), &ports.security))
        .fallback(|| async { problem::answer(&Problem::new(Code::NOT_FOUND, "there is no such path here")) })
        .method_not_allowed_fallback(|| async {
            problem::answer(&Problem::new(Code::METHOD_NOT_ALLOWED, "this path does not answer that method"))
        })
        .layer(from_fn_with_state(ports, gate))
}

async fn gate(State(ports): State<AdminPorts>, mut request: Request, next: Next) -> Response<Body> {
    let local = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_local());
    let hosts = if local { HostRule::Loopback } else { HostRule::Any };
    if let Err(refusal) =
        hygiene::check(request.method(), request.uri(), request.headers(), hosts, MethodRule::Answered)
    {
        tracing::warn!(reason = %refusal, "the admin listener refused a request");
        return problem::answer(&refusal.problem());
    }
    let open = local && matches!(request.uri().path(), "/livez" | "/readyz" | "/metrics");
    let certificate = request.extensions().get::<PeerCertificate>();
    match ports.operators.identify(request.headers(), certificate) {
        Some(operator) => drop(request.extensions_mut().insert(operator)),
        None if open => {}
        None => {
            let (reason, shown) = match (presented(request.headers()), certificate) {
                (Presented::Nothing, None) => ("token_missing", None),
                (Presented::Nothing, Some(_)) => ("certificate_unknown", None),
                (Presented::Token(digest), _) => ("token_unknown", Some(digest)),
                (Presented::Ambiguous, _) => ("authorization_malformed", None),
            };
            let tried = Tried { site: Site::Admin, reason, token: shown, status: Code::GUARD_REFUSED.status() };
            telling::failed(&ports.security, &*ports.api.clock, &request, tried);
            let refused = Problem::new(Code::GUARD_REFUSED, "the admin token is missing or wrong")
                .hint("send it as X-Keyholder-Token or as Authorization: Bearer");
            return problem::answer(&refused);
        }
    }
    bounded(request, next).await
}

async fn metrics(State(ports): State<AdminPorts>) -> Response<Body> {
    let mut out = String::new();
    match prometheus_client::encoding::text::encode(&mut out, &ports.registry) {
        Ok(()) => text("application/openmetrics-text; version=1.0.0; charset=utf-8", out),
        Err(_) => problem::answer(&Problem::new(Code::INTERNAL, "the metrics could not be written")),
    }
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
