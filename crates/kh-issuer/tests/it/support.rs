//! A state in a temporary folder with issuers over it, each as if in a process of its own.

use std::{path::PathBuf, sync::Arc};

use kh_core::{
    ManualClock, SecretBytes, SecretString, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{AllowRule, AuditError, AuditLog, ClientRecord, RevocationStore, SecretStore, TokenFormat},
};
use kh_issuer::{Authority, Issuer, IssuerOptions, Login, NewClient, NewTokens, SigningKeys, SigningPolicy};
use kh_state::SqliteState;
use kh_store::{FileStore, StoreKey};
use parking_lot::Mutex;
use tempfile::TempDir;

/// Where tests start: 2026-01-01.
pub(crate) const START: UnixMillis = UnixMillis(1_767_225_600_000);

/// The name of the issuer in tests.
pub(crate) const ISSUER: &str = "https://keys.example/acme";

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

    /// A secret store of this world, as another process has it.
    pub(crate) fn secrets(&self) -> Arc<dyn SecretStore> {
        let key = StoreKey::from_raw(SecretBytes::new(vec![1; 32])).unwrap();
        let unlocked = kh_store::unlock(&self.folder.path().join("secrets.db"), &key, Arc::new(SystemEntropy)).unwrap();
        let audit: Arc<dyn AuditLog> = Arc::<MemoryAudit>::clone(&self.audit);
        Arc::new(FileStore::open(unlocked, audit, Arc::new(self.clock.clone())).unwrap())
    }

    pub(crate) async fn keys(&self, policy: SigningPolicy) -> Arc<SigningKeys> {
        let keys = SigningKeys::open(self.secrets(), Arc::new(self.clock.clone()), Arc::new(SystemEntropy), policy);
        keys.await.unwrap()
    }

    /// An issuer with a name, whose first key is made.
    pub(crate) async fn authority(&self) -> Arc<Issuer> {
        let keys = self.keys(SigningPolicy::default()).await;
        keys.tend().await.unwrap();
        let authority = Authority { issuer: ISSUER.parse().unwrap(), keys };
        let (clock, entropy) = (Arc::new(self.clock.clone()), Arc::new(SystemEntropy));
        let state = self.state();
        let revocations: Arc<dyn RevocationStore> = Arc::<SqliteState>::clone(&state);
        let options = IssuerOptions { authority: Some(authority), revocations: Some(revocations) };
        Issuer::open_as(state, clock, entropy, options).await.unwrap()
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
        tokens: NewTokens::default(),
        allow: vec![AllowRule("GET /api/v2/users/**".to_owned())],
        allow_all: false,
        allow_secret_operations: false,
        ttl: None,
    }
}

/// A client of the user's own API.
pub(crate) fn jwt_client(name: &str, scopes: &[&str]) -> NewClient {
    NewClient {
        credential: None,
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        tokens: NewTokens {
            format: TokenFormat::Jwt,
            audience: vec!["https://api.example".to_owned()],
            ..NewTokens::default()
        },
        allow: Vec::new(),
        ..new_client(name)
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
