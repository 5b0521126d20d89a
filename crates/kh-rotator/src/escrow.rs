//! The escrow: the only copy of a new secret between the platform's answer and the stores, sealed in the journal.
//!
//! Invariant: what is sealed opens only as what it was sealed for: the same credential, generation, run and name. Whoever
//! has the journal's file alone, or moves a sealed value to another place in it, learns nothing and gets nothing in.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use kh_core::{CredentialName, Entropy, SecretBytes, rotation::RunId};
use zeroize::Zeroizing;

/// The form of what is sealed, its first byte.
const FORM: u8 = 1;

/// Names this use of the key in the associated data.
const LABEL: &[u8] = b"keyholder rotation escrow v1";

/// What a sealed value belongs to.
#[derive(Clone, Copy, Debug)]
pub struct SealedFor<'a> {
    /// Whose secret.
    pub credential: &'a CredentialName,
    /// Counts the credential's secrets.
    pub generation: u64,
    /// The run.
    pub run: RunId,
    /// The name in the run's escrow.
    pub name: &'a str,
}

impl SealedFor<'_> {
    /// Each part with its length, so that no two places have the same bytes.
    fn associated(self) -> Vec<u8> {
        let mut all = Vec::new();
        let generation = self.generation.to_be_bytes();
        for part in
            [LABEL, self.credential.as_str().as_bytes(), &generation, self.run.0.as_bytes(), self.name.as_bytes()]
        {
            all.extend_from_slice(&(part.len() as u64).to_be_bytes());
            all.extend_from_slice(part);
        }
        all
    }
}

/// Why a sealed value does not open: another key, another place, or changed bytes. Nothing more can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the escrow does not open: it was sealed by another secret store, or changed")]
pub struct EscrowBroken;

/// The key of the escrow. AES-256-GCM-SIV (RFC 8452): should a random nonce ever repeat, it tells only whether two
/// values are equal.
pub struct EscrowKey(LessSafeKey);

kh_core::assert_closed!(EscrowKey);

impl EscrowKey {
    /// The key from 32 bytes that the secret store derives for this use; none if they are not 32.
    pub fn new(key: &SecretBytes) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM_SIV, key.expose()).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Seals `plain`.
    pub fn seal(&self, of: SealedFor<'_>, plain: &SecretBytes, entropy: &dyn Entropy) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut buffer = Zeroizing::new(Vec::with_capacity(plain.expose().len() + AES_256_GCM_SIV.tag_len()));
        buffer.extend_from_slice(plain.expose());
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(of.associated()), &mut *buffer)
            .expect("AES-GCM-SIV seals any message under 64 GiB");
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + buffer.len());
        sealed.push(FORM);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&buffer);
        sealed
    }

    /// Opens what was sealed for exactly this place.
    pub fn open(&self, of: SealedFor<'_>, sealed: &[u8]) -> Result<SecretBytes, EscrowBroken> {
        let (form, rest) = sealed.split_first().ok_or(EscrowBroken)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(EscrowBroken)?;
        if *form != FORM {
            return Err(EscrowBroken);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| EscrowBroken)?;
        let mut buffer = Zeroizing::new(body.to_vec());
        let length =
            self.0.open_in_place(nonce, Aad::from(of.associated()), &mut buffer).map_err(|_| EscrowBroken)?.len();
        // shrinking in place keeps the message in this one buffer, which is wiped over its whole capacity
        buffer.truncate(length);
        Ok(SecretBytes::new(std::mem::take(&mut *buffer)))
    }
}

impl std::fmt::Debug for EscrowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EscrowKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kh_core::SeededEntropy;
    use uuid::Uuid;

    fn key(byte: u8) -> EscrowKey {
        EscrowKey::new(&SecretBytes::new(vec![byte; 32])).unwrap()
    }

    #[test]
    fn it_opens_at_its_own_place_with_its_own_key_alone() {
        let (acme, other): (CredentialName, CredentialName) = ("acme".parse().unwrap(), "acm".parse().unwrap());
        let here = SealedFor { credential: &acme, generation: 3, run: RunId(Uuid::from_u128(7)), name: "new" };
        let entropy = SeededEntropy::new(1);
        let plain = SecretBytes::new(b"{\"client_secret\":\"marked-secret\"}".to_vec());
        let sealed = key(1).seal(here, &plain, &entropy);
        assert_eq!(key(1).open(here, &sealed).unwrap(), plain);
        assert!(!sealed.windows(6).any(|part| part == b"marked"));
        assert_ne!(sealed, key(1).seal(here, &plain, &entropy), "never the same bytes twice");
        for elsewhere in [
            SealedFor { credential: &other, ..here },
            SealedFor { generation: 4, ..here },
            SealedFor { run: RunId(Uuid::from_u128(8)), ..here },
            SealedFor { name: "old", ..here },
        ] {
            assert_eq!(key(1).open(elsewhere, &sealed).unwrap_err(), EscrowBroken, "{elsewhere:?}");
        }
        assert_eq!(key(2).open(here, &sealed).unwrap_err(), EscrowBroken);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key(1).open(here, &changed).unwrap_err(), EscrowBroken, "byte {at}");
            assert_eq!(key(1).open(here, &sealed[..at]).unwrap_err(), EscrowBroken, "cut at {at}");
        }
        assert!(EscrowKey::new(&SecretBytes::new(vec![1; 31])).is_none());
    }
}
