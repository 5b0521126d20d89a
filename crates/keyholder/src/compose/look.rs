//! An installation opened to look at it.
//!
//! Invariants: nothing is made that is not there; a state that an older keyholder wrote keeps its schema, because that
//! keyholder may still serve with it; no audit event is delivered, because nobody delivers it here: what an earlier
//! process could not deliver stays for the next one that changes something.

use std::{path::Path, sync::Arc};

use kh_core::{
    Clock, Entropy, SecretReference, SystemClock, SystemEntropy,
    audit::AuditEvent,
    port::{AuditError, AuditLog, BoxFuture, SecretSource, SourceError, StateStore, StoreError, StoredSecret},
};
use kh_issuer::Issuer;
use kh_state::SqliteState;
use kh_store::FileStore;

use super::{
    InstallationLock,
    base::{refuse_unfinished, unlock},
    outside, targets,
};
use crate::{
    cli::Loaded,
    environment::Environment,
    output::Failure,
    sources::{Reads, Sources},
};

/// What is there.
pub(crate) struct Look {
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Secrets.
    pub(crate) store: Arc<FileStore>,
    /// Every source of documents.
    pub(crate) sources: Arc<Sources>,
    /// Clients and tokens, if there ever were any and their schema is this keyholder's.
    pub(crate) issuer: Option<Arc<Issuer>>,
    /// The schema of a state that an older keyholder wrote: nothing of it is looked at.
    pub(crate) older_schema: Option<u32>,
    /// Last, so that it is given back when everything else is closed.
    _lock: Option<InstallationLock>,
}

/// Time and documents: what a login is tried with.
pub(crate) struct Sight {
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Every source of documents.
    pub(crate) sources: Arc<Sources>,
}

impl Sight {
    /// Without an installation: the stores outside alone.
    pub(crate) fn outside(loaded: &Loaded) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let sources = sources(Arc::new(NoStore), loaded, &clock)?;
        Ok(Self { clock, sources })
    }
}

/// Stands for the embedded store where there is none yet.
struct NoStore;

impl NoStore {
    fn told() -> SourceError {
        StoreError::Unavailable { reason: "the secret store does not exist yet".to_owned(), source: None }.into()
    }
}

impl SecretSource for NoStore {
    fn read<'a>(&'a self, _reference: &'a SecretReference) -> BoxFuture<'a, Result<StoredSecret, SourceError>> {
        Box::pin(async { Err(Self::told()) })
    }

    fn version<'a>(&'a self, _reference: &'a SecretReference) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async { Err(Self::told()) })
    }
}

/// Takes nothing, so that the store and the state allow no change.
struct NoLog;

impl AuditLog for NoLog {
    fn append(&self, _events: &[AuditEvent]) -> Result<(), AuditError> {
        Err(AuditError::Unavailable(std::io::Error::other("this command only looks")))
    }
}

impl Look {
    /// Opens the installation of `loaded`; none if its secret store does not exist.
    pub(crate) async fn open(loaded: &Loaded, environment: &Environment) -> Result<Option<Self>, Failure> {
        let paths = &loaded.paths;
        let lock = InstallationLock::shared_if_there(&paths.state)?;
        refuse_unfinished(paths)?;
        if !paths.store.exists() {
            return Ok(None);
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let unlocked = unlock(loaded, environment, &entropy)?;
        let store = FileStore::open(unlocked, Arc::new(NoLog), Arc::clone(&clock))?;
        let older_schema = older_schema(&paths.database)?;
        let mut issuer = None;
        if paths.database.exists() && older_schema.is_none() {
            let state = SqliteState::open(&paths.database, Arc::new(NoLog), Arc::clone(&clock))?;
            let state = Arc::new(state) as Arc<dyn StateStore>;
            issuer = Some(Issuer::open(state, Arc::clone(&clock), entropy).await?);
        }
        let store = Arc::new(store);
        let sources = sources(Arc::clone(&store) as Arc<dyn SecretSource>, loaded, &clock)?;
        Ok(Some(Self { clock, store, sources, issuer, older_schema, _lock: lock }))
    }

    /// What logins of its credentials are tried with.
    pub(crate) fn sight(&self) -> Sight {
        Sight { clock: Arc::clone(&self.clock), sources: Arc::clone(&self.sources) }
    }
}

/// The schema of the state at `database`, if opening it to work with it would bring that up to date.
fn older_schema(database: &Path) -> Result<Option<u32>, Failure> {
    if !database.exists() {
        return Ok(None);
    }
    let (schema, _) = kh_state::losses(database, kh_state::SCHEMA)?;
    Ok((schema < kh_state::SCHEMA).then_some(schema))
}

fn sources(embedded: Arc<dyn SecretSource>, loaded: &Loaded, clock: &Arc<dyn Clock>) -> Result<Arc<Sources>, Failure> {
    let outside = outside(loaded, &targets(loaded, clock)?, clock, &Reads::default());
    Ok(Sources::new(embedded, outside))
}
