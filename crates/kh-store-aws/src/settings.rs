//! What an operator sets for AWS. Invariant: holds no secret, and everything the adapter reads from the process
//! environment is named by a [`CredentialSource`].

use std::time::Duration;

/// Where the access key comes from. Each is the official SDK's own provider.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum CredentialSource {
    /// The SDK's chain, in its order: the variables `AWS_ACCESS_KEY_ID` and so on; the shared profile (SSO,
    /// `credential_process` and roles included); a web identity (IRSA); the container's endpoint (ECS, EKS Pod
    /// Identity); the machine's (IMDSv2).
    #[default]
    Chain,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` alone.
    Environment,
    /// One profile of `~/.aws/config`, or of the files that `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE` name.
    Profile(String),
    /// A web identity alone: `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`, `AWS_ROLE_SESSION_NAME` (IRSA).
    WebIdentity,
    /// The container's endpoint alone: `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `..._FULL_URI` (ECS, EKS Pod
    /// Identity).
    Container,
    /// The machine's metadata alone (IMDSv2).
    Machine,
}

/// A role that is assumed with these credentials, for example in another account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AssumedRole {
    /// Its ARN.
    pub arn: String,
    /// What the other account demands against confused deputies.
    pub external_id: Option<String>,
    /// The name that its CloudTrail shows.
    pub session_name: String,
}

/// How to reach one account's secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The region of the primary secrets, such as `eu-central-1`.
    pub region: String,
    /// Where the access key comes from.
    pub credentials: CredentialSource,
    /// A role to assume with it.
    pub role: Option<AssumedRole>,
    /// Another address of the service, such as a VPC endpoint; `{region}` in it is replaced, for copies. `AWS_ENDPOINT_URL`
    /// is not read: an environment variable must not tell where secrets go.
    pub endpoint: Option<String>,
    /// Another address of the Security Token Service, for [`Settings::role`], such as a VPC endpoint.
    pub token_endpoint: Option<String>,
    /// Whether to use the endpoints that are validated by FIPS 140.
    pub fips: bool,
    /// How long a state is waited for that has to settle: copies in other regions, reads that lag behind a change.
    pub settle: Settle,
}

impl Settings {
    /// The defaults for one region.
    pub fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            credentials: CredentialSource::default(),
            role: None,
            endpoint: None,
            token_endpoint: None,
            fips: false,
            settle: Settle::default(),
        }
    }
}

/// Bounded waiting for a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settle {
    /// Between two looks.
    pub pause: Duration,
    /// Looks for what a lagging read may hide. Secrets Manager says that all its operations are eventually
    /// consistent; a label that was just set has been seen missing for about a second.
    pub reads: u32,
    /// Longest wait for copies in other regions. A promotion waits for them twice, and whoever calls it has to wait for
    /// longer than that: a call that was given up is not known to have done nothing.
    pub copies: Duration,
    /// Looks for a Lambda function's update.
    pub updates: u32,
}

impl Default for Settle {
    /// 4 s for lagging reads, 20 s for copies (twice in the minute of a rotation's usual call), 3 min for a function in a
    /// VPC ("can take a minute").
    fn default() -> Self {
        Self { pause: Duration::from_secs(1), reads: 4, copies: Duration::from_secs(20), updates: 180 }
    }
}
