-- Who rotates what. A row stays for ever, because its fence must never go back.
CREATE TABLE rotation_leases (
    name TEXT PRIMARY KEY NOT NULL,
    owner TEXT,                   -- NULL: given back
    fence INTEGER NOT NULL CHECK (fence > 0),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rotation_runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which runs began, whatever the clock said
    id TEXT NOT NULL UNIQUE,
    credential TEXT NOT NULL,
    lease TEXT NOT NULL,          -- the one under which it is written
    began_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE INDEX rotation_runs_by_credential ON rotation_runs (credential, number);
CREATE UNIQUE INDEX rotation_runs_unfinished ON rotation_runs (credential) WHERE ended_at IS NULL;
CREATE TRIGGER rotation_runs_end_before_they_go BEFORE DELETE ON rotation_runs WHEN OLD.ended_at IS NULL
BEGIN SELECT RAISE(ABORT, 'an unfinished run stays'); END;

CREATE TABLE rotation_records (
    run INTEGER NOT NULL REFERENCES rotation_runs (number) ON DELETE CASCADE,
    seq INTEGER NOT NULL CHECK (seq > 0),
    fence INTEGER NOT NULL CHECK (fence > 0),
    at INTEGER NOT NULL,
    record TEXT NOT NULL,         -- JSON
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER rotation_records_stay BEFORE UPDATE ON rotation_records
BEGIN SELECT RAISE(ABORT, 'records are only appended'); END;
CREATE TRIGGER rotation_records_go_with_their_run BEFORE DELETE ON rotation_records
WHEN EXISTS (SELECT 1 FROM rotation_runs WHERE number = OLD.run)
BEGIN SELECT RAISE(ABORT, 'records are only appended'); END;

-- Sealed by a key of the secret store; this file alone tells nothing of them.
CREATE TABLE rotation_escrow (
    run INTEGER NOT NULL REFERENCES rotation_runs (number) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE rotation_approvals (
    run INTEGER NOT NULL REFERENCES rotation_runs (number) ON DELETE CASCADE,
    allows TEXT NOT NULL,         -- JSON text
    actor TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (run, allows, actor)
) STRICT, WITHOUT ROWID;

CREATE TABLE rotation_holds (
    credential TEXT PRIMARY KEY NOT NULL,
    since INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rotation_sightings (
    credential TEXT NOT NULL,
    consumer TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    grade TEXT NOT NULL,          -- JSON text
    version TEXT,
    at INTEGER NOT NULL,
    alive_until INTEGER NOT NULL,
    PRIMARY KEY (credential, consumer, fingerprint, grade)
) STRICT, WITHOUT ROWID;
