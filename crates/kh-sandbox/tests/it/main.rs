//! Integration tests of the sandbox: real sockets on loopback, virtual time. Invariant: no test sleeps for a rule.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test; the lint's own exception covers test functions only"
)]

mod clients;
mod control;
mod cxone;
mod faults;
mod harness;
mod limits;
mod login;
mod operations;
mod tls;
mod tokens;
