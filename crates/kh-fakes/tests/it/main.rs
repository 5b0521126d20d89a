//! Tests of the fakes, each rule beside its source.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this whole binary is tests")]

mod azure;
mod client;
mod frame;
mod google;
mod vault;
