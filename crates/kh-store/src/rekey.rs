//! Another user's key for the same store: the data key is wrapped anew, in one transaction with its audit event.
//!
//! Invariant: at every moment exactly one key opens the store: the old one until the transaction is on disk, the new one
//! from then on. Values, and keys that other parts derive from the data key (the audit log's), stay what they are.

use kh_core::{audit::AuditEvent, port::StoreError};
use rusqlite::TransactionBehavior;

use crate::{
    KdfParams, StoreKey, crypto::DataKey, error::sqlite, header::Header, layout, manifest::Manifest, outbox,
    unlock::Unlocked,
};

impl Unlocked {
    /// Makes `key` the only key that opens this store. `event` waits in the store until it is next opened. Blocks: a
    /// passphrase is stretched.
    pub fn rekey(&mut self, key: &StoreKey, params: KdfParams, event: &AuditEvent) -> Result<(), StoreError> {
        let body = outbox::encode(event)?;
        let header = Header::wrap(key, params, self.store_id.clone(), &self.data_key, &*self.entropy)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        layout::check_tables(&transaction)?;
        let manifest = Manifest::load(&transaction, &self.store_id, &self.data_key)?;
        transaction.execute("DELETE FROM header", []).map_err(sqlite)?;
        header.insert(&transaction)?;
        outbox::add(&transaction, &body)?;
        let counter = manifest.counter + 1;
        Manifest::seal(&transaction, &self.store_id, &self.data_key, counter)?;
        // read back before it counts: what is committed opens with the new key
        let written = Header::load(&transaction)?.open(key)?;
        if !same_key(&written, &self.data_key) {
            return Err(StoreError::Tampered("the new header does not hold the data key".to_owned()));
        }
        transaction.commit().map_err(sqlite)?;
        self.counter = counter;
        Ok(())
    }
}

fn same_key(left: &DataKey, right: &DataKey) -> bool {
    crate::crypto::same(left.expose(), right.expose())
}
