//! Port to durable state: clients, issued tokens and settings.

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::{
    Blame, ClientId, ClientName, Code, Confirmation, CredentialName, EnvironmentName, Retry, Sha256, UnixMillis,
    audit::AuditEvent,
};

/// One line of a client's allow-list as it was written, for example `GET /api/v2/users/**`; parsed by `kh-policy`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowRule(pub String);

/// What a client's access tokens are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenFormat {
    /// `kht_...`: known to keyholder alone, and only as long as keyholder has it.
    #[default]
    Opaque,
    /// A signed JWT of RFC 9068, which whoever has keyholder's public keys can verify.
    Jwt,
}

impl TokenFormat {
    /// Its name in the configuration, in the state and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Jwt => "jwt",
        }
    }
}

impl std::str::FromStr for TokenFormat {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "opaque" => Ok(Self::Opaque),
            "jwt" => Ok(Self::Jwt),
            _ => Err("a token format is opaque or jwt"),
        }
    }
}

/// What a client's access tokens must be bound to, so that nobody but the client can use them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenBinding {
    /// Nothing has to be; a login with a `DPoP` proof gets a bound token all the same (RFC 9449 section 5).
    #[default]
    None,
    /// The certificate of the client's connection (RFC 8705 section 3.4, `tls_client_certificate_bound_access_tokens`).
    Certificate,
    /// The client's key (RFC 9449 section 5.2, `dpop_bound_access_tokens`).
    Dpop,
}

impl TokenBinding {
    /// Its name in the state and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Certificate => "certificate",
            Self::Dpop => "dpop",
        }
    }

    /// Whether a token that is bound like this, or to nothing, is bound as it must be. One that is not was issued before
    /// its client had to have bound tokens, or under another kind of binding.
    pub fn is_met(self, bound: Option<&Confirmation>) -> bool {
        match self {
            Self::None => true,
            Self::Certificate => matches!(bound, Some(Confirmation::X5tS256(_))),
            Self::Dpop => matches!(bound, Some(Confirmation::Jkt(_))),
        }
    }
}

impl std::str::FromStr for TokenBinding {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "certificate" => Ok(Self::Certificate),
            "dpop" => Ok(Self::Dpop),
            _ => Err("a token binding is none, certificate or dpop"),
        }
    }
}

/// A keyholder client as it is stored: its secrets only as digests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "four independent rights, not a state")]
pub struct ClientRecord {
    /// The `client_id` that keyholder issued.
    pub id: ClientId,
    /// What a person calls it; unique.
    pub name: ClientName,
    /// The platform credential that its calls use; none means the client may call no platform.
    pub credential: Option<CredentialName>,
    /// The environment that it belongs to: its credential's when it was added. None: not bound yet, because its
    /// credential had no environment, or because an older keyholder added it.
    #[serde(default)]
    pub environment: Option<EnvironmentName>,
    /// SHA-256 of each live secret (`khs_...`, 238 bits of entropy, so that a plain digest cannot be guessed back).
    /// The newest stands first.
    pub secret_digests: Vec<Sha256Hex>,
    /// When every digest but the first stops being accepted; none means that only the first is.
    #[serde(default)]
    pub old_secrets_until: Option<UnixMillis>,
    /// Scopes that its tokens may have, those of keyholder's own API and of the APIs in `audience`.
    pub scopes: Vec<String>,
    /// What its access tokens are.
    #[serde(default)]
    pub token_format: TokenFormat,
    /// Whom its tokens are for: the identifiers of the APIs that may take them (`aud`, RFC 9068 section 2.2). For a
    /// client that may introspect: the APIs that it speaks for.
    #[serde(default)]
    pub audience: Vec<String>,
    /// Whether it may ask what a token is (RFC 7662).
    #[serde(default)]
    pub may_introspect: bool,
    /// What its tokens must be bound to.
    #[serde(default)]
    pub token_binding: TokenBinding,
    /// The allow-list.
    pub allow: Vec<AllowRule>,
    /// Whether every call is allowed, except the guarded ones.
    pub allow_all: bool,
    /// Whether operations that return or change platform secrets are allowed as well.
    pub allow_secret_operations: bool,
    /// Life of the tokens issued to it, in seconds.
    pub token_ttl_s: u64,
    /// Whether it may log in and call.
    pub enabled: bool,
    /// When it was added.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
}

/// A digest in its stored form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex(pub Sha256);

impl TryFrom<String> for Sha256Hex {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Sha256::from_hex(&text).map(Self).ok_or("not 64 hex digits")
    }
}

impl From<Sha256Hex> for String {
    fn from(digest: Sha256Hex) -> Self {
        digest.0.to_hex()
    }
}

/// A token that keyholder issued, as it is stored: the token itself only as a digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRecord {
    /// SHA-256 of the token.
    pub digest: Sha256,
    /// To whom it was issued.
    pub client: ClientId,
    /// When.
    pub issued_at: UnixMillis,
    /// When it stops being valid.
    pub expires_at: UnixMillis,
    /// The scopes that the login asked for (RFC 6749 section 3.3); none means all that the client has.
    pub scopes: Option<Vec<String>>,
    /// What its sender must prove to hold; none: it is a bearer token.
    pub confirmation: Option<Confirmation>,
}

/// Why the state refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No client of this id or name.
    #[error("there is no client {0:?}")]
    NoSuchClient(String),
    /// The name is taken.
    #[error("a client named {0} exists already")]
    NameTaken(ClientName),
    /// Somebody else changed the client since it was read.
    #[error("the client {0} was changed by somebody else meanwhile")]
    Changed(ClientName),
    /// Written by a newer keyholder.
    #[error("the state has schema {found}; this keyholder knows schemas up to {known}")]
    TooNew {
        /// Schema found.
        found: u32,
        /// Newest schema that this binary knows.
        known: u32,
    },
    /// The database is cut short or not a database.
    #[error("the state is damaged: {0}")]
    Damaged(String),
    /// It cannot be read or written now: disk full, read-only, locked.
    #[error("the state is not available: {reason}")]
    Unavailable {
        /// What failed.
        reason: String,
        /// Its cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl StateError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NoSuchClient(_) => Code::NOT_FOUND,
            Self::NameTaken(_) => Code::USAGE,
            Self::Changed(_) => Code::STORE_CONFLICT,
            Self::TooNew { .. } => Code::STORE_TOO_NEW,
            Self::Damaged(_) => Code::STATE_DAMAGED,
            Self::Unavailable { .. } => Code::STATE_UNAVAILABLE,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NoSuchClient(_) | Self::NameTaken(_) | Self::Changed(_) => Blame::Caller,
            Self::TooNew { .. } | Self::Damaged(_) | Self::Unavailable { .. } => Blame::Store,
        }
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable { .. } => Retry::After(std::time::Duration::from_secs(1)),
            Self::Changed(_) => Retry::Now,
            Self::NoSuchClient(_) | Self::NameTaken(_) | Self::TooNew { .. } | Self::Damaged(_) => Retry::Never,
        }
    }
}

/// Durable state. When a future resolves with `Ok`, the change is on disk and survives SIGKILL.
pub trait StateStore: Send + Sync {
    /// Every client.
    fn clients(&self) -> BoxFuture<'_, Result<Vec<ClientRecord>, StateError>>;

    /// Adds a client; its name must be free.
    fn add_client(&self, client: ClientRecord, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>>;

    /// Replaces `before` by `after`, which has the same id and may have another name. A stored record that is not
    /// `before` any more is left alone and answered with [`StateError::Changed`]: two people who change one client at
    /// once must not undo each other, for example a disable.
    fn update_client(
        &self,
        before: ClientRecord,
        after: ClientRecord,
        event: AuditEvent,
    ) -> BoxFuture<'_, Result<(), StateError>>;

    /// Removes a client and every token issued to it.
    fn remove_client(&self, id: ClientId, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>>;

    /// Records an issued token. [`StateError::NoSuchClient`] when its client was removed or disabled meanwhile;
    /// recording the same token again is no error.
    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<(), StateError>>;

    /// Forgets a token; forgetting an unknown one is no error.
    fn remove_token(&self, digest: Sha256) -> BoxFuture<'_, Result<(), StateError>>;

    /// Looks one token up, for a token that another process issued.
    fn token(&self, digest: Sha256) -> BoxFuture<'_, Result<Option<TokenRecord>, StateError>>;

    /// Every token that is valid after `now`; older ones may be deleted on the way.
    fn live_tokens(&self, now: UnixMillis) -> BoxFuture<'_, Result<Vec<TokenRecord>, StateError>>;

    /// A number that differs whenever another process, or another handle of this one, may have changed anything, and
    /// after changes of clients and settings through this handle. Tokens written through this handle alone do not
    /// count: their issuer knows them already. Cheap: it is polled.
    fn change_counter(&self) -> BoxFuture<'_, Result<u64, StateError>>;

    /// Reads a setting.
    fn setting(&self, key: &str) -> BoxFuture<'_, Result<Option<String>, StateError>>;

    /// Writes a setting.
    fn set_setting(&self, key: &str, value: &str, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>>;
}
