//! The audit log: hash-chained entries, signed checkpoints kept elsewhere, verification.
