-- What a client's tokens are and for whom, and whether it may introspect tokens.
ALTER TABLE clients ADD COLUMN token_format TEXT NOT NULL DEFAULT 'opaque' CHECK (token_format IN ('opaque', 'jwt'));
ALTER TABLE clients ADD COLUMN audience TEXT NOT NULL DEFAULT '[]'; -- JSON array of text
ALTER TABLE clients ADD COLUMN may_introspect INTEGER NOT NULL DEFAULT 0 CHECK (may_introspect IN (0, 1));
-- JSON array of text: the scopes that the login asked for; NULL: all of the client's.
ALTER TABLE tokens ADD COLUMN scopes TEXT;
