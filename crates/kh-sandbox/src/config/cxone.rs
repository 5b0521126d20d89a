//! The NICE CXone tenants at start. Invariant: without any tenant in the file there is exactly one, with one user,
//! one access key and one application client.

use super::behaviours::CxoneBehaviours;
use crate::secret::SandboxSecret;
use serde::{Deserialize, Serialize};

/// Tenants, application clients and switches of CXone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CxoneConfig {
    /// Issuer of discovery, id token and refresh token; absent means the sandbox's own CXone origin, so that an
    /// ordinary OpenID Connect client can verify it. The platform's is `https://cxone.niceincontact.com`.
    pub issuer: Option<String>,
    /// Issuer of access tokens, which differs from the other one (observed in the vendor's published example).
    pub access_token_issuer: String,
    /// Tenants; empty means one made from the seed.
    pub tenants: Vec<TenantConfig>,
    /// Application clients (registered with the vendor); empty means one made from the seed.
    pub applications: Vec<ApplicationConfig>,
    /// Life of an access token and id token in seconds.
    pub access_token_seconds: u64,
    /// Life of a refresh token in seconds.
    pub refresh_token_seconds: u64,
    /// Answers to what the vendor does not document.
    pub behaviours: CxoneBehaviours,
}

impl Default for CxoneConfig {
    fn default() -> Self {
        Self {
            issuer: None,
            access_token_issuer: "https://auth.nice-incontact.com".to_owned(),
            tenants: Vec::new(),
            applications: Vec::new(),
            // Measured on the vendor's published example: access and id token 3,600 s, refresh token 7,200 s.
            access_token_seconds: 3_600,
            refresh_token_seconds: 7_200,
            behaviours: CxoneBehaviours::default(),
        }
    }
}

/// A tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// UUID; absent means derived from seed and name.
    #[serde(default)]
    pub id: Option<String>,
    /// Tenant name.
    pub name: String,
    /// Area, such as `na1`.
    #[serde(default = "default_area")]
    pub area: String,
    /// Cluster, such as `B32`.
    #[serde(default = "default_cluster")]
    pub cluster: String,
    /// Users of the tenant.
    #[serde(default)]
    pub users: Vec<CxoneUserConfig>,
}

fn default_area() -> String {
    "na1".to_owned()
}

fn default_cluster() -> String {
    "B32".to_owned()
}

/// A user (employee) of a tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CxoneUserConfig {
    /// UUID; absent means derived from seed and name.
    #[serde(default)]
    pub id: Option<String>,
    /// Login name.
    pub name: String,
    /// Whether the user is active; the keys of an inactive user do not log in.
    #[serde(default = "yes")]
    pub active: bool,
    /// Access keys; empty means one made from the seed.
    #[serde(default)]
    pub access_keys: Vec<AccessKeyConfig>,
}

fn yes() -> bool {
    true
}

/// An access key of a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKeyConfig {
    /// Identifier; the user name of the password grant.
    pub id: String,
    /// Secret; the password of the password grant.
    pub secret: SandboxSecret,
    /// Whether it may log in.
    #[serde(default = "yes")]
    pub active: bool,
}

/// An application client, registered with the vendor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationConfig {
    /// Client id.
    pub id: String,
    /// Client secret.
    pub secret: SandboxSecret,
    /// Display name.
    #[serde(default)]
    pub name: String,
}
