//! HashiCorp Vault KV v2 as a secret store.
