//! The listeners for local callers and for operators: `[admin]`, `[operator.NAME]`, `[broker]`.

use std::{net::SocketAddr, path::PathBuf};

use kh_admin::Role;
use serde::{Serialize, Serializer};

/// The admin listener.
#[derive(Clone, Debug, Serialize)]
pub struct AdminConfig {
    /// Its address; none is off.
    #[serde(serialize_with = "listen")]
    pub listen: Option<SocketAddr>,
    /// File with its guard token.
    pub token_file: Option<PathBuf>,
    /// The same over https.
    pub tls: Option<AdminTlsConfig>,
}

/// The admin listener over https.
#[derive(Clone, Debug, Serialize)]
pub struct AdminTlsConfig {
    /// Its address, which may be beyond loopback.
    pub listen: SocketAddr,
    /// Certificate chain in PEM, leaf first.
    pub cert: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
    /// Authorities of operators' client certificates, in PEM; none asks for no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Somebody who may use the admin API.
#[derive(Clone, Debug, Serialize)]
pub struct OperatorConfig {
    /// What it may do.
    pub role: Role,
    /// SHA-256 of its tokens, in hex.
    pub token_sha256: Vec<String>,
    /// SHA-256 of its client certificates (DER), in hex.
    pub certificate_sha256: Vec<String>,
    /// Names in its client certificate.
    pub certificate_names: Vec<String>,
}

/// The broker's listeners.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerConfig {
    /// Its address; none is off.
    #[serde(serialize_with = "listen")]
    pub listen: Option<SocketAddr>,
    /// Its unix socket; none is none.
    pub socket: Option<PathBuf>,
    /// Users beside keyholder's own whose processes the socket admits.
    pub allow_uids: Vec<u32>,
    /// File with its guard token.
    pub token_file: Option<PathBuf>,
}

/// An address, or `off`: what the configuration says.
#[allow(clippy::ref_option, reason = "serde hands over a reference")]
fn listen<S: Serializer>(value: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(address) => to.collect_str(address),
        None => to.serialize_str("off"),
    }
}
