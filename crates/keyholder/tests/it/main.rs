//! The program as its users run it: every test starts real processes on loopback in folders of its own.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what went wrong by panicking, and load tests print what they measured"
)]

mod bad_input;
mod bad_platform;
mod bound_tokens;
mod care;
mod check;
mod cli;
mod codes;
mod crash;
mod delivery;
mod demo;
mod drain;
mod environments;
mod first_call;
mod frozen;
mod harness;
mod inbound;
mod init;
mod leaks;
mod listening;
mod load;
mod network;
mod operators;
mod protected_api;
mod relay;
mod reload;
mod revoke;
mod rotate;
mod security_log;
mod serve;
mod shapes;
mod stalled_log;
mod status;
mod streaming;
mod supervisor;
mod telemetry;
mod terminal;
mod token_verify;
mod user_sessions;
