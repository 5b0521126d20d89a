//! What happens on the store's own thread: transactions, each of which authenticates before it reads and seals after it
//! writes.
//!
//! Invariant: the counter seen in this process never goes back; a change is refused while earlier changes cannot reach
//! the audit log.

use std::{fs, io, path::PathBuf, sync::Arc};

use kh_core::{
    Clock, Entropy, SecretBytes, SecretName,
    audit::AuditEvent,
    port::{AuditError, AuditLog, Expected, SecretMetadata, StoreError, StoredSecret, VersionMetadata},
};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::{
    HISTORY_MAX, NAMES_MAX,
    crypto::DataKey,
    error::{self, sqlite, unavailable},
    files::Identity,
    layout,
    manifest::Manifest,
    outbox,
    rows::Row,
    unlock::{Found, Unlocked, inspect},
};

/// The store behind the channel.
pub(crate) struct Worker {
    path: PathBuf,
    connection: Connection,
    identity: Identity,
    vault: Vault,
    audit: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    counter: u64,
}

/// What seals and opens.
struct Vault {
    store_id: Vec<u8>,
    key: DataKey,
    entropy: Arc<dyn Entropy>,
}

impl Worker {
    pub(crate) fn new(unlocked: Unlocked, audit: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> Self {
        let Unlocked { path, connection, identity, store_id, data_key, counter, entropy, .. } = unlocked;
        let vault = Vault { store_id, key: data_key, entropy };
        Self { path, connection, identity, vault, audit, clock, counter }
    }

    pub(crate) fn get(&mut self, name: &SecretName) -> Result<StoredSecret, StoreError> {
        self.transact(TransactionBehavior::Deferred, |transaction, manifest, vault| {
            let listed = manifest.newest(name).ok_or_else(|| StoreError::NotFound(name.clone()))?;
            let value = Row::load(transaction, listed)?.open(&vault.store_id, &vault.key)?;
            Ok(StoredSecret { value, version: listed.version })
        })
    }

    pub(crate) fn earlier(&mut self, name: &SecretName) -> Result<Vec<StoredSecret>, StoreError> {
        self.transact(TransactionBehavior::Deferred, |transaction, manifest, vault| {
            let newest = manifest.newest(name).ok_or_else(|| StoreError::NotFound(name.clone()))?.version;
            let mut all = Vec::new();
            for listed in manifest.versions(name).filter(|listed| listed.version != newest) {
                match Row::load(transaction, listed).and_then(|row| row.open(&vault.store_id, &vault.key)) {
                    Ok(value) => all.push(StoredSecret { value, version: listed.version }),
                    Err(StoreError::Tampered(_) | StoreError::Truncated(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            all.sort_by_key(|secret| secret.version);
            Ok(all)
        })
    }

    pub(crate) fn newest_version(&mut self, name: &SecretName) -> Result<u64, StoreError> {
        self.transact(TransactionBehavior::Deferred, |_, manifest, _| {
            manifest.newest(name).map(|row| row.version).ok_or_else(|| StoreError::NotFound(name.clone()))
        })
    }

    pub(crate) fn list(&mut self) -> Result<Vec<SecretMetadata>, StoreError> {
        self.transact(TransactionBehavior::Deferred, |transaction, manifest, _| {
            let mut secrets: Vec<SecretMetadata> = Vec::new();
            for listed in manifest.rows() {
                if secrets.last().is_none_or(|secret| secret.name.as_str() != listed.name) {
                    let name = SecretName::stored(&listed.name)
                        .map_err(|_| StoreError::Tampered("a name in it is not one".to_owned()))?;
                    secrets.push(SecretMetadata { name, versions: Vec::new(), damaged: Vec::new() });
                }
                let secret = secrets.last_mut().expect("one was pushed if there was none");
                match Row::load(transaction, listed) {
                    Ok(row) => secret.versions.push(row.into_metadata()),
                    // one damaged row must not hide the others
                    Err(StoreError::Tampered(_) | StoreError::Truncated(_)) => secret.damaged.push(listed.version),
                    Err(error) => return Err(error),
                }
            }
            Ok(secrets)
        })
    }

    pub(crate) fn put(
        &mut self,
        name: &SecretName,
        value: &SecretBytes,
        expected: Expected,
        event: &AuditEvent,
    ) -> Result<u64, StoreError> {
        let body = outbox::encode(event)?;
        self.drain().map_err(DrainError::refusing)?;
        let created_at = self.clock.now().wall;
        let version = self.transact(TransactionBehavior::Immediate, |transaction, manifest, vault| {
            let found = manifest.newest(name).map_or(0, |row| row.version);
            check(name, found, expected)?;
            if found == 0 && manifest.names() >= NAMES_MAX {
                return Err(unavailable(format!("it holds {NAMES_MAX} secrets, the most it takes")));
            }
            let version = found.max(manifest.removed_at(name)) + 1;
            let metadata = VersionMetadata {
                version,
                created_at,
                created_by: event.actor.clone(),
                size: value.expose().len() as u64,
            };
            Row::seal((&vault.store_id, &vault.key), name, metadata, value, &*vault.entropy).insert(transaction)?;
            transaction
                .execute(
                    "DELETE FROM secret WHERE name = ?1 AND version <= ?2",
                    params![name.as_str(), version.saturating_sub(HISTORY_MAX)],
                )
                .and_then(|_| transaction.execute("DELETE FROM removed WHERE name = ?1", [name.as_str()]))
                .map_err(sqlite)?;
            outbox::add(transaction, &body)?;
            Ok(version)
        })?;
        self.deliver();
        Ok(version)
    }

    pub(crate) fn remove(
        &mut self,
        name: &SecretName,
        expected: Expected,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        let body = outbox::encode(event)?;
        self.drain().map_err(DrainError::refusing)?;
        self.transact(TransactionBehavior::Immediate, |transaction, manifest, _| {
            let newest = manifest.newest(name).ok_or_else(|| StoreError::NotFound(name.clone()))?;
            check(name, newest.version, expected)?;
            let counter = manifest.counter + 1;
            transaction
                .execute("DELETE FROM secret WHERE name = ?1", [name.as_str()])
                .and_then(|_| {
                    transaction.execute(
                        "INSERT INTO removed (name, version, counter) VALUES (?1, ?2, ?3)",
                        params![name.as_str(), newest.version, counter],
                    )
                })
                // The longest-gone names are forgotten first; their version numbers start over.
                .and_then(|_| {
                    transaction.execute(
                        "DELETE FROM removed WHERE name IN \
                         (SELECT name FROM removed ORDER BY counter DESC LIMIT -1 OFFSET ?1)",
                        [NAMES_MAX],
                    )
                })
                .map_err(sqlite)?;
            outbox::add(transaction, &body)
        })?;
        self.deliver();
        Ok(())
    }

    /// Hands waiting events to the audit log; what cannot be delivered stays and is said.
    pub(crate) fn deliver(&mut self) {
        if let Err(problem) = self.drain() {
            tracing::error!(
                store.path = %self.path.display(), error = %problem,
                "a change of a secret is stored, but its audit event waits; changes are refused until it is delivered"
            );
        }
    }

    fn drain(&mut self) -> Result<(), DrainError> {
        let waiting = self.transact(TransactionBehavior::Deferred, |_, manifest, _| Ok(manifest.waiting.clone()))?;
        if waiting.is_empty() {
            return Ok(());
        }
        let events = waiting.iter().map(outbox::Waiting::event).collect::<Result<Vec<_>, _>>()?;
        self.audit.append(&events)?;
        self.transact(TransactionBehavior::Immediate, |transaction, _, _| outbox::delete(transaction, &waiting))?;
        Ok(())
    }

    /// Runs `work` on authenticated state. An immediate transaction may write, and is sealed and committed; nothing of
    /// it stays when `work` or the commit fails.
    fn transact<T>(
        &mut self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>, &Manifest, &Vault) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.follow_file()?;
        let vault = &self.vault;
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(sqlite)?;
        layout::identify(&transaction)?;
        layout::check_length(&transaction, &self.path)?;
        layout::check_tables(&transaction)?;
        let manifest = Manifest::load(&transaction, &vault.store_id, &vault.key)?;
        if manifest.counter < self.counter {
            return Err(StoreError::Tampered(format!(
                "it went back from state {} to {}: an older copy was put in its place",
                self.counter, manifest.counter
            )));
        }
        let result = work(&transaction, &manifest, vault)?;
        if !matches!(behavior, TransactionBehavior::Immediate) {
            self.counter = manifest.counter;
            return Ok(result);
        }
        let counter = manifest.counter + 1;
        Manifest::seal(&transaction, &vault.store_id, &vault.key, counter)?;
        transaction.commit().map_err(sqlite)?;
        self.counter = counter;
        Ok(result)
    }

    /// A backup may have been moved to our path; going on with the old, unlinked file would lose what is written.
    fn follow_file(&mut self) -> Result<(), StoreError> {
        let found = fs::metadata(&self.path).map(|metadata| Identity::of(&metadata));
        match found {
            Ok(identity) if identity == self.identity => return Ok(()),
            Ok(_) => {}
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(unavailable(format!("{} is gone", self.path.display())));
            }
            Err(source) => return Err(error::io(source, "open", &self.path)),
        }
        let Found::Store(identity) = inspect(&self.path)? else {
            return Err(unavailable(format!("{} is gone", self.path.display())));
        };
        let connection = layout::connect(&self.path)?;
        layout::identify(&connection)?;
        layout::configure(&connection)?;
        self.connection = connection;
        self.identity = identity;
        tracing::warn!(store.path = %self.path.display(), "the secret store was replaced; the new file is used");
        Ok(())
    }
}

/// Why events did not reach the log.
#[derive(Debug, thiserror::Error)]
enum DrainError {
    #[error("the outbox cannot be read")]
    Store(#[from] StoreError),
    #[error("the audit log did not take them: {0}")]
    Audit(#[from] AuditError),
}

impl DrainError {
    /// A change that could not be audited is not made.
    fn refusing(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Audit(error) => StoreError::Unavailable {
                reason: "earlier changes cannot be written to the audit log, so no further one is made".to_owned(),
                source: Some(Box::new(error)),
            },
        }
    }
}

fn check(name: &SecretName, found: u64, expected: Expected) -> Result<(), StoreError> {
    let holds = match expected {
        Expected::Any => true,
        Expected::Absent => found == 0,
        Expected::Version(version) => version != 0 && version == found,
    };
    if holds { Ok(()) } else { Err(StoreError::Conflict { name: name.clone(), found }) }
}
