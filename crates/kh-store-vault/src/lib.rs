//! HashiCorp Vault's key/value engine, version 2, as a secret store.
//!
//! ```text
//! VaultConfig::new(addresses, mount, auth)?.namespace(..)     what the configuration says, checked
//! VaultStore::new(config, HttpClient::new(egress, ..))        impl SecretTarget
//! store.keep_session(name)                                    a future that renews the login; its owner runs it
//! ```
//!
//! Invariants: a document is staged at `<path>.kh-next` and becomes live by a write with `cas` set to the version that
//! was planned; what became of a write whose answer was lost is never guessed. Of a token, a secret id and a document
//! nothing is ever in an error, a log line or an address. A token is sent to configured addresses alone, also when a
//! standby points elsewhere.

mod client;
mod config;
mod list;
mod session;
mod store;
mod target;
pub mod wire;

pub use config::{Auth, ConfigError, PlainHttp, ServerAddress, VaultConfig};
pub use store::VaultStore;
