//! The manifest: a MAC over the set of all rows, what was removed, what waits for the audit log, and a counter.
//!
//! Invariant: a row that was removed, added, swapped or put back to an earlier state by anyone without the key makes
//! every operation fail; what a transaction learns about names and versions comes from here and nowhere else.

use kh_core::{SecretName, port::StoreError};
use rusqlite::{Connection, params};

use crate::{
    crypto::{self, BYTES, DataKey, Encoding},
    error::sqlite,
    outbox::{self, Waiting},
};

/// A row as the manifest knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) version: u64,
    /// Over everything else in the row.
    pub(crate) digest: Vec<u8>,
}

/// A name that is gone.
struct Removed {
    name: String,
    version: u64,
    counter: u64,
}

/// The authenticated state of one transaction.
pub(crate) struct Manifest {
    pub(crate) counter: u64,
    rows: Vec<Listed>,
    removed: Vec<Removed>,
    pub(crate) waiting: Vec<Waiting>,
}

impl Manifest {
    /// Reads and authenticates.
    pub(crate) fn load(connection: &Connection, store_id: &[u8], key: &DataKey) -> Result<Self, StoreError> {
        let (counter, mac): (u64, Vec<u8>) = connection
            .prepare_cached("SELECT counter, mac FROM manifest WHERE id = 1")
            .and_then(|mut statement| statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(sqlite)?;
        let manifest = Self::collect(connection, counter)?;
        if !crypto::same(&mac, &manifest.mac(store_id, key)) {
            return Err(StoreError::Tampered(
                "its rows are not the ones that keyholder wrote: one was removed, added, exchanged or put back"
                    .to_owned(),
            ));
        }
        Ok(manifest)
    }

    /// Authenticates what the tables hold now, under the next counter. The last step of each write.
    pub(crate) fn seal(
        connection: &Connection,
        store_id: &[u8],
        key: &DataKey,
        counter: u64,
    ) -> Result<(), StoreError> {
        let mac = Self::collect(connection, counter)?.mac(store_id, key);
        connection
            .execute(
                "INSERT INTO manifest (id, counter, mac) VALUES (1, ?1, ?2) \
                 ON CONFLICT (id) DO UPDATE SET counter = excluded.counter, mac = excluded.mac",
                params![counter, mac],
            )
            .map_err(sqlite)?;
        Ok(())
    }

    /// The versions of `name`, oldest first.
    pub(crate) fn versions<'a>(&'a self, name: &'a SecretName) -> impl Iterator<Item = &'a Listed> {
        self.rows.iter().filter(|row| row.name == name.as_str())
    }

    /// The newest version of `name`.
    pub(crate) fn newest<'a>(&'a self, name: &'a SecretName) -> Option<&'a Listed> {
        self.versions(name).max_by_key(|row| row.version)
    }

    /// Every row.
    pub(crate) fn rows(&self) -> &[Listed] {
        &self.rows
    }

    /// The version that `name` had when it was removed; 0 when it never was.
    pub(crate) fn removed_at(&self, name: &SecretName) -> u64 {
        self.removed.iter().find(|removed| removed.name == name.as_str()).map_or(0, |removed| removed.version)
    }

    /// How many names the store holds.
    pub(crate) fn names(&self) -> u64 {
        let mut names: Vec<&str> = self.rows.iter().map(|row| row.name.as_str()).collect();
        names.dedup();
        names.len() as u64
    }

    fn collect(connection: &Connection, counter: u64) -> Result<Self, StoreError> {
        let rows = connection
            .prepare_cached("SELECT name, version, digest FROM secret ORDER BY name, version")
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| Ok(Listed { name: row.get(0)?, version: row.get(1)?, digest: row.get(2)? }))?
                    .collect()
            })
            .map_err(sqlite)?;
        let removed = connection
            .prepare_cached("SELECT name, version, counter FROM removed ORDER BY name")
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| Ok(Removed { name: row.get(0)?, version: row.get(1)?, counter: row.get(2)? }))?
                    .collect()
            })
            .map_err(sqlite)?;
        Ok(Self { counter, rows, removed, waiting: outbox::waiting(connection)? })
    }

    fn mac(&self, store_id: &[u8], key: &DataKey) -> [u8; BYTES] {
        let mut encoding = Encoding::of("keyholder store manifest v1")
            .bytes(store_id)
            .number(self.counter)
            .number(self.rows.len() as u64);
        for row in &self.rows {
            encoding = encoding.bytes(row.name.as_bytes()).number(row.version).bytes(&row.digest);
        }
        encoding = encoding.number(self.removed.len() as u64);
        for removed in &self.removed {
            encoding = encoding.bytes(removed.name.as_bytes()).number(removed.version).number(removed.counter);
        }
        encoding = encoding.number(self.waiting.len() as u64);
        for waiting in &self.waiting {
            encoding = encoding.number(waiting.seq).bytes(waiting.body.as_bytes());
        }
        crypto::mac(&key.manifest(), &encoding.finish())
    }
}
