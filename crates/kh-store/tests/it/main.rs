//! Tests of the embedded store through its public interface and its file.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "this whole binary is tests")]

mod behaviour;
mod crash;
mod damage;
mod disk;
mod support;
mod target;
