CREATE TABLE clients (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    credential TEXT,
    secret_digests TEXT NOT NULL, -- JSON array of hex digests, the newest first
    scopes TEXT NOT NULL,         -- JSON array of text
    allow_rules TEXT NOT NULL,    -- JSON array of text
    allow_all INTEGER NOT NULL CHECK (allow_all IN (0, 1)),
    allow_secret_operations INTEGER NOT NULL CHECK (allow_secret_operations IN (0, 1)),
    token_ttl_s INTEGER NOT NULL CHECK (token_ttl_s > 0),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at INTEGER NOT NULL,  -- all times: milliseconds since 1970 UTC
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    digest BLOB PRIMARY KEY NOT NULL CHECK (length(digest) = 32),
    client TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_client ON tokens (client);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);

CREATE TABLE settings (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    event TEXT NOT NULL           -- JSON
) STRICT;
