//! Revocations over the admin API: the same list that verifiers of inbound calls and keyholder's own endpoints read.
//!
//! Invariants: when an order is answered it is on disk, in the audit log, and in force in this process; an order names
//! one thing in one way; no answer, log or audit entry holds a token.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Query, State},
};
use kh_core::{
    Code, Fingerprinter, Problem, SecretString, UnixMillis,
    audit::AuditEvent,
    port::{RevocationStore, StateError, inbound::PlacedRevocation},
    revocation::{RevocationRecord, RevocationTarget},
};
use kh_inbound::{OrderError, REMEMBERED, RevocationOrder, Revocations, checked_reason};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroize;

use super::{
    ApiPorts, actor,
    wire::{Given, ProblemDocument, Refused},
};
use crate::operators::{Operator, Role};

/// Revocations of one answer unless fewer are asked for, and at most.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// The earliest time that an order may name, in September 2001. Seconds, as `iat` has them, reach it in the year 33658.
const TIME_MIN: u64 = 1_000_000_000_000;

/// What orders are carried out with.
#[derive(Clone)]
pub struct RevocationDesk {
    /// Where they are kept, and in force for this process.
    pub revocations: Arc<Revocations>,
    /// Names tokens in the audit log.
    pub fingerprints: Arc<Fingerprinter>,
}

/// What is to be revoked: exactly one of a token, a `jti` of an issuer, what a subject was issued at one moment, or what
/// a client, a subject or everybody was issued up to a moment
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoke {
    /// The token itself: alone. A JWT is revoked by what it says, in every spelling of its signature.
    token: Option<String>,
    /// `jti` of a token; with `issuer`.
    jti: Option<String>,
    /// `client_id` (or `azp`) of tokens.
    client: Option<String>,
    /// `sub` of tokens.
    subject: Option<String>,
    /// `iss` of the tokens; for a client, a subject or everything it may be left out, which means every issuer.
    issuer: Option<String>,
    /// With `issuer` and `subject`: the tokens that were issued at this moment, in milliseconds since 1970: 1,000 times
    /// their `iat`.
    issued_at: Option<u64>,
    /// For a client or a subject: what was issued up to this moment, in milliseconds since 1970; now, unless it is said.
    /// Alone or with `issuer`: everything that was issued up to then, for which the role admin is needed.
    before: Option<u64>,
    /// Why, for the audit log.
    reason: Option<String>,
}

impl Drop for Revoke {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl Revoke {
    /// The order, if it is exactly one.
    fn order(&mut self, now: UnixMillis) -> Result<RevocationOrder, &'static str> {
        let before = self.before.map(UnixMillis);
        let of = |target, before: Option<UnixMillis>| Ok(RevocationOrder::Of(target, before.unwrap_or(now)));
        let (issuer, issued_at) = (self.issuer.take(), self.issued_at.map(UnixMillis));
        match (self.token.take(), self.jti.take(), self.client.take(), self.subject.take()) {
            (Some(token), None, None, None) => match (issuer, issued_at, before) {
                (None, None, None) => Ok(RevocationOrder::Token(SecretString::new(token))),
                _ => Err("token stands alone: it says itself whose it is"),
            },
            (None, Some(id), None, None) => match (issuer, issued_at, before) {
                (Some(issuer), None, None) => of(RevocationTarget::TokenId { issuer, id }, None),
                _ => Err("jti needs issuer, and nothing else"),
            },
            (None, None, Some(client), None) => match issued_at {
                None => of(RevocationTarget::Client { issuer, client }, before),
                Some(_) => Err("issued_at goes with subject and issuer"),
            },
            (None, None, None, Some(subject)) => match (issuer, issued_at, before) {
                (Some(issuer), Some(at), None) => of(RevocationTarget::Issued { issuer, subject, at }, None),
                (issuer, None, before) => of(RevocationTarget::Subject { issuer, subject }, before),
                _ => Err("issued_at goes with subject and issuer, and without before"),
            },
            (None, None, None, None) => match (issued_at, before) {
                (None, Some(_)) => of(RevocationTarget::Everything { issuer }, before),
                _ => Err("name one of token, jti, client, subject and before"),
            },
            _ => Err("name only one of token, jti, client and subject"),
        }
    }

    /// Whether its times can be what they are taken for. Seconds would be answered as done and hit nothing.
    fn check_unit(&self) -> Result<(), &'static str> {
        if [self.before, self.issued_at].into_iter().flatten().any(|time| time < TIME_MIN) {
            return Err("before and issued_at are milliseconds since 1970: a thousand times the seconds that iat has");
        }
        Ok(())
    }
}

/// A revocation as it is kept.
#[derive(Serialize, ToSchema)]
pub(super) struct RevocationView {
    /// Its place in the list; none in the answer to an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// `token`, `signed` (a JWT by what its signature covers), `token_id`, `issued`, `client`, `subject`, `everything`,
    /// or `answers`: what an issuer said about its tokens, which is asked anew.
    kind: &'static str,
    /// `iss`; none: every issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// `client_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    /// `iat`, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at: Option<u64>,
    /// SHA-256 of the token, or of what its signature covers, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// What was issued up to this moment is revoked, in milliseconds since 1970; none for single tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    /// When it was decided, in milliseconds since 1970.
    revoked_at: u64,
    /// Until when it is remembered, in milliseconds since 1970: no token that it hits lives as long.
    expires_at: u64,
}

impl From<RevocationRecord> for RevocationView {
    fn from(record: RevocationRecord) -> Self {
        let before = (!record.target.is_token()).then_some(record.before.0);
        let mut view = Self {
            position: None,
            kind: record.target.kind(),
            issuer: record.target.issuer().map(str::to_owned),
            client: None,
            subject: None,
            jti: None,
            issued_at: None,
            sha256: None,
            before,
            revoked_at: record.revoked_at.0,
            expires_at: record.expires_at.0,
        };
        match record.target {
            RevocationTarget::Token { digest } | RevocationTarget::Signed { digest } => {
                view.sha256 = Some(digest.0.to_hex());
                view.issuer = record.issuer;
            }
            RevocationTarget::TokenId { id, .. } => view.jti = Some(id),
            RevocationTarget::Issued { subject, at, .. } => {
                (view.subject, view.issued_at) = (Some(subject), Some(at.0));
            }
            RevocationTarget::Client { client, .. } => view.client = Some(client),
            RevocationTarget::Subject { subject, .. } => view.subject = Some(subject),
            RevocationTarget::Answers { client, .. } => view.client = client,
            RevocationTarget::Everything { .. } => {}
        }
        view
    }
}

/// What an order was carried out as.
#[derive(Serialize, ToSchema)]
pub(super) struct Revoked {
    /// One token is revoked by each of its names.
    revocations: Vec<RevocationView>,
    /// What was carried out and may be a slip, in words.
    warnings: Vec<String>,
}

/// A page of the list.
#[derive(Serialize, ToSchema)]
pub(super) struct RevocationPage {
    /// In the order in which they were written.
    revocations: Vec<RevocationView>,
    /// There may be more: ask with `after` set to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// The place behind which it begins.
    after: Option<u64>,
    /// How many: 100 unless something else is said, at most 1,000.
    limit: Option<u32>,
}

/// Revokes tokens
///
/// In force with the next request when this is answered, in other processes of this installation within 250
/// milliseconds, and after every restart. To repeat an order changes nothing. A revocation cannot be taken back.
#[utoipa::path(
    post, path = "/v1/revocations", tag = "revocations", request_body = Revoke,
    responses((status = 200, body = Revoked), (status = "4XX", body = ProblemDocument))
)]
pub(super) async fn add(
    State(ports): State<ApiPorts>,
    Extension(operator): Extension<Arc<Operator>>,
    Given(mut wanted): Given<Revoke>,
) -> Result<Json<Revoked>, Refused> {
    let now = ports.clock.now().wall;
    let order = wanted.order(now).map_err(malformed)?;
    if let RevocationOrder::Of(RevocationTarget::Everything { .. }, _) = &order
        && operator.role < Role::Admin
    {
        let detail = "to revoke everything needs the role admin";
        return Err(Refused(Problem::new(Code::CALL_NOT_ALLOWED, detail)));
    }
    wanted.check_unit().map_err(malformed)?;
    let records = order.records(now, Some(REMEMBERED)).map_err(unfit)?;
    let warnings = doubts(&order, &ports);
    let desk = &ports.revocations;
    let event = AuditEvent::new(&*ports.entropy, now, &actor(&operator), "revocation.add", order.subject());
    let mut event = order.told(event, |token| desk.fingerprints.fingerprint(token));
    if let Some(reason) = wanted.reason.as_deref().filter(|reason| !reason.is_empty()) {
        event = event.with("reason", &checked_reason(reason).map_err(unfit)?);
    }
    desk.revocations.revoke(records.clone(), Some(event)).await.map_err(|error| unwritten(&error))?;
    if let RevocationOrder::Token(token) = &order {
        // one of keyholder's own is taken out of its table as well
        ports.issuer.revoke(token.expose().as_bytes()).await.map_err(|error| unwritten(&error))?;
    }
    ports.issuer.refresh().await.map_err(|error| unwritten(&error))?;
    let revocations = records.into_iter().map(RevocationView::from).collect();
    Ok(Json(Revoked { revocations, warnings }))
}

/// What of an order may be a slip: other issuers may have what keyholder does not know.
fn doubts(order: &RevocationOrder, ports: &ApiPorts) -> Vec<String> {
    let mut doubts = Vec::new();
    if order.is_foreign_opaque() {
        doubts.push("this is neither a JWT nor a token of keyholder's own: taken as an opaque one of an issuer".into());
    }
    if let RevocationOrder::Of(RevocationTarget::Client { issuer: None, client }, _) = order {
        match ports.issuer.client(client) {
            Some(own) if own.record.id.as_str() == client => {}
            Some(own) => doubts.push(format!(
                "{client} is the name of a client of keyholder's own, whose id is {}: taken as an issuer's client id",
                own.record.id
            )),
            None => doubts
                .push(format!("no client of keyholder's own has the id {client:?}: taken as an issuer's client id")),
        }
    }
    doubts
}

/// Lists revocations
///
/// Those that can still hit a token, and some that ended lately.
#[utoipa::path(
    get, path = "/v1/revocations", tag = "revocations", params(Page),
    responses((status = 200, body = RevocationPage), (status = "4XX", body = ProblemDocument))
)]
pub(super) async fn list(
    State(ports): State<ApiPorts>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<RevocationPage>, Refused> {
    let Query(page) = page.map_err(|error| Refused(Problem::new(Code::REQUEST_MALFORMED, error.body_text())))?;
    let limit = page.limit.unwrap_or(LIMIT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(malformed("limit is 1 to 1,000"));
    }
    let found = ports.revocations.revocations.revocations_after(page.after.unwrap_or_default(), limit).await;
    let found = found.map_err(|error| Refused(Problem::new(error.code(), error.to_string())))?;
    let next = found.last().filter(|_| found.len() >= limit as usize).map(|last| last.position);
    let view = |PlacedRevocation { position, record }| RevocationView { position: Some(position), ..record.into() };
    Ok(Json(RevocationPage { revocations: found.into_iter().map(view).collect(), next }))
}

fn malformed(detail: &'static str) -> Refused {
    Refused(Problem::new(Code::REQUEST_MALFORMED, detail))
}

fn unfit(error: OrderError) -> Refused {
    Refused(Problem::new(Code::REQUEST_MALFORMED, error.to_string()))
}

fn unwritten(error: &StateError) -> Refused {
    tracing::error!(%error, "a revocation may hold only until keyholder stops: it could not be written");
    Refused(Problem::new(error.code(), "the revocation could not be written; give the order again"))
}
