//! Protected APIs and the issuers whose tokens they take: `[issuer.NAME]`, `[inbound.NAME]`.

use std::{path::PathBuf, time::Duration};

use kh_core::{CredentialName, PlatformName, SecretReference};
use kh_gateway::inbound::IdentityField;
use kh_platform::{Address, ClientAuth};
use kh_policy::genesys::Basis;
use serde::{Serialize, Serializer};

use super::{ClientCertificate, ListenAddress, address, client_auth, optional_duration, store_reference};

/// `[issuer.NAME]`
#[derive(Clone, Debug, Serialize)]
pub struct TrustedIssuerConfig {
    /// Who vouches for its tokens.
    #[serde(flatten)]
    pub detail: TrustDetail,
    /// Audiences of which a token must name one; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// How far its clock and ours may differ; none is 30 s.
    #[serde(serialize_with = "optional_duration")]
    pub leeway: Option<Duration>,
    /// How connections to it are made.
    #[serde(flatten)]
    pub way: IssuerWay,
}

/// How an issuer is reached.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IssuerWay {
    /// Whether it may have an address that is not public.
    #[serde(skip_serializing_if = "is_false")]
    pub private_network: bool,
    /// PEM file of a private CA to trust beside the system's.
    pub extra_ca: Option<PathBuf>,
}

/// Who vouches for an issuer's tokens, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TrustDetail {
    /// Its keys: the tokens are JWTs.
    Jwks {
        /// The values of `iss` that are its tokens'.
        iss: Vec<String>,
        /// Where the keys are.
        #[serde(flatten)]
        keys: KeysConfig,
        /// Algorithms that are taken; empty is every one whose key is public.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        algorithms: Vec<String>,
        /// What `typ` must be.
        #[serde(skip_serializing_if = "TokenType::is_any")]
        typ: TokenType,
        /// How long ago a token may have been issued; none is any time.
        #[serde(serialize_with = "optional_duration")]
        max_token_age: Option<Duration>,
        /// The longest life of a token; none is 31 days.
        #[serde(serialize_with = "optional_duration")]
        max_life: Option<Duration>,
    },
    /// Its introspection endpoint (RFC 7662).
    Introspection {
        /// The values of `iss` that its answers may have.
        iss: Vec<String>,
        /// Where the endpoint is.
        #[serde(flatten)]
        at: EndpointConfig,
        /// keyholder's own credential there.
        #[serde(serialize_with = "store_reference")]
        secret: SecretReference,
        /// How keyholder authenticates.
        #[serde(serialize_with = "client_auth")]
        auth_method: ClientAuth,
        /// How its opaque tokens begin; none is all that are nobody else's.
        token_prefix: Option<String>,
        /// How long an answer is believed; none is a minute.
        #[serde(serialize_with = "optional_duration")]
        max_age: Option<Duration>,
        /// The longest life of a token; none is 31 days, and unknown for tokens that tell no times.
        #[serde(serialize_with = "optional_duration")]
        max_life: Option<Duration>,
    },
    /// Genesys Cloud's opaque tokens.
    Genesys {
        /// The platform that is asked.
        platform: PlatformName,
        /// The organisation whose tokens are taken.
        organization: String,
        /// Reads the roles of client-credentials callers.
        credential: CredentialName,
        /// How long an answer is believed; none is a minute.
        #[serde(serialize_with = "optional_duration")]
        max_age: Option<Duration>,
        /// The longest life of a token; none is unknown.
        #[serde(serialize_with = "optional_duration")]
        max_life: Option<Duration>,
    },
    /// keyholder itself.
    Keyholder {},
}

impl TrustDetail {
    /// The credential that keyholder needs to ask it.
    pub fn secret(&self) -> Option<&SecretReference> {
        match self {
            Self::Introspection { secret, .. } => Some(secret),
            Self::Jwks { .. } | Self::Genesys { .. } | Self::Keyholder {} => None,
        }
    }

    /// The kind as the configuration names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Jwks { .. } => "jwks",
            Self::Introspection { .. } => "introspection",
            Self::Genesys { .. } => "genesys",
            Self::Keyholder {} => "keyholder",
        }
    }
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeysConfig {
    /// In a file.
    JwksFile(PathBuf),
    /// At an address, which may have a query.
    JwksUrl(String),
    /// Where the metadata of this issuer says (RFC 8414).
    #[serde(serialize_with = "address")]
    Discover(Address),
}

/// Where an introspection endpoint is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointConfig {
    /// Here.
    IntrospectionUrl(String),
    /// Where the metadata of this issuer says.
    #[serde(serialize_with = "address")]
    Discover(Address),
}

/// What the `typ` of a JWT must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub enum TokenType {
    /// None, `JWT` or `at+jwt`.
    #[default]
    #[serde(rename = "jwt")]
    Jwt,
    /// `at+jwt`, with all that RFC 9068 wants.
    #[serde(rename = "at+jwt")]
    AccessToken,
}

impl TokenType {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_any(&self) -> bool {
        *self == Self::Jwt
    }
}

/// `[inbound.NAME]`
#[derive(Clone, Debug, Serialize)]
pub struct InboundConfig {
    /// Where callers connect.
    pub listen: Vec<ListenAddress>,
    /// Base address of the API.
    #[serde(serialize_with = "address")]
    pub upstream: Address,
    /// The issuers whose tokens are taken.
    pub issuers: Vec<String>,
    /// Audiences of which a token must name one here; empty is any that its issuer's section takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// What decides about the built-in operations of Genesys Cloud; none: they are no routes here.
    #[serde(serialize_with = "basis")]
    pub operations: Option<Basis>,
    /// Whether the API gets the caller's `Authorization`.
    #[serde(skip_serializing_if = "is_false")]
    pub pass_authorization: bool,
    /// Whether the API gets the caller's `Host`.
    #[serde(skip_serializing_if = "is_false")]
    pub preserve_host: bool,
    /// Networks of proxies whose header tells the address of a client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// The header that they write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<AddressHeader>,
    /// Networks of proxies that speak the PROXY protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<String>,
    /// PEM file of a private CA to trust beside the system's for the upstream.
    pub extra_ca: Option<PathBuf>,
    /// The certificate that keyholder shows to the upstream.
    #[serde(flatten)]
    pub client: Option<ClientCertificate>,
    /// Whether tokens must be bound to their sender.
    #[serde(skip_serializing_if = "Need::is_optional")]
    pub binding: Need,
    /// Whether proofs need a nonce of ours.
    #[serde(skip_serializing_if = "is_false")]
    pub dpop_nonce: bool,
    /// Addresses by which callers reach the API; empty is the one of each request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// https for callers.
    pub tls: Option<InboundTlsConfig>,
    /// What the API is told of the caller.
    #[serde(rename = "identity_header", skip_serializing_if = "Vec::is_empty")]
    pub identity_headers: Vec<IdentityHeaderConfig>,
    /// Which requests are taken.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteConfig>,
}

/// Whether something may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// It may.
    #[default]
    Optional,
    /// It must be there.
    Required,
}

impl Need {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_optional(&self) -> bool {
        *self == Self::Optional
    }
}

#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn basis<S: Serializer>(value: &Option<Basis>, to: S) -> Result<S::Ok, S::Error> {
    value.map(Basis::as_str).serialize(to)
}

/// The header in which proxies tell the address of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressHeader {
    /// RFC 7239.
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `X-Real-IP`.
    XRealIp,
}

/// Whose client certificates a listener takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientsConfig {
    /// Authorities of callers' certificates; none: no certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a certificate must be there.
    #[serde(skip_serializing_if = "Need::is_optional")]
    pub client_auth: Need,
    /// Names of which a certificate must have one; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client_names: Vec<String>,
}

/// https for callers of a protected API.
#[derive(Clone, Debug, Serialize)]
pub struct InboundTlsConfig {
    /// Certificate chain in PEM, leaf first.
    pub cert: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
    /// Whose client certificates are taken.
    #[serde(flatten)]
    pub clients: ClientsConfig,
}

/// A header that tells the API who calls.
#[derive(Clone, Debug, Serialize)]
pub struct IdentityHeaderConfig {
    /// Its name.
    pub name: String,
    /// What it tells.
    #[serde(flatten, serialize_with = "told")]
    pub tells: IdentityField,
}

/// Requests that are taken, and what they need.
#[derive(Clone, Debug, Serialize)]
pub struct RouteConfig {
    /// Its name in metrics and in the log; none is the request's own text.
    pub name: Option<String>,
    /// `METHOD /path`, one or several.
    #[serde(rename = "match")]
    pub requests: Vec<String>,
    /// Hosts; empty is every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Issuers whose tokens are taken; empty is all of the API's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// Requests without a token are taken.
    #[serde(skip_serializing_if = "is_false")]
    pub public: bool,
    /// Every verified token is taken.
    #[serde(skip_serializing_if = "is_false")]
    pub any_token: bool,
    /// Scopes that a token needs, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Scopes of which a token needs one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any_scope: Vec<String>,
    /// Permissions that a token needs, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// Permissions of which a token needs one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any_permission: Vec<String>,
    /// Whether Basic credentials pass to the API unverified.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_basic: bool,
    /// Whether its tokens must be bound to their sender.
    #[serde(skip_serializing_if = "Need::is_optional")]
    pub binding: Need,
    /// Conditions on claims, all of them.
    #[serde(rename = "condition", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionConfig>,
}

/// A condition on one claim.
#[derive(Clone, Debug, Serialize)]
pub struct ConditionConfig {
    /// Its name, or a JSON pointer to it.
    pub claim: String,
    /// What it must be.
    #[serde(flatten)]
    pub test: ConditionTest,
}

/// What a claim must be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionTest {
    /// This.
    Equals(ScalarConfig),
    /// One of these.
    OneOf(Vec<ScalarConfig>),
    /// A list with this in it.
    Contains(ScalarConfig),
}

/// A value of a claim.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum ScalarConfig {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A truth value.
    Flag(bool),
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn told<S: Serializer>(tells: &IdentityField, to: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let mut map = to.serialize_map(Some(1))?;
    match tells {
        IdentityField::Claim(name) => map.serialize_entry("claim", name)?,
        IdentityField::Subject => map.serialize_entry("field", "subject")?,
        IdentityField::Client => map.serialize_entry("field", "client")?,
        IdentityField::Issuer => map.serialize_entry("field", "issuer")?,
        IdentityField::TokenId => map.serialize_entry("field", "token_id")?,
        IdentityField::Scopes => map.serialize_entry("field", "scopes")?,
        IdentityField::Permissions => map.serialize_entry("field", "permissions")?,
    }
    map.end()
}
