//! What all tests share: a promotion, a document with marked secrets, files, clients.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kh_core::{
    Clock, Fingerprint, ManualClock, SecretString, UnixMillis,
    credential::CredentialDocument,
    port::{DeliveryHook, HookError, Notice, Promotion, Urgency},
    rotation::{Marker, RunId, VersionId, WriteToken},
};
use kh_deliver::{Place, SecretFile};
use kh_net::{
    Egress,
    http::{HttpClient, Timeouts},
};
use uuid::Uuid;

/// 2026-11-21T09:00:00Z.
pub(crate) const NOW: UnixMillis = UnixMillis(1_795_251_600_000);

/// Each byte as hex digits, with `before` before it.
pub(crate) fn hex(text: &str, before: &str) -> String {
    text.bytes().fold(String::new(), |hex, byte| hex + before + &format!("{byte:02x}"))
}

/// The marked secret: with letters that base64, base64url, percent and hex write differently.
pub(crate) const CANARY: &str = "kH-CANARY/5ecret+value=~end?";

pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> SecretFile {
        std::fs::write(self.path(name), content).unwrap();
        SecretFile::new(self.path(name))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }
}

pub(crate) fn promotion() -> Promotion {
    Promotion {
        run: RunId(Uuid::from_u128(1)),
        delivery: Uuid::from_u128(0xd),
        credential: "acme/prod".parse().unwrap(),
        generation: 4,
        fingerprint: Fingerprint::try_from("0123456789abcdef".to_owned()).unwrap(),
        stores: vec![("vault".to_owned(), "kv/acme".to_owned(), VersionId("4".to_owned()))],
        promoted_at: NOW,
    }
}

pub(crate) fn document() -> CredentialDocument {
    CredentialDocument {
        client_id: Some("the-client-id".to_owned()),
        client_secret: Some(SecretString::copied(CANARY)),
        marker: Some(Marker {
            run: RunId(Uuid::from_u128(1)),
            write: WriteToken(Uuid::from_u128(2)),
            generation: 4,
            fingerprint: Fingerprint::try_from("0123456789abcdef".to_owned()).unwrap(),
            created_at: NOW,
        }),
        ..CredentialDocument::default()
    }
}

pub(crate) fn notice(number: u128, urgency: Urgency) -> Notice {
    Notice {
        id: Uuid::from_u128(number),
        kind: "rotation.needs_operator".to_owned(),
        urgency,
        at: NOW,
        credential: Some("acme/prod".parse().unwrap()),
        run: Some(RunId(Uuid::from_u128(1))),
        summary: "The rotation of acme/prod <waits> for a decision & stands still".to_owned(),
        next: Some("keyholder rotate resume acme/prod".to_owned()),
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(NOW))
}

pub(crate) fn client() -> HttpClient {
    let egress = Arc::new(Egress::trusting(&[]).unwrap());
    let timeouts = Timeouts { connect: Duration::from_secs(10), total: Duration::from_secs(20) };
    HttpClient::new(egress, timeouts, clock())
}

pub(crate) fn place(url: &str) -> Place {
    Place::named(url).unwrap()
}

pub(crate) async fn deliver(hook: &dyn DeliveryHook) -> Result<String, HookError> {
    hook.deliver(&promotion(), &document()).await
}

pub(crate) fn refused(result: Result<String, HookError>) -> String {
    match result {
        Err(HookError::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn transient(result: Result<String, HookError>) -> String {
    match result {
        Err(HookError::Transient(reason)) => reason,
        other => panic!("not transient: {other:?}"),
    }
}
