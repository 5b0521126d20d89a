//! The Genesys Cloud organisation at start. Invariant: without any client in the file there is exactly one, "admin",
//! that holds every permission.

use crate::secret::SandboxSecret;
use serde::{Deserialize, Serialize};

/// The organisation, its roles, OAuth clients and users.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenesysConfig {
    /// The organisation itself.
    pub organization: OrganizationConfig,
    /// Roles besides the built-in "admin" (every permission).
    pub roles: Vec<RoleConfig>,
    /// OAuth clients; empty means one client "admin" whose id and secret derive from the seed.
    pub clients: Vec<ClientConfig>,
    /// Users; empty means one user "admin". A user is the owner of tokens of the authorization-code grant.
    pub users: Vec<UserConfig>,
    /// Idle timeout of access tokens in seconds (platform range 300..=28800); absent means off, the default.
    pub idle_timeout_seconds: Option<u64>,
}

/// Name and id of the organisation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrganizationConfig {
    /// UUID; absent means derived from the seed.
    pub id: Option<String>,
    /// Display name.
    pub name: String,
}

impl Default for OrganizationConfig {
    fn default() -> Self {
        Self { id: None, name: "Sandbox Organisation".to_owned() }
    }
}

/// A role: a named set of permissions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    /// UUID; absent means derived from seed and name.
    #[serde(default)]
    pub id: Option<String>,
    /// Unique name, by which clients and users refer to it.
    pub name: String,
    /// Permissions `domain:entity:action`; `*` stands for any part, `*` alone for all.
    #[serde(default)]
    pub permissions: Vec<String>,
}

/// An OAuth client at start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// UUID; absent means derived from seed and name.
    #[serde(default)]
    pub id: Option<String>,
    /// 43 characters base64url; absent means derived from seed and name.
    #[serde(default)]
    pub secret: Option<SandboxSecret>,
    /// Name.
    pub name: String,
    /// `CLIENT-CREDENTIALS` (default) or `CODE`.
    #[serde(default = "client_credentials")]
    pub grant_type: String,
    /// Names or ids of roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Permissions granted through an own role "client NAME" (a shortcut for tests).
    #[serde(default)]
    pub permissions: Vec<String>,
    /// Redirect URIs of a `CODE` client.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// Scopes of a `CODE` client.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Access-token life in seconds, 300..=172800 unless `behaviours.token_life_bounds` says otherwise.
    #[serde(default = "one_day")]
    pub token_seconds: u64,
    /// Addresses or CIDR ranges that may use the client; empty means any.
    #[serde(default)]
    pub allowed_ips: Vec<String>,
}

/// "default of 24 hours" (published swagger, `OAuthClient.accessTokenValiditySeconds`).
pub(crate) const DEFAULT_TOKEN_SECONDS: u64 = 86_400;

fn one_day() -> u64 {
    DEFAULT_TOKEN_SECONDS
}

fn client_credentials() -> String {
    "CLIENT-CREDENTIALS".to_owned()
}

impl ClientConfig {
    /// A client-credentials client with these permissions; id and secret derive from the seed and the name.
    pub fn with_permissions(name: &str, permissions: &[&str]) -> Self {
        Self {
            id: None,
            secret: None,
            name: name.to_owned(),
            grant_type: client_credentials(),
            roles: Vec::new(),
            permissions: permissions.iter().map(|&permission| permission.to_owned()).collect(),
            redirect_uris: Vec::new(),
            scopes: Vec::new(),
            token_seconds: DEFAULT_TOKEN_SECONDS,
            allowed_ips: Vec::new(),
        }
    }
}

/// A user at start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// UUID; absent means derived from seed and name.
    #[serde(default)]
    pub id: Option<String>,
    /// Display name.
    pub name: String,
    /// Email; absent means made from the name.
    #[serde(default)]
    pub email: Option<String>,
    /// Names or ids of roles.
    #[serde(default)]
    pub roles: Vec<String>,
}
