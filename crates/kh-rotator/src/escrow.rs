//! The escrow: the only copy of a new secret between the platform's answer and the stores, sealed in the journal.
//!
//! Invariant: what is sealed opens only as what it was sealed for: the same credential, generation, run and name. Whoever
//! has the journal's file alone, or moves a sealed value to another place in it, learns nothing and gets nothing in.

use kh_core::{CredentialName, Entropy, SealingKey, SecretBytes, rotation::RunId};

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
    /// Calls `with` with the parts that name the place.
    fn at<T>(&self, with: impl FnOnce(&[&[u8]]) -> T) -> T {
        let (credential, run) = (self.credential.as_str().as_bytes(), self.run.0.as_bytes());
        with(&[LABEL, credential, &self.generation.to_be_bytes(), run, self.name.as_bytes()])
    }
}

/// Why a sealed value does not open: another key, another place, or changed bytes. Nothing more can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the escrow does not open: it was sealed by another secret store, or changed")]
pub struct EscrowBroken;

/// The key of the escrow.
#[derive(Debug)]
pub struct EscrowKey(SealingKey);

kh_core::assert_closed!(EscrowKey);

impl EscrowKey {
    /// The key from 32 bytes that the secret store derives for this use; none if they are not 32.
    pub fn new(key: &SecretBytes) -> Option<Self> {
        SealingKey::new(key).map(Self)
    }

    /// Seals `plain`.
    pub fn seal(&self, of: SealedFor<'_>, plain: &SecretBytes, entropy: &dyn Entropy) -> Vec<u8> {
        of.at(|place| self.0.seal(place, plain.expose(), entropy))
    }

    /// Opens what was sealed for exactly this place.
    pub fn open(&self, of: SealedFor<'_>, sealed: &[u8]) -> Result<SecretBytes, EscrowBroken> {
        of.at(|place| self.0.open(place, sealed)).ok_or(EscrowBroken)
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
        assert!(EscrowKey::new(&SecretBytes::new(vec![1; 31])).is_none());
    }
}
