//! One token per credential, shared by all callers, and one per user's session: runs the token core through its ports.
//!
//! Invariants: a fetch is an owned task, never a caller's future, so that a caller who goes away strands nobody; no
//! lock is held across an `.await`; a token's bytes are wiped when its last lease is dropped.

mod broker;
mod credential;
mod error;
mod flight;
mod lease;
mod login;
mod lookout;
mod rotators;
mod sessions;
mod sightings;
mod spec;
mod status;
mod watch;

pub use broker::{Applied, Broker};
pub use credential::Credential;
pub use error::TokenError;
pub use lease::Lease;
pub use login::{Login, LoginObserver, LoginOutcome};
pub use rotators::{PATIENCE, RotatorCredentials};
pub use sessions::{Granted, SESSIONS_MAX, SessionCounts, SessionError, SessionPolicy, UserSessions};
pub use sightings::{ALIVE, Sightings};
pub use spec::CredentialSpec;
pub use status::{CredentialState, CredentialStatus, FetchCounts};
