//! The admin API: what operators do to a running keyholder over HTTP, and its OpenAPI document.
//!
//! Invariants: every operation has a role, and the document says which; a call is in the hash-chained audit log before
//! anything is done for it, and not done at all if it cannot be written there; a call that the role forbids is there as
//! well. No answer but the one that makes a secret holds one.

#[allow(unused_qualifications, reason = "in what the OpenAPI macro writes")]
mod audit;
mod clients;
#[allow(unused_qualifications, reason = "in what the OpenAPI macro writes")]
mod revocations;
#[allow(unused_qualifications, reason = "in what the OpenAPI macro writes")]
mod sessions;
mod wire;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::Response,
    middleware::{Next, from_fn_with_state},
    routing::get,
};
use kh_core::{Clock, Code, Entropy, Problem, audit::AuditEvent, port::security::Security};
use kh_issuer::Issuer;
use utoipa::{
    OpenApi,
    openapi::{
        self,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{audit::AuditDesk, revocations::RevocationDesk, sessions::SessionDesk};
use crate::{
    operators::{Operator, Role},
    problem,
    serve::Peer,
    telling,
};

/// What the admin API works with.
#[derive(Clone)]
pub struct ApiPorts {
    /// The clients and their secrets.
    pub issuer: Arc<Issuer>,
    /// The audit log.
    pub audit: AuditDesk,
    /// Tokens that are not taken any more.
    pub revocations: RevocationDesk,
    /// Users' sessions at platforms.
    pub sessions: SessionDesk,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for the ids of audit events.
    pub entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for ApiPorts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiPorts").finish_non_exhaustive()
    }
}

/// Name of the security scheme in the document.
const SCHEME: &str = "operator";

#[derive(OpenApi)]
#[openapi(info(
    title = "keyholder admin API",
    description = "What operators do to a running keyholder. Authentication: an operator's token as `Authorization: \
                   Bearer` or `X-Keyholder-Token`, or an operator's client certificate. Each operation names the role \
                   that it needs; a role may do all that a lower one may (read, operate, admin). Each call of \
                   one of these operations is in the audit log before it is carried out. Errors are problem documents (RFC 9457)."
))]
struct Document;

/// The API's document, without a server: the same as `GET /v1/openapi.json` answers.
pub fn document() -> openapi::OpenApi {
    parts().1
}

/// The API's routes. [`crate::admin::router`] puts the authentication before them.
pub(crate) fn router(ports: ApiPorts, security: &Security) -> Router {
    let (routers, document) = parts();
    let document = Arc::new(document);
    let documented = get(move || async move { Json(Arc::unwrap_or_clone(document)) });
    let recording = audit::Turn::default();
    let mut all = Router::new();
    for (role, router) in routers {
        let gate = Gate { role, ports: ports.clone(), security: security.clone(), recording: recording.clone() };
        let router = if role == Role::Read { router.route("/v1/openapi.json", documented.clone()) } else { router };
        all = all.merge(router.route_layer(from_fn_with_state(gate, admit)));
    }
    all.route_layer(Extension(audit::Turns::default())).with_state(ports)
}

/// The routes of each role, and the document of them all.
fn parts() -> (Vec<(Role, Router<ApiPorts>)>, openapi::OpenApi) {
    let mut document = Document::openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme(SCHEME, scheme);
    let mut routers = Vec::new();
    for role in Role::ALL {
        let (router, mut part) = operations(role).split_for_parts();
        for item in part.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                operation.security = Some(vec![SecurityRequirement::new(SCHEME, [role.as_str()])]);
            }
        }
        document.merge(part);
        routers.push((role, router));
    }
    (routers, document)
}

fn operations(role: Role) -> OpenApiRouter<ApiPorts> {
    let none = OpenApiRouter::new();
    match role {
        Role::Read => none
            .routes(routes!(clients::list))
            .routes(routes!(clients::show))
            .routes(routes!(revocations::list))
            .routes(routes!(sessions::list))
            .routes(routes!(audit::entries))
            .routes(routes!(audit::verify)),
        Role::Operate => none
            .routes(routes!(clients::enable))
            .routes(routes!(clients::disable))
            .routes(routes!(revocations::add))
            .routes(routes!(sessions::end)),
        Role::Admin => none
            .routes(routes!(clients::add))
            .routes(routes!(clients::rotate_secret))
            .routes(routes!(clients::set_token_binding))
            .routes(routes!(clients::remove)),
    }
}

/// What one role's routes are behind.
#[derive(Clone)]
struct Gate {
    role: Role,
    ports: ApiPorts,
    security: Security,
    /// One call at a time is written down.
    recording: audit::Turn,
}

/// Lets an operator with the role through, once the call is in the audit log.
async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response<Body> {
    let Gate { role, ports, security, recording } = gate;
    let Some(operator) = request.extensions().get::<Arc<Operator>>().cloned() else {
        return problem::answer(&Problem::new(Code::INTERNAL, "the request has no operator"));
    };
    let allowed = operator.role >= role;
    let action = if allowed { "admin.call" } else { "admin.refuse" };
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let from = match request.extensions().get::<Peer>() {
        Some(Peer::Tcp(address)) => address.ip().to_string(),
        Some(Peer::Unix { uid }) => format!("uid {uid}"),
        None => String::new(),
    };
    let subject = format!("{} {route}", request.method());
    let event = AuditEvent::new(&*ports.entropy, ports.clock.now().wall, &actor(&operator), action, &subject)
        .with("path", &request.uri().path())
        .with("role", &operator.role.as_str())
        .with("from", &from);
    if let Err(error) = ports.audit.record(recording, event).await {
        tracing::error!(%error, "a call of the admin API was not carried out: it could not be written into the audit log");
        return problem::answer(&Problem::new(Code::STATE_UNAVAILABLE, "the audit log cannot be written"));
    }
    let refusal = telling::not_allowed(&*ports.clock, &request, &operator.name);
    if !allowed {
        security.record(|| refusal);
        let refused = Problem::new(
            Code::CALL_NOT_ALLOWED,
            format!("this operation needs the role {}, the operator has {}", role.as_str(), operator.role.as_str()),
        );
        return problem::answer(&refused);
    }
    let answer = next.run(request).await;
    // the operation is open to the role, and what was asked of it is not
    if answer.status() == Code::CALL_NOT_ALLOWED.status() {
        security.record(|| refusal);
    }
    answer
}

/// Who did it, for the audit log.
fn actor(operator: &Operator) -> String {
    format!("admin:{}", operator.name)
}
