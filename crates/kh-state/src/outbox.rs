//! From the outbox into the audit log. The events of a change wait in the database, written in the change's own
//! transaction; draining appends them to the log and deletes them in one transaction, which also keeps two processes
//! from appending at once. A crash in between repeats the append, which the log skips by event id.

use kh_core::port::AuditLog;
use rusqlite::{Connection, TransactionBehavior};

use crate::{failure::Failure, sql};

/// Events per transaction; the database's write lock is held while they are appended.
const ROUND: u32 = 128;

/// Appends everything that waits.
pub(crate) fn drain(connection: &mut Connection, audit: &dyn AuditLog) -> Result<(), Failure> {
    loop {
        // look without the write lock first: mostly there is nothing
        if sql::outbox(connection, 1)?.0.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (events, last) = sql::outbox(&transaction, ROUND)?;
        append(audit, &events)?;
        sql::clear_outbox(&transaction, last)?;
        transaction.commit()?;
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
