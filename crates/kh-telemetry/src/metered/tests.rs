//! A state that fails on demand, and what is counted of it.

use kh_core::ManualClock;

use super::*;

/// An audit log that refuses when told to.
struct Picky;

impl AuditLog for Picky {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        if events.is_empty() { Err(AuditError::Broken("it was edited".to_owned())) } else { Ok(()) }
    }
}

/// A secret store that has nothing, or is not there.
struct Absent;

impl SecretStore for Absent {
    fn get<'a>(&'a self, name: &'a SecretName) -> BoxFuture<'a, Result<StoredSecret, StoreError>> {
        Box::pin(async { Err(StoreError::NotFound(name.clone())) })
    }

    fn newest_version<'a>(&'a self, _: &'a SecretName) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Ok(3) })
    }

    fn put<'a>(
        &'a self,
        _: &'a SecretName,
        _: SecretBytes,
        _: Expected,
        _: AuditEvent,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Err(StoreError::WrongKey) })
    }

    fn remove<'a>(&'a self, _: &'a SecretName, _: Expected, _: AuditEvent) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SecretMetadata>, StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable { reason: "test".to_owned(), source: None }) })
    }
}

fn shown(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

#[tokio::test]
async fn operations_errors_and_entries_are_counted() {
    let clock = Arc::new(ManualClock::at(UnixMillis(1)));
    let (meter, mut registry) = (Meter::new(clock.clone()), Registry::default());
    meter.register(&mut registry);
    let event = || AuditEvent::new(&kh_core::SeededEntropy::new(1), UnixMillis(1), "cli:test", "test", "x");
    let audit = MeteredAudit::new(Arc::new(Picky), meter.clone());
    audit.append(&[event(), event()]).unwrap();
    audit.append(&[]).unwrap_err();
    let secrets = MeteredSecrets::new(Arc::new(Absent), meter);
    let name: SecretName = "acme".parse().unwrap();
    assert_eq!(secrets.newest_version(&name).await.unwrap(), 3);
    assert!(secrets.get(&name).await.is_err() && secrets.list().await.is_err());
    let value = SecretBytes::new(b"x".to_vec());
    assert!(secrets.put(&name, value, Expected::Absent, event()).await.is_err());
    let text = shown(&registry);
    for line in [
        "keyholder_audit_entries_total 2",
        r#"keyholder_store_errors_total{store="audit",code="keyholder.audit.broken"} 1"#,
        r#"keyholder_store_errors_total{store="secrets",code="keyholder.store.unavailable"} 1"#,
        r#"keyholder_store_errors_total{store="secrets",code="keyholder.store.wrong_key"} 1"#,
        r#"keyholder_store_operation_duration_seconds_count{store="secrets",operation="newest_version"} 1"#,
        r#"keyholder_store_operation_duration_seconds_count{store="audit",operation="append"} 2"#,
        r#"keyholder_store_pending_operations{store="audit"} 0"#,
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    assert!(!text.contains("keyholder.not_found"), "a name that is not there is no error of the store");
}

/// The first error of a series that was not there is no increase to whoever watches it.
#[test]
fn every_error_of_a_store_has_its_series_before_it_happens() {
    let (meter, mut registry) = (Meter::new(Arc::new(ManualClock::at(UnixMillis(1)))), Registry::default());
    meter.register(&mut registry);
    let text = shown(&registry);
    let why = String::new;
    let secrets = [
        StoreError::WrongKey,
        StoreError::Tampered(why()),
        StoreError::Truncated(why()),
        StoreError::TooNew { found: 2, known: 1 },
        StoreError::Unavailable { reason: why(), source: None },
    ];
    let state = [
        StateError::TooNew { found: 2, known: 1 },
        StateError::Damaged(why()),
        StateError::Unavailable { reason: why(), source: None },
    ];
    let of = |store, code: Option<Code>| (store, code.expect("it is a fault of the store"));
    let mut all: Vec<_> = secrets.iter().map(|error| of("secrets", store_fault(error))).collect();
    all.extend(state.iter().map(|error| of("state", state_fault(error))));
    all.extend([("audit", Code::STATE_UNAVAILABLE), ("audit", Code::AUDIT_BROKEN)]);
    for (store, code) in all {
        let line = format!("keyholder_store_errors_total{{store=\"{store}\",code=\"{}\"}} 0\n", code.0);
        assert!(text.contains(&line), "no {line} in\n{text}");
    }
}
