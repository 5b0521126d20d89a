//! Platform adapters: Genesys Cloud CX, NICE CXone and any RFC 6749 issuer; and who vouches for callers' tokens
//! ([`inbound`]).
//!
//! Each adapter implements [`kh_core::port::TokenEndpoint`]: one call sends at most one token request, follows no
//! redirect and never retries. What an answer means is decided by pure functions ([`answer`], [`classify`]) that never
//! see a socket; the adapters only carry bytes.
//!
//! Invariant: an error of this crate never holds a secret, a token, or the user part of a URL.

pub mod address;
pub mod answer;
pub mod classify;
pub mod cxone;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod genesys;
pub mod http;
pub mod inbound;
pub mod management;
pub mod oauth2;

mod body;
mod document;
mod fresh;

pub use address::{Address, AddressError, PlainHttp};
pub use body::ClientAuth;
pub use cxone::{AllowedHosts, CxoneEndpoint, CxoneLogin};
pub use genesys::GenesysEndpoint;
pub use http::{HttpClient, HttpError, Media, RateLimit, Timeouts};
pub use oauth2::{OAuth2Endpoint, OAuth2Settings, OAuth2Source};
