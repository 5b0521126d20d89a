//! Secrets at rest outside the secret store: sealed by a key that the store derives, each for one place.
//!
//! Invariant: what is sealed opens only at the place that it was sealed for. Whoever has the file alone, or moves a sealed
//! value to another place in it, learns nothing and gets nothing in.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::SecretBytes;
use crate::Entropy;

/// The form of what is sealed, its first byte: a nonce, the ciphertext and its tag follow.
const FORM: u8 = 1;

/// A key that seals. AES-256-GCM-SIV (RFC 8452): should a random nonce ever repeat, it tells only whether two values are
/// equal.
pub struct SealingKey(LessSafeKey);

crate::assert_closed!(SealingKey);

impl SealingKey {
    /// The key from 32 bytes that the secret store derives for this use; none if they are not 32.
    pub fn new(key: &SecretBytes) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM_SIV, key.expose()).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Seals `plain` for `place`: a label of the use, then what names the place in it.
    pub fn seal(&self, place: &[&[u8]], plain: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM_SIV.tag_len()));
        buffer.extend_from_slice(plain);
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), associated(place), &mut *buffer)
            .expect("AES-GCM-SIV seals any message under 64 GiB");
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + buffer.len());
        sealed.push(FORM);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&buffer);
        sealed
    }

    /// Opens what was sealed for exactly this place; none for another key, another place or changed bytes: nothing more
    /// can be told.
    pub fn open(&self, place: &[&[u8]], sealed: &[u8]) -> Option<SecretBytes> {
        let (form, rest) = sealed.split_first()?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
        if *form != FORM {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = Zeroizing::new(body.to_vec());
        let length = self.0.open_in_place(nonce, associated(place), &mut buffer).ok()?.len();
        // shrinking in place keeps the message in this one buffer, which is wiped over its whole capacity
        buffer.truncate(length);
        Some(SecretBytes::new(std::mem::take(&mut *buffer)))
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey([redacted])")
    }
}

/// Each part with its length, so that no two places have the same bytes.
fn associated(place: &[&[u8]]) -> Aad<Vec<u8>> {
    let mut all = Vec::new();
    for part in place {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    Aad::from(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&SecretBytes::new(vec![byte; 32])).unwrap()
    }

    #[test]
    fn it_opens_at_its_own_place_with_its_own_key_alone() {
        let (here, entropy): (&[&[u8]], _) = (&[b"use", b"acme", b"1"], SeededEntropy::new(1));
        let sealed = key(1).seal(here, b"marked-secret", &entropy);
        assert!(!sealed.windows(6).any(|part| part == b"marked"));
        assert_ne!(sealed, key(1).seal(here, b"marked-secret", &entropy), "never the same bytes twice");
        assert_eq!(key(1).open(here, &sealed).unwrap().expose(), b"marked-secret");
        assert!(key(2).open(here, &sealed).is_none());
        let elsewhere: [&[&[u8]]; 5] =
            [&[b"use", b"acme", b"2"], &[b"use", b"acm", b"e1"], &[b"useacme1"], &[b"other", b"acme", b"1"], &[]];
        for place in elsewhere {
            assert!(key(1).open(place, &sealed).is_none(), "{place:?}");
        }
    }

    #[test]
    fn any_changed_byte_or_missing_end_keeps_it_shut() {
        let sealed = key(1).seal(&[b"use"], b"secret", &SeededEntropy::new(1));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key(1).open(&[b"use"], &changed).is_none(), "byte {at}");
            assert!(key(1).open(&[b"use"], &sealed[..at]).is_none(), "{at} bytes");
        }
        assert!(key(1).open(&[b"use"], &[&sealed[..], b"x"].concat()).is_none());
    }

    #[test]
    fn a_key_has_32_bytes() {
        for length in [0, 16, 31, 33, 64] {
            assert!(SealingKey::new(&SecretBytes::new(vec![1; length])).is_none());
        }
    }
}
