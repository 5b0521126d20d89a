//! The statements: each change as it runs inside a transaction, and each read. Nothing here begins or commits.

use kh_core::{
    ClientId, ClientName, Confirmation, EnvironmentName, Sha256, UnixMillis,
    audit::AuditEvent,
    port::{
        ClientRecord, JournalError, StateError, TokenBinding, TokenFormat, TokenRecord, rotation_journal::HeldLease,
    },
    revocation::RevocationRecord,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params, types::Type};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    failure::Failure,
    revocation,
    rotation::{self, JournalChange},
    session::{self, SessionChange, SessionOutcome},
};

/// Longest setting, in bytes; a setting is a word or a small document, not a store.
const SETTING_MAX: usize = 64 * 1024;

/// One change, as it waits in the queue.
#[derive(Debug)]
pub(crate) enum Change {
    AddClient { client: Box<ClientRecord>, event: AuditEvent },
    UpdateClient { before: Box<ClientRecord>, after: Box<ClientRecord>, event: AuditEvent },
    RemoveClient { id: ClientId, event: AuditEvent },
    AddToken(TokenRecord),
    RemoveToken(Sha256),
    SetSetting { key: String, value: String, event: AuditEvent },
    Journal(Box<JournalChange>),
    Revoke { records: Vec<RevocationRecord>, event: Option<AuditEvent> },
    ForgetRevocations { cutoff: UnixMillis, limit: u32 },
    Session(Box<SessionChange>),
}

/// What a change did.
#[derive(Debug)]
pub(crate) enum Applied {
    /// It changed something; its audit event is written with it.
    Changed,
    /// Things stood so already.
    Unchanged,
    /// The lease, or that somebody else has it.
    Lease(Option<HeldLease>),
    /// It deleted so many rows.
    Deleted(usize),
    /// What became of a session.
    Session(SessionOutcome),
}

impl Change {
    /// The audit event that belongs to the change.
    pub(crate) fn event(&self) -> Option<&AuditEvent> {
        match self {
            Self::AddClient { event, .. }
            | Self::UpdateClient { event, .. }
            | Self::RemoveClient { event, .. }
            | Self::SetSetting { event, .. } => Some(event),
            Self::Journal(change) => change.event(),
            Self::Revoke { event, .. } => event.as_ref(),
            Self::Session(change) => change.event(),
            Self::AddToken(_) | Self::RemoveToken(_) | Self::ForgetRevocations { .. } => None,
        }
    }

    /// Whether it is made even while the audit log takes no entries.
    pub(crate) fn cannot_wait(&self) -> bool {
        match self {
            Self::Journal(change) => change.cannot_wait(),
            // a token that must not be used any more does not wait for a disk that is full elsewhere
            Self::Revoke { .. } | Self::Session(_) => true,
            _ => self.event().is_none(),
        }
    }

    /// Whether others that watch clients, settings and tokens are to look again.
    pub(crate) fn counts(&self) -> bool {
        match self {
            Self::Session(change) => change.takes_its_token(),
            Self::Journal(_) | Self::Revoke { .. } => false,
            _ => self.event().is_some(),
        }
    }
}

/// Why one change did not happen.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The change is not possible as things stand; others in its transaction are not concerned.
    Change(StateError),
    /// The same for a change of the rotation journal.
    Journal(JournalError),
    /// The database failed.
    Database(Failure),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        // a constraint undoes its own statement and nothing else
        if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) {
            return Self::Change(Failure::from(error).into());
        }
        Self::Database(error.into())
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Database(failure)
    }
}

impl From<Refused> for StateError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Change(error) => error,
            Refused::Journal(error) => Self::Unavailable { reason: error.to_string(), source: None },
            Refused::Database(failure) => failure.into(),
        }
    }
}

impl From<Refused> for JournalError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Journal(error) => error,
            Refused::Change(StateError::Unavailable { reason, .. })
            | Refused::Database(Failure::Unavailable(reason)) => Self::Unavailable(reason),
            Refused::Change(error) => Self::Unavailable(error.to_string()),
            Refused::Database(Failure::Damaged(reason)) => Self::Unavailable(format!("it is damaged: {reason}")),
        }
    }
}

/// Runs one change, its audit event included, in the open transaction.
pub(crate) fn apply(connection: &Connection, change: &Change) -> Result<Applied, Refused> {
    let applied = match change {
        Change::Journal(change) => rotation::apply(connection, change)?,
        Change::Revoke { records, .. } => revocation::add(connection, records)?,
        Change::ForgetRevocations { cutoff, limit } => revocation::forget(connection, *cutoff, *limit)?,
        Change::Session(change) => session::apply(connection, change)?,
        other => apply_to_clients(connection, other).map(|()| Applied::Changed)?,
    };
    if let (Some(event), Applied::Changed) = (change.event(), &applied) {
        let id = event.id.to_string();
        connection
            .prepare_cached("INSERT OR IGNORE INTO audit_outbox (event_id, event) VALUES (?1, ?2)")?
            .execute(params![id, json(event)?])?;
    }
    Ok(applied)
}

fn apply_to_clients(connection: &Connection, change: &Change) -> Result<(), Refused> {
    match change {
        Change::AddClient { client, .. } => add_client(connection, client)?,
        Change::UpdateClient { before, after, .. } => update_client(connection, before, after)?,
        Change::RemoveClient { id, .. } => {
            let removed = connection.prepare_cached("DELETE FROM clients WHERE id = ?1")?.execute([id.as_str()])?;
            if removed == 0 {
                return Err(no_such_client(id));
            }
        }
        Change::AddToken(token) => add_token(connection, token)?,
        Change::RemoveToken(digest) => {
            connection.prepare_cached("DELETE FROM tokens WHERE digest = ?1")?.execute([&digest.0[..]])?;
        }
        Change::SetSetting { key, value, .. } => set_setting(connection, key, value)?,
        Change::Journal(_) | Change::Revoke { .. } | Change::ForgetRevocations { .. } | Change::Session(_) => {}
    }
    Ok(())
}

fn no_such_client(id: &ClientId) -> Refused {
    Refused::Change(StateError::NoSuchClient(id.to_string()))
}

fn name_is_free(connection: &Connection, name: &ClientName) -> Result<(), Refused> {
    if connection.prepare_cached("SELECT 1 FROM clients WHERE name = ?1")?.exists([name.as_str()])? {
        return Err(Refused::Change(StateError::NameTaken(name.clone())));
    }
    Ok(())
}

fn add_client(connection: &Connection, client: &ClientRecord) -> Result<(), Refused> {
    name_is_free(connection, &client.name)?;
    connection
        .prepare_cached(
            "INSERT INTO clients (id, name, credential, secret_digests, old_secrets_until, scopes, allow_rules, \
             allow_all, allow_secret_operations, token_ttl_s, enabled, created_at, updated_at, environment, \
             token_format, audience, may_introspect, token_binding) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            client.id.as_str(),
            client.name.as_str(),
            client.credential.as_ref().map(kh_core::CredentialName::as_str),
            json(&client.secret_digests)?,
            client.old_secrets_until.map(time),
            json(&client.scopes)?,
            json(&client.allow)?,
            client.allow_all,
            client.allow_secret_operations,
            integer(client.token_ttl_s),
            client.enabled,
            time(client.created_at),
            time(client.updated_at),
            client.environment.as_ref().map(EnvironmentName::as_str),
            client.token_format.as_str(),
            json(&client.audience)?,
            client.may_introspect,
            client.token_binding.as_str(),
        ])?;
    Ok(())
}

fn update_client(connection: &Connection, before: &ClientRecord, after: &ClientRecord) -> Result<(), Refused> {
    let Some(stored) = client(connection, &after.id)? else { return Err(no_such_client(&after.id)) };
    if stored != *before {
        return Err(Refused::Change(StateError::Changed(stored.name)));
    }
    if after.name != stored.name {
        name_is_free(connection, &after.name)?;
    }
    connection
        .prepare_cached(
            "UPDATE clients SET name = ?2, credential = ?3, secret_digests = ?4, old_secrets_until = ?5, \
             scopes = ?6, allow_rules = ?7, allow_all = ?8, allow_secret_operations = ?9, token_ttl_s = ?10, \
             enabled = ?11, created_at = ?12, updated_at = ?13, environment = ?14, token_format = ?15, \
             audience = ?16, may_introspect = ?17, token_binding = ?18 WHERE id = ?1",
        )?
        .execute(params![
            after.id.as_str(),
            after.name.as_str(),
            after.credential.as_ref().map(kh_core::CredentialName::as_str),
            json(&after.secret_digests)?,
            after.old_secrets_until.map(time),
            json(&after.scopes)?,
            json(&after.allow)?,
            after.allow_all,
            after.allow_secret_operations,
            integer(after.token_ttl_s),
            after.enabled,
            time(after.created_at),
            time(after.updated_at),
            after.environment.as_ref().map(EnvironmentName::as_str),
            after.token_format.as_str(),
            json(&after.audience)?,
            after.may_introspect,
            after.token_binding.as_str(),
        ])?;
    Ok(())
}

fn add_token(connection: &Connection, token: &TokenRecord) -> Result<(), Refused> {
    // one statement decides and writes, so that no login slips in after a disable
    let added = connection
        .prepare_cached(
            "INSERT INTO tokens (digest, client, issued_at, expires_at, scopes, confirmation) \
             SELECT ?1, id, ?3, ?4, ?5, ?6 FROM clients WHERE id = ?2 AND enabled = 1 \
             ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest WHERE client = excluded.client",
        )?
        .execute(params![
            &token.digest.0[..],
            token.client.as_str(),
            time(token.issued_at),
            time(token.expires_at),
            token.scopes.as_ref().map(json).transpose()?,
            token.confirmation.map(|bound| format!("{} {}", bound.member(), Sha256(*bound.digest()).to_hex())),
        ])?;
    if added == 0 {
        return Err(no_such_client(&token.client));
    }
    Ok(())
}

fn set_setting(connection: &Connection, key: &str, value: &str) -> Result<(), Refused> {
    if key.len() + value.len() > SETTING_MAX {
        let reason = format!("the setting is longer than {SETTING_MAX} bytes");
        return Err(Refused::Change(StateError::Unavailable { reason, source: None }));
    }
    connection
        .prepare_cached(
            "INSERT INTO settings (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )?
        .execute([key, value])?;
    Ok(())
}

/// Deletes up to `limit` tokens that expired before `cutoff`; answers how many there were.
pub(crate) fn purge_tokens(connection: &Connection, cutoff: UnixMillis, limit: u32) -> Result<usize, Failure> {
    Ok(connection
        .prepare_cached(
            "DELETE FROM tokens WHERE digest IN \
             (SELECT digest FROM tokens WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
        )?
        .execute(params![time(cutoff), limit])?)
}

/// Every client, by name.
pub(crate) fn clients(connection: &Connection) -> Result<Vec<ClientRecord>, Failure> {
    let mut statement = connection.prepare_cached("SELECT * FROM clients ORDER BY name")?;
    let rows = statement.query_map([], client_of)?;
    rows.map(|row| row.map_err(Failure::from_row)).collect()
}

fn client(connection: &Connection, id: &ClientId) -> Result<Option<ClientRecord>, Failure> {
    let mut statement = connection.prepare_cached("SELECT * FROM clients WHERE id = ?1")?;
    statement.query_row([id.as_str()], client_of).optional().map_err(Failure::from_row)
}

/// One token.
pub(crate) fn token(connection: &Connection, digest: Sha256) -> Result<Option<TokenRecord>, Failure> {
    let mut statement = connection.prepare_cached("SELECT * FROM tokens WHERE digest = ?1")?;
    statement.query_row([&digest.0[..]], token_of).optional().map_err(Failure::from_row)
}

/// Every token that expires after `now`.
pub(crate) fn live_tokens(connection: &Connection, now: UnixMillis) -> Result<Vec<TokenRecord>, Failure> {
    let mut statement = connection.prepare_cached("SELECT * FROM tokens WHERE expires_at > ?1")?;
    let rows = statement.query_map([time(now)], token_of)?;
    rows.map(|row| row.map_err(Failure::from_row)).collect()
}

/// One setting.
pub(crate) fn setting(connection: &Connection, key: &str) -> Result<Option<String>, Failure> {
    let mut statement = connection.prepare_cached("SELECT value FROM settings WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

/// Up to `limit` waiting audit events, oldest first, and the sequence number of the last of them.
pub(crate) fn outbox(connection: &Connection, limit: u32) -> Result<(Vec<AuditEvent>, i64), Failure> {
    let mut statement = connection.prepare_cached("SELECT seq, event FROM audit_outbox ORDER BY seq LIMIT ?1")?;
    let rows = statement.query_map([limit], |row| Ok((row.get(0)?, parsed::<AuditEvent>(row, "event")?)))?;
    let mut last = 0;
    let mut events = Vec::new();
    for row in rows {
        let (seq, event) = row.map_err(Failure::from_row)?;
        last = seq;
        events.push(event);
    }
    Ok((events, last))
}

/// Forgets the waiting audit events up to `last`.
pub(crate) fn clear_outbox(connection: &Connection, last: i64) -> Result<(), Failure> {
    connection.prepare_cached("DELETE FROM audit_outbox WHERE seq <= ?1")?.execute([last])?;
    Ok(())
}

pub(crate) fn client_of(row: &Row<'_>) -> rusqlite::Result<ClientRecord> {
    let credential: Option<String> = row.get("credential")?;
    let environment: Option<String> = row.get("environment")?;
    Ok(ClientRecord {
        id: text(row, "id")?,
        name: text(row, "name")?,
        credential: credential.map(|_| text(row, "credential")).transpose()?,
        environment: environment.map(|_| text(row, "environment")).transpose()?,
        secret_digests: parsed(row, "secret_digests")?,
        old_secrets_until: row.get::<_, Option<i64>>("old_secrets_until")?.map(millis),
        scopes: parsed(row, "scopes")?,
        token_format: token_format(row)?,
        audience: parsed(row, "audience")?,
        may_introspect: row.get("may_introspect")?,
        token_binding: token_binding(row)?,
        allow: parsed(row, "allow_rules")?,
        allow_all: row.get("allow_all")?,
        allow_secret_operations: row.get("allow_secret_operations")?,
        token_ttl_s: u64::try_from(row.get::<_, i64>("token_ttl_s")?).unwrap_or(0),
        enabled: row.get("enabled")?,
        created_at: millis(row.get("created_at")?),
        updated_at: millis(row.get("updated_at")?),
    })
}

fn token_format(row: &Row<'_>) -> rusqlite::Result<TokenFormat> {
    let text: String = row.get("token_format")?;
    text.parse().map_err(|error: &str| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

fn token_binding(row: &Row<'_>) -> rusqlite::Result<TokenBinding> {
    let text: String = row.get("token_binding")?;
    text.parse().map_err(|error: &str| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

/// What a token is bound to. One that cannot be read is an error and never a bearer token.
fn confirmation(row: &Row<'_>) -> rusqlite::Result<Option<Confirmation>> {
    let Some(text) = row.get::<_, Option<String>>("confirmation")? else { return Ok(None) };
    let read = || {
        let (member, digest) = text.split_once(' ')?;
        Confirmation::of(member, Sha256::from_hex(digest)?.0)
    };
    let unread = || rusqlite::Error::FromSqlConversionFailure(0, Type::Text, "not a confirmation".into());
    read().map(Some).ok_or_else(unread)
}

fn token_of(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    let scopes: Option<String> = row.get("scopes")?;
    Ok(TokenRecord {
        digest: Sha256(row.get("digest")?),
        client: text(row, "client")?,
        issued_at: millis(row.get("issued_at")?),
        expires_at: millis(row.get("expires_at")?),
        scopes: scopes.map(|_| parsed(row, "scopes")).transpose()?,
        confirmation: confirmation(row)?,
    })
}

/// A column of text that parses into a typed name.
pub(crate) fn text<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// A column of JSON.
pub(crate) fn parsed<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Unavailable(format!("a value has no JSON form: {error}")))
}

/// SQLite's integers are signed; the year 292,277,026 is far enough away.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn time(at: UnixMillis) -> i64 {
    integer(at.0)
}

pub(crate) fn millis(stored: i64) -> UnixMillis {
    UnixMillis(u64::try_from(stored).unwrap_or(0))
}
