//! keyholder as an authorization server: its own clients, their secrets, and the tokens they log in for.
//!
//! Invariants: a secret or token leaves this crate only once, in the answer to the call that made it, and only after
//! its digest is durable; a session is valid only while its token is unexpired by both clocks, not revoked, and its
//! client is present and enabled; an unknown client and a wrong secret cannot be told apart.

mod access_token;
mod authority;
mod client;
mod environment;
mod error;
mod introspection;
mod issuer;
mod ledger;
mod login;
mod management;
mod own_tokens;
mod registry;
mod reload;
mod revoked;
mod scope;
mod secrets;
mod session;
mod signing;
mod table;
mod throttle;
mod unknown;

pub use authority::{Authority, IssuerId, NotAnIssuer};
pub use client::{Client, NewClient, NewTokens, SecretOverlap};
pub use environment::EnvironmentOf;
pub use error::{IssuerError, LoginError};
pub use introspection::{ActiveToken, RevokeError};
pub use issuer::{Issuer, IssuerOptions};
pub use login::{Asked, CLIENT_TOKENS_MAX, EVICT_IDLE, Held, Login};
pub use management::IssuerManagement;
pub use own_tokens::OwnTokens;
pub use secrets::{LASTING, SecretError, SecretId};
pub use session::Session;
pub use signing::{
    Algorithm, JWKS_MAX_AGE, JWT_TTL_MAX, KEYS_MAX, KeyDescription, KeyState, Order, SigningError, SigningKeys,
    SigningPolicy,
};
pub use throttle::{Bound, Wait};
