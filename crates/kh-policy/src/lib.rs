//! What a client may call: canonical paths, allow-lists, guarded operations.
