//! Why no connection came out. No variant holds a password, a header or a key.

use std::io;

use kh_core::Code;

use crate::{RuleError, TlsError, tls};

/// Why an [`crate::Egress`] could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Certificates or the client's key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] RuleError),
}

/// Why there is no connection. Nothing was sent to the platform.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name cannot be looked up.
    #[error("the platform's name could not be looked up")]
    Lookup(#[source] io::Error),
    /// The name exists and has no address.
    #[error("the platform's name has no address")]
    NoAddress,
    /// There are addresses, and none that the source address can reach.
    #[error("the platform has no address of the same family as source_address")]
    NoAddressOfFamily,
    /// Every address of the name is private, and private ones are not allowed here.
    #[error("the address is none of the public internet, and others are not allowed here")]
    NotAllowed,
    /// The source address is not one of this machine.
    #[error("source_address cannot be used on this machine")]
    Source(#[source] io::Error),
    /// No route, refused.
    #[error("the platform could not be reached")]
    Unreachable(#[source] io::Error),
    /// Not connected in time.
    #[error("the platform did not accept a connection in time")]
    Timeout,
    /// The handshake failed: an expired or unknown certificate, a wrong name, a refused client certificate.
    #[error("the TLS connection to the platform failed")]
    Tls(#[source] io::Error),
    /// The proxy itself could not be reached.
    #[error("the proxy {proxy} could not be reached")]
    ProxyUnreachable {
        /// Its host and port.
        proxy: String,
        /// Why.
        #[source]
        source: Box<ConnectError>,
    },
    /// The proxy wants another user name or password, or any (status 407, or 401).
    #[error("the proxy {proxy} does not accept keyholder's user name and password")]
    ProxyAuth {
        /// Its host and port.
        proxy: String,
    },
    /// The proxy refused to open the way to the platform.
    #[error("the proxy {proxy} refused the connection to the platform with status {status}")]
    ProxyRefused {
        /// Its host and port.
        proxy: String,
        /// HTTP status of its answer.
        status: u16,
    },
    /// What came back is no answer of an HTTP proxy.
    #[error("the proxy {proxy} did not answer as an HTTP proxy")]
    ProxyProtocol {
        /// Its host and port.
        proxy: String,
    },
}

impl ConnectError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Lookup(_)
            | Self::NoAddress
            | Self::NoAddressOfFamily
            | Self::NotAllowed
            | Self::Source(_)
            | Self::Unreachable(_) => Code::UPSTREAM_UNREACHABLE,
            Self::Timeout => Code::UPSTREAM_TIMEOUT,
            Self::Tls(_) => Code::UPSTREAM_TLS,
            Self::ProxyUnreachable { .. }
            | Self::ProxyAuth { .. }
            | Self::ProxyRefused { .. }
            | Self::ProxyProtocol { .. } => Code::UPSTREAM_PROXY,
        }
    }

    /// For a caller or a log line: what failed, with the reason where it helps whoever has to act.
    pub fn detail(&self) -> String {
        match self {
            Self::Tls(source) => format!("{self}: {}", tls::explain(source)),
            Self::Lookup(source) | Self::Source(source) | Self::Unreachable(source) => {
                format!("{self}: {}", source.kind())
            }
            Self::ProxyUnreachable { source, .. } => match &**source {
                Self::Lookup(source) | Self::Unreachable(source) => format!("{self}: {}", source.kind()),
                other => format!("{self}: {other}"),
            },
            Self::ProxyAuth { .. } => format!("{self}: see proxy_auth_file in keyholder.toml"),
            Self::NoAddress
            | Self::NoAddressOfFamily
            | Self::NotAllowed
            | Self::Timeout
            | Self::ProxyRefused { .. }
            | Self::ProxyProtocol { .. } => self.to_string(),
        }
    }
}
