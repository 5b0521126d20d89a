-- When every secret digest but the first stops being accepted; NULL: only the first is.
ALTER TABLE clients ADD COLUMN old_secrets_until INTEGER;
