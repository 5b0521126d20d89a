//! Tests of the Vault store against the strict fake.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this whole binary is tests")]

mod checks;
mod conformance;
mod faults;
mod logins;
mod other_client;
mod world;
