//! Port to a platform's token endpoint.

use std::time::Duration;

use super::BoxFuture;
use crate::{Blame, Code, Retry, SecretString, credential::CredentialDocument};

/// A successful answer of a token endpoint (RFC 6749 section 5.1), already checked: not empty, a bearer, a life.
#[derive(Debug)]
pub struct IssuedToken {
    /// The access token.
    pub access_token: SecretString,
    /// Life from the moment of issue, as the platform told it.
    pub expires_in: Duration,
    /// Refresh token, where the grant gives one.
    pub refresh_token: Option<SecretString>,
    /// The scopes that the answer names (RFC 6749 section 5.1), where it names any.
    pub scope: Option<String>,
    /// Where API calls with this token go, if the platform tells it per tenant (CXone discovery).
    pub api_base: Option<String>,
    /// Where account operations of this tenant go (CXone `auth_endpoint`), if the platform tells it.
    pub auth_base: Option<String>,
}

crate::assert_closed!(IssuedToken);

/// Why no token came. The variants are what the token core decides by.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The platform refuses this id and secret (`invalid_client`, `invalid_grant`, `unauthorized_client`): trying the
    /// same again may lock the account.
    #[error("the platform refused the credential ({platform_code})")]
    Rejected {
        /// The platform's error code, such as `invalid_client`.
        platform_code: String,
        /// The platform's correlation id.
        correlation_id: Option<String>,
    },
    /// Too many token requests: 429, or Genesys Cloud's 400 `rate limit exceeded`.
    #[error("the platform limits token requests")]
    RateLimited {
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
        /// The platform's correlation id.
        correlation_id: Option<String>,
    },
    /// Not reachable, timed out, 5xx, or an answer that is not a token answer. Worth another try.
    #[error("the token endpoint failed: {reason}")]
    Transient {
        /// What failed, without secrets.
        reason: String,
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
        /// Set when the platform could not be reached at all: the code that says how.
        unreachable: Option<Code>,
        /// The platform's correlation id.
        correlation_id: Option<String>,
    },
    /// The document or the configuration does not fit the platform; nothing was sent.
    #[error("the credential cannot be used: {0}")]
    Unusable(String),
}

impl FetchError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Rejected { .. } => Code::CREDENTIAL_REJECTED,
            Self::RateLimited { .. } => Code::TOKEN_RATE_LIMITED,
            Self::Transient { unreachable: Some(code), .. } => *code,
            Self::Transient { .. } => Code::TOKEN_UNAVAILABLE,
            Self::Unusable(_) => Code::CREDENTIAL_UNUSABLE,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Rejected { .. } | Self::Unusable(_) => Blame::Store,
            Self::RateLimited { .. } | Self::Transient { .. } => Blame::Platform,
        }
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Rejected { .. } | Self::Unusable(_) => Retry::Never,
            Self::RateLimited { retry_after, .. } | Self::Transient { retry_after, .. } => {
                Retry::After(retry_after.unwrap_or(Duration::from_secs(1)))
            }
        }
    }
}

/// What a user's session at a platform is begun or renewed with.
#[derive(Debug)]
pub enum Grant<'a> {
    /// The authorization code that the user's browser brought back (RFC 6749 section 4.1.3).
    Code {
        /// The code; it works once.
        code: &'a SecretString,
        /// The `redirect_uri` of the authorization request, if it had one.
        redirect_uri: Option<&'a str>,
        /// The PKCE verifier (RFC 7636 section 4.5), if the request had a challenge.
        verifier: Option<&'a SecretString>,
    },
    /// The refresh token of an earlier answer (RFC 6749 section 6).
    Refresh(&'a SecretString),
}

/// Why a grant brought no token.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct GrantError {
    /// What happened.
    #[source]
    pub cause: FetchError,
    /// Whether the platform may have carried the request out all the same: its answer is lost, and a code or refresh
    /// token that works once may be used up. False is certain.
    pub may_be_done: bool,
}

impl GrantError {
    /// Certain not to be carried out.
    pub fn not_done(cause: FetchError) -> Self {
        Self { cause, may_be_done: false }
    }
}

/// A platform's token endpoint. One call sends at most one token request and never retries by itself.
pub trait TokenEndpoint: Send + Sync {
    /// Logs in with `document`. `refresh` is a refresh token from an earlier answer, used where the platform has that
    /// grant; a refused refresh token is [`FetchError::Rejected`] with code `invalid_grant`.
    fn fetch<'a>(
        &'a self,
        document: &'a CredentialDocument,
        refresh: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<IssuedToken, FetchError>>;

    /// Begins or renews a user's session with the client of `document`. A refused code or refresh token is
    /// [`FetchError::Rejected`] with code `invalid_grant`.
    fn grant<'a>(
        &'a self,
        document: &'a CredentialDocument,
        grant: Grant<'a>,
    ) -> BoxFuture<'a, Result<IssuedToken, GrantError>> {
        let (_, _) = (document, grant);
        let cause = FetchError::Unusable("keyholder has no sessions of users at this kind of platform".to_owned());
        Box::pin(async move { Err(GrantError::not_done(cause)) })
    }

    /// Gives a user's access token back to the platform, whose API is at `api_base`. `Ok(false)`: the platform has no
    /// call for it.
    fn give_back<'a>(
        &'a self,
        api_base: &'a str,
        access_token: &'a SecretString,
    ) -> BoxFuture<'a, Result<bool, FetchError>> {
        let (_, _) = (api_base, access_token);
        Box::pin(async { Ok(false) })
    }
}
