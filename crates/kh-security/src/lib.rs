//! The security log: who tried to authenticate, from where, and what came of it; the brute-force guard; alerts.
//!
//! [`Log`] is the port [`kh_core::port::SecurityLog`]: it writes JSON lines in the form of OCSF 1.8.0, looks addresses up
//! in [`Geo`], passes lines on to a [`Collector`] and raises alerts. [`Guard`] is asked where a caller failed.
//!
//! Invariants: nothing here makes a request wait; memory is bounded whatever callers send; what is lost is counted.

mod address;
mod collector;
mod counters;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod geo;
mod guard;
mod log;
mod ocsf;
mod seen;
mod travel;

pub use address::{Network, NetworkError};
pub use collector::{
    BearerSource, Collecting, Collector, CollectorClient, LAST_TRY, MEMORY_MAX, SPOOL_MIN, SettingsError, Timing,
};
pub use counters::Counters;
pub use geo::{Country, DATABASE_MAX, Files, Geo, Kind, LOOK_EVERY, Place, Position, examine};
pub use guard::{Guard, Limits, RetryAfter, Scope};
pub use kh_linelog::Target;
pub use log::{Log, Parts, Settings, Successes};
pub use ocsf::{Finding, FindingKind, VERSION as OCSF_VERSION};
pub use travel::Rules;
