//! Looking at every part of an installation: what `store check` tells, and what a restore wants to see before anything
//! is replaced.
//!
//! Invariant: one part that is damaged does not hide what is wrong with the others; nothing is written.

use kh_core::{Code, port::StoreError};
use kh_store::Unlocked;
use serde::Serialize;

use crate::{
    compose::{Paths, public_key_of},
    output::Failure,
};

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// Which part: `store`, `state`, `audit`.
    pub(crate) part: &'static str,
    /// What it says in the list of codes.
    pub(crate) code: Code,
    /// Which row, client or file.
    pub(crate) subject: String,
    /// What is wrong with it.
    pub(crate) problem: String,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Seen {
    /// Names in the secret store.
    pub(crate) secrets: u64,
    /// Versions of secrets that were decrypted.
    pub(crate) versions: u64,
    /// Clients.
    pub(crate) clients: u32,
    /// Tokens, expired ones included.
    pub(crate) tokens: u32,
    /// Schema of the state.
    pub(crate) state_schema: u32,
    /// Entries of the audit log that verify.
    pub(crate) audit_entries: u64,
    /// Audit events that wait in the databases; more than zero for a moment during each change.
    pub(crate) waiting_events: u64,
    /// What is wrong.
    pub(crate) findings: Vec<Finding>,
}

impl Seen {
    fn add(&mut self, part: &'static str, code: Code, subject: &str, problem: &impl ToString) {
        let (subject, problem) = (subject.to_owned(), problem.to_string());
        self.findings.push(Finding { part, code, subject, problem });
    }
}

/// Looks at everything at `paths`. `unlocked` is the store, or why it cannot be opened.
pub(crate) fn inspect(paths: &Paths, unlocked: Result<Unlocked, Failure>) -> Seen {
    let mut seen = Seen::default();
    let key = match unlocked {
        Ok(mut unlocked) => {
            look_at_store(&mut unlocked, &mut seen);
            public_key_of(&unlocked).ok()
        }
        Err(failure) => {
            seen.add("store", failure.code(), &paths.store.display().to_string(), &failure.detail());
            None
        }
    };
    look_at_state(paths, &mut seen);
    look_at_audit(paths, key.as_ref(), &mut seen);
    seen
}

fn look_at_store(unlocked: &mut Unlocked, seen: &mut Seen) {
    match unlocked.check() {
        Ok(report) => {
            seen.secrets = report.names;
            seen.versions = report.versions;
            seen.waiting_events += report.waiting;
            for finding in report.findings {
                seen.add("store", finding.error.code(), &finding.subject, &told(&finding.error));
            }
        }
        Err(error) => seen.add("store", error.code(), "the secret store", &told(&error)),
    }
}

/// Without the words that say which file it is: the finding says so already.
fn told(error: &StoreError) -> String {
    match error {
        StoreError::Tampered(why) | StoreError::Truncated(why) => why.clone(),
        other => other.to_string(),
    }
}

fn look_at_state(paths: &Paths, seen: &mut Seen) {
    match kh_state::check(&paths.database) {
        Ok(report) => {
            seen.clients = report.clients;
            seen.tokens = report.tokens;
            seen.state_schema = report.schema;
            seen.waiting_events += u64::from(report.waiting);
            for finding in report.findings {
                seen.add("state", Code::STATE_DAMAGED, &finding.subject, &finding.problem);
            }
        }
        Err(error) => seen.add("state", error.code(), &paths.database.display().to_string(), &error),
    }
}

fn look_at_audit(paths: &Paths, key: Option<&kh_audit::PublicKey>, seen: &mut Seen) {
    let log = paths.audit_log.display().to_string();
    match kh_audit::verify(&paths.audit_log, &paths.checkpoints, key) {
        Ok(report) => {
            seen.audit_entries = report.entries;
            if let Some(finding) = report.finding {
                seen.add("audit", Code::AUDIT_BROKEN, &log, &finding.sentence);
            }
        }
        Err(error) => {
            let failure = Failure::from(error);
            seen.add("audit", failure.code(), &log, &failure.detail());
        }
    }
}
