//! Everything that can be known to be wrong with a store, row by row, without changing it.
//!
//! Invariant: no value leaves; a row that does not decrypt is told by its name and does not hide the others.

use kh_core::{audit::AuditEvent, port::StoreError};

use crate::{
    error::sqlite,
    layout,
    manifest::{Listed, Manifest},
    rows::Row,
    unlock::Unlocked,
};

/// One thing that is wrong.
#[derive(Debug)]
pub struct StoreFinding {
    /// The name and version of the secret, or what else it concerns.
    pub subject: String,
    /// What is wrong.
    pub error: StoreError,
}

/// What a check saw.
#[derive(Debug, Default)]
pub struct StoreReport {
    /// Names.
    pub names: u64,
    /// Versions of all names that were decrypted.
    pub versions: u64,
    /// Audit events that wait for the log; more than zero for a moment during each change.
    pub waiting: u64,
    /// What is wrong.
    pub findings: Vec<StoreFinding>,
}

impl Unlocked {
    /// Decrypts every version of every secret, and looks at the file's structure. An error means that it cannot be
    /// read now.
    pub fn check(&mut self) -> Result<StoreReport, StoreError> {
        let mut report = StoreReport::default();
        let transaction = self.connection.transaction().map_err(sqlite)?;
        layout::check_tables(&transaction)?;
        let verdict: String =
            transaction.pragma_query_value(None, "integrity_check", |row| row.get(0)).map_err(sqlite)?;
        if verdict != "ok" {
            let error = StoreError::Truncated(format!("SQLite finds its structure broken ({verdict})"));
            report.findings.push(StoreFinding { subject: "the file".to_owned(), error });
        }
        let manifest = Manifest::load(&transaction, &self.store_id, &self.data_key)?;
        report.names = manifest.names();
        for listed in manifest.rows() {
            let opened = Row::load(&transaction, listed).and_then(|row| row.open(&self.store_id, &self.data_key));
            match opened {
                Ok(_) => report.versions += 1,
                Err(error) => report.findings.push(StoreFinding { subject: subject(listed), error }),
            }
        }
        for waiting in &manifest.waiting {
            report.waiting += 1;
            if let Err(error) = waiting.event().map(|_: AuditEvent| ()) {
                let subject = format!("the waiting audit event {}", waiting.seq);
                report.findings.push(StoreFinding { subject, error });
            }
        }
        Ok(report)
    }
}

fn subject(listed: &Listed) -> String {
    format!("the secret {} version {}", listed.name, listed.version)
}
