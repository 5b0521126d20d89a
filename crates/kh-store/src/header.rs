//! The sealed header: how the user's key becomes the key-encryption key, a check of that key, and the wrapped data key.
//!
//! Invariant: a wrong key and an edited header are different answers. The plain checksum finds the edit, the keyed
//! check finds the wrong key, and what passes both must unwrap.

use kh_core::{Entropy, port::StoreError};
use rusqlite::{Connection, params};

use crate::{
    SCHEMA, StoreKey,
    crypto::{self, BYTES, DataKey, Encoding, KdfParams, Key, OneTimeKey},
    error::sqlite,
};

const RAW: &str = "hkdf-sha256";
const ARGON2ID: &str = "argon2id";

/// One row, one store.
pub(crate) struct Header {
    schema: u32,
    /// Random; binds rows and manifest to this store.
    pub(crate) store_id: Vec<u8>,
    kdf: String,
    kdf_salt: Vec<u8>,
    kdf_params: KdfParams,
    key_check: Vec<u8>,
    wrap_salt: Vec<u8>,
    wrapped_key: Vec<u8>,
    checksum: Vec<u8>,
}

impl Header {
    /// A header for a new store, with the data key it wraps.
    pub(crate) fn create(
        key: &StoreKey,
        params: KdfParams,
        entropy: &dyn Entropy,
    ) -> Result<(Self, DataKey), StoreError> {
        let mut data_key = Key::default();
        entropy.fill(data_key.as_mut_slice());
        let data_key = DataKey::new(data_key);
        let header = Self::wrap(key, params, random(entropy), &data_key, entropy)?;
        Ok((header, data_key))
    }

    /// A header that wraps an existing data key under `key`.
    pub(crate) fn wrap(
        key: &StoreKey,
        params: KdfParams,
        store_id: Vec<u8>,
        data_key: &DataKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, StoreError> {
        let kdf_params = match key {
            StoreKey::Passphrase(_) => params,
            StoreKey::Raw(_) => KdfParams { memory_kib: 0, passes: 0, lanes: 0 },
        };
        let mut header = Self {
            schema: SCHEMA,
            store_id,
            kdf: kdf_of(key).to_owned(),
            kdf_salt: random(entropy),
            kdf_params,
            key_check: Vec::new(),
            wrap_salt: random(entropy),
            wrapped_key: Vec::new(),
            checksum: Vec::new(),
        };
        let user_key = header.user_key(key)?;
        header.key_check = header.check_of(&user_key);
        header.wrapped_key = header.wrap_key(&user_key).seal(&header.bound(), data_key.expose());
        header.checksum = header.checksum_now();
        Ok(header)
    }

    /// The data key, if `key` is the one this header was made with.
    pub(crate) fn open(&self, key: &StoreKey) -> Result<DataKey, StoreError> {
        if !crypto::same(&self.checksum, &self.checksum_now()) {
            return Err(StoreError::Tampered("the header was changed".to_owned()));
        }
        if self.schema > SCHEMA {
            return Err(StoreError::TooNew { found: self.schema, known: SCHEMA });
        }
        if self.kdf != kdf_of(key) {
            return Err(StoreError::WrongKey);
        }
        let user_key = self.user_key(key)?;
        if !crypto::same(&self.key_check, &self.check_of(&user_key)) {
            return Err(StoreError::WrongKey);
        }
        self.wrap_key(&user_key)
            .open(&self.bound(), &self.wrapped_key)
            .as_ref()
            .and_then(DataKey::from_secret)
            .ok_or_else(|| StoreError::Tampered("the wrapped key was changed".to_owned()))
    }

    /// Reads the one row.
    pub(crate) fn load(connection: &Connection) -> Result<Self, StoreError> {
        connection
            .query_row(
                "SELECT schema, store_id, kdf, kdf_salt, kdf_memory_kib, kdf_passes, kdf_lanes, key_check, wrap_salt, \
                 wrapped_key, checksum FROM header WHERE id = 1",
                [],
                |row| {
                    Ok(Self {
                        schema: row.get(0)?,
                        store_id: row.get(1)?,
                        kdf: row.get(2)?,
                        kdf_salt: row.get(3)?,
                        kdf_params: KdfParams { memory_kib: row.get(4)?, passes: row.get(5)?, lanes: row.get(6)? },
                        key_check: row.get(7)?,
                        wrap_salt: row.get(8)?,
                        wrapped_key: row.get(9)?,
                        checksum: row.get(10)?,
                    })
                },
            )
            .map_err(sqlite)
    }

    /// Writes the one row.
    pub(crate) fn insert(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .execute(
                "INSERT INTO header (id, schema, store_id, kdf, kdf_salt, kdf_memory_kib, kdf_passes, kdf_lanes, \
                 key_check, wrap_salt, wrapped_key, checksum) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                params![
                    self.schema,
                    self.store_id,
                    self.kdf,
                    self.kdf_salt,
                    self.kdf_params.memory_kib,
                    self.kdf_params.passes,
                    self.kdf_params.lanes,
                    self.key_check,
                    self.wrap_salt,
                    self.wrapped_key,
                    self.checksum,
                ],
            )
            .map_err(sqlite)?;
        Ok(())
    }

    fn user_key(&self, key: &StoreKey) -> Result<Key, StoreError> {
        match key {
            StoreKey::Passphrase(passphrase) => crypto::stretch(passphrase, &self.kdf_salt, self.kdf_params)
                .ok_or_else(|| StoreError::Tampered("the key derivation asks for parameters out of bounds".to_owned())),
            StoreKey::Raw(raw) => Ok(crypto::derive(raw.expose(), &self.kdf_salt, "keyholder store user key v1", &[])),
        }
    }

    fn check_of(&self, user_key: &Key) -> Vec<u8> {
        let key = crypto::derive(user_key.as_slice(), &[], "keyholder store key check v1", &[]);
        crypto::mac(&key, &self.bound()).to_vec()
    }

    fn wrap_key(&self, user_key: &Key) -> OneTimeKey {
        OneTimeKey::derive(user_key.as_slice(), &self.wrap_salt, "keyholder store wrap v1")
    }

    fn encoding(&self) -> Encoding {
        Encoding::of("keyholder store header v1")
            .number(u64::from(self.schema))
            .bytes(&self.store_id)
            .bytes(self.kdf.as_bytes())
            .bytes(&self.kdf_salt)
            .number(u64::from(self.kdf_params.memory_kib))
            .number(u64::from(self.kdf_params.passes))
            .number(u64::from(self.kdf_params.lanes))
    }

    /// What the wrapped key is bound to.
    fn bound(&self) -> Vec<u8> {
        self.encoding().finish()
    }

    fn checksum_now(&self) -> Vec<u8> {
        let whole = self.encoding().bytes(&self.key_check).bytes(&self.wrap_salt).bytes(&self.wrapped_key).finish();
        crypto::sha256(&whole).to_vec()
    }
}

fn kdf_of(key: &StoreKey) -> &'static str {
    match key {
        StoreKey::Passphrase(_) => ARGON2ID,
        StoreKey::Raw(_) => RAW,
    }
}

fn random(entropy: &dyn Entropy) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    entropy.fill(&mut bytes);
    bytes
}
