//! Users' sessions over the admin API: the same as `keyholder session`.
//!
//! Invariants: when the end of a session is answered it is on disk, in the audit log, and in force in this process; no
//! answer, log or audit entry holds a token.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
};
use kh_broker::UserSessions;
use kh_core::{
    Code, Problem, Sha256,
    port::{SessionRecord, SessionStore, StateError},
    session::{NoSessionName, RefreshUse, SessionEnd, SessionName},
};
use kh_inbound::checked_reason;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiPorts, actor,
    wire::{Named, ProblemDocument, Refused},
};
use crate::operators::Operator;

/// Sessions of one answer unless fewer are asked for, and at most.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// What users' sessions are looked at and ended with.
#[derive(Clone)]
pub struct SessionDesk {
    /// Where they are kept.
    pub store: Arc<dyn SessionStore>,
    /// Those of this process.
    pub sessions: Arc<UserSessions>,
}

/// A user's session at a platform; its tokens are never shown.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionView {
    /// Its id: the first eight bytes of the SHA-256 of the keyholder token that speaks for it, in hex.
    id: String,
    /// The client that the user logged in by.
    client_id: String,
    /// The client's name; none if it was removed.
    client: Option<String>,
    /// The credential by which it was begun and is renewed.
    credential: String,
    /// When it began, in milliseconds since 1970.
    began_at: u64,
    /// When it was last used, within a few minutes, in milliseconds since 1970.
    used_at: u64,
    /// When it ends at the latest, in milliseconds since 1970.
    expires_at: u64,
    /// When it ends if nobody uses it, in milliseconds since 1970.
    idle_ends_at: u64,
    /// Whether the platform gave a refresh token.
    renewable: bool,
    /// How it ended; none while it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
}

impl SessionView {
    fn of(record: &SessionRecord, ports: &ApiPorts) -> Self {
        Self {
            id: SessionName::of(record.token).to_string(),
            client_id: record.client.to_string(),
            client: ports.issuer.client(record.client.as_str()).map(|client| client.record.name.to_string()),
            credential: record.credential.to_string(),
            began_at: record.began_at.0,
            used_at: record.used_at.0,
            expires_at: record.expires_at.0,
            idle_ends_at: record.used_at.plus(record.idle_life).0,
            renewable: record.journal.refresh != RefreshUse::Absent,
            ended: record.end.map(SessionEnd::as_str),
        }
    }
}

/// A page of the list.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionPage {
    /// In the order of their ids.
    sessions: Vec<SessionView>,
    /// There may be more: ask with `after` set to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Sought {
    /// The id behind which it begins.
    after: Option<String>,
    /// Of this client only: its id or name.
    client: Option<String>,
    /// How many: 100 unless something else is said, at most 1,000.
    limit: Option<u32>,
}

/// Why a session is ended.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndSession {
    /// For the audit log.
    reason: Option<String>,
}

/// Lists users' sessions that have not ended
#[utoipa::path(
    get, path = "/v1/sessions", tag = "sessions", params(Sought),
    responses((status = 200, body = SessionPage), (status = "4XX", body = ProblemDocument))
)]
pub(super) async fn list(
    State(ports): State<ApiPorts>,
    sought: Result<Query<Sought>, QueryRejection>,
) -> Result<Json<SessionPage>, Refused> {
    let Query(sought) = sought.map_err(|error| malformed(error.body_text()))?;
    let limit = sought.limit.unwrap_or(LIMIT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(malformed("limit is 1 to 1,000"));
    }
    let after = sought.after.as_deref().map(name).transpose().map_err(malformed)?.map(|name| name.bounds().1);
    let client = match sought.client {
        None => None,
        Some(client) => {
            let found = ports.issuer.client(&client).ok_or_else(|| unknown("there is no such client"))?;
            Some(found.record.id.clone())
        }
    };
    let found = ports.sessions.store.sessions_after(after, client, limit).await.map_err(|error| unread(&error))?;
    let last = found.last().filter(|_| found.len() >= limit as usize);
    let next = last.map(|last| SessionName::of(last.token).to_string());
    Ok(Json(SessionPage { sessions: found.iter().map(|record| SessionView::of(record, &ports)).collect(), next }))
}

/// Ends a user's session
///
/// Its keyholder token opens nothing from now on, and the user has to log in again; in other processes of this
/// installation within 250 milliseconds. The platform's tokens are wiped here; the access token is given back where the
/// platform has a call for that, within seconds or when the platform can be reached again. To end a session that
/// has ended changes nothing.
#[utoipa::path(
    post, path = "/v1/sessions/{session}/end", tag = "sessions", request_body = Option<EndSession>,
    params(("session" = String, Path, description = "Its id")),
    responses((status = 200, body = SessionView), (status = "4XX", body = ProblemDocument))
)]
pub(super) async fn end(
    State(ports): State<ApiPorts>,
    Named(session): Named,
    Extension(operator): Extension<Arc<Operator>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<SessionView>, Refused> {
    let why = reason(&body?).map_err(malformed)?;
    let record = named(&ports, name(&session).map_err(malformed)?).await?;
    let event = SessionEnd::Operator.event(
        (record.token, &record.client, &record.credential),
        (&actor(&operator), why.as_deref()),
        (&*ports.entropy, ports.clock.now().wall),
    );
    ports.sessions.sessions.end_by_operator(record.token, event).await.map_err(|error| unread(&error))?;
    // its keyholder token has gone with it
    ports.issuer.refresh().await.map_err(|error| unread(&error))?;
    let record = of(&ports, record.token).await?;
    Ok(Json(SessionView::of(&record, &ports)))
}

/// The reason in a body, which may be left out.
fn reason(body: &[u8]) -> Result<Option<String>, String> {
    if body.is_empty() {
        return Ok(None);
    }
    let wanted: EndSession = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if let Some(why) = &wanted.reason {
        checked_reason(why).map_err(|error| error.to_string())?;
    }
    Ok(wanted.reason)
}

/// The session of this name, ended or not.
async fn named(ports: &ApiPorts, name: SessionName) -> Result<SessionRecord, Refused> {
    let mut found = ports.sessions.store.sessions_named(name).await.map_err(|error| unread(&error))?;
    match (found.pop(), found.pop()) {
        (Some(record), None) => Ok(record),
        (None, _) => Err(unknown("there is no such session")),
        (Some(_), Some(_)) => Err(malformed("two sessions have this id: disable their client instead")),
    }
}

async fn of(ports: &ApiPorts, token: Sha256) -> Result<SessionRecord, Refused> {
    let found = ports.sessions.store.session(token).await.map_err(|error| unread(&error))?;
    found.ok_or_else(|| unknown("there is no such session"))
}

fn name(text: &str) -> Result<SessionName, String> {
    text.parse().map_err(|error: NoSessionName| error.to_string())
}

fn malformed(detail: impl Into<String>) -> Refused {
    Refused(Problem::new(Code::REQUEST_MALFORMED, detail.into()))
}

fn unknown(detail: &'static str) -> Refused {
    Refused(Problem::new(Code::NOT_FOUND, detail))
}

fn unread(error: &StateError) -> Refused {
    Refused(Problem::new(error.code(), error.to_string()))
}
