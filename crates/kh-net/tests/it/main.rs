//! kh-net against real sockets: addresses of a name, source addresses, time limits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod addresses;
mod http;
mod support;
