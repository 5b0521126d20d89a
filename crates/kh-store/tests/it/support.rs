//! Stores in temporary directories.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use kh_core::{
    ManualClock, SecretBytes, SecretName, SystemEntropy, UnixMillis,
    port::{Expected, SecretStore, StoreError},
};
use kh_store::{
    FileStore, StoreKey, Unlocked,
    conformance::{RecordedAudit, event},
    unlock,
};
use rusqlite::Connection;
use tempfile::TempDir;

/// The key of a number.
pub(crate) fn key(number: u8) -> StoreKey {
    StoreKey::from_raw(SecretBytes::new(vec![number; 32])).unwrap()
}

pub(crate) fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

pub(crate) fn unlocked(path: &Path, number: u8) -> Result<Unlocked, StoreError> {
    unlock(path, &key(number), Arc::new(SystemEntropy))
}

pub(crate) fn start(unlocked: Unlocked, audit: RecordedAudit) -> FileStore {
    FileStore::open(unlocked, Arc::new(audit), Arc::new(ManualClock::at(UnixMillis(1_790_000_000_000)))).unwrap()
}

pub(crate) fn open(path: &Path) -> Result<FileStore, StoreError> {
    Ok(start(unlocked(path, 1)?, RecordedAudit::default()))
}

/// Runs one call; the store has a thread of its own, so a bare executor is enough.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(crate) fn put(store: &FileStore, at: &str, value: &[u8]) -> Result<u64, StoreError> {
    let at = name(at);
    wait(store.put(&at, SecretBytes::new(value.to_vec()), Expected::Any, event("secret.set", &at)))
}

pub(crate) fn get(store: &FileStore, at: &str) -> Result<(u64, Vec<u8>), StoreError> {
    wait(store.get(&name(at))).map(|found| (found.version, found.value.expose().to_vec()))
}

/// A store with two secrets of three and one versions, closed.
pub(crate) struct Filled {
    pub(crate) directory: TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) const ACME: &[u8] = b"MARKER-acme-client-secret-3";
pub(crate) const BETA: &[u8] = b"MARKER-beta";

pub(crate) fn filled() -> Filled {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.db");
    let store = open(&path).unwrap();
    for value in [b"MARKER-acme-1".as_slice(), b"MARKER-acme-2", ACME] {
        put(&store, "acme", value).unwrap();
    }
    put(&store, "beta", BETA).unwrap();
    Filled { directory, path }
}

impl Filled {
    pub(crate) fn write(&self, content: &[u8]) {
        fs::write(&self.path, content).unwrap();
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Changes the file as somebody with SQLite and without the key can.
    pub(crate) fn sql(&self, statements: &str) {
        let connection = Connection::open(&self.path).unwrap();
        connection.execute_batch(statements).unwrap();
    }

    /// Reads both secrets after a fresh start.
    pub(crate) fn read(&self) -> Result<[(u64, Vec<u8>); 2], StoreError> {
        let store = open(&self.path)?;
        Ok([get(&store, "acme")?, get(&store, "beta")?])
    }

    pub(crate) fn is_whole(&self) {
        assert_eq!(self.read().unwrap(), [(3, ACME.to_vec()), (1, BETA.to_vec())]);
    }
}
