//! Durable state in SQLite: clients, tokens, settings, and the audit outbox.
