-- The sessions of users at platforms, each named by the digest of the keyholder token that speaks for it. It outlives
-- that token, so that what it holds is given back to the platform.
CREATE TABLE sessions (
    token BLOB PRIMARY KEY NOT NULL CHECK (length(token) = 32),
    client TEXT NOT NULL,
    credential TEXT NOT NULL,
    began_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    idle_ms INTEGER NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    journal TEXT NOT NULL,        -- JSON
    sealed BLOB,                  -- by a key of the secret store; this file alone tells nothing of it
    ended TEXT                    -- how; NULL: it has not
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_client ON sessions (client) WHERE ended IS NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_to_close ON sessions (token) WHERE ended IS NOT NULL AND sealed IS NOT NULL;
-- Whichever process takes a token away or disables a client, with whatever statement: the session ends with it.
CREATE TRIGGER sessions_end_with_their_token AFTER DELETE ON tokens
BEGIN
    UPDATE sessions SET ended = 'token_revoked', version = version + 1 WHERE token = OLD.digest AND ended IS NULL;
END;
CREATE TRIGGER sessions_end_with_their_client AFTER UPDATE OF enabled ON clients WHEN NEW.enabled = 0
BEGIN
    UPDATE sessions SET ended = 'client_disabled', version = version + 1 WHERE client = NEW.id AND ended IS NULL;
    -- gone for good, also when the client is enabled again before anybody has looked
    DELETE FROM tokens WHERE digest IN (SELECT token FROM sessions WHERE client = NEW.id AND ended = 'client_disabled');
END;
CREATE TRIGGER sessions_go_no_way_back BEFORE UPDATE OF ended ON sessions
WHEN OLD.ended IS NOT NULL AND NEW.ended IS NOT OLD.ended
BEGIN SELECT RAISE(ABORT, 'a session ends once'); END;
