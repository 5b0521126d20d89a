//! One entry of the log as one line.
//!
//! Invariant: [`Entry::parse`] takes exactly the bytes that [`Entry::seal`] makes, nothing that merely means the same.

use std::io;

use kh_core::{Sha256, UnixMillis, audit::AuditEvent, port::AuditError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::keys::{PublicKey, Signer};

/// Longest line, with its end. An event is a few hundred bytes; a line of a megabyte would be an attack on the reader.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// What is signed and hashed begins with this, so that no other signature of the same key can be passed off as one.
const DOMAIN: &[u8] = b"keyholder audit entry v1\n";

/// An [`AuditEvent`] with its place in the chain; members in the order they have in the line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Position, from 1.
    pub seq: u64,
    /// The event's id.
    pub id: Uuid,
    /// When it was decided, wall time in milliseconds since the epoch.
    pub at: UnixMillis,
    /// Who.
    pub actor: String,
    /// What, `noun.verb`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Further facts.
    pub detail: Vec<(String, String)>,
    /// `hash` of the entry before, in hex; 64 zeros for the first.
    pub prev: String,
    /// Ed25519 over the members before it, in hex.
    pub sig: String,
    /// SHA-256 over the members before it, in hex.
    pub hash: String,
}

impl Entry {
    /// Chains `event` behind `prev`; answers the entry and its line with the line end.
    pub(crate) fn seal(
        event: &AuditEvent,
        seq: u64,
        prev: Sha256,
        signer: &Signer,
    ) -> Result<(Self, String), AuditError> {
        let mut entry = Self {
            seq,
            id: event.id,
            at: event.at,
            actor: event.actor.clone(),
            action: event.action.clone(),
            subject: event.subject.clone(),
            detail: event.detail.clone(),
            prev: prev.to_hex(),
            sig: String::new(),
            hash: String::new(),
        };
        entry.sig = signer.sign(&message(&entry.line()?, ",\"sig\":"));
        entry.hash = Sha256::of(&message(&entry.line()?, ",\"hash\":")).to_hex();
        let mut line = entry.line()?;
        line.push('\n');
        if line.len() > ENTRY_BYTES_MAX {
            return Err(invalid(format!("an audit event of {} bytes is longer than a line may be", line.len())));
        }
        Ok((entry, line))
    }

    /// Reads a line (without its end); `None` unless every byte is as keyholder writes it and the hash is right.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let entry: Self = serde_json::from_slice(line).ok()?;
        let written = entry.line().ok()?;
        let hash = Sha256::of(&message(&written, ",\"hash\":")).to_hex();
        (written.as_bytes() == line && hash == entry.hash).then_some(entry)
    }

    /// Whether `key` signed this entry.
    pub(crate) fn signed_by(&self, key: &PublicKey) -> bool {
        self.line().is_ok_and(|line| key.verifies(&message(&line, ",\"sig\":"), &self.sig))
    }

    /// The hash as bytes.
    pub(crate) fn head(&self) -> Option<Sha256> {
        Sha256::from_hex(&self.hash)
    }

    fn line(&self) -> Result<String, AuditError> {
        serde_json::to_string(self).map_err(|error| invalid(format!("an audit event is not JSON: {error}")))
    }
}

/// The line up to the last occurrence of `member`, with the domain in front. The last, because a text in the event may
/// hold the same characters only in escaped form, and nothing but hex follows the member itself.
fn message(line: &str, member: &str) -> Vec<u8> {
    let end = line.rfind(member).unwrap_or(line.len());
    let mut message = DOMAIN.to_vec();
    message.extend_from_slice(line.get(..end).unwrap_or(line).as_bytes());
    message
}

fn invalid(reason: String) -> AuditError {
    AuditError::Unavailable(io::Error::new(io::ErrorKind::InvalidInput, reason))
}
