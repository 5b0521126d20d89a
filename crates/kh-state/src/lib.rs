//! Durable state in SQLite: clients, tokens, settings, and the audit outbox.
//!
//! Invariants: a change that was acknowledged is on disk; a change and its audit event are written in one
//! transaction; a file that is damaged or newer than this binary is refused and left untouched.

use std::{path::Path, sync::Arc};

use kh_core::{
    Clock,
    port::{AuditLog, StateError},
};

/// The state in one SQLite file. Several processes may open the same file. Implements `kh_core::port::StateStore`.
pub struct SqliteState {}

impl SqliteState {
    /// Opens `path` (created with its folder, 0600 in 0700, if missing), migrates it, and drains audit events that an
    /// earlier process left behind. Blocking: call it before serving, or on a blocking thread.
    #[allow(unused_variables, clippy::unimplemented, clippy::needless_pass_by_value, reason = "interface first")]
    pub fn open(path: &Path, audit: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> Result<Self, StateError> {
        unimplemented!()
    }
}
