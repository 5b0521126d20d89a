//! The rotation core against a world in memory: scenarios on a virtual clock, random histories, and an exhaustive model.
//!
//! Invariant: every test drives the real [`kh_rotation::decide`], [`kh_rotation::settle`] and [`kh_rotation::Run`].

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "this whole binary is tests")]

mod attempts;
mod conflicts;
mod model;
mod plans;
mod random;
mod records;
mod scenarios;
mod schedule;
mod sim;
mod urgent;
mod world;
