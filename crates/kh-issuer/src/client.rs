//! A client as the rest of keyholder sees it: its stored record with the allow-list already parsed, so that a
//! request never meets a rule that might not parse.

use std::{collections::BTreeSet, time::Duration};

use kh_core::{
    ClientName, CredentialName, EnvironmentName, Sha256, UnixMillis,
    port::{AllowRule, ClientRecord, TokenBinding, TokenFormat, state_store::Sha256Hex},
    scope::is_scope_byte,
};
use kh_policy::AllowList;

use crate::{
    IssuerError,
    access_token::{GRANTS_BYTES_MAX, grants_bytes},
    signing::JWT_TTL_MAX,
};

/// Live secrets of one client: the newest and, during an overlap, the one before it.
pub(crate) const SECRETS_MAX: usize = 2;

/// Scopes of one client; a person wrote each of them. What those of a JWT may have together is [`GRANTS_BYTES_MAX`].
const SCOPES_MAX: usize = 100;

/// Longest scope, in bytes.
const SCOPE_MAX: usize = 128;

/// Identifiers of APIs in one client's audience; a person wrote each of them.
const AUDIENCE_MAX: usize = 16;

/// Longest identifier of an API, in bytes: a URL, or a name that somebody made up.
const AUDIENCE_BYTES_MAX: usize = 256;

/// A client, parsed once and shared by all its sessions.
#[derive(Debug)]
pub struct Client {
    /// The record as it is stored.
    pub record: ClientRecord,
    /// What it may call on a platform.
    pub allow: AllowList,
}

/// What a person says when adding a client. Everything is checked by `Issuer::add_client`.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// What people call it; unique.
    pub name: ClientName,
    /// The platform credential that its calls use; none means it may call no platform.
    pub credential: Option<CredentialName>,
    /// The environment of that credential.
    pub environment: Option<EnvironmentName>,
    /// Scopes that its tokens may have (scope-tokens of RFC 6749 section 3.3).
    pub scopes: Vec<String>,
    /// What its tokens are, and for whom.
    pub tokens: NewTokens,
    /// The allow-list as written, for example `GET /api/v2/users/**`.
    pub allow: Vec<AllowRule>,
    /// Whether every call is allowed, except the guarded ones.
    pub allow_all: bool,
    /// Whether operations that return or change platform secrets are allowed as well.
    pub allow_secret_operations: bool,
    /// Life of its tokens in whole seconds, [`NewClient::TTL_MIN`] to [`NewClient::TTL_MAX`], of JWTs to
    /// [`JWT_TTL_MAX`]; none means [`NewClient::TTL_DEFAULT`], for JWTs [`NewClient::JWT_TTL_DEFAULT`].
    pub ttl: Option<Duration>,
}

/// What a new client's tokens are, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTokens {
    /// Opaque, or JWTs.
    pub format: TokenFormat,
    /// The identifiers of the APIs that may take them; JWTs need one at least (RFC 9068 section 2.2).
    pub audience: Vec<String>,
    /// Whether it may introspect tokens: those of its own audience, or every token where it has none.
    pub may_introspect: bool,
    /// What they must be bound to.
    pub binding: TokenBinding,
}

/// What happens to the old secret when a new one is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecretOverlap {
    /// The old secret stops working at once.
    #[default]
    None,
    /// The old secret keeps working for this long beside the new one, at most [`SecretOverlap::MAX`].
    For(Duration),
}

impl SecretOverlap {
    /// 90 days: an overlap that never ends is no rotation.
    pub const MAX: Duration = Duration::from_hours(90 * 24);
}

impl NewClient {
    /// 24 hours, as the platform's own tokens: official SDKs do not log in again by themselves on a 401.
    pub const TTL_DEFAULT: Duration = Duration::from_hours(24);
    /// 5 minutes: whoever verifies a JWT by itself learns of a revocation late or never, so it lives as long as a call
    /// and its retries need.
    pub const JWT_TTL_DEFAULT: Duration = Duration::from_mins(5);
    /// One second, for tests of an application.
    pub const TTL_MIN: Duration = Duration::from_secs(1);
    /// 365 days.
    pub const TTL_MAX: Duration = Duration::from_hours(365 * 24);

    /// The life of its tokens in seconds, and the parsed allow-list.
    pub(crate) fn check(&self) -> Result<(u64, AllowList), IssuerError> {
        let (usual, longest, told) = match self.tokens.format {
            TokenFormat::Opaque => (Self::TTL_DEFAULT, Self::TTL_MAX, "365 d"),
            TokenFormat::Jwt => (Self::JWT_TTL_DEFAULT, JWT_TTL_MAX, "24 h"),
        };
        let ttl = self.ttl.unwrap_or(usual);
        if ttl < Self::TTL_MIN || ttl > longest || ttl.subsec_nanos() != 0 {
            return Err(IssuerError::Invalid(format!("the ttl must be whole seconds from 1 s to {told}")));
        }
        if self.scopes.len() > SCOPES_MAX {
            return Err(IssuerError::Invalid(format!("a client has at most {SCOPES_MAX} scopes")));
        }
        if let Some(bad) = self.scopes.iter().find(|scope| !is_scope(scope)) {
            return Err(IssuerError::Invalid(format!(
                "the scope {bad:?} is not valid: use 1 to {SCOPE_MAX} printable ASCII characters without space, '\"' and '\\'"
            )));
        }
        if uuid::Uuid::parse_str(self.name.as_str()).is_ok() {
            return Err(IssuerError::Invalid("a client's name must not look like a client id".to_owned()));
        }
        self.check_tokens()?;
        let allow = AllowList::parse(&self.allow, self.allow_all, self.allow_secret_operations);
        Ok((ttl.as_secs(), allow.map_err(IssuerError::Allow)?))
    }
}

impl NewClient {
    /// A JWT is for the user's own APIs: it names them, and no platform call goes out with it.
    fn check_tokens(&self) -> Result<(), IssuerError> {
        let invalid = |text: String| Err(IssuerError::Invalid(text));
        let NewTokens { format, audience, .. } = &self.tokens;
        if audience.len() > AUDIENCE_MAX {
            return invalid(format!("a client has at most {AUDIENCE_MAX} audiences"));
        }
        let is_fine = |text: &str| {
            (1..=AUDIENCE_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
        };
        if let Some(bad) = audience.iter().find(|text| !is_fine(text)) {
            return invalid(format!(
                "the audience {bad:?} is not valid: use 1 to {AUDIENCE_BYTES_MAX} printable ASCII characters without space, '\"' and '\\'"
            ));
        }
        for list in [&self.scopes, audience] {
            let mut seen = BTreeSet::new();
            if let Some(twice) = list.iter().find(|text| !seen.insert(text.as_str())) {
                return invalid(format!("{twice:?} is there twice"));
            }
        }
        if *format == TokenFormat::Opaque {
            return Ok(());
        }
        if audience.is_empty() {
            return invalid("a client whose tokens are JWTs needs an audience: the identifier of your API".to_owned());
        }
        if self.credential.is_some() || !self.allow.is_empty() || self.allow_all || self.allow_secret_operations {
            let text =
                "a client whose tokens are JWTs calls your own API: it has no platform credential and no allow-list";
            return invalid(text.to_owned());
        }
        let bytes = grants_bytes(&self.scopes, audience);
        if bytes > GRANTS_BYTES_MAX {
            return invalid(format!(
                "the scopes and audiences of a client whose tokens are JWTs have at most {GRANTS_BYTES_MAX} bytes in a token, not {bytes}: servers refuse longer ones"
            ));
        }
        Ok(())
    }
}

fn is_scope(text: &str) -> bool {
    (1..=SCOPE_MAX).contains(&text.len()) && text.bytes().all(is_scope_byte)
}

impl Client {
    /// A client out of the store. Rules that do not parse any more allow nothing, and someone is told: rules are
    /// checked when a client is added, so this is an older or newer program's rule, or a hand on the database.
    pub(crate) fn of_stored(record: ClientRecord) -> Self {
        let allow = AllowList::parse(&record.allow, record.allow_all, record.allow_secret_operations);
        let allow = allow.unwrap_or_else(|error| {
            tracing::error!(
                client.id = %record.id,
                client.name = %record.name,
                "the stored allow-list does not parse, so the client may call nothing: {error}"
            );
            AllowList::default()
        });
        Self { record, allow }
    }

    /// [`live_secrets`] in places of their own; unused ones stay empty.
    pub(crate) fn live_secrets(&self, now: UnixMillis) -> [Option<Sha256>; SECRETS_MAX] {
        let mut live = live_secrets(&self.record, now).map(|digest| digest.0);
        std::array::from_fn(|_| live.next())
    }
}

/// The digests that a login may match at `now`, the newest first.
pub(crate) fn live_secrets(record: &ClientRecord, now: UnixMillis) -> impl Iterator<Item = &Sha256Hex> {
    let overlap = record.old_secrets_until.is_some_and(|until| now < until);
    record.secret_digests.iter().take(if overlap { SECRETS_MAX } else { 1 })
}
