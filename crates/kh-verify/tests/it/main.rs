//! kh-verify against tokens: good ones of every algorithm, attacks, and another library's opinion.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this whole binary is tests")]

mod allocations;
mod attacks;
mod claims;
mod differential;
mod dpop;
mod ecdsa;
mod keys;
mod rsa;
mod support;
mod tokens;
mod tutorial;
