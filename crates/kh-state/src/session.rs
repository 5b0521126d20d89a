//! Sessions of users at platforms in the state's database.
//!
//! Invariants: a write that names another version than the stored one changes nothing; what has ended is never renewed;
//! the end of a session's token or client is its end, by triggers of the schema.

use std::time::Duration;

use kh_core::{
    ClientId, Sha256, UnixMillis,
    audit::AuditEvent,
    port::{BeginError, BoxFuture, SessionLimits, SessionRecord, SessionStore, StateError},
    session::{RefreshJournal, SessionEnd, SessionName},
};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use crate::{
    SqliteState,
    failure::Failure,
    sql::{self, Applied, Change, Refused, integer, json, millis, time},
};

/// Longest sealed value, in bytes: an access token and a refresh token of 16 KiB each.
const SEALED_MAX: usize = 48 * 1024;

/// Times of use in one write; the rest comes with the next.
const TOUCHED_MAX: usize = 1000;

/// One change of a session.
#[derive(Debug)]
pub(crate) enum SessionChange {
    Begin { record: Box<SessionRecord>, limits: SessionLimits },
    Renew { token: Sha256, seen: u64, journal: RefreshJournal, sealed: Vec<u8> },
    End { token: Sha256, end: SessionEnd, event: AuditEvent },
    Touch(Vec<(Sha256, UnixMillis)>),
    Close(Sha256),
    Forget { cutoff: UnixMillis, limit: u32 },
}

/// What became of a session.
#[derive(Debug)]
pub(crate) enum SessionOutcome {
    Begun,
    ClientFull,
    Full,
    /// Its new version; none: it is another one by now.
    Renewed(Option<u64>),
}

impl SessionChange {
    pub(crate) fn event(&self) -> Option<&AuditEvent> {
        match self {
            Self::End { event, .. } => Some(event),
            Self::Begin { .. } | Self::Renew { .. } | Self::Touch(_) | Self::Close(_) | Self::Forget { .. } => None,
        }
    }

    /// Whether the keyholder token goes with the session, so that nobody takes it any more who looks at tokens alone:
    /// other processes have the session in memory.
    pub(crate) fn takes_its_token(&self) -> bool {
        matches!(self, Self::End { end: SessionEnd::Operator, .. })
    }
}

/// Runs one change in the open transaction.
pub(crate) fn apply(connection: &Connection, change: &SessionChange) -> Result<Applied, Refused> {
    match change {
        SessionChange::Begin { record, limits } => begin(connection, record, *limits).map(Applied::Session),
        SessionChange::Renew { token, seen, journal, sealed } => {
            fits(sealed)?;
            let changed = connection
                .prepare_cached(
                    "UPDATE sessions SET journal = ?3, sealed = ?4, version = version + 1 \
                     WHERE token = ?1 AND version = ?2 AND ended IS NULL",
                )?
                .execute(params![&token.0[..], integer(*seen), json(journal)?, sealed])?;
            Ok(Applied::Session(SessionOutcome::Renewed((changed > 0).then_some(seen + 1))))
        }
        SessionChange::End { token, end, .. } => {
            let changed = connection
                .prepare_cached(
                    "UPDATE sessions SET ended = ?2, version = version + 1 WHERE token = ?1 AND ended IS NULL",
                )?
                .execute(params![&token.0[..], end.as_str()])?;
            if changed > 0 && change.takes_its_token() {
                connection.prepare_cached("DELETE FROM tokens WHERE digest = ?1")?.execute([&token.0[..]])?;
            }
            Ok(if changed > 0 { Applied::Changed } else { Applied::Unchanged })
        }
        SessionChange::Touch(used) => {
            let mut statement =
                connection.prepare_cached("UPDATE sessions SET used_at = ?2 WHERE token = ?1 AND used_at < ?2")?;
            for (token, at) in used.iter().take(TOUCHED_MAX) {
                statement.execute(params![&token.0[..], time(*at)])?;
            }
            Ok(Applied::Unchanged)
        }
        SessionChange::Close(token) => {
            connection
                .prepare_cached("UPDATE sessions SET sealed = NULL WHERE token = ?1 AND ended IS NOT NULL")?
                .execute([&token.0[..]])?;
            Ok(Applied::Unchanged)
        }
        SessionChange::Forget { cutoff, limit } => {
            let deleted = connection
                .prepare_cached(
                    "DELETE FROM sessions WHERE token IN (SELECT token FROM sessions WHERE expires_at < ?1 \
                     AND ended IS NOT NULL AND sealed IS NULL ORDER BY expires_at LIMIT ?2)",
                )?
                .execute(params![time(*cutoff), limit])?;
            Ok(Applied::Deleted(deleted))
        }
    }
}

fn fits(sealed: &[u8]) -> Result<(), Refused> {
    if sealed.len() <= SEALED_MAX {
        return Ok(());
    }
    let reason = format!("the tokens of a session are longer than {SEALED_MAX} bytes");
    Err(Refused::Change(StateError::Unavailable { reason, source: None }))
}

fn begin(connection: &Connection, record: &SessionRecord, limits: SessionLimits) -> Result<SessionOutcome, Refused> {
    fits(record.sealed.as_deref().unwrap_or_default())?;
    // The client's are few and counted in an index; all are counted only up to the limit.
    let of_client: u32 = connection
        .prepare_cached("SELECT count(*) FROM sessions WHERE client = ?1 AND ended IS NULL")?
        .query_row([record.client.as_str()], |row| row.get(0))?;
    if of_client >= limits.per_client {
        return Ok(SessionOutcome::ClientFull);
    }
    let all: u32 = connection
        .prepare_cached("SELECT count(*) FROM sessions WHERE ended IS NULL")?
        .query_row([], |row| row.get(0))?;
    if all >= limits.total {
        return Ok(SessionOutcome::Full);
    }
    connection
        .prepare_cached(
            "INSERT INTO sessions (token, client, credential, began_at, used_at, expires_at, idle_ms, version, journal, \
             sealed, ended) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?9, NULL)",
        )?
        .execute(params![
            &record.token.0[..],
            record.client.as_str(),
            record.credential.as_str(),
            time(record.began_at),
            time(record.used_at),
            time(record.expires_at),
            integer(u64::try_from(record.idle_life.as_millis()).unwrap_or(u64::MAX)),
            json(&record.journal)?,
            record.sealed,
        ])?;
    // A client that was disabled, or a token that went, before the session was there ended nothing: look once more.
    let ended = connection
        .prepare_cached(
            "UPDATE sessions SET ended = 'token_revoked', version = version + 1 WHERE token = ?1 AND NOT EXISTS \
             (SELECT 1 FROM tokens JOIN clients ON clients.id = tokens.client \
              WHERE tokens.digest = ?1 AND clients.enabled = 1)",
        )?
        .execute([&record.token.0[..]])?;
    if ended > 0 {
        tracing::info!(client.id = %record.client, "a session ended before it began: its token is gone");
    }
    Ok(SessionOutcome::Begun)
}

fn session_of(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let ended: Option<String> = row.get("ended")?;
    let end = ended
        .map(|text| text.parse::<SessionEnd>())
        .transpose()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))?;
    Ok(SessionRecord {
        token: Sha256(row.get("token")?),
        client: sql::text(row, "client")?,
        credential: sql::text(row, "credential")?,
        began_at: millis(row.get("began_at")?),
        used_at: millis(row.get("used_at")?),
        expires_at: millis(row.get("expires_at")?),
        idle_life: Duration::from_millis(u64::try_from(row.get::<_, i64>("idle_ms")?).unwrap_or(0)),
        version: u64::try_from(row.get::<_, i64>("version")?).unwrap_or(0),
        journal: sql::parsed(row, "journal")?,
        sealed: row.get("sealed")?,
        end,
    })
}

fn one(connection: &Connection, token: Sha256) -> Result<Option<SessionRecord>, Failure> {
    let mut statement = connection.prepare_cached("SELECT * FROM sessions WHERE token = ?1")?;
    statement.query_row([&token.0[..]], session_of).optional().map_err(Failure::from_row)
}

fn many(
    connection: &Connection,
    statement: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<SessionRecord>, Failure> {
    let mut statement = connection.prepare_cached(statement)?;
    let rows = statement.query_map(parameters, session_of)?;
    rows.map(|row| row.map_err(Failure::from_row)).collect()
}

impl SqliteState {
    async fn change_session(&self, change: SessionChange) -> Result<Applied, StateError> {
        Ok(self.apply(Change::Session(Box::new(change))).await?)
    }
}

impl SessionStore for SqliteState {
    fn begin_session(&self, record: SessionRecord, limits: SessionLimits) -> BoxFuture<'_, Result<(), BeginError>> {
        Box::pin(async move {
            let change = SessionChange::Begin { record: Box::new(record), limits };
            match self.change_session(change).await? {
                Applied::Session(SessionOutcome::ClientFull) => Err(BeginError::ClientFull(limits.per_client)),
                Applied::Session(SessionOutcome::Full) => Err(BeginError::Full(limits.total)),
                _ => Ok(()),
            }
        })
    }

    fn session(&self, token: Sha256) -> BoxFuture<'_, Result<Option<SessionRecord>, StateError>> {
        Box::pin(self.read(move |connection| one(connection, token)))
    }

    fn renew_session(
        &self,
        token: Sha256,
        seen: u64,
        journal: RefreshJournal,
        sealed: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<u64>, StateError>> {
        Box::pin(async move {
            match self.change_session(SessionChange::Renew { token, seen, journal, sealed }).await? {
                Applied::Session(SessionOutcome::Renewed(version)) => Ok(version),
                _ => Ok(None),
            }
        })
    }

    fn end_session(
        &self,
        token: Sha256,
        end: SessionEnd,
        event: AuditEvent,
    ) -> BoxFuture<'_, Result<bool, StateError>> {
        Box::pin(async move {
            let applied = self.change_session(SessionChange::End { token, end, event }).await?;
            Ok(matches!(applied, Applied::Changed))
        })
    }

    fn touch_sessions(&self, used: Vec<(Sha256, UnixMillis)>) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move { self.change_session(SessionChange::Touch(used)).await.map(drop) })
    }

    fn overdue_sessions(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>> {
        Box::pin(self.read(move |connection| {
            let overdue = "SELECT * FROM sessions WHERE ended IS NULL AND (expires_at <= ?1 OR used_at + idle_ms <= ?1) \
                           LIMIT ?2";
            many(connection, overdue, params![time(now), limit])
        }))
    }

    fn sessions_to_close(&self, limit: u32) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>> {
        Box::pin(self.read(move |connection| {
            let ended = "SELECT * FROM sessions WHERE ended IS NOT NULL AND sealed IS NOT NULL LIMIT ?1";
            many(connection, ended, params![limit])
        }))
    }

    fn close_session(&self, token: Sha256) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move { self.change_session(SessionChange::Close(token)).await.map(drop) })
    }

    fn forget_sessions(&self, cutoff: UnixMillis, limit: u32) -> BoxFuture<'_, Result<usize, StateError>> {
        Box::pin(async move {
            match self.change_session(SessionChange::Forget { cutoff, limit }).await? {
                Applied::Deleted(count) => Ok(count),
                _ => Ok(0),
            }
        })
    }

    fn sessions_after(
        &self,
        after: Option<Sha256>,
        client: Option<ClientId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>> {
        Box::pin(self.read(move |connection| {
            let after = after.map(|token| token.0.to_vec()).unwrap_or_default();
            let Some(client) = client else {
                let page = "SELECT * FROM sessions WHERE ended IS NULL AND token > ?1 ORDER BY token LIMIT ?2";
                return many(connection, page, params![after, limit]);
            };
            let page = "SELECT * FROM sessions WHERE ended IS NULL AND client = ?3 AND token > ?1 \
                        ORDER BY token LIMIT ?2";
            many(connection, page, params![after, limit, client.as_str()])
        }))
    }

    fn sessions_named(&self, name: SessionName) -> BoxFuture<'_, Result<Vec<SessionRecord>, StateError>> {
        Box::pin(self.read(move |connection| {
            let (first, last) = name.bounds();
            let named = "SELECT * FROM sessions WHERE token >= ?1 AND token <= ?2 ORDER BY token LIMIT 2";
            many(connection, named, params![&first.0[..], &last.0[..]])
        }))
    }
}
