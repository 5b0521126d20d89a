//! Nonces for `DPoP` proofs (RFC 9449 sections 8 and 9): the caller repeats what it was given, so that a proof cannot
//! have been made long ago, whatever its clock says.
//!
//! Invariant: nothing is kept for a nonce: it is the HMAC of the span of time in which it was given out, under a key that
//! never leaves the process.

use std::sync::OnceLock;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_core::{Entropy, UnixMillis};

/// How long one nonce is given out; it is good for as long again.
const SPAN_MS: u64 = 60_000;

/// Bytes of the HMAC that are told: nobody guesses 128 bits.
const TOLD_BYTES: usize = 16;

/// Gives out nonces and knows them again.
#[derive(Debug, Default)]
pub(super) struct Nonces(OnceLock<hmac::Key>);

impl Nonces {
    /// The nonce that is given out now, and the one before it, which is still good.
    pub(super) fn at(&self, now: UnixMillis, entropy: &dyn Entropy) -> [Box<str>; 2] {
        let key = self.0.get_or_init(|| {
            let mut bytes = zeroize::Zeroizing::new([0; 32]);
            entropy.fill(&mut *bytes);
            hmac::Key::new(hmac::HMAC_SHA256, &*bytes)
        });
        let span = now.0 / SPAN_MS;
        [span, span.saturating_sub(1)].map(|span| {
            let tag = hmac::sign(key, &span.to_be_bytes());
            BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref().get(..TOLD_BYTES).unwrap_or_default()).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use kh_core::SystemEntropy;

    use super::*;

    #[test]
    fn a_nonce_is_good_for_two_spans_and_of_one_process() {
        let (nonces, other) = (Nonces::default(), Nonces::default());
        let at = |ms| nonces.at(UnixMillis(ms), &SystemEntropy);
        let [first, _] = at(10 * SPAN_MS);
        assert_eq!(at(11 * SPAN_MS - 1)[0], first);
        assert_eq!(at(11 * SPAN_MS)[1], first);
        assert!(!at(12 * SPAN_MS).contains(&first));
        assert!(!other.at(UnixMillis(10 * SPAN_MS), &SystemEntropy).contains(&first));
        assert_eq!(first.len(), 22);
    }
}
