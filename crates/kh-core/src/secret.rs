//! Secrets as types: unprintable, zeroized on drop, compared in constant time, with one exit called `expose`.

pub mod closed;
pub mod sealing;

use std::fmt;

use aws_lc_rs::{digest, hmac};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Secret text: a client secret, an access token, a passphrase. Has no `Clone`, `Display`, `Serialize` or `Deref`.
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Takes ownership of `text`; the buffer is wiped when the value is dropped.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Copies the text out of a borrowed buffer that somebody else wipes.
    pub fn copied(text: &str) -> Self {
        Self::new(text.to_owned())
    }

    /// The one exit. Call it where the bytes leave the process (a request body, a sealed row) and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the secret has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An explicit second copy, where two owners are needed.
    pub fn duplicate(&self) -> Self {
        Self::copied(&self.0)
    }

    /// SHA-256 of the secret's bytes.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(self.0.as_bytes())
    }
}

impl PartialEq for SecretString {
    /// Constant time in the bytes; the length is not secret.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretString {}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString([redacted])")
    }
}

/// Secret bytes: a key, a sealed document in clear. The same rules as [`SecretString`].
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of `bytes`; the buffer is wiped when the value is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The one exit, as for [`SecretString::expose`].
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// An explicit second copy, where two owners are needed.
    pub fn duplicate(&self) -> Self {
        Self::new(self.0.to_vec())
    }

    /// The same secret as text; on invalid UTF-8 the bytes are wiped and nothing of them is told.
    pub fn into_text(self) -> Option<SecretString> {
        std::str::from_utf8(&self.0).ok().map(SecretString::copied)
    }
}

impl PartialEq for SecretBytes {
    /// Constant time in the bytes; the length is not secret.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes([redacted])")
    }
}

crate::assert_closed!(SecretString, SecretBytes, Fingerprinter);

/// A SHA-256 digest, for example the name of a token that must not be written down (`sha256` in the broker contract).
/// Safe to print for tokens: they carry at least 128 bits of entropy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }

    /// Lower-case hex, 64 characters.
    pub fn to_hex(self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            hex.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            hex.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
            hex
        })
    }

    /// Parses exactly 64 hex digits of either case.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            let high = char::from(*high).to_digit(16)?;
            let low = char::from(*low).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(out))
    }

    /// Equality in constant time, for digests of secrets.
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// A token as somebody showed it, and its SHA-256: hashed once, however often it is looked up. The digest is always that
/// of the bytes.
#[derive(Clone, Copy)]
pub struct Hashed<'b> {
    bytes: &'b [u8],
    digest: Sha256,
}

impl<'b> Hashed<'b> {
    /// Hashes `bytes`.
    pub fn of(bytes: &'b [u8]) -> Self {
        Self { bytes, digest: Sha256::of(bytes) }
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// The SHA-256 of all the bytes.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }
}

impl fmt::Debug for Hashed<'_> {
    /// Nothing of the bytes: they are a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hashed").field(&self.digest).finish()
    }
}

/// Names a secret in logs and answers without telling it: a keyed hash, so that a short secret cannot be guessed
/// from its fingerprint by someone who reads only the log.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Fingerprint(String);

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 16 && text.bytes().all(hex) { Ok(Self(text)) } else { Err("not 16 hex digits") }
    }
}

impl Fingerprint {
    /// 16 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes fingerprints with one installation's key, so that equal secrets have equal fingerprints within it.
pub struct Fingerprinter(hmac::Key);

impl Fingerprinter {
    /// `key` is the installation's fingerprint key; its caller wipes it.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The fingerprint of `secret`: the first 8 bytes of HMAC-SHA-256, in hex.
    pub fn fingerprint(&self, secret: &[u8]) -> Fingerprint {
        let tag = hmac::sign(&self.0, secret);
        let mut wide = [0; 32];
        wide.copy_from_slice(tag.as_ref());
        let mut hex = Sha256(wide).to_hex();
        wide.zeroize();
        hex.truncate(16);
        Fingerprint(hex)
    }
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_tells() {
        let secret = SecretString::copied("hunter2-hunter2");
        assert!(!format!("{secret:?} {:?}", SecretBytes::new(b"hunter2".to_vec())).contains("hunter2"));
        assert!(!format!("{:?}", Hashed::of(b"hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_hashed_token_has_the_digest_of_all_its_bytes() {
        let hashed = Hashed::of(b"abc");
        assert_eq!((hashed.bytes(), hashed.digest()), (&b"abc"[..], Sha256::of(b"abc")));
    }

    #[test]
    fn sha256_hex_round_trips_and_refuses_the_rest() {
        let digest = Sha256::of(b"abc");
        assert_eq!(digest.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Sha256::from_hex(&digest.to_hex().to_uppercase()), Some(digest));
        for bad in ["", "ba", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(Sha256::from_hex(bad), None);
        }
    }

    #[test]
    fn fingerprints_depend_on_the_key() {
        let (one, two) = (Fingerprinter::new(b"k1"), Fingerprinter::new(b"k2"));
        assert_eq!(one.fingerprint(b"s"), one.fingerprint(b"s"));
        assert_ne!(one.fingerprint(b"s"), two.fingerprint(b"s"));
        assert_eq!(one.fingerprint(b"s").as_str().len(), 16);
    }
}
