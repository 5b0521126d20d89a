//! From the outbox into the audit log. The events of a change wait in the database, written in the change's own
//! transaction; draining appends them to the log and deletes them afterwards. A crash in between, or a second process
//! that drains at the same time, repeats the append, which the log skips by event id.
//!
//! Invariants: the database is not locked while the log is written, or the logins of other processes would wait for its
//! disk; an event is deleted only once it is in the log. Rows become visible in the order of their numbers, which are
//! never used again, so those up to the last one that was read are those that were appended.

use kh_core::port::AuditLog;
use rusqlite::Connection;

use crate::{failure::Failure, sql};

/// Events per append.
const ROUND: u32 = 128;

/// Appends everything that waits.
pub(crate) fn drain(connection: &Connection, audit: &dyn AuditLog) -> Result<(), Failure> {
    loop {
        let (events, last) = sql::outbox(connection, ROUND)?;
        if events.is_empty() {
            return Ok(());
        }
        append(audit, &events)?;
        sql::clear_outbox(connection, last)?;
    }
}

/// Asks the log whether it takes entries at all, by appending none.
pub(crate) fn probe(audit: &dyn AuditLog) -> Result<(), Failure> {
    append(audit, &[])
}

fn append(audit: &dyn AuditLog, events: &[kh_core::audit::AuditEvent]) -> Result<(), Failure> {
    audit.append(events).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::Unavailable(format!("{error}{cause}"))
    })
}
