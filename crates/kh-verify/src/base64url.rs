//! Base64url as RFC 7515 section 2 has it: no padding, no line breaks, and only the one spelling whose unused bits are
//! zero. With a second spelling of the same bytes, a revoked token would have a second name.

use base64_simd::URL_SAFE_NO_PAD;

/// The bytes, if this is their one spelling.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode_to_vec(text).ok()
}

/// Exactly 32 bytes: a SHA-256.
pub(crate) fn decode_sha256(text: &str) -> Option<[u8; 32]> {
    decode(text.as_bytes())?.try_into().ok()
}

/// The one spelling of these bytes.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode_to_string(bytes)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use kh_core::{Entropy, SeededEntropy};

    use super::*;

    #[test]
    fn bytes_have_one_spelling() {
        assert_eq!(decode(b"Zm8"), Some(b"fo".to_vec()));
        assert_eq!(decode(b""), Some(Vec::new()));
        // the unused bits, padding, white space, the other alphabet, a lone character
        for not in [
            "Zm9", "Zm-", "Zm8=", "Zm8==", "Zm8 ", "Zm8\n", " Zm8", "Z\nm8", "+A", "/w", "Z", "Zm8\0", "Zm\u{e9}", "_x",
        ] {
            assert_eq!(decode(not.as_bytes()), None, "{not:?}");
        }
        assert_eq!(decode(b"_w"), Some(vec![0xff]));
    }

    /// Two decoders that share no code agree on every text: of each length, with nothing but good letters, and with one
    /// letter that is anything.
    #[test]
    fn another_decoder_agrees() {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let entropy = SeededEntropy::new(64);
        let below = |bound: usize| usize::try_from(entropy.below(bound as u64)).unwrap();
        for round in 0..100_000 {
            let mut text: Vec<u8> = (0..round % 131).map(|_| LETTERS[below(64)]).collect();
            assert_eq!(decode(&text), BASE64_URL_SAFE_NO_PAD.decode(&text).ok(), "{text:?}");
            if let Some(letter) = text.len().checked_sub(1).map(|last| below(last + 1)) {
                text[letter] = u8::try_from(below(256)).unwrap();
                assert_eq!(decode(&text), BASE64_URL_SAFE_NO_PAD.decode(&text).ok(), "{text:?}");
            }
        }
    }

    #[test]
    fn a_sha256_has_32_bytes() {
        assert_eq!(decode_sha256(&encode(&[7; 32])), Some([7; 32]));
        assert_eq!(decode_sha256(&encode(&[7; 31])), None);
        assert_eq!(decode_sha256(&encode(&[7; 33])), None);
    }
}
