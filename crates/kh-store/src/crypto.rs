//! The store's cryptography: Argon2id (RFC 9106) stretches a passphrase, HKDF-SHA-256 (RFC 5869) separates keys,
//! AES-256-GCM seals, HMAC-SHA-256 authenticates.
//!
//! Invariant: no (key, nonce) pair is used twice: each row has its own key and nonce, both derived from 32 fresh random
//! bytes; and every derived key has its own label.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest, hkdf, hmac,
};
use kh_core::{SecretBytes, SecretString};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Length of every key, salt, digest and tag of HMAC here.
pub(crate) const BYTES: usize = 32;
/// Nonce length of AES-GCM (NIST SP 800-38D).
const NONCE_BYTES: usize = 12;

/// 32 bytes that are wiped on drop.
pub(crate) type Key = Zeroizing<[u8; BYTES]>;

/// Cost of stretching a passphrase; stands in the store's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KdfParams {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfParams {
    /// The second recommended option of RFC 9106 section 4: 64 MiB, 3 passes, 4 lanes. Once per start.
    pub const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// The most that a header may ask for, so that an edited header cannot take the machine down.
    const MAX: Self = Self { memory_kib: 1024 * 1024, passes: 64, lanes: 64 };

    /// Whether this binary runs these parameters.
    pub(crate) fn acceptable(self) -> bool {
        self.memory_kib <= Self::MAX.memory_kib
            && (1..=Self::MAX.passes).contains(&self.passes)
            && (1..=Self::MAX.lanes).contains(&self.lanes)
            && self.memory_kib >= 8 * self.lanes
    }
}

/// Stretches a passphrase; `None` for parameters outside of [`KdfParams::acceptable`].
pub(crate) fn stretch(passphrase: &SecretString, salt: &[u8], params: KdfParams) -> Option<Key> {
    if !params.acceptable() {
        return None;
    }
    let params = Params::new(params.memory_kib, params.passes, params.lanes, Some(BYTES)).ok()?;
    let mut memory = Zeroizing::new(vec![Block::new(); params.block_count()]);
    let mut out = Key::default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase.expose().as_bytes(), salt, out.as_mut_slice(), memory.as_mut_slice())
        .ok()?;
    Some(out)
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fills `out` (at most 255 x 32 bytes) with key material for `label` and `context`.
fn expand(secret: &[u8], salt: &[u8], label: &str, context: &[u8], out: &mut [u8]) {
    let pseudo_random_key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let info = [label.as_bytes(), &[0], context];
    pseudo_random_key
        .expand(&info, Length(out.len()))
        .and_then(|material| material.fill(out))
        .expect("HKDF-SHA-256 gives up to 8,160 bytes and at most 44 are asked for");
}

/// One key for one purpose.
pub(crate) fn derive(secret: &[u8], salt: &[u8], label: &str, context: &[u8]) -> Key {
    let mut out = Key::default();
    expand(secret, salt, label, context, out.as_mut_slice());
    out
}

/// A key and nonce that seal exactly one message, both from `salt`.
pub(crate) struct OneTimeKey {
    key: LessSafeKey,
    nonce: [u8; NONCE_BYTES],
}

impl OneTimeKey {
    /// `salt` is fresh random for each message.
    pub(crate) fn derive(secret: &[u8], salt: &[u8], label: &str) -> Self {
        let mut material = Zeroizing::new([0; BYTES + NONCE_BYTES]);
        expand(secret, salt, label, &[], material.as_mut_slice());
        let (key, nonce_bytes) = material.split_at(BYTES);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes exactly 32 bytes");
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(nonce_bytes);
        Self { key: LessSafeKey::new(key), nonce }
    }

    /// Ciphertext and tag; consumes the key, so that it seals once.
    pub(crate) fn seal(self, associated: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM.tag_len()));
        buffer.extend_from_slice(plain);
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(self.nonce), Aad::from(associated), &mut *buffer)
            .expect("AES-GCM seals any message under 64 GiB");
        std::mem::take(&mut *buffer)
    }

    /// The message, or nothing when key, associated data or ciphertext are not those of [`OneTimeKey::seal`].
    pub(crate) fn open(self, associated: &[u8], sealed: &[u8]) -> Option<SecretBytes> {
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let plain_length = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(self.nonce), Aad::from(associated), &mut buffer)
            .ok()?
            .len();
        // Shrinking in place keeps the message in this one buffer, which is wiped over its whole capacity.
        buffer.truncate(plain_length);
        Some(SecretBytes::new(std::mem::take(&mut *buffer)))
    }
}

/// HMAC-SHA-256.
pub(crate) fn mac(key: &Key, message: &[u8]) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), message).as_ref());
    out
}

/// SHA-256.
pub(crate) fn sha256(message: &[u8]) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    out
}

/// Equality in constant time.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// The store's own random key, from which all others come.
pub(crate) struct DataKey(Key);

impl DataKey {
    /// Takes the 32 bytes over.
    pub(crate) fn new(key: Key) -> Self {
        Self(key)
    }

    /// Takes a copy of what was unwrapped; nothing when it is not 32 bytes.
    pub(crate) fn from_secret(secret: &SecretBytes) -> Option<Self> {
        let mut key = Key::default();
        if secret.expose().len() != BYTES {
            return None;
        }
        key.copy_from_slice(secret.expose());
        Some(Self(key))
    }

    /// For wrapping.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// The key of one row.
    pub(crate) fn row(&self, salt: &[u8]) -> OneTimeKey {
        OneTimeKey::derive(self.expose(), salt, "keyholder store row v1")
    }

    /// The key of the manifest.
    pub(crate) fn manifest(&self) -> Key {
        derive(self.expose(), &[], "keyholder store manifest v1", &[])
    }

    /// A key for another part of keyholder.
    pub(crate) fn subkey(&self, label: &str) -> SecretBytes {
        let mut key = derive(self.expose(), &[], "keyholder store subkey v1", label.as_bytes());
        let bytes = SecretBytes::new(key.to_vec());
        key.zeroize();
        bytes
    }
}

/// An unambiguous encoding: each part with its length in front, so that no two different lists encode alike.
pub(crate) struct Encoding(Vec<u8>);

impl Encoding {
    /// Starts with what is encoded.
    pub(crate) fn of(label: &str) -> Self {
        Self(Vec::new()).bytes(label.as_bytes())
    }

    /// Appends a length and the bytes.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a number, big-endian.
    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// The encoded bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests;
