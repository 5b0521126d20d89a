//! The broker against fake ports: crowds, cancelled leaders, panics, outages, wrong secrets, shutdown.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not take for tests in an integration binary"
)]

mod apply;
mod crowds;
mod failures;
mod fakes;
mod life;
mod rotators;
mod sessions;
mod sightings;
mod stress;
mod swaps;
mod watching;
