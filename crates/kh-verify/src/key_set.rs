//! The keys of an issuer (a JWK set, RFC 7517 section 5), and which of them a token is checked with.
//!
//! Two keys of one name: all of them that fit the token's algorithm are tried, at most [`KEYS_TRIED_MAX`]; RFC 7517
//! section 4.5 allows one name for keys of different types. A key that cannot be used is left out and told, as section 5
//! demands; private keys always, symmetric ones unless they were asked for.
//!
//! Invariant: a set belongs to one issuer. No key is ever looked for among several issuers' by its name.

use crate::{
    Algorithm, Algorithms, Key, Reason, Symmetric, Unusable,
    json::{Json, Object},
};

/// Longest JWK set, in bytes. The largest known one, with certificates in it, has 20 KB.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;

/// Most keys in a set, usable or not.
pub const KEYS_MAX: usize = 128;

/// Most keys that are tried for one token: what a made-up token may cost us.
pub const KEYS_TRIED_MAX: usize = 8;

/// Why a JWK set is not taken at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeySetError {
    /// More bytes than [`JWKS_BYTES_MAX`].
    #[error("the key set is longer than {JWKS_BYTES_MAX} bytes")]
    TooLarge,
    /// More keys than [`KEYS_MAX`].
    #[error("the key set has more than {KEYS_MAX} keys")]
    TooManyKeys,
    /// Not one JSON object with distinct members at every depth, or `keys` is not a list of objects.
    #[error("the key set is not a JSON object with a list of keys, each with distinct members")]
    Malformed,
    /// There is no key that can be used. An issuer's last good keys are better than none, so this is an error.
    #[error("the key set has no key that can be used{}", told(.0))]
    NoUsableKey(Vec<Skipped>),
}

fn told(skipped: &[Skipped]) -> String {
    skipped
        .first()
        .map(|skipped| format!("; key {} is left out because {}", skipped.at, skipped.why))
        .unwrap_or_default()
}

/// A key that was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Skipped {
    /// Which key it is, counted from 1. Its name is not told: it may be anything.
    pub at: usize,
    /// Why.
    pub why: Unusable,
}

/// The keys of one issuer.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<Skipped>,
    pinned: bool,
}

impl KeySet {
    /// Reads a JWK set.
    pub fn parse(json: &[u8], symmetric: Symmetric) -> Result<Self, KeySetError> {
        if json.len() > JWKS_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let document = Object::parse(json).ok_or(KeySetError::Malformed)?;
        let Some(Json::List(list)) = document.get("keys") else { return Err(KeySetError::Malformed) };
        Self::of(list, symmetric)
    }

    /// Reads one JWK that somebody chose for these tokens: whatever name a token gives its key, it is this one.
    pub fn pinned(json: &[u8], symmetric: Symmetric) -> Result<Self, KeySetError> {
        if json.len() > JWKS_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        Self::pinned_of(Json::parse(json).ok_or(KeySetError::Malformed)?, symmetric)
    }

    pub(crate) fn pinned_of(jwk: Json<'_>, symmetric: Symmetric) -> Result<Self, KeySetError> {
        Ok(Self { pinned: true, ..Self::of(&[jwk], symmetric)? })
    }

    pub(crate) fn of(list: &[Json<'_>], symmetric: Symmetric) -> Result<Self, KeySetError> {
        if list.len() > KEYS_MAX {
            return Err(KeySetError::TooManyKeys);
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (at, jwk) in (1..).zip(list) {
            let Json::Object(jwk) = jwk else { return Err(KeySetError::Malformed) };
            match Key::of(jwk, symmetric) {
                Ok(key) => keys.push(key),
                Err(why) => skipped.push(Skipped { at, why }),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey(skipped));
        }
        Ok(Self { keys, skipped, pinned: false })
    }

    /// The keys that can be used.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys that were left out.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Everything that its keys may verify.
    pub fn algorithms(&self) -> Algorithms {
        self.keys.iter().flat_map(|key| key.algorithms().iter()).collect()
    }

    /// Whether one of the keys signed `message`: those named `kid`, else those without a name; without `kid`, any that
    /// is for the algorithm.
    pub(crate) fn check(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Reason> {
        let tried = |wanted: &dyn Fn(&Key) -> bool| {
            let fitting = self.keys.iter().filter(|key| wanted(key) && key.fits(algorithm)).take(KEYS_TRIED_MAX);
            fitting.fold(Tried::None, |so_far, key| match so_far {
                Tried::Good => so_far,
                Tried::None | Tried::Bad if key.verifies(algorithm, message, signature) => Tried::Good,
                Tried::None | Tried::Bad => Tried::Bad,
            })
        };
        if self.pinned {
            return match tried(&|_| true) {
                Tried::Good => Ok(()),
                Tried::Bad => Err(Reason::SignatureInvalid),
                Tried::None => Err(Reason::KeyUnfit),
            };
        }
        let Some(kid) = kid else {
            return match tried(&|_| true) {
                Tried::Good => Ok(()),
                Tried::Bad => Err(Reason::SignatureUnmatched),
                Tried::None => Err(Reason::KeyMissing),
            };
        };
        match tried(&|key| key.kid() == Some(kid)) {
            Tried::Good => Ok(()),
            Tried::Bad => Err(Reason::SignatureInvalid),
            Tried::None if self.keys.iter().any(|key| key.kid() == Some(kid)) => Err(Reason::KeyUnfit),
            // `kid` is a hint (RFC 7515 section 4.1.4): a key without a name may be the one that is meant
            Tried::None => match tried(&|key| key.kid().is_none()) {
                Tried::Good => Ok(()),
                Tried::Bad | Tried::None => Err(Reason::KeyUnknown),
            },
        }
    }
}

/// What came of trying the keys.
#[derive(Clone, Copy)]
enum Tried {
    /// No key fits.
    None,
    /// None of those that fit signed it.
    Bad,
    /// One signed it.
    Good,
}
