//! Rate and size limits. Invariant: the defaults are the platform's published values; where none is published, the
//! comment says what the default rests on.

use serde::{Deserialize, Serialize};

/// Rate and size limits; `PUT /_sandbox/limits` replaces them at run time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// API requests per access token and window (`client.credentials.token.rate.per.minute`).
    pub requests_per_token: u32,
    /// Length of that window in seconds.
    pub window_seconds: u64,
    /// API requests per client and minute over all its tokens (`org.app.user.rate.per.minute`).
    pub requests_per_client_minute: u32,
    /// Token requests per client and minute. The number is not published: Genesys measured 50 logins in about 60 s.
    pub logins_per_minute: u32,
    /// Stricter limits of single endpoints, per token.
    pub endpoints: Vec<EndpointLimit>,
    /// Largest request body in bytes (`request.bytes.max`).
    pub request_bytes_max: usize,
    /// Largest body of an upload operation in bytes.
    pub upload_bytes_max: usize,
    /// Connections open at once per listener; more are closed on arrival.
    pub connections_max: usize,
    /// Entries that the request journal keeps.
    pub journal_entries_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            requests_per_token: 300,
            window_seconds: 60,
            requests_per_client_minute: 3_000,
            logins_per_minute: 60,
            endpoints: Vec::new(),
            request_bytes_max: 512_000,
            // Uploads have no published limit of their own; this keeps a mistaken client from filling the memory.
            upload_bytes_max: 64 * 1024 * 1024,
            // Four times the thousand connections that a load test opens, well under the usual descriptor limit.
            connections_max: 4_096,
            journal_entries_max: 20_000,
        }
    }
}

/// A stricter limit for one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointLimit {
    /// HTTP method; absent means any.
    #[serde(default)]
    pub method: Option<String>,
    /// Path template as in the published swagger, such as `/api/v2/users/{userId}`.
    pub path: String,
    /// Requests per token and window.
    pub requests: u32,
    /// Length of the window in seconds.
    pub window_seconds: u64,
}
