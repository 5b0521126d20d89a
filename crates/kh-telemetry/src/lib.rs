//! What keyholder tells about itself while it runs: process log, access log, metrics of every part, and their export with
//! traces over OTLP.
//!
//! Invariants: nothing here makes a request wait or fail; what cannot be written or sent is counted and dropped; no
//! secret, no token, no query and no body is told to anybody.

pub mod access;
pub mod collect;
pub mod logging;
pub mod metered;
pub mod otlp;
pub mod route;
pub mod spans;
mod watch;

pub use watch::{Settings, Telemetry};
