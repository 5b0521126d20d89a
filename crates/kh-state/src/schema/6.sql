-- What of callers' tokens is revoked. The position grows with each write, so that others read what is new.
CREATE TABLE revocations (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    target_key BLOB NOT NULL UNIQUE CHECK (length(target_key) = 32),
    target TEXT NOT NULL,         -- JSON
    before INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    issuer TEXT,                  -- whose single token it is, as far as that is known
    client TEXT,
    subject TEXT
) STRICT;
CREATE INDEX revocations_by_expiry ON revocations (expires_at);
