//! Whether a token is what it says: strict compact JWS (RFC 7515), JWK sets (RFC 7517), JWT claims (RFC 7519, RFC 8725,
//! RFC 9068) and `DPoP` proofs (RFC 9449).
//!
//! Invariants: the algorithm comes from the issuer's key and the policy's list, never from the token alone; a token is
//! refused wherever two readers could read it in two ways; an [`Identity`] comes out only behind a good signature.
//! Pure: no I/O, no clock, no random number; keys are parsed once, when their set is.

pub mod algorithm;
pub mod binding;
pub mod case;
pub mod claims;
pub mod dpop;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod jws;
pub mod key;
pub mod key_set;
pub mod policy;
pub mod reason;
pub mod thumbprint;

mod base64url;
mod json;
mod uri;

use kh_core::{Identity, UnixMillis};

pub use algorithm::{Algorithm, Algorithms};
pub use case::Case;
pub use jws::{Compact, TokenNames, Unverified};
pub use key::{Key, Symmetric, Unusable};
pub use key_set::{KeySet, KeySetError};
pub use policy::{Accepted, Policy, Profile};
pub use reason::Reason;

/// Verifies a token: its form, its signature by one of `keys`, then its claims by `policy`. To choose the keys by what
/// the token says of its issuer, use [`Compact::decode`] and [`Compact::read`].
pub fn verify(token: &[u8], keys: &KeySet, policy: &Policy, now: UnixMillis) -> Result<Identity, Reason> {
    Compact::decode(token)?.verify(keys, policy, now)
}

/// Who an introspection's answer (RFC 7662 section 2.2) says that a token speaks for, read as strictly as a token's
/// claims; none where it is not active. An answer without `iss` is of the policy's first issuer.
pub fn introspected(answer: &[u8], policy: &Policy, now: UnixMillis) -> Result<Option<Identity>, Reason> {
    claims::Claims::parse(answer)?.introspected(policy, now)
}
