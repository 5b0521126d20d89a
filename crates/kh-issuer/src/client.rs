//! A client as the rest of keyholder sees it: its stored record with the allow-list already parsed, so that a
//! request never meets a rule that might not parse.

use std::time::Duration;

use kh_core::{
    ClientName, CredentialName,
    port::{AllowRule, ClientRecord},
};
use kh_policy::AllowList;

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
    /// Scopes of keyholder's own API (scope-tokens of RFC 6749 section 3.3).
    pub scopes: Vec<String>,
    /// The allow-list as written, for example `GET /api/v2/users/**`.
    pub allow: Vec<AllowRule>,
    /// Whether every call is allowed, except the guarded ones.
    pub allow_all: bool,
    /// Whether operations that return or change platform secrets are allowed as well.
    pub allow_secret_operations: bool,
    /// Life of its tokens, 1 s to 365 days; none means [`NewClient::DEFAULT_TTL`].
    pub ttl: Option<Duration>,
}

/// What happens to the old secret when a new one is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecretOverlap {
    /// The old secret stops working at once.
    #[default]
    None,
    /// The old secret keeps working for this long beside the new one.
    For(Duration),
}

impl NewClient {
    /// 24 hours, as the platform's own tokens: official SDKs do not log in again by themselves on a 401.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(86_400);
}
