//! Ports that count: the stores as they are, with the time and the errors of every operation.
//!
//! Invariant: what goes in and out is passed on untouched; only the name of the operation, its time and its error code
//! are looked at.

use std::{sync::Arc, time::Duration};

use kh_core::{
    ClientId, Clock, Code, SecretBytes, SecretName, Sha256, UnixMillis,
    audit::AuditEvent,
    metric,
    port::{
        AuditError, AuditLog, BoxFuture, ClientRecord, Expected, SecretMetadata, SecretStore, StateError, StateStore,
        StoreError, StoredSecret, TokenRecord,
    },
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// From a look into memory to a disk that hangs.
const BUCKETS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    store: &'static str,
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Failure {
    store: &'static str,
    code: &'static str,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// What is counted of all stores. Clones share it.
#[derive(Clone)]
pub struct Meter {
    clock: Arc<dyn Clock>,
    durations: Family<Operation, Histogram, fn() -> Histogram>,
    errors: Family<Failure, Counter>,
    pending: Family<[(&'static str, &'static str); 1], Gauge>,
    entries: Counter,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meter")
    }
}

/// Every code that [`store_fault`], [`state_fault`] and an audit log tell: their series are there with zero, because the
/// first error would be no increase of a series that begins with it.
const FAULTS: &[(&str, &[Code])] = &[
    (
        "secrets",
        &[
            Code::STORE_UNAVAILABLE,
            Code::STORE_WRONG_KEY,
            Code::STORE_TAMPERED,
            Code::STORE_TRUNCATED,
            Code::STORE_TOO_NEW,
        ],
    ),
    ("state", &[Code::STATE_UNAVAILABLE, Code::STATE_DAMAGED, Code::STORE_TOO_NEW]),
    ("audit", &[Code::STATE_UNAVAILABLE, Code::AUDIT_BROKEN]),
];

/// Counts an operation as pending while it lives.
struct Pending(Gauge);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Meter {
    /// Counts nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let made = Self {
            clock,
            durations: Family::new_with_constructor(histogram as fn() -> Histogram),
            errors: Family::default(),
            pending: Family::default(),
            entries: Counter::default(),
        };
        for store in ["secrets", "state", "audit"] {
            // the series are there before the first operation
            made.pending.get_or_create(&[("store", store)]).set(0);
        }
        for &(store, codes) in FAULTS {
            for code in codes {
                drop(made.errors.get_or_create(&Failure { store, code: code.0 }));
            }
        }
        made
    }

    /// Shows the counts.
    pub fn register(&self, registry: &mut Registry) {
        let mut register = |name, metric| registry.register(name, metric::help(name), metric);
        register("keyholder_store_errors", self.errors.clone());
        registry.register(DURATIONS, metric::help(DURATIONS), self.durations.clone());
        registry.register(PENDING, metric::help(PENDING), self.pending.clone());
        registry.register(ENTRIES, metric::help(ENTRIES), self.entries.clone());
    }

    fn begin(&self, store: &'static str) -> (Pending, Duration) {
        let pending = self.pending.get_or_create_owned(&[("store", store)]);
        pending.inc();
        (Pending(pending), self.clock.now().mono)
    }

    fn end(&self, store: &'static str, operation: &'static str, began: Duration, failed: Option<Code>) {
        let took = self.clock.now().mono.saturating_sub(began);
        self.durations.get_or_create(&Operation { store, operation }).observe(took.as_secs_f64());
        if let Some(code) = failed {
            self.errors.get_or_create(&Failure { store, code: code.0 }).inc();
        }
    }

    fn timed<'a, T, E>(
        &'a self,
        store: &'static str,
        operation: &'static str,
        code: fn(&E) -> Option<Code>,
        inner: BoxFuture<'a, Result<T, E>>,
    ) -> BoxFuture<'a, Result<T, E>>
    where
        T: Send + 'a,
        E: Send + 'a,
    {
        Box::pin(async move {
            let (pending, began) = self.begin(store);
            let result = inner.await;
            drop(pending);
            self.end(store, operation, began, result.as_ref().err().and_then(code));
            result
        })
    }
}

const DURATIONS: &str = "keyholder_store_operation_duration_seconds";
const PENDING: &str = "keyholder_store_pending_operations";
const ENTRIES: &str = "keyholder_audit_entries";

/// What a caller did wrong is no fault of the store.
fn store_fault(error: &StoreError) -> Option<Code> {
    (error.blame() != kh_core::Blame::Caller).then(|| error.code())
}

fn state_fault(error: &StateError) -> Option<Code> {
    (error.blame() != kh_core::Blame::Caller).then(|| error.code())
}

/// A secret store that is metered.
pub struct MeteredSecrets {
    inner: Arc<dyn SecretStore>,
    meter: Meter,
}

impl MeteredSecrets {
    /// Counts what goes through to `inner`.
    pub fn new(inner: Arc<dyn SecretStore>, meter: Meter) -> Arc<Self> {
        Arc::new(Self { inner, meter })
    }
}

impl SecretStore for MeteredSecrets {
    fn get<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<StoredSecret, StoreError>> {
        self.meter.timed("secrets", "get", store_fault, self.inner.get(name))
    }

    fn newest_version<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.meter.timed("secrets", "newest_version", store_fault, self.inner.newest_version(name))
    }

    fn put<'a>(
        &'a self,
        name: &'a SecretName,
        value: SecretBytes,
        expected: Expected,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.meter.timed("secrets", "put", store_fault, self.inner.put(name, value, expected, event))
    }

    fn remove<'a>(
        &'a self,
        name: &'a SecretName,
        expected: Expected,
        event: AuditEvent,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.meter.timed("secrets", "remove", store_fault, self.inner.remove(name, expected, event))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SecretMetadata>, StoreError>> {
        self.meter.timed("secrets", "list", store_fault, self.inner.list())
    }
}

/// State that is metered.
pub struct MeteredState {
    inner: Arc<dyn StateStore>,
    meter: Meter,
}

impl MeteredState {
    /// Counts what goes through to `inner`.
    pub fn new(inner: Arc<dyn StateStore>, meter: Meter) -> Arc<Self> {
        Arc::new(Self { inner, meter })
    }
}

impl StateStore for MeteredState {
    fn clients(&self) -> BoxFuture<'_, Result<Vec<ClientRecord>, StateError>> {
        self.meter.timed("state", "clients", state_fault, self.inner.clients())
    }

    fn add_client(&self, client: ClientRecord, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        self.meter.timed("state", "add_client", state_fault, self.inner.add_client(client, event))
    }

    fn update_client(
        &self,
        before: ClientRecord,
        after: ClientRecord,
        event: AuditEvent,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        self.meter.timed("state", "update_client", state_fault, self.inner.update_client(before, after, event))
    }

    fn remove_client(&self, id: ClientId, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        self.meter.timed("state", "remove_client", state_fault, self.inner.remove_client(id, event))
    }

    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<(), StateError>> {
        self.meter.timed("state", "add_token", state_fault, self.inner.add_token(token))
    }

    fn remove_token(&self, digest: Sha256) -> BoxFuture<'_, Result<(), StateError>> {
        self.meter.timed("state", "remove_token", state_fault, self.inner.remove_token(digest))
    }

    fn token(&self, digest: Sha256) -> BoxFuture<'_, Result<Option<TokenRecord>, StateError>> {
        self.meter.timed("state", "token", state_fault, self.inner.token(digest))
    }

    fn live_tokens(&self, now: UnixMillis) -> BoxFuture<'_, Result<Vec<TokenRecord>, StateError>> {
        self.meter.timed("state", "live_tokens", state_fault, self.inner.live_tokens(now))
    }

    fn change_counter(&self) -> BoxFuture<'_, Result<u64, StateError>> {
        self.meter.timed("state", "change_counter", state_fault, self.inner.change_counter())
    }

    fn setting(&self, key: &str) -> BoxFuture<'_, Result<Option<String>, StateError>> {
        self.meter.timed("state", "setting", state_fault, self.inner.setting(key))
    }

    fn set_setting(&self, key: &str, value: &str, event: AuditEvent) -> BoxFuture<'_, Result<(), StateError>> {
        self.meter.timed("state", "set_setting", state_fault, self.inner.set_setting(key, value, event))
    }
}

/// An audit log that is metered.
pub struct MeteredAudit {
    inner: Arc<dyn AuditLog>,
    meter: Meter,
}

impl MeteredAudit {
    /// Counts what goes through to `inner`.
    pub fn new(inner: Arc<dyn AuditLog>, meter: Meter) -> Arc<Self> {
        Arc::new(Self { inner, meter })
    }
}

impl AuditLog for MeteredAudit {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        let (pending, began) = self.meter.begin("audit");
        let result = self.inner.append(events);
        drop(pending);
        let failed = result.as_ref().err().map(|error| match error {
            AuditError::Unavailable(_) => Code::STATE_UNAVAILABLE,
            AuditError::Broken(_) => Code::AUDIT_BROKEN,
        });
        self.meter.end("audit", "append", began, failed);
        if failed.is_none() {
            self.meter.entries.inc_by(events.len() as u64);
        }
        result
    }
}

#[cfg(test)]
mod tests;
