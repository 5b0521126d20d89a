//! The rotator: carries out what the rotation core decides, over the ports, one credential at a time, and on schedule.
//!
//! Invariants: the core decides alone; what it intends is durable before it is sent; of two processes only the holder of
//! the newest fence writes; a secret leaves this crate through the ports to the stores and hooks, and nowhere else.

pub mod begin;
pub mod calendar;
pub mod drive;
pub mod escrow;
pub mod orders;
pub mod scheduler;
pub mod services;
pub mod session;
pub mod subject;
pub mod timeline;
mod told;

pub use begin::{Age, NotBegun, Wanted, age};
pub use calendar::{Blackout, Times, Window};
pub use drive::{Patience, drive, join, open};
pub use escrow::EscrowKey;
pub use orders::{NotTaken, Person};
pub use scheduler::{AtRest, Limits, Overview, Scheduler, at_rest, given_up_until};
pub use services::{Services, Timer, TokioTimer};
pub use session::{Halt, Session, Standing, lease_name};
pub use subject::{ActWith, FreshToken, OldTokens, Revoked, Store, Subject, TokenRevoker, TokenSupply};
pub use timeline::{Outlook, Timeline};
