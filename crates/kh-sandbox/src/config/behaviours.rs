//! Switches for what the platforms do not document. Invariant: a rule is here exactly when no official source states
//! it; each default is the reading that the platform's wording suggests.

use serde::{Deserialize, Serialize};

/// HTTP status of a wrong client secret at the token endpoint (undocumented by Genesys).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrongSecretStatus {
    /// 400 `invalid_client`.
    #[serde(rename = "400")]
    BadRequest,
    /// 401 `invalid_client`, RFC 6749 section 5.2.
    #[default]
    #[serde(rename = "401")]
    Unauthorized,
}

/// HTTP status of the token endpoint's own rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginLimitStatus {
    /// 400 `invalid_request` with "rate limit exceeded", seen by the official Terraform provider.
    #[default]
    #[serde(rename = "400")]
    BadRequest,
    /// 429 with `Retry-After`.
    #[serde(rename = "429")]
    TooManyRequests,
}

/// Error code of an API answer 429; the published swagger lists both on every operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateLimitCode {
    /// "Rate limit exceeded the maximum `[n]` requests within `[s]` seconds".
    #[default]
    #[serde(rename = "too.many.requests")]
    TooManyRequests,
    /// The same, and "Retry the request in `[s]` seconds".
    #[serde(rename = "too.many.requests.retry.after")]
    TooManyRequestsRetryAfter,
}

/// Undocumented behaviour of Genesys Cloud.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent unknown of the platform, named by its question"
)]
pub struct Behaviours {
    /// What a wrong secret is answered with.
    pub wrong_secret_status: WrongSecretStatus,
    /// What too many logins are answered with.
    pub login_limit_status: LoginLimitStatus,
    /// Which code an API answer 429 carries.
    pub rate_limit_code: RateLimitCode,
    /// Tokens made with a client's former secret stay valid after `POST .../secret`.
    pub tokens_survive_regeneration: bool,
    /// Tokens stay valid when their client becomes `inactive` ("Access tokens cannot be created ..." suggests yes).
    pub tokens_survive_inactive: bool,
    /// Offers `/api/v2/oauth/clients/{id}/secrets` with several live secrets. Genesys Cloud has no such API; other
    /// platforms do, and overlap rotation can be tried against it.
    pub secrets_api: bool,
    /// How many secrets a client may hold when `secrets_api` is on.
    pub max_secrets_per_client: u32,
    /// The most OAuth clients of an organisation (code `auth.too.many.clients`; the number is not published).
    pub max_clients: u32,
    /// Audit action of a regenerated secret (undocumented; `Update`, `Reset` and `Rotate` are known words).
    pub regenerate_audit_action: String,
    /// A client's allowed addresses are enforced (announced 2026-04, no date): code `ip.not.authorized`.
    pub enforce_allowed_ips: bool,
    /// Seconds by which the `Date` header of every answer is ahead of (or behind) the sandbox's time.
    pub date_skew_seconds: i64,
    /// Seconds by which tokens really live longer (or shorter) than `expires_in` says.
    pub token_life_skew_seconds: i64,
    /// Smallest and largest `accessTokenValiditySeconds`. Sandboxes for expiry tests lower the first.
    pub token_life_bounds: (u64, u64),
    /// Seconds after creation during which reading a client still answers 404 (the platform's auth service is
    /// eventually consistent, says its Terraform provider).
    pub client_visible_after_seconds: u64,
    /// Seconds after creation during which the list of clients does not show a client yet (the same caches).
    pub client_listed_after_seconds: u64,
    /// Seconds after creation during which a new client's secret is still refused: roles "settle" for about 10 s, says
    /// the platform's Terraform provider, and what a login meets meanwhile is not stated.
    pub client_settle_seconds: u64,
    /// Seconds by which usage figures lag behind. The platform says "up to 24 hours" (86400); the default is a platform
    /// that is up to date.
    pub usage_lag_seconds: u64,
    /// Looks at a usage query that are answered `Running` before it is `Complete` (both words are published, how long a
    /// query runs is not).
    pub usage_running_looks: u32,
    /// Seconds after regeneration during which the new secret is still refused.
    pub secret_settle_seconds: u64,
    /// Enforce scopes on user tokens; organisations do not by default.
    pub enforce_scopes: bool,
    /// A refresh token works once, and a second use ends its login (RFC 9700 section 4.14.2). Whether the platform does
    /// so is not published.
    pub refresh_tokens_rotate: bool,
    /// Seconds after its first use in which such a refresh token may be used again, as some issuers allow for an answer
    /// that was lost.
    pub refresh_reuse_grace_seconds: u64,
}

impl Default for Behaviours {
    fn default() -> Self {
        Self {
            wrong_secret_status: WrongSecretStatus::default(),
            login_limit_status: LoginLimitStatus::default(),
            rate_limit_code: RateLimitCode::default(),
            tokens_survive_regeneration: true,
            tokens_survive_inactive: true,
            secrets_api: false,
            max_secrets_per_client: 2,
            max_clients: 1_000,
            regenerate_audit_action: "Update".to_owned(),
            enforce_allowed_ips: false,
            date_skew_seconds: 0,
            token_life_skew_seconds: 0,
            token_life_bounds: (300, 172_800),
            client_visible_after_seconds: 0,
            client_listed_after_seconds: 0,
            client_settle_seconds: 0,
            usage_lag_seconds: 0,
            usage_running_looks: 0,
            secret_settle_seconds: 0,
            enforce_scopes: false,
            refresh_tokens_rotate: false,
            refresh_reuse_grace_seconds: 0,
        }
    }
}

/// Undocumented behaviour of NICE CXone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CxoneBehaviours {
    /// Deactivating or deleting an access key also kills the tokens made with it.
    pub key_deactivation_kills_tokens: bool,
    /// The most access keys of one user (a documented maximum was not found).
    pub max_access_keys_per_user: u32,
    /// Rows per page of the list of access keys; absent means all on one (the published `_links` have a `next`, a size
    /// is not documented).
    pub access_keys_per_page: Option<u32>,
    /// A refresh token works once only.
    pub refresh_tokens_rotate: bool,
    /// An ACD request without `Accept` is refused with "No known way to render data", as a public client reports.
    pub require_accept: bool,
    /// Status of a wrong access key or client secret: 400 (RFC 6749 `invalid_grant`) or 401.
    pub wrong_secret_status: WrongSecretStatus,
}

impl Default for CxoneBehaviours {
    fn default() -> Self {
        Self {
            key_deactivation_kills_tokens: false,
            max_access_keys_per_user: 10,
            access_keys_per_page: None,
            refresh_tokens_rotate: false,
            require_accept: true,
            wrong_secret_status: WrongSecretStatus::BadRequest,
        }
    }
}
