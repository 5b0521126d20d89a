-- What a client's tokens must be bound to, and what a token is bound to: a member of cnf, a space, 64 hex digits.
ALTER TABLE clients ADD COLUMN token_binding TEXT NOT NULL DEFAULT 'none'
    CHECK (token_binding IN ('none', 'certificate', 'dpop'));
ALTER TABLE tokens ADD COLUMN confirmation TEXT;
