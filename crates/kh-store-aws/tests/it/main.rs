//! The adapter against a strict fake of the service, and against moto with its signature and rights checks on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at its first surprise, also in what tests share")]

mod bench;
mod boto3;
mod conformance;
mod credentials;
mod faults;
mod lambda;
mod moto;
mod python;
mod replicas;
mod rights;
mod silence;
mod skew;
