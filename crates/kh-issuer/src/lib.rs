//! keyholder as an authorization server: its own clients, secrets and tokens.
