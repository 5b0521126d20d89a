//! Tests of the audit log through its public interface, on real files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "this whole binary is tests")]

mod append;
mod crash;
mod manipulation;
mod support;
