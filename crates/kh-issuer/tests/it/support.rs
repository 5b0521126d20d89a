//! A state in a temporary folder with issuers over it, each as if in a process of its own.

use std::{path::PathBuf, sync::Arc};

use kh_core::{
    ManualClock, SecretString, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{AllowRule, AuditError, AuditLog, ClientRecord},
};
use kh_issuer::{Issuer, Login, NewClient};
use kh_state::SqliteState;
use parking_lot::Mutex;
use tempfile::TempDir;

/// Where tests start: 2026-01-01.
pub(crate) const START: UnixMillis = UnixMillis(1_767_225_600_000);

#[derive(Default)]
pub(crate) struct MemoryAudit(pub(crate) Mutex<Vec<AuditEvent>>);

impl AuditLog for MemoryAudit {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        self.0.lock().extend_from_slice(events);
        Ok(())
    }
}

pub(crate) struct World {
    folder: TempDir,
    pub(crate) audit: Arc<MemoryAudit>,
    pub(crate) clock: ManualClock,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), audit: Arc::default(), clock: ManualClock::at(START) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    pub(crate) fn state(&self) -> Arc<SqliteState> {
        let audit: Arc<dyn AuditLog> = Arc::<MemoryAudit>::clone(&self.audit);
        Arc::new(SqliteState::open(&self.path(), audit, Arc::new(self.clock.clone())).unwrap())
    }

    /// An issuer with a state handle of its own, as another process has.
    pub(crate) async fn issuer(&self) -> Arc<Issuer> {
        self.issuer_over(self.state()).await
    }

    pub(crate) async fn issuer_over(&self, state: Arc<SqliteState>) -> Arc<Issuer> {
        Issuer::open(state, Arc::new(self.clock.clone()), Arc::new(SystemEntropy)).await.unwrap()
    }
}

pub(crate) fn new_client(name: &str) -> NewClient {
    NewClient {
        name: name.parse().unwrap(),
        credential: Some("acme".parse().unwrap()),
        environment: None,
        scopes: vec!["broker:read".to_owned()],
        allow: vec![AllowRule("GET /api/v2/users/**".to_owned())],
        allow_all: false,
        allow_secret_operations: false,
        ttl: None,
    }
}

pub(crate) async fn add(issuer: &Issuer, name: &str) -> (ClientRecord, SecretString) {
    issuer.add_client(new_client(name), "cli:test").await.unwrap()
}

pub(crate) async fn login(issuer: &Issuer, client: &ClientRecord, secret: &SecretString) -> Login {
    issuer.login(client.id.as_str(), secret).await.unwrap()
}

pub(crate) fn bytes(login: &Login) -> &[u8] {
    login.access_token.expose().as_bytes()
}
