//! keyholder's command line, configuration and composition root: the only place that names adapters.
//!
//! Invariants: standard output and standard error are written by `output` alone; the process's environment is read
//! once, in [`Environment::of_process`]; no command takes a secret as an argument.

#![allow(unreachable_pub, reason = "a program's library: what its modules show each other is not an interface")]

mod care;
mod cli;
mod compose;
pub mod config;
mod demo;
mod environment;
pub mod helper_protocol;
mod output;
mod sources;

pub use cli::main;
pub use environment::Environment;
