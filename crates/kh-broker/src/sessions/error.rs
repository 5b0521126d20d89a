//! Why a session gives no token.
//!
//! Invariant: no secret is in any of these.

use kh_core::{
    Code, Retry,
    port::{BeginError, GrantError, StateError},
    session::SessionEnd,
};

use crate::TokenError;

/// Why a session gives no token, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It is over: the user has to log in again.
    #[error("the session has ended: {}", .0.told())]
    Ended(SessionEnd),
    /// No session belongs to the token.
    #[error("the access token speaks for no session")]
    Unknown,
    /// The platform did not take the authorization code.
    #[error("the platform gave no token for the authorization code")]
    Grant(#[source] GrantError),
    /// There are as many sessions as there may be.
    #[error(transparent)]
    Full(BeginError),
    /// The state cannot be read or written.
    #[error("the state is not available")]
    State(#[from] StateError),
    /// The stored tokens do not open: they were sealed by another secret store, or changed.
    #[error("the session's tokens do not open: they were sealed by another secret store, or changed")]
    Broken,
    /// No token can be had now, although the session stands.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl SessionError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Ended(_) | Self::Unknown => Code::SESSION_ENDED,
            Self::Grant(error) => error.cause.code(),
            Self::Full(_) => Code::OVERLOADED,
            Self::State(error) => error.code(),
            Self::Broken => Code::STATE_DAMAGED,
            Self::Token(error) => error.code(),
        }
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Ended(_) | Self::Unknown | Self::Broken => Retry::Never,
            Self::Grant(error) => error.cause.retry(),
            Self::Full(_) => Retry::After(std::time::Duration::from_mins(1)),
            Self::State(error) => error.retry(),
            Self::Token(error) => error.retry(),
        }
    }
}

impl From<BeginError> for SessionError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::State(error) => Self::State(error),
            full @ (BeginError::ClientFull(_) | BeginError::Full(_)) => Self::Full(full),
        }
    }
}
