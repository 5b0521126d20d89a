//! One way out of keyholder to a platform: the proxy, the source address, the addresses of a name, TLS, and single HTTP
//! requests by it.
//!
//! Token requests and forwarded calls leave through the same [`Egress`], so that what an operator configures for a
//! platform holds for both, and what a platform sees is the same for both.
//!
//! Invariant: of the process's environment only `SSL_CERT_FILE` and `SSL_CERT_DIR` are read, by [`SystemRoots::load`];
//! certificates are always verified; the password of a proxy and the key of a client certificate appear in no error, no
//! log line and no `Debug`.

mod certificate_failure;
pub mod client_address;
mod dial;
mod egress;
mod error;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod http;
mod patient;
mod peer_certificate;
mod proxy;
pub mod proxy_protocol;
mod reach;
mod resolve;
mod source;
mod standstill;
mod stream;
pub mod tls;
mod tls_session;
mod tunnel;

pub use certificate_failure::CertificateFailure;
pub use egress::{Egress, EgressId, Settings, Target};
pub use error::{ConnectError, SetupError};
pub use patient::Patient;
pub use peer_certificate::PeerCertificate;
pub use proxy::{ProxyRules, RuleError};
pub use reach::Reach;
pub use resolve::{Lookup, Resolve, SystemResolver};
pub use source::Source;
pub use standstill::Standstill;
pub use stream::Stream;
pub use tls::{Identity, SystemRoots, TlsError};
pub use tls_session::tls_session;
