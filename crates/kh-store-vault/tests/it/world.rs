//! A fake Vault, stores that use it, and what a program besides keyholder does there.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_core::{
    ManualClock, SecretBytes, UnixMillis,
    port::BoxFuture,
    rotation::{RunId, SecretPath, WriteToken},
};
use kh_fakes::{Options, Running, start, vault::Vault};
use kh_net::{
    Egress,
    http::{HttpClient, OutBody, Request, Timeouts},
};
use kh_store::conformance::target::Bench;
use kh_store_vault::{Auth, PlainHttp, ServerAddress, VaultConfig, VaultStore};
use serde_json::{Value, json};
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};

/// What keyholder needs and no more; the guide shows the same.
pub(crate) const RIGHTS: &[(&str, &[&str])] = &[
    ("secret/data/*", &["create", "read", "update"]),
    ("secret/metadata/*", &["read", "list"]),
    ("secret/destroy/*", &["update"]),
    ("secret/config", &["read"]),
];

pub(crate) struct World {
    pub(crate) fake: Arc<Vault>,
    pub(crate) running: Running,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: tempfile::TempDir,
    places: AtomicU64,
}

pub(crate) async fn world() -> World {
    let fake = Arc::new(Vault::new());
    let running = start(fake.clone(), Options::default()).await.unwrap();
    running.control.clock().freeze();
    let clock = Arc::new(ManualClock::at(UnixMillis(1_790_000_000_000)));
    let world = World { fake, running, clock, folder: tempfile::tempdir().unwrap(), places: AtomicU64::new(0) };
    world.policy("keyholder", RIGHTS).await;
    world
}

impl World {
    /// Both keyholder's clock and Vault's move on.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.running.control.clock().shift(i64::try_from(seconds).unwrap());
    }

    pub(crate) fn http(&self) -> HttpClient {
        let egress = Arc::new(Egress::trusting(&[]).unwrap());
        let timeouts = Timeouts { connect: Duration::from_secs(10), total: Duration::from_secs(30) };
        HttpClient::new(egress, timeouts, self.clock.clone())
    }

    pub(crate) fn address(&self) -> ServerAddress {
        ServerAddress::parse(&self.running.url, PlainHttp::LoopbackOnly).unwrap()
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn store_with(&self, auth: Auth) -> VaultStore {
        VaultStore::new(VaultConfig::new(vec![self.address()], "secret", auth).unwrap(), self.http())
    }

    /// A token file with keyholder's policy.
    pub(crate) fn token_file(&self, policies: &[&str]) -> Auth {
        let token = self.fake.issue_token(policies, 3600, 36_000, self.running.control.clock());
        Auth::TokenFile(self.file("token", &format!("{token}\n")))
    }

    pub(crate) fn store(&self) -> VaultStore {
        self.store_with(self.token_file(&["keyholder"]))
    }

    /// Another program's client, as root.
    pub(crate) fn vaultrs(&self) -> VaultClient {
        let settings = VaultClientSettingsBuilder::default()
            .address(&self.running.url)
            .token(self.fake.root_token())
            .build()
            .unwrap();
        VaultClient::new(settings).unwrap()
    }

    /// A request as root that must succeed, by the other client's plain HTTP.
    pub(crate) async fn root(
        &self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: &Value,
    ) -> Value {
        let url = url::Url::parse(&format!("{}/v1/{path}", self.running.url)).unwrap();
        let token = kh_core::SecretString::new(self.fake.root_token());
        let mut request = Request::new(method.parse().unwrap(), url)
            .secret_header(http::HeaderName::from_static("x-vault-token"), "", &token)
            .unwrap();
        for (name, value) in headers {
            request = request.header(http::HeaderName::from_static(name), http::HeaderValue::from_static(value));
        }
        if !body.is_null() {
            request = request.body(OutBody::json(body));
        }
        let answer = self.http().send(request).await.unwrap();
        assert!((200..300).contains(&answer.head.status), "{method} {path}: {}", answer.head.status);
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
    }

    pub(crate) async fn policy(&self, name: &str, rules: &[(&str, &[&str])]) {
        let paths: serde_json::Map<_, _> =
            rules.iter().map(|(path, can)| ((*path).to_owned(), json!({"capabilities": can}))).collect();
        let policy = json!({"path": paths}).to_string();
        self.root("PUT", &format!("sys/policies/acl/{name}"), &[], &json!({"policy": policy})).await;
    }

    /// The operations asked since the last call, without those of logins.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.running.control.journal().into_iter().map(|entry| entry.operation).collect();
        self.running.control.forget();
        asked
    }
}

impl Bench for World {
    fn fresh_path(&self) -> SecretPath {
        format!("conformance/team-{}/acme", self.places.fetch_add(1, Ordering::SeqCst)).parse().unwrap()
    }

    fn foreign_write<'a>(&'a self, path: &'a SecretPath, document: &'a SecretBytes) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let value: Value = serde_json::from_slice(document.expose()).unwrap();
            vaultrs::kv2::set(&self.vaultrs(), "secret", path.as_str(), &value).await.unwrap();
        })
    }

    fn consumer_read<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Option<SecretBytes>> {
        Box::pin(async move {
            match vaultrs::kv2::read::<Value>(&self.vaultrs(), "secret", path.as_str()).await {
                Ok(value) => Some(SecretBytes::new(value.to_string().into_bytes())),
                Err(error) if crate::other_client::is_404(&error) => None,
                Err(other) => panic!("{other:?}"),
            }
        })
    }

    fn changes(&self) -> u64 {
        self.running.control.changes()
    }
}

/// The write of a number, with its document.
pub(crate) fn write(number: u32) -> (WriteToken, SecretBytes) {
    let run: RunId = format!("01900000-0000-7000-8000-{number:012x}").parse().unwrap();
    let token = WriteToken::of(run, "vault", "promote");
    let document = format!(
        r#"{{"client_id":"c-{number}","client_secret":"MARKER-secret-{number}","_kh":{{"run":"{run}","write":"{token}","generation":{number},"fingerprint":"0123456789abcdef","created_at":5}}}}"#
    );
    (token, SecretBytes::new(document.into_bytes()))
}

pub(crate) fn place(text: &str) -> SecretPath {
    text.parse().unwrap()
}
