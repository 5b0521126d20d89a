//! AWS Secrets Manager as a secret store.
