//! A signed statement about the log's head, one line of the other file.
//!
//! Invariant: as for entries, exactly the bytes that keyholder writes are accepted.

use kh_core::{Sha256, UnixMillis, port::AuditError};
use serde::{Deserialize, Serialize};

use crate::keys::{PublicKey, Signer};

const DOMAIN: &[u8] = b"keyholder audit checkpoint v1\n";

/// Longest line; a checkpoint has about 450 bytes.
pub(crate) const CHECKPOINT_BYTES_MAX: usize = 1024;

/// Members in the order they have in the line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checkpoint {
    /// Number of the checkpoint, from 0.
    pub(crate) n: u64,
    /// Entries the log has.
    pub(crate) seq: u64,
    /// Hash of the last of them; 64 zeros for an empty log.
    pub(crate) hash: String,
    /// When it was signed, wall time.
    pub(crate) time: UnixMillis,
    /// SHA-256 of the checkpoint line before; 64 zeros for the first.
    pub(crate) prev: String,
    pub(crate) public_key: String,
    pub(crate) signature: String,
}

impl Checkpoint {
    /// Signs that the log has `seq` entries and ends in `head`; answers it with its line and the line end.
    pub(crate) fn sign(
        (n, prev): (u64, Sha256),
        (seq, head): (u64, Sha256),
        time: UnixMillis,
        signer: &Signer,
    ) -> Result<(Self, String), AuditError> {
        let mut checkpoint = Self {
            n,
            seq,
            hash: head.to_hex(),
            time,
            prev: prev.to_hex(),
            public_key: signer.public().to_string(),
            signature: String::new(),
        };
        checkpoint.signature = signer.sign(&message(&checkpoint.line()?));
        let mut line = checkpoint.line()?;
        line.push('\n');
        Ok((checkpoint, line))
    }

    /// Reads a line (without its end); `None` unless every byte is as keyholder writes it.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let checkpoint: Self = serde_json::from_slice(line).ok()?;
        let written = checkpoint.line().ok()?;
        (written.as_bytes() == line).then_some(checkpoint)
    }

    /// The key it names, which proves nothing yet.
    pub(crate) fn key(&self) -> Option<PublicKey> {
        self.public_key.parse().ok()
    }

    /// Whether `key` signed it.
    pub(crate) fn signed_by(&self, key: &PublicKey) -> bool {
        self.line().is_ok_and(|line| key.verifies(&message(&line), &self.signature))
    }

    fn line(&self) -> Result<String, AuditError> {
        serde_json::to_string(self).map_err(|error| AuditError::Unavailable(std::io::Error::other(error)))
    }
}

fn message(line: &str) -> Vec<u8> {
    let end = line.rfind(",\"signature\":").unwrap_or(line.len());
    let mut message = DOMAIN.to_vec();
    message.extend_from_slice(line.get(..end).unwrap_or(line).as_bytes());
    message
}
