//! The embedded secret store: versioned values in SQLite rows sealed with an AEAD.
