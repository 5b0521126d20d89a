//! Audit events that are committed with their change and wait for the audit log.
//!
//! Invariant: an event leaves the outbox only after the log took it; the log skips an id it already has, so that a
//! crash between the two costs nothing.

use kh_core::{audit::AuditEvent, port::StoreError};
use rusqlite::{Connection, params};

use crate::{EVENT_BYTES_MAX, error::sqlite};

/// An event in the outbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    pub(crate) seq: u64,
    pub(crate) body: String,
}

impl Waiting {
    /// The event. Called on authenticated rows only.
    pub(crate) fn event(&self) -> Result<AuditEvent, StoreError> {
        serde_json::from_str(&self.body)
            .map_err(|error| StoreError::Tampered(format!("an audit event in the outbox is not one ({error})")))
    }
}

/// The event as the outbox keeps it; refused when the audit log could never take it.
pub(crate) fn encode(event: &AuditEvent) -> Result<String, StoreError> {
    let body = serde_json::to_string(event).map_err(|error| StoreError::Unavailable {
        reason: "the audit event cannot be written as JSON".to_owned(),
        source: Some(Box::new(error)),
    })?;
    if body.len() > EVENT_BYTES_MAX {
        return Err(StoreError::TooLarge { size: body.len(), max: EVENT_BYTES_MAX });
    }
    Ok(body)
}

/// Adds one event.
pub(crate) fn add(connection: &Connection, body: &str) -> Result<(), StoreError> {
    connection.execute("INSERT INTO outbox (body) VALUES (?1)", params![body]).map_err(sqlite)?;
    Ok(())
}

/// All events, oldest first.
pub(crate) fn waiting(connection: &Connection) -> Result<Vec<Waiting>, StoreError> {
    connection
        .prepare_cached("SELECT seq, body FROM outbox ORDER BY seq")
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok(Waiting { seq: row.get(0)?, body: row.get(1)? }))?.collect()
        })
        .map_err(sqlite)
}

/// Removes what the log took. One that another process removed in between is no error; a sequence number that was
/// taken again for another event is left alone.
pub(crate) fn delete(connection: &Connection, taken: &[Waiting]) -> Result<(), StoreError> {
    for waiting in taken {
        connection
            .execute("DELETE FROM outbox WHERE seq = ?1 AND body = ?2", params![waiting.seq, waiting.body])
            .map_err(sqlite)?;
    }
    Ok(())
}
