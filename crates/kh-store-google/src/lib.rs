//! Google Secret Manager as a secret store.
