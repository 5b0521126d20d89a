//! The rotation core: a pure state machine that decides each step of replacing one credential's secret.
//!
//! Invariants: no I/O, no clock, no randomness, no secret. [`decide()`] never asks for a change whose intent is not the
//! newest record, and never for a prune without evidence or a person's override.
//!
//! A driver runs it in a loop: ask [`decide()`]; append what it says, carry out what it says ([`settle()`] turns the answer
//! into the next record), look where it says, or wait. After a crash the run is replayed from its records and asked
//! again.

pub mod decide;
pub mod effect;
pub mod plan;
pub mod policy;
pub mod record;
pub mod run;
pub mod schedule;
pub mod settle;
pub mod status;
pub mod view;

pub use decide::{Block, Decision, Why, decide};
pub use effect::{Acting, Effect, Escrow, Outcome};
pub use plan::{Plan, plan};
pub use policy::Policy;
pub use record::{
    Baseline, Basis, Begin, Earlier, End, Evidence, Finding, Level, Order, Place, PlatformFacts, Record, Step,
};
pub use run::{Entry, Impossible, Need, Run, label};
pub use schedule::due;
pub use settle::settle;
pub use status::{State, Status};
pub use view::{Look, View};
