//! Why a token is not taken, in words that may be logged and counted.
//!
//! Invariant: nothing of it repeats what the token says, except the client that a verified or once verified token
//! belongs to. What a caller is told is up to the gateway, which tells less.

use std::{fmt, sync::Arc, time::Duration};

use kh_verify::Reason;

/// What is wrong with the token, or with whoever should answer for it. Codes are stable and published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum DenyReason {
    /// The token itself is bad.
    #[error("{0}")]
    Token(Reason),
    /// Its `iss` is no configured issuer's.
    #[error("`iss` is no issuer that is configured")]
    IssuerUnknown,
    /// It is no JWT, and nobody is configured who could answer for it.
    #[error("it is no JWT, and no issuer of other tokens could know it")]
    Unrecognised,
    /// Whoever would have to be asked about it is no issuer whose tokens are taken there: it was not looked at.
    #[error("it would be of an issuer whose tokens are not taken here")]
    NotOfRoute,
    /// Its authority says that it is not valid.
    #[error("its issuer says that it is not valid")]
    Inactive,
    /// It was revoked.
    #[error("it was revoked")]
    Revoked,
    /// It lives longer than revocations are remembered for.
    #[error("it lives longer than its issuer's tokens may")]
    LifeTooLong,
    /// There are no keys of its issuer, or only ones that are too old; or its key is not among them, and the issuer
    /// cannot be asked for newer ones.
    #[error("there are no keys of its issuer that may be used")]
    KeysUnavailable,
    /// Its authority gave no answer.
    #[error("its issuer cannot be asked")]
    IssuerUnavailable,
    /// Too many tokens wait for their authority.
    #[error("too many tokens wait for their issuer's answer")]
    Overloaded,
}

impl DenyReason {
    /// The stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token(reason) => reason.as_str(),
            Self::IssuerUnknown => "issuer_unknown",
            Self::Unrecognised => "unrecognised",
            Self::NotOfRoute => "issuer_not_of_route",
            Self::Inactive => "inactive",
            Self::Revoked => "revoked",
            Self::LifeTooLong => "life_too_long",
            Self::KeysUnavailable => "keys_unavailable",
            Self::IssuerUnavailable => "issuer_unavailable",
            Self::Overloaded => "issuer_overloaded",
        }
    }
}

/// Whether another token would help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeniedKind {
    /// The token is not valid: 401.
    Invalid,
    /// Nobody knows: 503, because a 401 would make callers throw good tokens away.
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

/// A token is not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    /// Why.
    pub reason: DenyReason,
    /// What follows from it.
    pub kind: DeniedKind,
    /// The configured name of the issuer, where it is known whose the token would be.
    pub issuer: Option<Arc<str>>,
    /// The client that it was issued to, for a token whose signature or authority was good.
    pub client: Option<Box<str>>,
}

impl Denied {
    pub(crate) fn invalid(reason: DenyReason) -> Self {
        Self { reason, kind: DeniedKind::Invalid, issuer: None, client: None }
    }

    pub(crate) fn unavailable(reason: DenyReason, retry_after: Duration) -> Self {
        let retry_after = retry_after.max(RETRY_AFTER_MIN);
        Self { reason, kind: DeniedKind::Unavailable { retry_after }, issuer: None, client: None }
    }

    pub(crate) fn of(self, issuer: &Arc<str>) -> Self {
        Self { issuer: Some(Arc::clone(issuer)), ..self }
    }

    pub(crate) fn client(self, client: Option<&str>) -> Self {
        Self { client: client.map(Box::from), ..self }
    }
}

/// The shortest advice: whole seconds go into the header.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token is not taken: {}", self.reason)
    }
}

impl std::error::Error for Denied {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that are not the verifier's.
    const OWN: [DenyReason; 9] = [
        DenyReason::IssuerUnknown,
        DenyReason::Unrecognised,
        DenyReason::NotOfRoute,
        DenyReason::Inactive,
        DenyReason::Revoked,
        DenyReason::LifeTooLong,
        DenyReason::KeysUnavailable,
        DenyReason::IssuerUnavailable,
        DenyReason::Overloaded,
    ];

    #[test]
    fn own_codes_differ_from_the_verifiers() {
        let mut codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        codes.extend(OWN.map(DenyReason::as_str));
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }
}
