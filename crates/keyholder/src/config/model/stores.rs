//! Secret stores outside keyholder, as the configuration names them. Whatever is secret about one stands in a file.

use std::{path::PathBuf, time::Duration};

use kh_core::StoreName;
use kh_platform::Address;
use serde::{Serialize, Serializer};

use super::{optional_address, optional_duration};

/// One secret store.
#[derive(Clone, Debug, Serialize)]
pub struct SecretStoreConfig {
    /// What it is and where.
    #[serde(flatten)]
    pub detail: SecretStoreDetail,
    /// Stores that hold the same documents and are read when this one does not answer.
    pub fallback: Vec<StoreName>,
    /// How long a document that was read may be used while no store answers.
    #[serde(serialize_with = "optional_duration")]
    pub stale_max: Option<Duration>,
    /// PEM file of a private CA to trust beside the system's.
    pub extra_ca: Option<PathBuf>,
}

/// What a store is, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SecretStoreDetail {
    /// `HashiCorp` Vault, KV version 2.
    Vault {
        /// The servers, in the order in which they are asked; at least one.
        #[serde(rename = "address", serialize_with = "servers")]
        addresses: Vec<Address>,
        /// Enterprise namespace.
        namespace: Option<String>,
        /// Where the KV engine is mounted; none is `secret`.
        mount: Option<String>,
        /// How keyholder logs in.
        #[serde(flatten)]
        auth: VaultAuth,
        /// Where that method is mounted; none is the method's usual place.
        auth_mount: Option<String>,
    },
    /// AWS Secrets Manager; the identity comes from the SDK's credential chain.
    Aws {
        /// The region.
        region: String,
        /// A profile of the shared configuration files.
        profile: Option<String>,
        /// A role to assume.
        role_arn: Option<String>,
        /// What the role's account demands beside it.
        external_id: Option<String>,
        /// Another address of the service: a VPC endpoint.
        #[serde(serialize_with = "optional_address")]
        endpoint: Option<Address>,
    },
    /// Azure Key Vault.
    Azure {
        /// The vault, such as `https://acme.vault.azure.net`.
        #[serde(serialize_with = "super::address")]
        vault_url: Address,
        /// How keyholder logs in.
        #[serde(flatten)]
        auth: AzureAuth,
    },
    /// Google Secret Manager; the identity comes from Application Default Credentials.
    Google {
        /// The project.
        project: String,
        /// The version alias that consumers read; none is `current`.
        alias: Option<String>,
        /// File with a service account's key or a workload identity's configuration.
        credentials_file: Option<PathBuf>,
        /// Another address of the service.
        #[serde(serialize_with = "optional_address")]
        endpoint: Option<Address>,
    },
}

impl SecretStoreDetail {
    /// The word of the configuration, which is also the name of the feature that builds it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Vault { .. } => "vault",
            Self::Aws { .. } => "aws",
            Self::Azure { .. } => "azure",
            Self::Google { .. } => "google",
        }
    }

    /// The files that are read when the store is made; what is read at every login is not among them.
    pub fn files(&self) -> Vec<&PathBuf> {
        match self {
            Self::Azure { auth: AzureAuth::ClientSecret { client_secret_file, .. }, .. } => vec![client_secret_file],
            Self::Vault { auth: VaultAuth::Approle { role_id_file, .. }, .. } => vec![role_id_file],
            Self::Vault { .. }
            | Self::Aws { .. }
            | Self::Azure { auth: AzureAuth::Workload { .. } | AzureAuth::Managed { .. }, .. } => Vec::new(),
            Self::Google { credentials_file, .. } => credentials_file.iter().collect(),
        }
    }
}

/// How keyholder logs in to Vault.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum VaultAuth {
    /// `AppRole`.
    Approle {
        /// File with the role id.
        role_id_file: PathBuf,
        /// File with the secret id, or with the token that wraps it.
        secret_id_file: PathBuf,
        /// Whether the secret id is response-wrapped.
        secret_id_wrapped: bool,
    },
    /// The service account of a Kubernetes pod.
    Kubernetes {
        /// Vault's role.
        kubernetes_role: String,
        /// File with the service account's token.
        jwt_file: PathBuf,
    },
    /// A JWT.
    Jwt {
        /// Vault's role.
        jwt_role: String,
        /// File with the JWT.
        jwt_file: PathBuf,
    },
    /// A token that something else renews, such as Vault's agent.
    Token {
        /// File with the token.
        token_file: PathBuf,
    },
}

/// How keyholder logs in to Azure.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum AzureAuth {
    /// An application with a secret.
    ClientSecret {
        /// Its directory.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// File with its secret.
        client_secret_file: PathBuf,
    },
    /// A federated token of Kubernetes or of a CI system.
    Workload {
        /// File with the token, read at every login.
        federated_token_file: PathBuf,
        /// The directory.
        tenant_id: String,
        /// The application.
        client_id: String,
    },
    /// The identity of the machine or container.
    Managed {
        /// Not needed.
        tenant_id: Option<String>,
        /// A user-assigned identity.
        client_id: Option<String>,
    },
}

/// One as a text, several as a list, as people write them.
fn servers<S: Serializer>(values: &[Address], to: S) -> Result<S::Ok, S::Error> {
    match values {
        [one] => super::address(one, to),
        all => super::addresses(all, to),
    }
}
