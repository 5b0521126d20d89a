//! What a configuration says, as types. Serialisable, because nothing in it is a secret.

mod deliver;
mod events;
mod inbound;
mod local;
mod rotation;
mod security;
mod sessions;
mod stores;
mod token_endpoint;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use kh_core::{CredentialName, EnvironmentName, PlatformKind, PlatformName, SecretReference, StoreName};
use kh_net::Source;
use kh_platform::{Address, ClientAuth};
use serde::{Serialize, Serializer};

pub use deliver::{HookConfig, HookDetail, NotifyConfig, NotifyDetail, SmtpTls};
pub use events::EventsConfig;
pub use inbound::{
    AddressHeader, ClientsConfig, ConditionConfig, ConditionTest, EndpointConfig, IdentityHeaderConfig, InboundConfig,
    InboundTlsConfig, IssuerWay, KeysConfig, Need, RouteConfig, ScalarConfig, TokenType, TrustDetail,
    TrustedIssuerConfig,
};
pub use local::{AdminConfig, AdminTlsConfig, BrokerConfig, OperatorConfig};
pub use rotation::{
    ApprovalsConfig, ConsumerConfig, CredentialRotationConfig, RotationConfig, RotationTimes, VerifyConfig,
};
pub use security::{
    AlertsConfig, CollectorConfig, CollectorToken, GeoipConfig, GuardConfig, SecurityConfig, SecurityTarget,
    SuccessesChoice,
};
pub use sessions::SessionsConfig;
pub use stores::{AzureAuth, SecretStoreConfig, SecretStoreDetail, VaultAuth};
pub use token_endpoint::TokenEndpointConfig;

/// Everything in one file.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// `[gateway]`
    pub gateway: GatewayConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[operator.NAME]`
    #[serde(rename = "operator", skip_serializing_if = "BTreeMap::is_empty")]
    pub operators: BTreeMap<String, OperatorConfig>,
    /// `[broker]`
    pub broker: BrokerConfig,
    /// `[token_endpoint]`
    pub token_endpoint: TokenEndpointConfig,
    /// `[issuer.NAME]`
    #[serde(rename = "issuer", skip_serializing_if = "BTreeMap::is_empty")]
    pub issuers: BTreeMap<String, TrustedIssuerConfig>,
    /// `[inbound.NAME]`
    #[serde(rename = "inbound", skip_serializing_if = "BTreeMap::is_empty")]
    pub inbound: BTreeMap<String, InboundConfig>,
    /// `[events.NAME]`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, EventsConfig>,
    /// `[state]`
    pub state: StateConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[audit]`
    pub audit: AuditConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[security]`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<SecurityConfig>,
    /// `[network]`
    pub network: NetworkConfig,
    /// `[telemetry]`
    pub telemetry: TelemetryConfig,
    /// `[rotation]`
    pub rotation: RotationConfig,
    /// `[secret_store.NAME]`
    #[serde(rename = "secret_store", skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_stores: BTreeMap<StoreName, SecretStoreConfig>,
    /// `[hook.NAME]`
    #[serde(rename = "hook", skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, HookConfig>,
    /// `[notify.NAME]`
    #[serde(rename = "notify", skip_serializing_if = "BTreeMap::is_empty")]
    pub notifiers: BTreeMap<String, NotifyConfig>,
    /// `[platform.NAME]`
    #[serde(rename = "platform")]
    pub platforms: BTreeMap<PlatformName, PlatformConfig>,
    /// `[credential.NAME]`
    #[serde(rename = "credential")]
    pub credentials: BTreeMap<CredentialName, CredentialConfig>,
}

/// Where applications connect.
#[derive(Clone, Debug, Serialize)]
pub struct GatewayConfig {
    /// Where http is spoken; with `tls` and no `tls.listen`, https.
    pub listen: Vec<ListenAddress>,
    /// Permissions of the unix sockets in `listen`; none is 0660.
    #[serde(serialize_with = "optional_mode")]
    pub socket_mode: Option<u32>,
    /// Scheme and host under which applications reach the gateway through something that ends their TLS.
    #[serde(serialize_with = "optional_address")]
    pub public_url: Option<Address>,
    /// Networks of proxies whose header tells the address of a client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// The header that they write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<AddressHeader>,
    /// Networks of proxies that speak the PROXY protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<String>,
    /// Threads of the data plane; none is one per core.
    pub workers: Option<usize>,
    /// Certificate and key for https.
    pub tls: Option<TlsConfig>,
    /// What one connection or request may use.
    pub limits: LimitsConfig,
}

/// Something that the gateway listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket; a relative path counts from the file.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tcp(address) => to.collect_str(address),
            Self::Unix(path) => to.collect_str(&format_args!("unix:{}", path.display())),
        }
    }
}

/// A server certificate.
#[derive(Clone, Debug, Serialize)]
pub struct TlsConfig {
    /// Where https is spoken beside the http ones; empty means that `gateway.listen` speaks https.
    pub listen: Vec<ListenAddress>,
    /// Certificate chain in PEM, leaf first.
    pub cert: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
    /// Whose client certificates are taken.
    #[serde(flatten)]
    pub clients: ClientsConfig,
}

/// Limits of the gateway; none leaves the gateway's default.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LimitsConfig {
    /// Open connections at once, per worker.
    pub connections_per_worker: Option<u64>,
    /// How long a request's headers may take.
    #[serde(serialize_with = "optional_duration")]
    pub header_timeout: Option<Duration>,
    /// How long a body may stand still, and a caller may take nothing of its answer.
    #[serde(serialize_with = "optional_duration")]
    pub body_timeout: Option<Duration>,
    /// How long the platform may take to begin its answer.
    #[serde(serialize_with = "optional_duration")]
    pub upstream_timeout: Option<Duration>,
    /// How long new calls are still taken after a stop signal, while `/readyz` answers 503 already.
    #[serde(serialize_with = "optional_duration")]
    pub drain_delay: Option<Duration>,
    /// How long requests in flight may take after a stop signal.
    #[serde(serialize_with = "optional_duration")]
    pub drain: Option<Duration>,
}

/// Where state is kept.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StateConfig {
    /// The state folder; none is the user's XDG state folder.
    pub dir: Option<PathBuf>,
}

/// How the secret store is opened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StoreConfig {
    /// Where its key comes from.
    #[serde(flatten, skip_serializing_if = "KeySource::is_generated")]
    pub key: KeySource,
}

/// Where the store's key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// `store.key` in the state folder, made at the first start.
    #[default]
    Generated,
    /// A file with 32 bytes.
    KeyFile(PathBuf),
    /// A file with 32 bytes in the folder that `CREDENTIALS_DIRECTORY` names.
    KeyCredential(String),
    /// An environment variable with 32 bytes as base64 or hex.
    KeyEnv(String),
    /// A file with a passphrase.
    PassphraseFile(PathBuf),
    /// An environment variable with a passphrase.
    PassphraseEnv(String),
}

impl KeySource {
    /// The environment variable that holds the key, if it comes from one: nothing that keyholder starts may inherit it.
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::KeyEnv(name) | Self::PassphraseEnv(name) => Some(name),
            Self::Generated | Self::KeyFile(_) | Self::KeyCredential(_) | Self::PassphraseFile(_) => None,
        }
    }

    fn is_generated(&self) -> bool {
        *self == Self::Generated
    }
}

/// Where the audit log is kept.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditConfig {
    /// The log; none is `audit.log` in the state folder.
    pub path: Option<PathBuf>,
    /// Its signed checkpoints; none is `audit.checkpoints` in the state folder.
    pub checkpoints: Option<PathBuf>,
}

/// What keyholder tells about itself while it runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogConfig {
    /// `info`, `debug`, or a filter such as `info,kh_broker=debug`.
    pub level: Option<String>,
    /// Human or JSON lines.
    pub format: Option<LogFormat>,
    /// The file that takes the log of `serve`; none is standard error.
    pub file: Option<PathBuf>,
    /// Where the access log goes.
    #[serde(serialize_with = "access")]
    pub access: AccessConfig,
    /// The form of its lines.
    pub access_format: Option<AccessFormat>,
}

/// Where the access log goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum AccessConfig {
    /// Nowhere.
    #[default]
    Off,
    /// To standard output.
    Stdout,
    /// To a file.
    File(PathBuf),
}

/// The form of the access log's lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Export to an OpenTelemetry collector.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TelemetryConfig {
    /// Base of the collector.
    #[serde(serialize_with = "optional_address")]
    pub otlp_endpoint: Option<Address>,
    /// Whether spans are sent; none is yes.
    pub traces: Option<bool>,
    /// Whether metrics are sent; none is yes.
    pub metrics: Option<bool>,
    /// Share of new traces that is sampled; none is all.
    pub sample_ratio: Option<f64>,
    /// Time between two exports of the metrics.
    #[serde(serialize_with = "optional_duration")]
    pub metrics_interval: Option<Duration>,
    /// File with headers for the collector.
    pub headers_file: Option<PathBuf>,
    /// PEM file of a private CA of the collector.
    pub extra_ca: Option<PathBuf>,
}

/// The form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// One organisation in one region.
#[derive(Clone, Debug, Serialize)]
pub struct PlatformConfig {
    /// What it is and where.
    #[serde(flatten)]
    pub detail: PlatformDetail,
    /// PEM file of a private CA to trust beside the system's.
    pub extra_ca: Option<PathBuf>,
    /// The certificate that keyholder shows.
    #[serde(flatten)]
    pub client: Option<ClientCertificate>,
    /// How connections to it leave this machine, where that differs from `[network]`.
    #[serde(flatten)]
    pub network: NetworkConfig,
    /// The credential with which secrets of this platform are made and deleted.
    pub rotator: Option<CredentialName>,
    /// The other one: it rotates the first, and steps in when an answer to the first was lost.
    pub rotator_second: Option<CredentialName>,
}

/// A client certificate with its key.
#[derive(Clone, Debug, Serialize)]
pub struct ClientCertificate {
    /// Certificate chain in PEM, leaf first.
    pub client_cert: PathBuf,
    /// Private key in PEM.
    pub client_key: PathBuf,
}

/// How connections to platforms leave this machine.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NetworkConfig {
    /// Through which proxy.
    #[serde(flatten)]
    pub proxy: Option<ProxyConfig>,
    /// From which addresses, at most one of each family.
    #[serde(serialize_with = "source")]
    pub source_address: Option<Source>,
}

/// A proxy with what goes with it.
#[derive(Clone, Debug, Serialize)]
pub struct ProxyConfig {
    /// Which one.
    pub proxy: ProxyChoice,
    /// File with `user:password`.
    pub proxy_auth_file: Option<PathBuf>,
    /// Hosts that are reached without it.
    pub no_proxy: Option<Vec<String>>,
}

/// Which proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyChoice {
    /// None, whatever the environment says.
    None,
    /// What `HTTPS_PROXY` and `NO_PROXY` say.
    Environment,
    /// `http://host:port`.
    Url(String),
}

impl Serialize for ProxyChoice {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match self {
            Self::None => "none",
            Self::Environment => "environment",
            Self::Url(url) => url,
        })
    }
}

impl PlatformConfig {
    /// The kind, as the rest of keyholder names it.
    pub fn kind(&self) -> PlatformKind {
        match self.detail {
            PlatformDetail::Genesys { .. } => PlatformKind::Genesys,
            PlatformDetail::Cxone { .. } => PlatformKind::Cxone,
            PlatformDetail::Oauth2 { .. } => PlatformKind::Oauth2,
        }
    }
}

/// Where a platform is, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum PlatformDetail {
    /// Genesys Cloud CX.
    Genesys {
        /// The AWS name of its region, unless both URLs are given.
        region: Option<&'static str>,
        /// Base of logins.
        #[serde(serialize_with = "address")]
        login_url: Address,
        /// Base of API calls.
        #[serde(serialize_with = "address")]
        api_url: Address,
        /// Whether clients of this platform have several secrets, each with an id.
        secrets_api: bool,
    },
    /// NICE CXone.
    Cxone {
        /// Which login flow.
        #[serde(flatten)]
        login: CxoneLoginConfig,
        /// Origins that discovery may name beside the platform's own domains.
        #[serde(serialize_with = "addresses")]
        allowed_origins: Vec<Address>,
        /// How the application was registered.
        #[serde(serialize_with = "client_auth")]
        auth_method: ClientAuth,
    },
    /// Any issuer of RFC 6749.
    Oauth2 {
        /// Where its token endpoint is.
        #[serde(flatten)]
        source: OAuth2SourceConfig,
        /// Base of API calls.
        #[serde(serialize_with = "address")]
        api_url: Address,
        /// Scopes to ask for.
        scopes: Vec<String>,
        /// `audience` to ask for.
        audience: Option<String>,
        /// How the client authenticates; none takes what the metadata offers.
        #[serde(serialize_with = "optional_client_auth")]
        auth_method: Option<ClientAuth>,
        /// Life of a token whose answer does not tell it.
        #[serde(serialize_with = "optional_duration")]
        assumed_lifetime: Option<Duration>,
        /// Whether its token endpoint is keyholder's own and its clients are those of `keyholder client`.
        own_clients: bool,
    },
}

impl PlatformDetail {
    /// Whether its clients are this keyholder's own, whose secrets need no rotator to be replaced.
    pub fn has_own_clients(&self) -> bool {
        matches!(self, Self::Oauth2 { own_clients: true, .. })
    }

    /// Every address that it names.
    pub fn addresses(&self) -> Vec<&Address> {
        match self {
            Self::Genesys { login_url, api_url, .. } => vec![login_url, api_url],
            Self::Cxone { login: CxoneLoginConfig::Global { issuer }, .. } => vec![issuer],
            Self::Cxone { login: CxoneLoginConfig::Regional { auth_base, api_url }, .. } => vec![auth_base, api_url],
            Self::Oauth2 { source: OAuth2SourceConfig::Discovered { issuer }, api_url, .. } => vec![issuer, api_url],
            Self::Oauth2 { source: OAuth2SourceConfig::Known { token_url }, api_url, .. } => vec![token_url, api_url],
        }
    }
}

/// The login flows of CXone.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum CxoneLoginConfig {
    /// Application and access key at the global issuer; the API base is discovered.
    Global {
        /// The issuer.
        #[serde(serialize_with = "address")]
        issuer: Address,
    },
    /// Access key alone at a regional host.
    Regional {
        /// The regional host.
        #[serde(serialize_with = "address")]
        auth_base: Address,
        /// Base of API calls, which this flow does not tell.
        #[serde(serialize_with = "address")]
        api_url: Address,
    },
}

/// Where an issuer's token endpoint is.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum OAuth2SourceConfig {
    /// Named by RFC 8414 metadata of this issuer.
    Discovered {
        /// The issuer.
        #[serde(serialize_with = "address")]
        issuer: Address,
    },
    /// Here.
    Known {
        /// The token endpoint.
        #[serde(serialize_with = "address")]
        token_url: Address,
    },
}

/// What keyholder logs in with at a platform.
#[derive(Clone, Debug, Serialize)]
pub struct CredentialConfig {
    /// Where.
    pub platform: PlatformName,
    /// Where its document is.
    #[serde(serialize_with = "store_reference")]
    pub secret: SecretReference,
    /// The environment that it belongs to, such as `production`.
    pub environment: Option<EnvironmentName>,
    /// How long before its expiry a token is renewed.
    #[serde(serialize_with = "optional_duration")]
    pub early_refresh: Option<Duration>,
    /// The organisation's inactivity timeout for tokens.
    #[serde(serialize_with = "optional_duration")]
    pub idle_timeout: Option<Duration>,
    /// How its secret is rotated; none is not at all.
    pub rotation: Option<CredentialRotationConfig>,
    /// Set where users log in with it.
    pub sessions: Option<SessionsConfig>,
}

fn store_reference<S: Serializer>(value: &SecretReference, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// As it is written: four octal digits.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn optional_mode<S: Serializer>(value: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
    value.map(|mode| format!("{mode:04o}")).serialize(to)
}

/// A list, as it is written.
#[allow(clippy::ref_option, reason = "serde hands over a reference")]
fn source<S: Serializer>(value: &Option<Source>, to: S) -> Result<S::Ok, S::Error> {
    let list = |source: Source| {
        let (v4, v6) = (source.v4.map(|ip| ip.to_string()), source.v6.map(|ip| ip.to_string()));
        v4.into_iter().chain(v6).collect::<Vec<_>>()
    };
    value.map(list).serialize(to)
}

fn access<S: Serializer>(value: &AccessConfig, to: S) -> Result<S::Ok, S::Error> {
    match value {
        AccessConfig::Off => to.serialize_str("off"),
        AccessConfig::Stdout => to.serialize_str("stdout"),
        AccessConfig::File(path) => path.serialize(to),
    }
}

fn address<S: Serializer>(value: &Address, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(value.text())
}

#[allow(clippy::ref_option, reason = "serde hands over a reference")]
fn optional_address<S: Serializer>(value: &Option<Address>, to: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(Address::text).serialize(to)
}

fn addresses<S: Serializer>(values: &[Address], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(Address::text))
}

fn auth_name(value: ClientAuth) -> &'static str {
    match value {
        ClientAuth::Basic => "basic",
        ClientAuth::Post => "post",
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn client_auth<S: Serializer>(value: &ClientAuth, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(auth_name(*value))
}

#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn optional_client_auth<S: Serializer>(value: &Option<ClientAuth>, to: S) -> Result<S::Ok, S::Error> {
    value.map(auth_name).serialize(to)
}

#[allow(clippy::ref_option, reason = "serde hands over a reference")]
fn optional_duration<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    value.map(super::duration::format).serialize(to)
}
