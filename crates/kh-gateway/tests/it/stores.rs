//! State and secrets in memory, and a token endpoint that counts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_core::{
    ClientId, SecretBytes, SecretName, SecretString, Sha256, UnixMillis,
    audit::AuditEvent,
    credential::CredentialDocument,
    port::{
        BoxFuture, ClientRecord, Expected, FetchError, IssuedToken, SecretMetadata, SecretStore, StateError,
        StateStore, StoreError, StoredSecret, TokenEndpoint, TokenRecord,
    },
};
use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct MemoryState {
    clients: Mutex<BTreeMap<ClientId, ClientRecord>>,
    tokens: Mutex<BTreeMap<Sha256, TokenRecord>>,
    changes: AtomicU64,
}

impl MemoryState {
    fn changed<T>(&self, value: T) -> BoxFuture<'static, Result<T, StateError>>
    where
        T: Send + 'static,
    {
        self.changes.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(value) })
    }
}

impl StateStore for MemoryState {
    fn clients(&self) -> BoxFuture<'_, Result<Vec<ClientRecord>, StateError>> {
        let all = self.clients.lock().values().cloned().collect();
        Box::pin(async { Ok(all) })
    }

    fn add_client(&self, client: ClientRecord, _: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        self.clients.lock().insert(client.id.clone(), client);
        self.changed(())
    }

    fn update_client(
        &self,
        _: ClientRecord,
        client: ClientRecord,
        _: AuditEvent,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        self.clients.lock().insert(client.id.clone(), client);
        self.changed(())
    }

    fn remove_client(&self, id: ClientId, _: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        self.clients.lock().remove(&id);
        self.tokens.lock().retain(|_, token| token.client != id);
        self.changed(())
    }

    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<(), StateError>> {
        self.tokens.lock().insert(token.digest, token);
        self.changed(())
    }

    fn remove_token(&self, digest: Sha256) -> BoxFuture<'_, Result<(), StateError>> {
        self.tokens.lock().remove(&digest);
        self.changed(())
    }

    fn token(&self, digest: Sha256) -> BoxFuture<'_, Result<Option<TokenRecord>, StateError>> {
        let found = self.tokens.lock().get(&digest).cloned();
        Box::pin(async { Ok(found) })
    }

    fn live_tokens(&self, now: UnixMillis) -> BoxFuture<'_, Result<Vec<TokenRecord>, StateError>> {
        let live = self.tokens.lock().values().filter(|token| token.expires_at > now).cloned().collect();
        Box::pin(async { Ok(live) })
    }

    fn change_counter(&self) -> BoxFuture<'_, Result<u64, StateError>> {
        let count = self.changes.load(Ordering::SeqCst);
        Box::pin(async move { Ok(count) })
    }

    fn setting(&self, _: &str) -> BoxFuture<'_, Result<Option<String>, StateError>> {
        Box::pin(async { Ok(None) })
    }

    fn set_setting(&self, _: &str, _: &str, _: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        self.changed(())
    }
}

/// Documents that are kept, each with its newest version.
#[derive(Default)]
pub(crate) struct MemorySecrets(Mutex<BTreeMap<SecretName, (u64, Vec<u8>)>>);

impl SecretStore for MemorySecrets {
    fn get<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<StoredSecret, StoreError>> {
        let found = self.0.lock().get(name).cloned();
        let found = found.map(|(version, value)| StoredSecret { value: SecretBytes::new(value), version });
        Box::pin(async { found.ok_or_else(|| StoreError::NotFound(name.clone())) })
    }

    fn newest_version<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<u64, StoreError>> {
        let found = self.0.lock().get(name).map(|(version, _)| *version);
        Box::pin(async move { found.ok_or_else(|| StoreError::NotFound(name.clone())) })
    }

    fn put<'a>(
        &'a self,
        name: &'a SecretName,
        value: SecretBytes,
        _: Expected,
        _: AuditEvent,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let mut all = self.0.lock();
        let version = all.get(name).map_or(0, |(version, _)| *version) + 1;
        all.insert(name.clone(), (version, value.expose().to_vec()));
        Box::pin(async move { Ok(version) })
    }

    fn remove<'a>(&'a self, name: &'a SecretName, _: Expected, _: AuditEvent) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.lock().remove(name);
        Box::pin(async { Ok(()) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SecretMetadata>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// One document under every name.
pub(crate) struct OneSecret;

impl SecretStore for OneSecret {
    fn get<'a>(&'a self, _: &'a SecretName) -> BoxFuture<'a, Result<StoredSecret, StoreError>> {
        let document = br#"{"client_id":"platform-id","client_secret":"platform-secret"}"#.to_vec();
        Box::pin(async { Ok(StoredSecret { value: SecretBytes::new(document), version: 1 }) })
    }

    fn newest_version<'a>(&'a self, _: &'a SecretName) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Ok(1) })
    }

    fn put<'a>(
        &'a self,
        name: &'a SecretName,
        _: SecretBytes,
        _: Expected,
        _: AuditEvent,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Err(StoreError::NotFound(name.clone())) })
    }

    fn remove<'a>(&'a self, name: &'a SecretName, _: Expected, _: AuditEvent) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::NotFound(name.clone())) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SecretMetadata>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Gives out `platform-token-1`, `-2`, ... or refuses.
#[derive(Default)]
pub(crate) struct Tokens {
    count: AtomicU64,
    refusal: Mutex<Option<&'static str>>,
}

impl Tokens {
    /// How many tokens were fetched.
    pub(crate) fn fetched(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// From now on the platform answers this error code.
    pub(crate) fn refuse(&self, code: &'static str) {
        *self.refusal.lock() = Some(code);
    }
}

/// The n-th token.
pub(crate) fn platform_token(number: u64) -> String {
    format!("platform-token-{number}")
}

impl TokenEndpoint for Tokens {
    fn fetch<'a>(
        &'a self,
        _: &'a CredentialDocument,
        _: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<IssuedToken, FetchError>> {
        Box::pin(async {
            if let Some(code) = *self.refusal.lock() {
                return Err(FetchError::Rejected {
                    platform_code: code.to_owned(),
                    correlation_id: Some("login-correlation".to_owned()),
                });
            }
            let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(IssuedToken {
                access_token: SecretString::new(platform_token(number)),
                expires_in: Duration::from_hours(24),
                refresh_token: None,
                scope: None,
                api_base: None,
                auth_base: None,
            })
        })
    }
}

pub(crate) fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}
