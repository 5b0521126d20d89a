//! One version of one secret as a sealed row.
//!
//! Invariant: what is opened was sealed under this store, this name, this version and this metadata, and its digest is
//! the one in the manifest.

use kh_core::{Entropy, SecretBytes, SecretName, UnixMillis, port::StoreError, port::VersionMetadata};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    SCHEMA,
    crypto::{self, BYTES, DataKey, Encoding},
    error::sqlite,
    manifest::Listed,
};

/// A row as it stands in the file.
pub(crate) struct Row {
    name: String,
    metadata: VersionMetadata,
    salt: Vec<u8>,
    sealed: Vec<u8>,
}

impl Row {
    /// Seals `value`.
    pub(crate) fn seal(
        (store_id, key): (&[u8], &DataKey),
        name: &SecretName,
        metadata: VersionMetadata,
        value: &SecretBytes,
        entropy: &dyn Entropy,
    ) -> Self {
        let mut salt = vec![0; BYTES];
        entropy.fill(&mut salt);
        let mut row = Self { name: name.as_str().to_owned(), metadata, salt, sealed: Vec::new() };
        row.sealed = key.row(&row.salt).seal(&row.bound(store_id), value.expose());
        row
    }

    /// Opens the value.
    pub(crate) fn open(&self, store_id: &[u8], key: &DataKey) -> Result<SecretBytes, StoreError> {
        key.row(&self.salt).open(&self.bound(store_id), &self.sealed).ok_or_else(|| self.changed())
    }

    /// Reads the row that the manifest lists.
    pub(crate) fn load(connection: &Connection, listed: &Listed) -> Result<Self, StoreError> {
        let row = connection
            .prepare_cached(
                "SELECT name, version, created_at, created_by, size, salt, sealed FROM secret \
                 WHERE name = ?1 AND version = ?2",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![listed.name, listed.version], |row| {
                        Ok(Self {
                            name: row.get(0)?,
                            metadata: VersionMetadata {
                                version: row.get(1)?,
                                created_at: UnixMillis(row.get(2)?),
                                created_by: row.get(3)?,
                                size: row.get(4)?,
                            },
                            salt: row.get(5)?,
                            sealed: row.get(6)?,
                        })
                    })
                    .optional()
            })
            .map_err(sqlite)?
            .ok_or_else(|| {
                StoreError::Truncated(format!("version {} of {} cannot be found", listed.version, listed.name))
            })?;
        let is_listed = row.name == listed.name
            && row.metadata.version == listed.version
            && crypto::same(&row.digest(), &listed.digest);
        if is_listed { Ok(row) } else { Err(row.changed()) }
    }

    /// Writes the row.
    pub(crate) fn insert(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .execute(
                "INSERT INTO secret (name, version, digest, created_at, created_by, size, salt, sealed) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    self.name,
                    self.metadata.version,
                    self.digest(),
                    self.metadata.created_at.0,
                    self.metadata.created_by,
                    self.metadata.size,
                    self.salt,
                    self.sealed,
                ],
            )
            .map_err(sqlite)?;
        Ok(())
    }

    /// The row without its value.
    pub(crate) fn into_metadata(self) -> VersionMetadata {
        self.metadata
    }

    fn described(&self) -> Encoding {
        Encoding::of("keyholder store row v1")
            .number(u64::from(SCHEMA))
            .bytes(self.name.as_bytes())
            .number(self.metadata.version)
            .number(self.metadata.created_at.0)
            .bytes(self.metadata.created_by.as_bytes())
            .number(self.metadata.size)
    }

    /// What the sealed value is bound to.
    fn bound(&self, store_id: &[u8]) -> Vec<u8> {
        self.described().bytes(store_id).finish()
    }

    fn digest(&self) -> [u8; BYTES] {
        crypto::sha256(&self.described().bytes(&self.salt).bytes(&self.sealed).finish())
    }

    fn changed(&self) -> StoreError {
        StoreError::Tampered(format!("version {} of {} was changed", self.metadata.version, self.name))
    }
}
