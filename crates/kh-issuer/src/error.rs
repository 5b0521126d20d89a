//! What can go wrong with a login and with a change of clients. No message holds a secret or a token.

use std::time::Duration;

use kh_core::{Blame, ClientName, Code, Retry, environment::EnvironmentRefused, port::StateError};

use crate::{signing::SigningError, throttle::Wait};

/// Why a login was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such client, or not its secret: deliberately one answer (RFC 6749 section 5.2, `invalid_client`).
    #[error("the client id or the client secret is not valid")]
    Rejected,
    /// The secret is right and the client is disabled.
    #[error("the client {0} is disabled")]
    Disabled(ClientName),
    /// The secret is right and the client belongs to another environment than its credential.
    #[error(transparent)]
    Environment(#[from] EnvironmentRefused),
    /// The client holds as many live tokens as one client may, and all of them were in use lately.
    #[error("the client {client} already holds {limit} live tokens that were used within the last hour")]
    TooManyTokens {
        /// The client.
        client: ClientName,
        /// The limit.
        limit: usize,
    },
    /// The request asks for a scope that the client does not have, or is not a list of scopes.
    #[error("the client {0} does not have the scopes that were asked for")]
    Scope(ClientName),
    /// The client's tokens must be bound to a certificate, and the connection has none (RFC 8705 section 3.4).
    #[error("the client {0} needs a client certificate on its connection")]
    CertificateNeeded(ClientName),
    /// The client's tokens must be bound to a key, and no proof came with the request (RFC 9449 section 5.2).
    #[error("the client {0} needs a DPoP proof with its login")]
    ProofNeeded(ClientName),
    /// The client's tokens are bound to its certificate, and a proof of a key came beside it: a token has one binding.
    #[error("the tokens of the client {0} are bound to its certificate and to no key")]
    TwoBindings(ClientName),
    /// Too many wrong logins came before; the secret was not looked at.
    #[error("too many wrong logins: wait {} s", .0.left.as_secs().saturating_add(1))]
    Throttled(Wait),
    /// The client's tokens are JWTs, and none can be signed.
    #[error("no access token can be signed")]
    Signing(#[from] SigningError),
    /// The client's tokens are JWTs, and keyholder has no name as their issuer.
    #[error("keyholder has no issuer identifier to sign tokens with")]
    NoIssuer,
    /// The token could not be made durable, so it was not issued.
    #[error("the login could not be recorded")]
    State(#[from] StateError),
}

impl LoginError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Rejected => Code::CALLER_UNAUTHENTICATED,
            Self::Disabled(_) => Code::CLIENT_DISABLED,
            Self::Environment(refused) => refused.code(),
            Self::TooManyTokens { .. } => Code::OVERLOADED,
            Self::Scope(_) | Self::CertificateNeeded(_) | Self::ProofNeeded(_) | Self::TwoBindings(_) => {
                Code::REQUEST_MALFORMED
            }
            Self::Throttled(_) => Code::LOGIN_THROTTLED,
            Self::Signing(_) | Self::NoIssuer => Code::SIGNING_UNAVAILABLE,
            Self::State(_) => Code::STATE_UNAVAILABLE,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Rejected
            | Self::Disabled(_)
            | Self::Environment(_)
            | Self::TooManyTokens { .. }
            | Self::Scope(_)
            | Self::CertificateNeeded(_)
            | Self::ProofNeeded(_)
            | Self::TwoBindings(_)
            | Self::Throttled(_) => Blame::Caller,
            Self::Signing(error) => error.blame(),
            Self::NoIssuer => Blame::Keyholder,
            Self::State(_) => Blame::Store,
        }
    }

    /// Whether the same login may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Rejected
            | Self::Disabled(_)
            | Self::Environment(_)
            | Self::Scope(_)
            | Self::CertificateNeeded(_)
            | Self::ProofNeeded(_)
            | Self::TwoBindings(_)
            | Self::NoIssuer => Retry::Never,
            Self::TooManyTokens { .. } => Retry::After(Duration::from_mins(1)),
            Self::Throttled(wait) => Retry::After(wait.left),
            Self::Signing(error) => error.retry(),
            Self::State(error) => error.retry(),
        }
    }

    /// The `error` member of the answer: RFC 6749 section 5.2, and for our own troubles the codes of section 4.1.2.1.
    pub fn oauth_error(&self) -> &'static str {
        match self {
            Self::Rejected | Self::Disabled(_) => "invalid_client",
            Self::Environment(_) => "unauthorized_client",
            Self::Scope(_) => "invalid_scope",
            Self::CertificateNeeded(_) | Self::TwoBindings(_) => "invalid_request",
            Self::ProofNeeded(_) => "invalid_dpop_proof",
            Self::TooManyTokens { .. } | Self::Throttled(_) | Self::Signing(_) | Self::NoIssuer | Self::State(_) => {
                "temporarily_unavailable"
            }
        }
    }
}

/// Why a change of clients was refused.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// No client of this id or name.
    #[error("there is no client {0:?}")]
    NoSuchClient(String),
    /// A line of the allow-list does not parse.
    #[error("rule {} of the allow-list is not valid", .0.index + 1)]
    Allow(#[source] kh_policy::RuleError),
    /// A scope, name, ttl or overlap is out of range; the text says which and what is possible.
    #[error("{0}")]
    Invalid(String),
    /// The environment is not that of the client's credential.
    #[error(transparent)]
    Environment(#[from] EnvironmentRefused),
    /// The state refused or failed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl IssuerError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NoSuchClient(_) => Code::NOT_FOUND,
            Self::Allow(_) | Self::Invalid(_) => Code::USAGE,
            Self::Environment(refused) => refused.code(),
            Self::State(error) => error.code(),
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NoSuchClient(_) | Self::Allow(_) | Self::Invalid(_) | Self::Environment(_) => Blame::Caller,
            Self::State(error) => error.blame(),
        }
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::NoSuchClient(_) | Self::Allow(_) | Self::Invalid(_) | Self::Environment(_) => Retry::Never,
            Self::State(error) => error.retry(),
        }
    }
}
