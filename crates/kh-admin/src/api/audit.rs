//! The audit log over the admin API: reading it, verifying it, and writing the calls themselves.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Query, State},
};
use kh_audit::{Entry, Filter, PublicKey, Report};
use kh_core::{
    Code, Problem, UnixMillis,
    audit::AuditEvent,
    port::{AuditError, AuditLog},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiPorts,
    wire::{ProblemDocument, Refused},
};

/// Entries of one answer unless fewer are asked for.
const LIMIT: usize = 100;
/// Most entries of one answer: some 2 MB.
const LIMIT_MAX: usize = 5_000;
/// A time below it is one in seconds: as milliseconds it would be before March 1973.
const MILLISECONDS_MIN: u64 = 100_000_000_000;

/// The audit log of this keyholder.
#[derive(Clone)]
pub struct AuditDesk {
    /// Where calls are written.
    pub log: Arc<dyn AuditLog>,
    /// The log's file.
    pub path: PathBuf,
    /// The checkpoints' file.
    pub checkpoints: PathBuf,
    /// The key that entries and checkpoints are signed with.
    pub key: PublicKey,
}

impl AuditDesk {
    /// Writes one event; it is on disk when this returns. An event whose caller leaves before its turn is not written.
    pub(super) async fn record(&self, turn: Turn, event: AuditEvent) -> Result<(), AuditError> {
        let log = Arc::clone(&self.log);
        turn.blocking(move || log.append(&[event])).await
    }
}

/// Whose turn it is: one at a time, so that a log on a disk that hangs holds up one thread, however many callers come
/// and give up.
#[derive(Clone, Default)]
pub(super) struct Turn(Arc<Mutex<()>>);

/// The turns of those who read the log: who wants entries does not wait for a verification, which reads all of it.
#[derive(Clone, Default)]
pub(super) struct Turns {
    entries: Turn,
    verify: Turn,
}

impl Turn {
    /// Works on a thread for it once the turn has come; the turn ends with the work, also when nobody waits for it.
    async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, AuditError> {
        let turn = self.0.lock_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.unwrap_or_else(|stopped| Err(AuditError::Unavailable(std::io::Error::other(stopped))))
    }
}

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Not before this time, in milliseconds since 1970.
    since: Option<u64>,
    /// Before this time, in milliseconds since 1970.
    until: Option<u64>,
    /// This actor only, such as `cli:ann`.
    actor: Option<String>,
    /// This action only (`client.add`), or with a final dot all of a noun (`client.`).
    action: Option<String>,
    /// This subject only.
    subject: Option<String>,
    /// The newest so many of those that match: 100 unless something else is said, from 1 to 5,000.
    #[param(minimum = 1, maximum = 5_000)]
    limit: Option<usize>,
}

/// Entries in the order of the log.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditEntries {
    /// The newest that match.
    #[schema(value_type = Vec<AuditEntry>)]
    entries: Vec<Entry>,
}

/// One entry of the log.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditEntry {
    /// Position, from 1.
    seq: u64,
    /// The event's id.
    id: String,
    /// When, in milliseconds since 1970.
    at: u64,
    /// Who.
    actor: String,
    /// What, `noun.verb`.
    action: String,
    /// To what.
    subject: String,
    /// Further facts, each a name and a value.
    detail: Vec<Vec<String>>,
    /// `hash` of the entry before.
    prev: String,
    /// Ed25519 over the members before it, in hex.
    sig: String,
    /// SHA-256 over the members before it, in hex.
    hash: String,
}

/// Reads the audit log
///
/// Reading does not verify the chain; `/v1/audit/verify` does.
#[utoipa::path(
    get, path = "/v1/audit/entries", tag = "audit", params(Wanted),
    responses((status = 200, body = AuditEntries), (status = "4XX", body = ProblemDocument))
)]
pub(super) async fn entries(
    State(ports): State<ApiPorts>,
    Extension(turns): Extension<Turns>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<AuditEntries>, Refused> {
    let Query(wanted) = wanted.map_err(|error| malformed(error.body_text()))?;
    let limit = wanted.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(malformed(format!("limit is from 1 to {LIMIT_MAX}")));
    }
    if [wanted.since, wanted.until].into_iter().flatten().any(|time| (1..MILLISECONDS_MIN).contains(&time)) {
        return Err(malformed("since and until are milliseconds since 1970; this is a time in seconds".to_owned()));
    }
    let filter = Filter {
        since: wanted.since.map(UnixMillis),
        until: wanted.until.map(UnixMillis),
        actor: wanted.actor,
        action: wanted.action,
        subject: wanted.subject,
        limit: Some(limit),
    };
    let path = ports.audit.path.clone();
    let read = turns.entries.blocking(move || kh_audit::read(&path, filter)?.collect::<Result<Vec<_>, _>>()).await;
    read.map(|entries| Json(AuditEntries { entries })).map_err(|error| unreadable(&error))
}

/// What verification found.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditVerdict {
    /// Whether every entry and checkpoint verifies.
    verified: bool,
    /// Entries that verify, from the first.
    entries: u64,
    /// Checkpoints that verify.
    checkpoints: u64,
    /// Hash of the last entry that verifies, in hex.
    head: String,
    /// What is wrong first, as a word: `edited`, `removed`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<&'static str>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<Report> for AuditVerdict {
    fn from(report: Report) -> Self {
        Self {
            verified: report.verified(),
            entries: report.entries,
            checkpoints: report.checkpoints,
            head: report.head.to_hex(),
            finding: report.finding.as_ref().map(|finding| finding.kind.as_str()),
            detail: report.finding.map(|finding| finding.sentence),
        }
    }
}

/// Verifies the audit log
///
/// The whole chain, the signatures of entries and checkpoints, against this installation's own key.
#[utoipa::path(
    get, path = "/v1/audit/verify", tag = "audit",
    responses((status = 200, body = AuditVerdict), (status = "5XX", body = ProblemDocument))
)]
pub(super) async fn verify(
    State(ports): State<ApiPorts>,
    Extension(turns): Extension<Turns>,
) -> Result<Json<AuditVerdict>, Refused> {
    let desk = ports.audit;
    let verified =
        turns.verify.blocking(move || kh_audit::verify(&desk.path, &desk.checkpoints, Some(&desk.key))).await;
    verified.map(|report| Json(report.into())).map_err(|error| unreadable(&error))
}

fn malformed(detail: String) -> Refused {
    Refused(Problem::new(Code::REQUEST_MALFORMED, detail))
}

fn unreadable(error: &AuditError) -> Refused {
    tracing::warn!(%error, "the audit log cannot be read for the admin API");
    let code = match error {
        AuditError::Broken(_) => Code::AUDIT_BROKEN,
        AuditError::Unavailable(_) => Code::STATE_UNAVAILABLE,
    };
    Refused(Problem::new(code, error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicU32, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use kh_core::SystemEntropy;
    use tokio::time::timeout;

    use super::*;

    /// A log on a disk that hangs until its other end is dropped.
    struct Hanging {
        entered: AtomicU32,
        open: Mutex<mpsc::Receiver<()>>,
    }

    impl AuditLog for Hanging {
        fn append(&self, _: &[AuditEvent]) -> Result<(), AuditError> {
            if self.entered.fetch_add(1, Ordering::SeqCst) == 0 {
                self.open.blocking_lock().recv_timeout(Duration::from_secs(30)).ok();
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_log_that_hangs_holds_up_one_thread_however_many_callers_give_up() {
        let (hanging, open) = mpsc::channel();
        let log = Arc::new(Hanging { entered: AtomicU32::new(0), open: Mutex::new(open) });
        let (path, checkpoints) = (PathBuf::new(), PathBuf::new());
        let key = "00".repeat(32).parse().unwrap();
        let desk = AuditDesk { log: Arc::<Hanging>::clone(&log), path, checkpoints, key };
        let turn = Turn::default();
        let event = || AuditEvent::new(&SystemEntropy, UnixMillis(1), "admin:ann", "admin.call", "GET /v1/clients");
        for _ in 0..8 {
            assert!(timeout(Duration::from_millis(20), desk.record(turn.clone(), event())).await.is_err());
            while log.entered.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(log.entered.load(Ordering::SeqCst), 1);
        drop(hanging);
        desk.record(turn, event()).await.unwrap();
        assert_eq!(log.entered.load(Ordering::SeqCst), 2, "who gave up is not written down");
    }

    #[tokio::test]
    async fn one_verification_at_a_time() {
        let (turn, running) = (Turn::default(), Arc::new(AtomicU32::new(0)));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let running = Arc::clone(&running);
                tokio::spawn(turn.clone().blocking(move || {
                    let others = running.fetch_add(1, Ordering::SeqCst);
                    for _ in 0..1_000 {
                        std::thread::yield_now();
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(others)
                }))
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), 0);
        }
    }
}
