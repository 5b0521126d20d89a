//! Who a caller's token speaks for: issuers and their keys, authorities that are asked for opaque tokens, the memory of
//! verified tokens, and revocations.
//!
//! Invariants: memory holds who somebody is and never what they may do; the key of a token in memory is the SHA-256 of
//! all its bytes; nothing is served past its end, a change of its issuer's keys, or a revocation; where nobody knows,
//! the answer is "unavailable" and never "valid". Decisions are pure (`refresh`, `cache`, `revocations::index`),
//! everything outside comes through the ports of [`kh_core::port::inbound`].

mod cache;
mod denied;
pub mod events;
mod file;
mod flight;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod order;
mod refresh;
mod remote;
mod revocations;
mod ring;
mod spec;
mod verifier;

pub use denied::{Denied, DeniedKind, DenyReason};
pub use file::{FILE_MAX, FileKeys};
pub use order::{OrderError, REASON_MAX, REMEMBERED, RevocationOrder, answers_record, checked_reason};
pub use refresh::Bounds;
pub use revocations::{Caps, POLL_EVERY, Revocations};
pub use spec::{
    AnswerRules, CACHE_BYTES, ISSUERS_MAX, IssuerSpec, LIFE_MAX, MAX_AGE, NEGATIVE_AGE, SpecError, Trust,
    VerifierConfig,
};
pub use verifier::{Verifier, VerifierStats};
