//! The token core: what to do about one credential's token, decided from state, input and now; and the core of a user's
//! session, whose refresh token may work once only ([`session`]).
//!
//! Invariant: nothing here does I/O, waits, locks, draws randomness or reads a clock. [`TokenCore`] says what to do;
//! a service does it and tells the core what came of it.

pub mod core;
pub mod event;
pub mod life;
mod pause;
pub mod policy;
mod rejections;
pub mod session;

pub use core::{Held, TokenCore};
pub use event::{
    Cause, Decision, Failure, FetchKind, FetchOrder, Fetched, Invalidation, Outcome, Permit, Refusal, Want,
};
pub use life::Lifetime;
pub use pause::pause_after;
pub use policy::TokenPolicy;
pub use rejections::Rejections;
