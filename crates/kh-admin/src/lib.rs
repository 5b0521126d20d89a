//! The local HTTP surfaces: the admin listener (health, metrics, status, the admin API) and the broker listener (tokens for local
//! callers), with the guard token, the request hygiene and the server they share.
//!
//! Invariants: a request that a browser or a proxy could have made is refused before anything is looked up; nothing is
//! fetched for a caller without the guard token; an answer that holds a token is never cached and its buffer is wiped.

pub mod admin;
pub mod api;
pub mod broker_api;
pub mod guard;
pub mod hygiene;
pub mod metrics;
pub mod operators;
pub mod problem;
pub mod proxy;
pub mod serve;
pub mod socket;
mod telling;

pub use admin::{AdminPorts, Pulse, ReadyCheck, StatusSource};
pub use api::{ApiPorts, AuditDesk, RevocationDesk, SessionDesk};
pub use broker_api::{BrokerPorts, Production, SocketGuard};
pub use guard::{Guard, GuardError};
pub use metrics::LocalMetrics;
pub use operators::{Operator, Operators, Role};
pub use proxy::ProfileProxy;
pub use serve::{Limits, Peer, Tls, bind_loopback, serve, serve_tls, serve_with};
pub use socket::{Callers, SocketError, SocketListener};
