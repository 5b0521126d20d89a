//! Signatures of webhooks in the form of Standard Webhooks 1.0.0 (standardwebhooks.com, `spec/standard-webhooks.md`):
//! `webhook-signature: v1,<base64 of HMAC-SHA-256 over "{id}.{timestamp}.{payload}">`, one per key, blanks between.
//!
//! Invariant: a key never leaves this module but as a signature.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use kh_core::SecretString;
use zeroize::Zeroizing;

/// How a symmetric key begins (section "Signature scheme").
const PREFIX: &str = "whsec_";

/// Length of a key in bytes: "between 24 bytes (192 bits) and 64 bytes (512 bits)".
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Keys in use at once: the next, the current and the last one of a replacement, and one to spare.
const KEYS_MAX: usize = 4;

/// Why keys are refused. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not in the form of the standard.
    #[error("line {line} of the signing keys is not whsec_ and 24 to 64 bytes of base64")]
    Malformed {
        /// Which line.
        line: usize,
    },
    /// None, or more than four.
    #[error("there must be 1 to {KEYS_MAX} signing keys, one on a line")]
    Count,
}

/// The keys of one receiver: each signs, so that the receiver can change over from one to the next.
pub struct SigningKeys(Vec<hmac::Key>);

impl SigningKeys {
    /// Reads keys as they lie in a file: `whsec_...`, one on a line.
    pub fn parse(text: &SecretString) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (index, line) in text.expose().lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let malformed = KeyError::Malformed { line: index + 1 };
            let encoded = line.trim().strip_prefix(PREFIX).ok_or_else(|| malformed.clone())?;
            let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| malformed.clone())?);
            if !KEY_BYTES.contains(&bytes.len()) {
                return Err(malformed);
            }
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(KeyError::Count);
        }
        Ok(Self(keys))
    }

    /// The value of `webhook-signature`. `seconds` is the time of this attempt.
    pub fn sign(&self, id: &str, seconds: u64, payload: &[u8]) -> String {
        let one = |key: &hmac::Key| {
            let mut signed = hmac::Context::with_key(key);
            signed.update(format!("{id}.{seconds}.").as_bytes());
            signed.update(payload);
            format!("v1,{}", STANDARD.encode(signed.sign().as_ref()))
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").field("count", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<SigningKeys, KeyError> {
        SigningKeys::parse(&SecretString::copied(text))
    }

    /// The example that the libraries of the standard share in their tests.
    #[test]
    fn the_published_vector() {
        let keys = keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn several_keys_sign_side_by_side() {
        let one = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let two = format!("whsec_{}", STANDARD.encode([7_u8; 32]));
        let both = keys(&format!("{two}\n\n  {one}  \n")).unwrap().sign("i", 1, b"p");
        let alone = |text: &str| keys(text).unwrap().sign("i", 1, b"p");
        assert_eq!(both, format!("{} {}", alone(&two), alone(one)));
    }

    #[test]
    fn keys_that_are_refused() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![1; bytes]));
        assert!(keys(&of(24)).is_ok() && keys(&of(64)).is_ok());
        for (bad, why) in [
            (of(23), KeyError::Malformed { line: 1 }),
            (of(65), KeyError::Malformed { line: 1 }),
            (STANDARD.encode([1; 32]), KeyError::Malformed { line: 1 }),
            (format!("{}\nwhsec_***", of(32)), KeyError::Malformed { line: 2 }),
            ("\n".to_owned(), KeyError::Count),
            (vec![of(32); 5].join("\n"), KeyError::Count),
        ] {
            assert_eq!(keys(&bad).unwrap_err(), why, "{bad}");
        }
    }
}
