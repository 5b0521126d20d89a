//! Port to the audit log.

use crate::audit::AuditEvent;

/// Why an audit entry could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be written: disk full, read-only, permission.
    #[error("the audit log cannot be written")]
    Unavailable(#[source] std::io::Error),
    /// What is there does not verify; nothing is appended to a log that somebody edited.
    #[error("the audit log does not verify: {0}")]
    Broken(String),
}

/// An append-only log. Appending is synchronous: when it returns, the entry is on disk.
pub trait AuditLog: Send + Sync {
    /// Appends `events` in order and makes them durable. An event whose `id` the log already holds is skipped, so a
    /// caller may repeat after a crash.
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError>;
}
