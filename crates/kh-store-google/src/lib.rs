//! Google Secret Manager as a secret store that rotation writes and credentials are read from, with the vendor's SDK.
//!
//! ```text
//! a secret's alias `current`    names the live version; applications read `versions/current`, never `latest`
//! any other enabled version     is staged; the marker in its document names its write
//! ```
//!
//! A promotion moves the alias with the secret's etag: a compare-and-set, unlike writing a version, which is `latest` at
//! once. So consumers must read the alias; a secret that has versions and no such alias is refused, because its
//! consumers would read what is staged.
//!
//! Only reading a version by its number is strongly consistent (cloud.google.com/secret-manager/docs/reference/consistency):
//! what was staged is remembered by its number, and the etag makes a stale look harmless.
//!
//! Invariants: a checksum that the service sends is verified; nothing is ever destroyed; no call is repeated by the SDK.

mod crc32c;
mod failure;
mod manager;
mod settings;
mod target;

pub use settings::{Auth, Settings, SetupError};
pub use target::{SecretManagerTarget, VALUE_BYTES_MAX};
