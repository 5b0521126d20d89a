//! What the tests share: audit logs that remember, records, a state in a folder of its own.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kh_core::{
    ManualClock, SeededEntropy, Sha256, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{AllowRule, AuditError, AuditLog, ClientRecord, TokenFormat, TokenRecord, state_store::Sha256Hex},
};
use kh_state::SqliteState;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Where tests start: 2026-01-01.
pub(crate) const START: UnixMillis = UnixMillis(1_767_225_600_000);

/// An audit log in memory that can be told to refuse.
#[derive(Default)]
pub(crate) struct MemoryAudit {
    pub(crate) events: Mutex<Vec<AuditEvent>>,
    pub(crate) refuses: AtomicBool,
    /// Refuses real events and still says yes to the empty probe: the log breaks between check and commit.
    pub(crate) breaks_late: AtomicBool,
    /// The next append of real events says that it has begun, and waits to be let through.
    pub(crate) gate: Mutex<Option<Gate>>,
}

pub(crate) type Gate = (oneshot::Sender<()>, oneshot::Receiver<()>);

impl MemoryAudit {
    pub(crate) fn actions(&self) -> Vec<String> {
        self.events.lock().iter().map(|event| event.action.clone()).collect()
    }
}

impl AuditLog for MemoryAudit {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        let late = self.breaks_late.load(Ordering::SeqCst) && !events.is_empty();
        if late || self.refuses.load(Ordering::SeqCst) {
            return Err(AuditError::Unavailable(std::io::Error::other("no space")));
        }
        let gate = if events.is_empty() { None } else { self.gate.lock().take() };
        if let Some((begun, pass)) = gate {
            begun.send(()).unwrap();
            pass.blocking_recv().unwrap();
        }
        let mut known = self.events.lock();
        for event in events {
            if !known.iter().any(|other| other.id == event.id) {
                known.push(event.clone());
            }
        }
        Ok(())
    }
}

/// An audit log in a file, one event a line, synced, that several processes may append to.
pub(crate) struct FileAudit(pub(crate) PathBuf);

impl FileAudit {
    pub(crate) fn read(&self) -> Vec<AuditEvent> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        // a kill may leave half a line at the end; its event is still in the outbox
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl AuditLog for FileAudit {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        let append = || -> std::io::Result<()> {
            let mut file: File = OpenOptions::new().append(true).create(true).open(&self.0)?;
            file.lock()?;
            let known: Vec<_> = self.read().into_iter().map(|event| event.id).collect();
            let mut lines = String::new();
            for event in events.iter().filter(|event| !known.contains(&event.id)) {
                lines.push('\n');
                lines.push_str(&serde_json::to_string(event).unwrap());
            }
            file.write_all(lines.as_bytes())?;
            file.sync_data()
        };
        append().map_err(AuditError::Unavailable)
    }
}

/// A state in a temporary folder.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) audit: Arc<MemoryAudit>,
    pub(crate) clock: ManualClock,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, audit: Arc::default(), clock: ManualClock::at(START) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("state").join("state.db")
    }

    pub(crate) fn open(&self) -> SqliteState {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<SqliteState, kh_core::port::StateError> {
        open_at(&self.path(), self)
    }
}

fn open_at(path: &Path, fixture: &Fixture) -> Result<SqliteState, kh_core::port::StateError> {
    let audit: Arc<dyn AuditLog> = Arc::<MemoryAudit>::clone(&fixture.audit);
    SqliteState::open(path, audit, Arc::new(fixture.clock.clone()))
}

/// An event with a fresh id.
pub(crate) fn event(action: &str) -> AuditEvent {
    AuditEvent::new(&SystemEntropy, START, "test", action, "subject")
}

/// A client whose every field differs from its default.
pub(crate) fn client(name: &str) -> ClientRecord {
    let entropy = SeededEntropy::new(u64::from(Sha256::of(name.as_bytes()).0[0]));
    let secret = kh_core::issued::issue(kh_core::issued::IssuedKind::ClientSecret, &entropy);
    ClientRecord {
        id: format!("id-{name}").parse().unwrap(),
        name: name.parse().unwrap(),
        credential: Some("acme-prod".parse().unwrap()),
        environment: Some("production".parse().unwrap()),
        secret_digests: vec![Sha256Hex(secret.sha256()), Sha256Hex(Sha256::of(b"old"))],
        old_secrets_until: Some(UnixMillis(START.0 + 5)),
        scopes: vec!["broker:read".to_owned(), "x".to_owned()],
        token_format: TokenFormat::Jwt,
        audience: vec!["https://api.example".to_owned(), "b".to_owned()],
        may_introspect: true,
        token_binding: kh_core::port::TokenBinding::Dpop,
        allow: vec![AllowRule("GET /api/v2/users/**".to_owned())],
        allow_all: true,
        allow_secret_operations: true,
        token_ttl_s: 77,
        enabled: true,
        created_at: START,
        updated_at: UnixMillis(START.0 + 1),
    }
}

/// A token of `owner` that expires `ttl_ms` after the start.
pub(crate) fn token(owner: &ClientRecord, text: &str, ttl_ms: u64) -> TokenRecord {
    TokenRecord {
        digest: Sha256::of(text.as_bytes()),
        client: owner.id.clone(),
        issued_at: START,
        expires_at: UnixMillis(START.0 + ttl_ms),
        scopes: Some(vec!["x".to_owned()]),
        confirmation: Some(kh_core::Confirmation::Jkt([7; 32])),
    }
}
