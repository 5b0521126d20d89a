//! How a vault is reached and who keyholder is there.
//!
//! Invariant: nothing is read from the process's environment, but for the one case where the SDK has no other way: a
//! managed identity on App Service, whose address and header the platform passes in `IDENTITY_ENDPOINT` and
//! `IDENTITY_HEADER`.

use std::{fmt, path::PathBuf};

use kh_core::SecretString;
use url::Url;

/// Where tokens of the public cloud come from.
const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";

/// A vault and the identity there.
#[derive(Debug)]
pub struct Settings {
    /// `https://NAME.vault.azure.net`, or that of another cloud (`vault.azure.cn`, `vault.usgovcloudapi.net`).
    pub vault: Url,
    /// Where tokens come from; none for the public cloud. Not used by a managed identity.
    pub authority: Option<Url>,
    /// The identity.
    pub auth: Auth,
}

/// Who keyholder is at the vault, in the order of preference: the first two keep no secret.
pub enum Auth {
    /// The identity of this machine, container app or App Service.
    ManagedIdentity {
        /// Client id of a user-assigned identity; none for the system-assigned one.
        client_id: Option<String>,
        /// Where the metadata service answers, if not at `http://169.254.169.254`: a node's own proxy.
        metadata: Option<Url>,
    },
    /// A federated token, as Kubernetes projects it into a pod. The file is read at each login.
    WorkloadIdentity {
        /// Tenant.
        tenant: String,
        /// Client id of the application.
        client_id: String,
        /// The token's file.
        token_file: PathBuf,
    },
    /// An application's client secret. During a login the SDK has a copy of it in memory that is not wiped.
    ClientSecret {
        /// Tenant.
        tenant: String,
        /// Client id of the application.
        client_id: String,
        /// The secret, read from a file or another store.
        secret: SecretString,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ManagedIdentity { .. } => "ManagedIdentity",
            Self::WorkloadIdentity { .. } => "WorkloadIdentity",
            Self::ClientSecret { .. } => "ClientSecret",
        })
    }
}

/// Why no vault came out of the settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The vault's address cannot be one.
    #[error("a vault's address is https://NAME.vault.azure.net, without a path")]
    Vault,
    /// The address of the token endpoint cannot be one.
    #[error("the authority's address is an https address without a path")]
    Authority,
    /// The SDK refused the identity's settings; the sentence is its own.
    #[error("{0}")]
    Identity(String),
}

impl Settings {
    /// The vault's address, checked.
    pub(crate) fn vault(&self) -> Result<&Url, SetupError> {
        is_bare_https(&self.vault).then_some(&self.vault).ok_or(SetupError::Vault)
    }

    /// Where tokens come from, checked.
    pub(crate) fn authority(&self) -> Result<Url, SetupError> {
        let public = || Url::parse(PUBLIC_AUTHORITY).expect("the constant is a URL");
        let authority = self.authority.clone().unwrap_or_else(public);
        is_bare_https(&authority).then_some(authority).ok_or(SetupError::Authority)
    }
}

fn is_bare_https(url: &Url) -> bool {
    let user = !url.username().is_empty() || url.password().is_some();
    url.scheme() == "https" && url.path() == "/" && url.query().is_none() && url.fragment().is_none() && !user
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (good, text) in [
            (true, "https://acme.vault.azure.net"),
            (true, "https://acme.vault.azure.net:8443/"),
            (false, "http://acme.vault.azure.net"),
            (false, "https://acme.vault.azure.net/secrets"),
            (false, "https://me@acme.vault.azure.net"),
            (false, "https://acme.vault.azure.net/?a=b"),
        ] {
            assert_eq!(is_bare_https(&Url::parse(text).unwrap()), good, "{text}");
        }
    }

    #[test]
    fn the_secret_stays_out_of_debug() {
        let secret = SecretString::copied("MARKED");
        let auth = Auth::ClientSecret { tenant: "t".to_owned(), client_id: "c".to_owned(), secret };
        assert_eq!(format!("{auth:?}"), "ClientSecret");
    }
}
