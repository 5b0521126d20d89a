//! Makes identifiers, secrets and tokens in the platforms' formats. Invariant: what exists from the start and what is
//! numbered derives from the seed; tokens and secrets made at run time are random.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// SHA-256 of a token or secret: what the sandbox keeps of it.
pub(crate) type Digest32 = [u8; 32];

/// The alphabet of RFC 4648 section 6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Source of names and secrets of one sandbox.
#[derive(Debug)]
pub(crate) struct Mint {
    seed: u64,
    counter: AtomicU64,
    random: SystemRandom,
}

impl Mint {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, counter: AtomicU64::new(1), random: SystemRandom::new() }
    }

    fn derived(&self, label: &str) -> Digest32 {
        sha256(format!("keyholder sandbox/{}/{label}", self.seed).as_bytes())
    }

    /// A UUID that depends on seed and label only.
    pub(crate) fn uuid_for(&self, label: &str) -> String {
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.derived(label);
        uuid::Builder::from_random_bytes(first).into_uuid().to_string()
    }

    /// A Genesys client secret (43 characters base64url of 32 bytes) that depends on seed and label only.
    pub(crate) fn secret_for(&self, label: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.derived(label))
    }

    /// A CXone access-key text (52 base32 characters and `====`) that depends on seed and label only.
    pub(crate) fn key_text_for(&self, label: &str) -> String {
        base32(&self.derived(label))
    }

    /// The UUID of the next thing created.
    pub(crate) fn next_uuid(&self) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        self.uuid_for(&format!("created {number}"))
    }

    /// A random UUID, for correlation ids.
    pub(crate) fn random_uuid(&self) -> String {
        uuid::Builder::from_random_bytes(self.random::<16>()).into_uuid().to_string()
    }

    /// A Genesys access token: 86 characters base64url of 64 bytes, opaque.
    pub(crate) fn random_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.random::<64>())
    }

    /// A Genesys client secret, authorization code or PKCE-like value: 43 characters.
    pub(crate) fn random_secret(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.random::<32>())
    }

    /// A CXone access-key id or secret.
    pub(crate) fn random_key_text(&self) -> String {
        base32(&self.random::<32>())
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0_u8; N];
        self.random.fill(&mut bytes).expect("the operating system's random source does not fail after start-up");
        bytes
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> Digest32 {
    let mut out = [0_u8; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}

/// Base32 with padding (RFC 4648 section 6); 32 bytes end in `====` like the vendor's keys.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let group = (0..5).fold(0_u64, |sum, index| (sum << 8) | u64::from(chunk.get(index).copied().unwrap_or(0)));
        let meaningful = (chunk.len() * 8).div_ceil(5);
        for position in 0..8 {
            let five_bits = usize::try_from((group >> (35 - 5 * position)) & 31).unwrap_or(0);
            let letter = BASE32.get(five_bits).copied().unwrap_or(b'A');
            text.push(if position < meaningful { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_the_platforms() {
        let mint = Mint::new(1);
        assert_eq!(mint.random_token().len(), 86);
        assert_eq!(mint.random_secret().len(), 43);
        assert_eq!(mint.secret_for("x").len(), 43);
        let key = mint.random_key_text();
        assert_eq!(key.len(), 56);
        assert!(key.ends_with("===="), "{key}");
        assert_ne!(mint.random_token(), mint.random_token());
    }

    #[test]
    fn the_seed_decides_what_exists_from_the_start() {
        assert_eq!(Mint::new(7).uuid_for("a"), Mint::new(7).uuid_for("a"));
        assert_ne!(Mint::new(7).uuid_for("a"), Mint::new(8).uuid_for("a"));
        assert_eq!(Mint::new(7).next_uuid(), Mint::new(7).next_uuid());
    }

    #[test]
    fn base32_of_the_rfc() {
        for (plain, encoded) in
            [("", ""), ("f", "MY======"), ("fo", "MZXQ===="), ("foo", "MZXW6==="), ("foobar", "MZXW6YTBOI======")]
        {
            assert_eq!(base32(plain.as_bytes()), encoded);
        }
    }
}
