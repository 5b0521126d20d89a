//! Why a caller gets no token.
//!
//! Invariant: no secret is in any of these, and each can be cloned, because a thousand waiters get the same one.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Blame, Code, Retry,
    credential::DocumentError,
    port::{FetchError, SourceError},
};

/// Why a caller gets no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// The token endpoint refused or failed.
    #[error("the token endpoint gave no token")]
    Endpoint {
        /// What it answered.
        source: Arc<FetchError>,
        /// Until the next try.
        retry_in: Duration,
    },
    /// The credential's document could not be read.
    #[error("the credential's document could not be read")]
    Store {
        /// What the store said.
        source: Arc<SourceError>,
        /// Until the next try.
        retry_in: Duration,
    },
    /// The credential's document is not one.
    #[error("the credential's document cannot be used")]
    Document {
        /// What is wrong with it.
        source: DocumentError,
        /// Until the next try.
        retry_in: Duration,
    },
    /// The token endpoint did not answer in time.
    #[error("the token endpoint did not answer within {deadline:?}")]
    TimedOut {
        /// The limit.
        deadline: Duration,
        /// Until the next try.
        retry_in: Duration,
    },
    /// The fetch ended without a token that can be used.
    #[error("the token request failed: {reason}")]
    NoToken {
        /// Why.
        reason: &'static str,
        /// Until the next try.
        retry_in: Duration,
    },
    /// The platform invalidates one fresh token after the other.
    #[error("the platform refuses every fresh token; the next login waits {retry_in:?}")]
    Storm {
        /// Until the next try.
        retry_in: Duration,
    },
    /// A fresh token does not live as long as was asked for.
    #[error("min_ttl asks for {min_ttl:?}, but at most {longest:?} can be had from a fresh token")]
    TtlUnsatisfiable {
        /// What was asked for.
        min_ttl: Duration,
        /// The most that can be had.
        longest: Duration,
    },
    /// The credential is for sessions of users.
    #[error("users log in with this credential, each with a session of their own: it has no token that all share")]
    PerSession,
    /// No token came within the time that a caller is kept waiting.
    #[error("no token came within the time that a caller is kept waiting")]
    GaveUp,
    /// The configuration does not name the credential any more.
    #[error("the credential was removed from keyholder's configuration")]
    Removed,
    /// The broker was shut down.
    #[error("keyholder is shutting down")]
    Closed,
}

impl TokenError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Endpoint { source, .. } => source.code(),
            Self::Store { source, .. } if source.is_missing() => Code::CREDENTIAL_UNUSABLE,
            Self::Store { source, .. } => source.code(),
            Self::Document { .. } | Self::Removed | Self::PerSession => Code::CREDENTIAL_UNUSABLE,
            Self::TimedOut { .. } => Code::UPSTREAM_TIMEOUT,
            Self::Storm { .. } => Code::CREDENTIAL_REJECTED,
            Self::TtlUnsatisfiable { .. } => Code::TOKEN_TTL_UNSATISFIABLE,
            Self::NoToken { .. } | Self::GaveUp | Self::Closed => Code::TOKEN_UNAVAILABLE,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Endpoint { source, .. } => source.blame(),
            Self::Store { .. } | Self::Document { .. } => Blame::Store,
            Self::TimedOut { .. } | Self::NoToken { .. } | Self::Storm { .. } | Self::GaveUp => Blame::Platform,
            Self::TtlUnsatisfiable { .. } | Self::PerSession => Blame::Caller,
            Self::Closed | Self::Removed => Blame::Keyholder,
        }
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Endpoint { source, retry_in } => match source.retry() {
                Retry::Never => Retry::Never,
                Retry::After(_) | Retry::Now => Retry::After(*retry_in),
            },
            Self::Store { retry_in, .. }
            | Self::Document { retry_in, .. }
            | Self::TimedOut { retry_in, .. }
            | Self::NoToken { retry_in, .. }
            | Self::Storm { retry_in } => Retry::After(*retry_in),
            Self::GaveUp | Self::Closed => Retry::After(Duration::from_secs(1)),
            Self::TtlUnsatisfiable { .. } | Self::Removed | Self::PerSession => Retry::Never,
        }
    }

    /// The platform's correlation id, where there is one.
    pub fn correlation_id(&self) -> Option<&str> {
        let Self::Endpoint { source, .. } = self else { return None };
        match source.as_ref() {
            FetchError::Rejected { correlation_id, .. }
            | FetchError::RateLimited { correlation_id, .. }
            | FetchError::Transient { correlation_id, .. } => correlation_id.as_deref(),
            FetchError::Unusable(_) => None,
        }
    }

    /// The platform's own error code, such as `invalid_client`.
    pub fn platform_code(&self) -> Option<&str> {
        let Self::Endpoint { source, .. } = self else { return None };
        match source.as_ref() {
            FetchError::Rejected { platform_code, .. } => Some(platform_code),
            FetchError::RateLimited { .. } | FetchError::Transient { .. } | FetchError::Unusable(_) => None,
        }
    }
}
