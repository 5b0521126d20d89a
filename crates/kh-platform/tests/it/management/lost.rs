//! Answers that never come: unknown for what changes, not done for what looks, and never a second request.

use std::{fmt::Write, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use kh_core::{
    SecretString,
    port::{SecretManagement, Strategy, secret_management::Rotator::First},
    rotation::ManagedId,
};
use kh_platform::management::{GenesysManagement, GenesysRotation};
use kh_sandbox::SandboxConfig;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};

use super::rig::{Rig, TARGET, word};
use crate::fake::address;

/// What can happen to a changing request, and whether it was carried out.
fn accidents() -> Vec<(Value, bool)> {
    vec![
        (json!({"kind": "drop_before"}), false),
        (json!({"kind": "drop_after"}), true),
        (json!({"kind": "status", "status": 500}), false),
        (json!({"kind": "status", "status": 503, "retry_after": "1"}), false),
        (json!({"kind": "status", "status": 504}), false),
        (json!({"kind": "status", "status": 408}), false),
        (json!({"kind": "bad_json"}), true),
        (json!({"kind": "truncated_body"}), true),
        (json!({"kind": "empty_body"}), true),
    ]
}

#[tokio::test]
async fn a_lost_regeneration_is_unknown_and_never_repeated() {
    for (effect, applied) in accidents() {
        let rig = Rig::start(SandboxConfig::default()).await;
        let (genesys, current) = (rig.genesys(), rig.document(TARGET));
        rig.fault("POST", "/api/v2/oauth/clients/*/secret", effect.clone()).await;
        assert_eq!(word(&genesys.regenerate(&current, First).await), "unknown", "{effect}");
        assert_eq!(rig.changes().len(), 1, "{effect}: exactly one POST .../secret");
        assert_eq!(rig.login(&current).await.is_none(), applied, "{effect}");
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn a_lost_creation_is_unknown_never_repeated_and_found_by_listing() {
    for (effect, applied) in accidents() {
        let rig = Rig::start(SandboxConfig::default()).await;
        let (genesys, current) = (rig.genesys(), rig.document(TARGET));
        rig.fault("POST", "/api/v2/oauth/clients", effect.clone()).await;
        assert_eq!(word(&genesys.create(&current, "run-7", First).await), "unknown", "{effect}");
        assert_eq!(rig.changes(), ["POST /api/v2/oauth/clients"], "{effect}");
        let listed = genesys.list(&current, First).await.unwrap();
        let orphans = listed.iter().filter(|one| one.name.as_ref().is_some_and(|name| name.contains("run-7"))).count();
        assert_eq!(orphans, usize::from(applied), "{effect}: the orphan carries the label");
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn a_lost_stop_or_deletion_is_unknown_and_can_be_repeated_by_the_caller() {
    for (effect, applied) in accidents() {
        let rig = Rig::start(SandboxConfig::default()).await;
        let (genesys, current) = (rig.genesys(), rig.document(TARGET));
        let id = genesys.id_of(&current).unwrap();
        rig.fault("PUT", "/api/v2/oauth/clients/*", effect.clone()).await;
        assert_eq!(word(&genesys.set_active(&current, &id, false, First).await), "unknown", "{effect}");
        assert_eq!(rig.changes().len(), 1, "{effect}");
        assert_eq!(rig.login(&current).await.is_none(), applied, "{effect}");
        genesys.set_active(&current, &id, false, First).await.unwrap();
        if !["bad_json", "truncated_body", "empty_body"].contains(&effect["kind"].as_str().unwrap()) {
            rig.fault("DELETE", "/api/v2/oauth/clients/*", effect.clone()).await;
            assert_eq!(word(&genesys.delete(&current, &id, First).await), "unknown", "{effect}");
            assert_eq!(rig.changes().len(), 1, "{effect}");
            let again = word(&genesys.delete(&current, &id, First).await);
            assert_eq!(again, if applied { "not found" } else { "done" }, "{effect}");
        }
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn a_lost_look_is_not_done_and_nothing_is_changed_after_it() {
    const ONE: &str = "/api/v2/oauth/clients/*";
    const ALL: &str = "/api/v2/oauth/clients";
    const ME: &str = "/api/v2/tokens/me";
    for effect in
        [json!({"kind": "drop_before"}), json!({"kind": "status", "status": 503}), json!({"kind": "bad_json"})]
    {
        let rig = Rig::start(SandboxConfig::default()).await;
        let (genesys, current) = (rig.genesys(), rig.document(TARGET));
        let id = genesys.id_of(&current).unwrap();
        rig.fault("GET", ONE, effect.clone()).await;
        assert_eq!(word(&genesys.create(&current, "x", First).await), "not done", "{effect}");
        rig.fault("GET", ONE, effect.clone()).await;
        assert_eq!(word(&genesys.set_active(&current, &id, false, First).await), "not done", "{effect}");
        rig.fault("GET", ONE, effect.clone()).await;
        assert_eq!(word(&genesys.rights(&id, First).await), "not done", "{effect}");
        rig.fault("GET", ALL, effect.clone()).await;
        assert_eq!(word(&genesys.list(&current, First).await), "not done", "{effect}");
        rig.fault("GET", ALL, effect.clone()).await;
        assert_eq!(word(&genesys.inventory(First).await), "not done", "{effect}");
        rig.fault("GET", ME, effect.clone()).await;
        assert_eq!(word(&genesys.prove_rotators(&[]).await), "not done", "{effect}");
        rig.fault("GET", ME, effect.clone()).await;
        assert_eq!(word(&genesys.check(&current, Strategy::Swap, First).await), "not done", "{effect}");
        assert!(rig.changes().is_empty(), "{effect}");
        assert!(rig.login(&current).await.is_some());
        rig.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn what_was_never_sent_is_not_done() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let current = rig.document(TARGET);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = address(&format!("http://{}", gone.local_addr().unwrap()));
    drop(gone);
    let tokens = Arc::clone(&rig.tokens) as Arc<dyn kh_core::port::RotatorTokens>;
    let genesys = GenesysManagement::new(rig.http.clone(), api, tokens, GenesysRotation::default());
    let id = genesys.id_of(&current).unwrap();
    assert_eq!(word(&genesys.regenerate(&current, First).await), "not done");
    assert_eq!(word(&genesys.delete(&current, &id, First).await), "not done");
    assert_eq!(word(&genesys.probe(&SecretString::copied("t")).await), "not done");
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn nothing_that_is_told_holds_a_secret() {
    let rig = Rig::start(SandboxConfig::default()).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let id = genesys.id_of(&current).unwrap();
    let mut told = vec![format!("{genesys:?} {:?} {:?}", rig.cxone(), rig.secrets_api())];
    let made = genesys.create(&current, "run-1", First).await.unwrap();
    told.push(format!("{made:?}"));
    let next = genesys.regenerate(&current, First).await.unwrap();
    told.push(format!("{next:?}"));
    told.push(format!("{:?}", genesys.inventory(First).await));
    for (effect, _) in accidents() {
        rig.fault("POST", "/api/v2/oauth/clients/*/secret", effect.clone()).await;
        let lost = genesys.regenerate(&current, First).await.unwrap_err();
        told.push(format!("{lost} {lost:?}"));
        rig.fault("PUT", "/api/v2/oauth/clients/*", effect).await;
        if let Err(lost) = genesys.set_active(&current, &id, false, First).await {
            told.push(format!("{lost} {lost:?}"));
        }
        told.push(format!("{:?}", genesys.delete(&current, &ManagedId("none".to_owned()), First).await));
    }
    let mut secrets: Vec<String> = [&current, &made.document, &next]
        .iter()
        .map(|document| document.client_secret.as_ref().unwrap().expose().to_owned())
        .collect();
    secrets.extend(
        [&rig.tokens.first, &rig.tokens.second].iter().map(|token| token.as_ref().unwrap().expose().to_owned()),
    );
    let told = told.join("\n");
    for secret in secrets {
        assert!(secret.len() >= 43 && !told.contains(&secret), "{told}");
    }
    rig.sandbox.shutdown().await;
}

/// Keeps every field of every event and span.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _infallible = writeln!(self.0, "{field}={value:?}");
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut Fields(&mut self.0.lock()));
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock()));
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Fields(&mut self.0.lock()));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn no_secret_is_logged_at_any_level() {
    let seen = Everything::default();
    let rig = Rig::start(SandboxConfig::default()).await;
    let _guard = tracing::subscriber::set_default(seen.clone());
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let made = genesys.create(&current, "run-1", First).await.unwrap();
    let next = genesys.regenerate(&current, First).await.unwrap();
    rig.fault("POST", "/api/v2/oauth/clients/*/secret", json!({"kind": "truncated_body"})).await;
    genesys.regenerate(&current, First).await.unwrap_err();
    let token = rig.tokens.first.as_ref().unwrap();
    let secrets = [&made.document, &next].map(|document| document.client_secret.as_ref().unwrap().expose());
    for secret in secrets.into_iter().chain([token.expose()]) {
        let numbers = secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        let basic = STANDARD.encode(secret);
        let logged = seen.0.lock();
        assert!(!logged.contains(secret) && !logged.contains(&numbers) && !logged.contains(&basic));
    }
    // the recorder does see what is logged
    tracing::trace!(secret = token.expose(), "a mistake");
    assert!(seen.0.lock().contains(token.expose()));
    rig.sandbox.shutdown().await;
}
