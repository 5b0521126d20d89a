//! Key Vault as a place that rotation writes, against the strict fake over TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this whole binary is tests")]

mod faults;
mod identities;
mod rules;
mod secrecy;
mod suite;
mod support;
