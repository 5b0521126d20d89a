//! Genesys Cloud: login host and API on one origin. Invariant: every answer carries `ININ-Correlation-Id`, every API
//! answer the `inin-ratelimit-*` headers (official developer blog, 2021-05-06), and every API error the `ErrorBody`.

mod access;
mod addresses;
mod audits;
mod authorize;
mod client_rules;
mod limits;
mod login;
mod oauth_clients;
mod roles;
mod secrets;
mod setup;
mod state;
mod tokens;
mod usage;

use crate::config::SandboxConfig;
use crate::error_body::ErrorBody;
use crate::exchange::{Call, Target};
use crate::handle::{InitialClient, SandboxError};
use crate::mint::Mint;
use crate::operations::{Answer, Context, EntityStore, Found, Lookup, Operations, RequestView, StoreLimits};
use crate::reply::Reply;
use crate::shared::Shared;
use access::Caller;
use http::header::{ALLOW, HeaderName};
use parking_lot::Mutex;
use serde_json::{Value, json};
use state::State;
use std::sync::Arc;

/// The correlation id of every answer.
const CORRELATION: HeaderName = HeaderName::from_static("inin-correlation-id");

/// The organisation as it runs.
#[derive(Debug)]
pub(crate) struct Genesys {
    operations: Arc<Operations>,
    store: EntityStore,
    initial: Vec<InitialClient>,
    organization_id: String,
    organization_name: String,
    state: Mutex<State>,
}

/// What a path on this origin leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Token,
    Authorize,
    Metadata,
    OpenidConfiguration,
    Api,
    Unknown,
}

/// Official SDKs put a configurable prefix in front of both the login and the API path, so the path is known by its end
/// or by the place where `/api/v2/` begins.
fn place(raw_path: &str) -> (Place, &str) {
    const API: &str = "/api/v2/";
    if let Some(at) = raw_path.find(API) {
        return (Place::Api, raw_path.get(at..).unwrap_or(raw_path));
    }
    for (suffix, place) in [
        ("/oauth/token", Place::Token),
        ("/oauth/authorize", Place::Authorize),
        ("/.well-known/oauth-authorization-server", Place::Metadata),
        ("/.well-known/openid-configuration", Place::OpenidConfiguration),
    ] {
        if raw_path.ends_with(suffix) {
            return (place, suffix);
        }
    }
    (Place::Unknown, raw_path)
}

impl Genesys {
    pub(crate) fn new(config: &SandboxConfig, mint: &Mint, now_ms: i64) -> Result<Self, SandboxError> {
        let operations = Operations::shared();
        let store = operations.new_store(config.seed, crate::clock::timestamp(now_ms), StoreLimits::default());
        let organization = &config.genesys.organization;
        let (state, initial) = setup::build(config, mint, now_ms)?;
        Ok(Self {
            operations,
            store,
            initial,
            organization_id: organization.id.clone().unwrap_or_else(|| mint.uuid_for("organization")),
            organization_name: organization.name.clone(),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn initial_clients(&self) -> &[InitialClient] {
        &self.initial
    }

    /// Revokes tokens for the control API; the number of tokens that died.
    pub(crate) fn revoke(&self, client: Option<&str>, digest_hex: Option<&str>) -> usize {
        self.state.lock().revoke(client, digest_hex)
    }
}

/// What the request is about.
pub(crate) fn identify(shared: &Shared, call: &Call) -> Target {
    let (place, path) = place(&call.raw_path);
    let (endpoint, client) = match place {
        Place::Token => (path.to_owned(), login::claimed_client(call)),
        Place::Authorize => (path.to_owned(), call.query_value("client_id")),
        Place::Api => {
            let client = call.bearer().and_then(|token| shared.genesys.state.lock().client_of(token));
            (template(shared, call, path), client)
        }
        Place::Metadata | Place::OpenidConfiguration | Place::Unknown => (path.to_owned(), None),
    };
    Target { path: path.to_owned(), endpoint, client }
}

fn template(shared: &Shared, call: &Call, path: &str) -> String {
    if let Some(found) = secrets::route(shared, path) {
        return found.template.to_owned();
    }
    match shared.genesys.operations.find(&call.method, path) {
        Lookup::Found(found) => found.operation.template().to_owned(),
        Lookup::MethodNotAllowed { .. } | Lookup::NotFound => path.to_owned(),
    }
}

/// Answers a request that the fault plan let through.
pub(crate) fn handle(shared: &Shared, call: &Call, target: &Target) -> Reply {
    match place(&call.raw_path).0 {
        Place::Token => login::token(shared, call),
        Place::Authorize => authorize::authorize(shared, call),
        Place::Metadata => login::metadata(shared),
        Place::Api => api(shared, call, &target.path).unwrap_or_else(|refused| refused),
        // Probed: the platform answers 404 here, it is no OpenID provider.
        Place::OpenidConfiguration | Place::Unknown => error(&ErrorBody::not_found(&call.correlation)),
    }
}

/// Refuses a request in the shape of the host that it was sent to.
pub(crate) fn refusal(target: &Target, call: &Call, status: u16, code: &str, message: &str) -> Reply {
    if target.path.starts_with("/oauth/") {
        return login::refused(status, code, message);
    }
    error(&ErrorBody::new(status, code, message, &call.correlation))
}

/// Adds what every answer carries.
pub(crate) fn decorate(shared: &Shared, call: &Call, target: &Target, reply: &mut Reply) {
    if let Ok(value) = http::HeaderValue::from_str(&call.correlation) {
        reply.headers.push((CORRELATION, value));
    }
    if target.path.starts_with("/api/v2/") && !reply.has(&limits::COUNT) {
        let standing = call
            .bearer()
            .and_then(|token| shared.genesys.state.lock().standing(token, shared.clock.now_ms(), &shared.limits()));
        limits::add_headers(reply, &standing.unwrap_or_else(|| limits::Standing::unlimited(&shared.limits())));
    }
}

fn error(body: &ErrorBody) -> Reply {
    Reply::json(body.status, &body.to_value())
}

fn api(shared: &Shared, call: &Call, path: &str) -> Result<Reply, Reply> {
    if let Some(route) = secrets::route(shared, path) {
        let caller = access::admit(shared, call, route.template, true, &[])?;
        return Ok(limits::with_headers(secrets::handle(shared, call, &caller, &route), &caller.standing));
    }
    let found = match shared.genesys.operations.find(&call.method, path) {
        Lookup::Found(found) => found,
        missing => return Err(unpublished(shared, call, path, missing)),
    };
    let operation = &found.operation;
    let caller =
        access::admit(shared, call, operation.template(), operation.requires_authentication(), operation.scopes())?;
    if let Some(gap) = operation.permission_gap(&caller.permissions) {
        let refused = error(&gap.error_body(&call.correlation));
        return Err(limits::with_headers(refused, &caller.standing));
    }
    let reply = dispatch(shared, call, &found, &caller);
    if let Some(client) = &caller.client_id {
        usage::note(shared, client, call.method.as_str(), operation.template(), reply.status);
    }
    Ok(limits::with_headers(reply, &caller.standing))
}

/// A path that is not published: the caller is still authenticated first, as on the platform.
fn unpublished(shared: &Shared, call: &Call, path: &str, missing: Lookup) -> Reply {
    let standing = match access::admit(shared, call, path, true, &[]) {
        Ok(caller) => caller.standing,
        Err(refused) => return refused,
    };
    let reply = match missing {
        Lookup::MethodNotAllowed { allowed } => {
            let body = ErrorBody::new(405, "method.not.allowed", "HTTP 405 Method Not Allowed", &call.correlation);
            error(&body).header(ALLOW, &allowed.join(", "))
        }
        Lookup::Found(_) | Lookup::NotFound => error(&ErrorBody::not_found(&call.correlation)),
    };
    limits::with_headers(reply, &standing)
}

/// Own handlers for what has rules beyond create, read, update and delete; the engine for all the rest.
fn dispatch(shared: &Shared, call: &Call, found: &Found, caller: &Caller) -> Reply {
    let template = found.operation.template();
    let values: Vec<&str> = found.values.iter().map(String::as_str).collect();
    let own = match template {
        _ if template.starts_with("/api/v2/tokens/") => tokens::handle(shared, call, template, &values, caller),
        _ if template.starts_with("/api/v2/oauth/clients") => {
            oauth_clients::handle(shared, call, template, &values, caller)
        }
        _ if template.starts_with("/api/v2/oauth/scopes") => Some(oauth_clients::scopes(shared, call, &values)),
        _ if template.starts_with("/api/v2/authorization/") => roles::handle(shared, call, template, &values, caller),
        "/api/v2/organizations/limits/namespaces/{namespaceName}" => {
            values.first().and_then(|name| limits::namespace(name, &shared.limits()))
        }
        _ if template.starts_with("/api/v2/audits/query") => audits::handle(shared, call, template, &values),
        _ => None,
    };
    own.unwrap_or_else(|| engine(shared, call, found, caller))
}

fn engine(shared: &Shared, call: &Call, found: &Found, caller: &Caller) -> Reply {
    let request = RequestView { query: &call.query, content_type: call.content_type(), body: &call.body };
    let context = Context {
        now: shared.clock.timestamp(),
        correlation_id: &call.correlation,
        caller_id: caller.subject_id().unwrap_or_default(),
    };
    let genesys = &shared.genesys;
    let mut answer = genesys.operations.answer(&genesys.store, found, &request, &context);
    if found.operation.template() == "/api/v2/organizations/me" {
        own_organization(shared, &mut answer);
    }
    let bytes = answer.to_bytes();
    match answer.content_type() {
        Some(content_type) => Reply::text(answer.status, content_type, bytes),
        None => Reply::empty(answer.status),
    }
}

/// The organisation that tokens and audits name is the one that `organizations/me` shows.
fn own_organization(shared: &Shared, answer: &mut Answer) {
    if let crate::operations::AnswerBody::Json(_, Value::Object(fields)) = &mut answer.body
        && answer.status == 200
    {
        fields.insert("id".to_owned(), json!(shared.genesys.organization_id));
        fields.insert("name".to_owned(), json!(shared.genesys.organization_name));
    }
}
