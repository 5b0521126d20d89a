//! What a sandbox is started with. Invariant: `SandboxConfig::default()` is a complete, working sandbox on free
//! loopback ports, and an unknown key in a file is an error.

mod behaviours;
mod cxone;
mod genesys;
mod limits;

pub use behaviours::{Behaviours, CxoneBehaviours, LoginLimitStatus, RateLimitCode, WrongSecretStatus};
pub use cxone::{AccessKeyConfig, ApplicationConfig, CxoneConfig, CxoneUserConfig, TenantConfig};
pub(crate) use genesys::DEFAULT_TOKEN_SECONDS;
pub use genesys::{ClientConfig, GenesysConfig, OrganizationConfig, RoleConfig, UserConfig};
pub use limits::{EndpointLimit, LimitsConfig};

use crate::faults::FaultRule;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything a sandbox can be told. Every field has a default that follows the platforms.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// Where the three listeners bind.
    pub listen: ListenConfig,
    /// Makes identifiers, initial secrets and fault probabilities reproducible. Tokens are always random.
    pub seed: u64,
    /// The Genesys Cloud organisation.
    pub genesys: GenesysConfig,
    /// The NICE CXone tenants.
    pub cxone: CxoneConfig,
    /// Rate and size limits, the platform's by default.
    pub limits: LimitsConfig,
    /// Answers to what Genesys Cloud does not document.
    pub behaviours: Behaviours,
    /// The fault plan at start; the control API replaces it.
    pub faults: Vec<FaultRule>,
    /// Serve https with this certificate. Ignored when `tls_server` is set.
    pub tls: Option<TlsFiles>,
    /// Serve https with a configuration made by the embedding program (a private CA in tests).
    #[serde(skip)]
    pub tls_server: Option<Arc<rustls::ServerConfig>>,
}

/// Addresses of the listeners; port 0 takes a free port.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Genesys Cloud: login and API on one origin.
    pub genesys: SocketAddr,
    /// NICE CXone: global issuer, regional host and API on one origin.
    pub cxone: SocketAddr,
    /// The control API. Never expose it: it can revoke and journal everything.
    pub control: SocketAddr,
}

impl Default for ListenConfig {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { genesys: free, cxone: free, control: free }
    }
}

/// PEM files of a server certificate and its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}
