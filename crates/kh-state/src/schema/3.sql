-- The environment that the client belongs to; NULL: not bound yet.
ALTER TABLE clients ADD COLUMN environment TEXT;
