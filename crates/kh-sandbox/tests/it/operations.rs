//! The operations engine from outside: every published operation, checked by an independent validator of JSON Schema.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod client;
mod every_operation;
mod round_trip;
mod rules;
mod schema_check;
