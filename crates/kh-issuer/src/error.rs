//! What can go wrong with a login and with a change of clients. No message holds a secret or a token.

use kh_core::{ClientName, port::StateError};

/// Why a login was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such client, or not its secret: deliberately one answer (RFC 6749 section 5.2, `invalid_client`).
    #[error("the client id or the client secret is not valid")]
    Rejected,
    /// The secret is right and the client is disabled.
    #[error("the client {0} is disabled")]
    Disabled(ClientName),
    /// The client holds as many live tokens as one client may, and all of them were in use lately.
    #[error("the client {client} already holds {limit} live tokens")]
    TooManyTokens {
        /// The client.
        client: ClientName,
        /// The limit.
        limit: usize,
    },
    /// The token could not be made durable, so it was not issued.
    #[error("the login could not be recorded")]
    State(#[from] StateError),
}

/// Why a change of clients was refused.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// No client of this id or name.
    #[error("there is no client {0:?}")]
    NoSuchClient(String),
    /// A line of the allow-list does not parse.
    #[error("the allow-list is not valid")]
    Allow(#[source] kh_policy::RuleError),
    /// A scope, ttl or overlap is out of range; the text says which and what is possible.
    #[error("{0}")]
    Invalid(String),
    /// The state refused or failed.
    #[error(transparent)]
    State(#[from] StateError),
}
