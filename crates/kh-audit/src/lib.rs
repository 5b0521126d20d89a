//! The audit log: hash-chained entries in one file, signed checkpoints in another, and their verification.
//!
//! ```text
//! FileAuditLog::open(log, checkpoints, signing_seed: &SecretBytes /*32*/, clock) -> Result<FileAuditLog, AuditError>
//! FileAuditLog: kh_core::port::AuditLog        append(&[AuditEvent])
//! log.public_key() -> PublicKey                what `verify` should be pinned to (hex: Display / FromStr)
//! verify(log, checkpoints, Option<&PublicKey>) -> Result<Report, AuditError>    Report::{verified(), finding, ...}
//! read(log, Filter{since,until,actor,action,subject,limit}) -> Result<Entries, AuditError>   iterator of Result<Entry, _>
//! ```
//!
//! # Format
//! One entry is one line of JSON without spaces, members in this order:
//! `{"seq":1,"id":"<uuid>","at":<unix ms>,"actor":"..","action":"..","subject":"..","detail":[["k","v"]],"prev":"<hex>","sig":"<hex>","hash":"<hex>"}`
//!
//! - `seq` counts from 1. `prev` is the `hash` of the entry before; 64 zeros for the first.
//! - `sig` is Ed25519 (RFC 8032) over `"keyholder audit entry v1\n"` and the line up to, not including, `,"sig":`.
//! - `hash` is SHA-256 over `"keyholder audit entry v1\n"` and the line up to, not including, `,"hash":`.
//!
//! A checkpoint is one line of the same kind in the other file:
//! `{"n":0,"seq":0,"hash":"<head>","time":<unix ms>,"prev":"<SHA-256 of the line before>","public_key":"<hex>","signature":"<hex>"}`,
//! `signature` over `"keyholder audit checkpoint v1\n"` and the line up to `,"signature":`. The first has `n` 0 and
//! `seq` 0 and is written before the first entry; one more follows each append.
//!
//! Invariants: `append` returned means log and checkpoint are on disk; a line is only ever accepted in exactly the
//! bytes that keyholder writes, so every changed byte is found; nothing is appended to a log that does not verify.
//!
//! What it cannot see: log and checkpoints both cut back to the same earlier state. Keep the checkpoints, or copies of
//! them, where whoever can write the log cannot write.

mod chain;
mod checkpoint;
mod diagnosis;
mod entry;
mod extent;
mod files;
mod finding;
mod keys;
mod log;
mod query;
mod scan;

pub use entry::{ENTRY_BYTES_MAX, Entry};
pub use extent::{Extent, extent};
pub use finding::{Finding, FindingKind, Report};
pub use keys::{NotAPublicKey, PublicKey};
pub use log::FileAuditLog;
pub use query::{Entries, Filter, READ_LIMIT_MAX, read};
pub use scan::verify;
