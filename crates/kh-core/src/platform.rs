//! Which kind of platform a credential belongs to: it decides error shapes, guarded operations and endpoints.

use serde::{Deserialize, Serialize};

/// The kinds of platform that keyholder knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlatformKind {
    /// Genesys Cloud CX: opaque tokens, client credentials, `ErrorBody`.
    Genesys,
    /// NICE CXone: access keys, discovery per tenant.
    Cxone,
    /// Any other issuer of RFC 6749, found by RFC 8414 metadata or a token URL.
    Oauth2,
}

impl PlatformKind {
    /// The word used in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Genesys => "genesys",
            Self::Cxone => "cxone",
            Self::Oauth2 => "oauth2",
        }
    }
}
