//! Signatures of deliveries in the form of Standard Webhooks 1.0.0 (standardwebhooks.com): HMAC-SHA-256 over
//! `{webhook-id}.{webhook-timestamp}.{body}`, in base64 behind `v1,`.
//!
//! Invariants: comparing takes the same time wherever two signatures differ; one delivery has one tag, however its
//! signature is written and by whichever key it is signed.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use kh_core::{SecretString, Sha256, UnixMillis};
use zeroize::Zeroizing;

use super::WINDOW;

/// How a symmetric key begins.
const PREFIX: &str = "whsec_";

/// Length of a key in bytes, by the standard.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Keys that are taken at once, and signatures that are looked at: a replacement has two.
const KEYS_MAX: usize = 4;

/// Longest id of a delivery, in bytes.
const ID_MAX: usize = 256;

/// Why keys are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeysError {
    /// Something that is no key.
    #[error("a key is not whsec_ and 24 to 64 bytes of base64")]
    Malformed,
    /// None, or too many.
    #[error("there must be 1 to {KEYS_MAX} signing keys")]
    Count,
}

/// The keys that senders sign with.
pub struct EventKeys(Vec<hmac::Key>);

/// What a delivery brings: three header values and the body.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`, in seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signatures: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl EventKeys {
    /// Reads keys, `whsec_...`, with blanks or line ends between them.
    pub fn parse(text: &SecretString) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        for key in text.expose().split_whitespace() {
            let encoded = key.strip_prefix(PREFIX).ok_or(KeysError::Malformed)?;
            let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| KeysError::Malformed)?);
            if !KEY_BYTES.contains(&bytes.len()) {
                return Err(KeysError::Malformed);
            }
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        }
        if keys.is_empty() || keys.len() > KEYS_MAX { Err(KeysError::Count) } else { Ok(Self(keys)) }
    }

    /// Whether one of the keys has signed it and its time is within the window. It may have been taken before.
    pub fn takes(&self, delivery: &Delivery<'_>, now: UnixMillis) -> bool {
        self.verify(delivery, now).is_some()
    }

    /// The delivery's tag and time, if one of the keys has signed it and its time is within the window.
    pub(super) fn verify(&self, delivery: &Delivery<'_>, now: UnixMillis) -> Option<(Sha256, UnixMillis)> {
        let Delivery { id, timestamp, signatures, body } = *delivery;
        let digits = !timestamp.is_empty() && timestamp.len() <= 12 && timestamp.bytes().all(|b| b.is_ascii_digit());
        if !digits
            || id.is_empty()
            || id.len() > ID_MAX
            || id.contains('.')
            || !id.bytes().all(|b| b.is_ascii_graphic())
        {
            return None;
        }
        let at = UnixMillis(timestamp.parse::<u64>().ok()?.checked_mul(1000)?);
        if at.since(now) > WINDOW || now.since(at) > WINDOW {
            return None;
        }
        let head = format!("{id}.{timestamp}.");
        let given: Vec<Vec<u8>> = signatures
            .split(' ')
            .take(KEYS_MAX)
            .filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok())
            .collect();
        let message = [head.as_bytes(), body].concat();
        let is_signed = self.0.iter().any(|key| given.iter().any(|tag| hmac::verify(key, &message, tag).is_ok()));
        is_signed.then(|| (Sha256::of(&message), at))
    }
}

impl fmt::Debug for EventKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventKeys").field("count", &self.0.len()).finish()
    }
}
