//! Integration tests of the sandbox: real sockets on loopback, virtual time. Invariant: no test sleeps for a rule.

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
