//! The gateways. Outbound: an application's own token comes in, the platform's token goes out. Inbound: a verified token
//! that suffices opens the user's own API.
//!
//! Invariants:
//! - Nothing is forwarded that two servers could read in two ways (`guards.rs`, and `kh_policy::CanonicalPath`).
//! - Outbound, the caller's `Authorization` never leaves keyholder, and the platform's token never reaches a caller.
//! - A platform's 401 never reaches a caller: it is healed with one fresh token, or it becomes a 502.
//! - Inbound, what no route names goes nowhere, and every request is decided on anew.
//! - A call that may have had an effect is never sent twice.
//!
//! One current-thread runtime per worker, listening side by side with `SO_REUSEPORT` or on a shared unix socket; a
//! worker shares nothing with another one but the issuer, the broker and the counters.

pub mod certificate;
pub mod config;
pub mod listen;
pub mod local;
pub mod metrics;
pub mod observe;

mod answer;
mod bearer;
pub mod client_trust;
mod deadline;
mod exchange;
mod guards;
pub mod inbound;
mod oauth_error;
mod outbound;
mod request;
pub mod sender;
mod server;
mod site;
mod upstream;
mod worker;

#[cfg(any(fuzzing, test))]
pub mod fuzzing;

pub use certificate::CertificateSlot;
pub use client_trust::{ClientAuth, ClientTrust, TrustError, server_tls};
pub use config::{GatewayConfig, InboundPorts, Limits, Ports, SOCKET_MODE, StartError};
pub use listen::{Given, Listen};
pub use local::{LocalBody, LocalProxy};
pub use metrics::Metrics;
pub use outbound::own::events::{Bearer, EventSink, Events, NotTaken, Proof};
pub use sender::{OwnBinding, ProofMemory, ProofRules, Senders};
pub use server::{Gateway, GatewayHandle, TlsSlot, WorkerPulse};
