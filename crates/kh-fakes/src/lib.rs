//! Strict fakes of secret stores, for tests: started in a test's own process or as the program `kh-fakes` that clients
//! in other languages are pointed at.
//!
//! ```text
//! let store = Arc::new(vault::Vault::new(..));                 the rules of one store
//! let running = server::start(store.clone(), Options::default()).await?;   a free port on loopback, http or TLS
//! running.control.fault(Fault::DropAfter.once().on("kv.write"));   what goes wrong
//! running.control.journal()                                    what was asked, without secrets
//! ```
//!
//! Invariants: this crate knows no other crate of ours, so it is an independent witness; each rule of a fake cites where
//! it was read, and has a test; a fake refuses what the real service refuses.

pub mod aws;
pub mod azure;
pub mod clock;
pub mod control;
pub mod fake;
pub mod faults;
pub mod google;
pub mod journal;
pub mod server;
mod tls;
pub mod vault;

use std::sync::Arc;

pub use clock::FakeClock;
pub use control::Control;
pub use fake::{Fake, Reply, Request};
pub use faults::{Fault, Rule};
pub use journal::Entry;
pub use server::{Options, Running, start};

/// Makes a fake in its initial state.
pub type Maker = fn() -> Arc<dyn Fake>;

/// What the program can start, by name.
pub const KINDS: &[(&str, Maker)] = &[
    ("aws", || Arc::new(aws::Aws::new())),
    ("azure", || Arc::new(azure::KeyVault::default())),
    ("google", || Arc::new(google::SecretManager::default())),
    ("vault", || Arc::new(vault::Vault::new())),
];
