//! The embedded secret store: versioned documents in one SQLite file whose rows are sealed with an AEAD.
//!
//! ```text
//! unlock(path, key, entropy) -> Unlocked          creates the file when there is none, checks key, header, schema
//! unlocked.subkey("audit signing") -> SecretBytes  32 bytes derived from the store's own data key
//! FileStore::open(unlocked, audit, clock)          -> impl SecretStore
//! ```
//!
//! Invariants: no value is ever returned that was not sealed by a holder of the key under exactly that name and
//! version; a file that is damaged, foreign, too new or opened with a wrong key is never written to; a version whose
//! `put` returned survives a SIGKILL and a power cut; a change and its audit event become durable together.
//!
//! What it cannot see: an older, complete copy of the whole file put in its place while no keyholder runs (a backup
//! restored looks the same). Within one process the store's counter may never go back.

mod check;
mod create;
mod crypto;
mod embedded;
mod error;
mod files;
mod header;
mod key;
mod layout;
mod manifest;
mod outbox;
mod rekey;
mod rows;
mod snapshot;
mod store;
mod unlock;
mod worker;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use check::{StoreFinding, StoreReport};
pub use crypto::KdfParams;
pub use embedded::{EmbeddedTarget, STAGED};
pub use key::{KeyError, StoreKey, generate_key_file};
pub use snapshot::Snapshot;
pub use store::FileStore;
pub use unlock::{Unlocked, unlock, unlock_with};

/// Newest schema this binary reads and writes; `PRAGMA user_version` and the sealed header carry it.
pub const SCHEMA: u32 = 1;

/// Versions kept of one secret. Ten reach back over several rotations, and bound what one name can cost.
pub const HISTORY_MAX: u64 = 10;

/// Largest value in bytes. A credential document is under 4 KiB; 64 KiB is what the large cloud stores take, so a value
/// can move there.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Names the store holds at once. Each read authenticates the set of all rows, so this bounds its time.
pub const NAMES_MAX: u64 = 4096;

/// Largest audit event in bytes of JSON; it must stay below a line of the audit log, or it could never be delivered.
pub const EVENT_BYTES_MAX: usize = 16 * 1024;
