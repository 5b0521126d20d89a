//! Azure Key Vault as a secret store that rotation writes and credentials are read from, with the vendor's own SDK.
//!
//! ```text
//! name              the live document: its newest version, which is what applications read
//! name-kh-next      what is staged: each version one write, disabled once it is no longer needed
//! tag kh-write      names the write of a version; the document's marker names it too, and both must agree
//! ```
//!
//! Key Vault has no conditional write. A promotion therefore looks at the live version, writes, and reads back: another
//! program's write that came between is told as a conflict, but it was not prevented. Two rotators are kept apart by the
//! journal's lease alone.
//!
//! Invariants: a staged document is never a version of the live name (not even a disabled one: it would be the newest,
//! and reading the newest would fail for everybody); nothing is ever deleted; the vault is asked by TLS alone, and a
//! token is sent to the vault's own address alone; no call is repeated by the SDK.

mod credential;
mod failure;
mod names;
mod settings;
mod target;
mod transport;
mod vault;

pub use settings::{Auth, Settings, SetupError};
pub use target::{KeyVaultTarget, VALUE_BYTES_MAX};
