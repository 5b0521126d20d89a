//! Google Secret Manager as a place that rotation writes, against the strict fake.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this whole binary is tests")]

mod faults;
mod rules;
mod suite;
mod support;
