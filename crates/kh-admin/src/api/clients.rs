//! Clients over the admin API: the same registry as `keyholder client`.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, Response, StatusCode, header},
};
use kh_core::{
    SecretString,
    port::{AllowRule, ClientRecord, TokenBinding, TokenFormat},
};
use kh_issuer::{NewClient, NewTokens, SecretOverlap};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{
    ApiPorts, actor,
    wire::{Given, Named, ProblemDocument, Refused},
};
use crate::operators::Operator;

/// Room for an answer with a secret, so that its buffer does not grow and leave copies.
const SECRET_ANSWER: usize = 128 * 1024;

/// A client; its secret is never shown again.
#[derive(Serialize, ToSchema)]
#[allow(clippy::struct_excessive_bools, reason = "independent rights, as people write them")]
pub(super) struct ClientView {
    /// Its id at the token endpoint.
    client_id: String,
    /// What people call it.
    name: String,
    /// The platform credential that its calls use.
    credential: Option<String>,
    /// The environment of that credential.
    environment: Option<String>,
    /// Scopes that its tokens may have.
    scopes: Vec<String>,
    /// What its tokens are: `opaque` or `jwt`.
    token_format: &'static str,
    /// Identifiers of the APIs that may take its tokens.
    audience: Vec<String>,
    /// Whether it may introspect tokens.
    may_introspect: bool,
    /// What its tokens must be bound to: `none`, `certificate` or `dpop`.
    token_binding: &'static str,
    /// What it may call, as `METHOD /path`.
    allow: Vec<String>,
    /// Whether it may make every call but the guarded ones.
    allow_all: bool,
    /// Whether it may make the guarded calls too.
    allow_secret_operations: bool,
    /// Life of its tokens, in seconds.
    token_ttl_s: u64,
    /// Whether it may log in and call.
    enabled: bool,
    /// When it was added, in milliseconds since 1970.
    created_at: u64,
    /// When it was changed last, in milliseconds since 1970.
    updated_at: u64,
}

impl From<&ClientRecord> for ClientView {
    fn from(record: &ClientRecord) -> Self {
        Self {
            client_id: record.id.to_string(),
            name: record.name.to_string(),
            credential: record.credential.as_ref().map(ToString::to_string),
            environment: record.environment.as_ref().map(ToString::to_string),
            scopes: record.scopes.clone(),
            token_format: record.token_format.as_str(),
            audience: record.audience.clone(),
            may_introspect: record.may_introspect,
            token_binding: record.token_binding.as_str(),
            allow: record.allow.iter().map(|rule| rule.0.clone()).collect(),
            allow_all: record.allow_all,
            allow_secret_operations: record.allow_secret_operations,
            token_ttl_s: record.token_ttl_s,
            enabled: record.enabled,
            created_at: record.created_at.0,
            updated_at: record.updated_at.0,
        }
    }
}

/// A client with its new secret.
#[derive(Serialize, ToSchema)]
pub(super) struct ClientWithSecret<'a> {
    /// The client.
    #[serde(flatten)]
    client: ClientView,
    /// The secret, told this once.
    client_secret: &'a str,
}

/// Every client.
#[derive(Serialize, ToSchema)]
pub(super) struct Clients {
    /// By name.
    clients: Vec<ClientView>,
}

/// A client to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "independent rights, as people write them")]
pub(super) struct AddClient {
    /// What people call it; unique.
    #[schema(value_type = String)]
    name: kh_core::ClientName,
    /// The platform credential that its calls use; without one it may call no platform.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    credential: Option<kh_core::CredentialName>,
    /// The environment of that credential.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    environment: Option<kh_core::EnvironmentName>,
    /// Scopes that its tokens may have.
    #[serde(default)]
    scopes: Vec<String>,
    /// What its tokens are: `opaque` (what applications of a platform need) or `jwt`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    token_format: TokenFormat,
    /// Identifiers of the APIs that may take its tokens; JWTs need one at least.
    #[serde(default)]
    audience: Vec<String>,
    /// Whether it may introspect tokens.
    #[serde(default)]
    may_introspect: bool,
    /// What its tokens must be bound to: `none`, `certificate` (RFC 8705) or `dpop` (RFC 9449).
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    token_binding: TokenBinding,
    /// What it may call, as `METHOD /path`.
    #[serde(default)]
    allow: Vec<String>,
    /// Whether it may make every call but the guarded ones.
    #[serde(default)]
    allow_all: bool,
    /// Whether it may make the guarded calls too.
    #[serde(default)]
    allow_secret_operations: bool,
    /// Life of its tokens in seconds; a day unless something else is said.
    #[serde(default)]
    token_ttl_s: Option<u64>,
}

/// How a secret is replaced.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateSecret {
    /// How long the old secret works beside the new one, in seconds; without it, it stops at once.
    #[serde(default)]
    overlap_s: Option<u64>,
}

/// What a client's tokens must be bound to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetTokenBinding {
    /// `none`, `certificate` (RFC 8705) or `dpop` (RFC 9449).
    #[schema(value_type = String)]
    token_binding: TokenBinding,
}

/// Lists the clients
#[utoipa::path(get, path = "/v1/clients", tag = "clients", responses((status = 200, body = Clients)))]
pub(super) async fn list(State(ports): State<ApiPorts>) -> Json<Clients> {
    let clients = ports.issuer.clients();
    Json(Clients { clients: clients.iter().map(|client| (&client.record).into()).collect() })
}

/// Shows one client
#[utoipa::path(
    get, path = "/v1/clients/{client}", tag = "clients", params(("client" = String, Path, description = "Its id or name")),
    responses((status = 200, body = ClientView), (status = 404, body = ProblemDocument))
)]
pub(super) async fn show(State(ports): State<ApiPorts>, Named(client): Named) -> Result<Json<ClientView>, Refused> {
    let found = ports.issuer.client(&client).ok_or(kh_issuer::IssuerError::NoSuchClient(client))?;
    Ok(Json((&found.record).into()))
}

/// Adds a client
///
/// The answer holds its secret, this once.
#[utoipa::path(
    post, path = "/v1/clients", tag = "clients", request_body = AddClient,
    responses((status = 201, body = ClientWithSecret), (status = "4XX", body = ProblemDocument))
)]
pub(super) async fn add(
    State(ports): State<ApiPorts>,
    Extension(operator): Extension<Arc<Operator>>,
    Given(new): Given<AddClient>,
) -> Result<Response<Body>, Refused> {
    let new = NewClient {
        name: new.name,
        credential: new.credential,
        environment: new.environment,
        scopes: new.scopes,
        tokens: NewTokens {
            format: new.token_format,
            audience: new.audience,
            may_introspect: new.may_introspect,
            binding: new.token_binding,
        },
        allow: new.allow.into_iter().map(AllowRule).collect(),
        allow_all: new.allow_all,
        allow_secret_operations: new.allow_secret_operations,
        ttl: new.token_ttl_s.map(Duration::from_secs),
    };
    let (record, secret) = ports.issuer.add_client(new, &actor(&operator)).await?;
    Ok(with_secret(StatusCode::CREATED, &record, &secret))
}

/// Gives a client a new secret
///
/// The answer holds it, this once. Tokens that were issued stay valid.
#[utoipa::path(
    post, path = "/v1/clients/{client}/rotate-secret", tag = "clients", request_body = RotateSecret,
    params(("client" = String, Path, description = "Its id or name")),
    responses((status = 200, body = ClientWithSecret), (status = "4XX", body = ProblemDocument))
)]
pub(super) async fn rotate_secret(
    State(ports): State<ApiPorts>,
    Named(client): Named,
    Extension(operator): Extension<Arc<Operator>>,
    Given(how): Given<RotateSecret>,
) -> Result<Response<Body>, Refused> {
    let overlap = how.overlap_s.map_or(SecretOverlap::None, |seconds| SecretOverlap::For(Duration::from_secs(seconds)));
    let (record, secret) = ports.issuer.rotate_secret(&client, overlap, &actor(&operator)).await?;
    Ok(with_secret(StatusCode::OK, &record, &secret))
}

/// Says what a client's tokens must be bound to
///
/// Tokens that are not bound like that stop working at once.
#[utoipa::path(
    post, path = "/v1/clients/{client}/token-binding", tag = "clients", request_body = SetTokenBinding,
    params(("client" = String, Path, description = "Its id or name")),
    responses((status = 200, body = ClientView), (status = "4XX", body = ProblemDocument))
)]
pub(super) async fn set_token_binding(
    State(ports): State<ApiPorts>,
    Named(client): Named,
    Extension(operator): Extension<Arc<Operator>>,
    Given(SetTokenBinding { token_binding }): Given<SetTokenBinding>,
) -> Result<Json<ClientView>, Refused> {
    let record = ports.issuer.set_token_binding(&client, token_binding, &actor(&operator)).await?;
    Ok(Json((&record).into()))
}

/// Enables a client
#[utoipa::path(
    post, path = "/v1/clients/{client}/enable", tag = "clients",
    params(("client" = String, Path, description = "Its id or name")),
    responses((status = 200, body = ClientView), (status = 404, body = ProblemDocument))
)]
pub(super) async fn enable(
    state: State<ApiPorts>,
    client: Named,
    operator: Extension<Arc<Operator>>,
) -> Result<Json<ClientView>, Refused> {
    switch(state, client, operator, true).await
}

/// Disables a client
///
/// Its tokens stop working at once, and work again when it is enabled.
#[utoipa::path(
    post, path = "/v1/clients/{client}/disable", tag = "clients",
    params(("client" = String, Path, description = "Its id or name")),
    responses((status = 200, body = ClientView), (status = 404, body = ProblemDocument))
)]
pub(super) async fn disable(
    state: State<ApiPorts>,
    client: Named,
    operator: Extension<Arc<Operator>>,
) -> Result<Json<ClientView>, Refused> {
    switch(state, client, operator, false).await
}

async fn switch(
    State(ports): State<ApiPorts>,
    Named(client): Named,
    Extension(operator): Extension<Arc<Operator>>,
    enabled: bool,
) -> Result<Json<ClientView>, Refused> {
    let record = ports.issuer.set_enabled(&client, enabled, &actor(&operator)).await?;
    Ok(Json((&record).into()))
}

/// Removes a client with its secrets and tokens
#[utoipa::path(
    post, path = "/v1/clients/{client}/remove", tag = "clients",
    params(("client" = String, Path, description = "Its id or name")),
    responses((status = 200, body = ClientView), (status = 404, body = ProblemDocument))
)]
pub(super) async fn remove(
    State(ports): State<ApiPorts>,
    Named(client): Named,
    Extension(operator): Extension<Arc<Operator>>,
) -> Result<Json<ClientView>, Refused> {
    let record = ports.issuer.remove_client(&client, &actor(&operator)).await?;
    Ok(Json((&record).into()))
}

/// An answer with a secret: never cached, its buffer wiped when it has been written.
fn with_secret(status: StatusCode, record: &ClientRecord, secret: &SecretString) -> Response<Body> {
    let mut text = Zeroizing::new(Vec::with_capacity(SECRET_ANSWER));
    let told = ClientWithSecret { client: record.into(), client_secret: secret.expose() };
    serde_json::to_writer(&mut *text, &told).expect("plain members are written into memory");
    let mut answer = Response::new(Body::from(Bytes::from_owner(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
