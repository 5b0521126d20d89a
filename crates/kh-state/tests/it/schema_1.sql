-- A database of schema 1 with one of everything, as that version left it.
PRAGMA application_id = 1802006380;
CREATE TABLE clients (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    credential TEXT,
    secret_digests TEXT NOT NULL,
    scopes TEXT NOT NULL,
    allow_rules TEXT NOT NULL,
    allow_all INTEGER NOT NULL CHECK (allow_all IN (0, 1)),
    allow_secret_operations INTEGER NOT NULL CHECK (allow_secret_operations IN (0, 1)),
    token_ttl_s INTEGER NOT NULL CHECK (token_ttl_s > 0),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at INTEGER NOT NULL,
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
    event TEXT NOT NULL
) STRICT;
INSERT INTO clients VALUES ('c-1', 'reports', 'acme-prod',
    '["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]', '["broker:read"]',
    '["GET /api/v2/users/**"]', 0, 0, 86400, 1, 1767225600000, 1767225600000);
INSERT INTO tokens VALUES (zeroblob(32), 'c-1', 1767225600000, 1767312000000);
INSERT INTO audit_outbox (event_id, event) VALUES ('6f7fcf0e-5a5c-4f6e-9c3e-0d3c2f1f9a11',
    '{"id":"6f7fcf0e-5a5c-4f6e-9c3e-0d3c2f1f9a11","at":1767225600000,"actor":"cli:ops","action":"client.add","subject":"reports","detail":[]}');
PRAGMA user_version = 1;
