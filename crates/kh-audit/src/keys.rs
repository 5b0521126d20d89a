//! The signing key of the log and its public half.
//!
//! Invariant: the seed is never printed and not kept beyond the key made from it.

use std::{fmt, io, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use kh_core::{SecretBytes, Sha256, port::AuditError};

/// An Ed25519 public key (RFC 8032). Displays as, and parses from, 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Whether `signature` (128 hex digits, lower case) is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        decode_hex(signature)
            .is_some_and(|signature| UnparsedPublicKey::new(&ED25519, self.0).verify(message, &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Sha256(self.0).to_hex())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The text is not 64 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("a public key has 64 hex digits")]
pub struct NotAPublicKey;

impl FromStr for PublicKey {
    type Err = NotAPublicKey;

    fn from_str(text: &str) -> Result<Self, NotAPublicKey> {
        Sha256::from_hex(text).map(|bytes| Self(bytes.0)).ok_or(NotAPublicKey)
    }
}

/// Signs entries and checkpoints.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Signer {
    /// From a seed of 32 bytes.
    pub(crate) fn from_seed(seed: &SecretBytes) -> Result<Self, AuditError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| {
            AuditError::Unavailable(io::Error::new(io::ErrorKind::InvalidInput, "the signing seed is not 32 bytes"))
        })?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Ok(Self { pair, public: PublicKey(public) })
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    /// 128 hex digits.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        let signature = self.pair.sign(message);
        encode_hex(signature.as_ref())
    }
}

/// Lower-case hex.
pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        hex.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        hex.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        hex
    })
}

/// Lower-case hex only: a signature has one spelling, so that a changed letter is a changed line.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}
