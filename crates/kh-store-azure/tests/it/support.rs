//! The fake vault under its real names, the adapter on it, and other programs beside it.
//!
//! The names resolve to the fake's loopback address, its certificate is of a private CA: so the check that a challenge
//! fits the vault's domain stays on, as do all checks of TLS.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderName, HeaderValue, Method};
use kh_core::{
    ManualClock, SecretBytes, SecretString, UnixMillis,
    port::BoxFuture,
    rotation::{RunId, SecretPath, WriteToken},
};
use kh_fakes::{
    Fake, Options, Running,
    azure::{KeyVault, LOGIN_HOST, VAULT_HOST},
};
use kh_net::{
    Egress, Lookup, Resolve, SystemRoots,
    http::{Answer, Form, HttpClient, OutBody, Request, Timeouts},
};
use kh_store::conformance::target::Bench;
use kh_store_azure::{Auth, KeyVaultTarget, Settings};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use url::Url;

/// Everything is on this machine.
struct Loopback;

impl Resolve for Loopback {
    fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> Lookup<'a> {
        Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) })
    }
}

/// A running vault.
pub(crate) struct Azure {
    pub(crate) fake: Arc<KeyVault>,
    pub(crate) vault: Running,
    /// The same fake without TLS: the metadata service.
    pub(crate) metadata: Running,
    pub(crate) http: HttpClient,
    known: Value,
    token: OnceCell<SecretString>,
    places: AtomicU64,
}

impl Azure {
    pub(crate) async fn start() -> Self {
        let fake = Arc::new(KeyVault::default());
        let vault = kh_fakes::start(Arc::clone(&fake) as Arc<dyn Fake>, Options::tls()).await.unwrap();
        let plain = Options::default();
        let metadata = kh_fakes::start(Arc::clone(&fake) as Arc<dyn Fake>, plain).await.unwrap();
        let extra_ca = vec![vault.ca_pem.clone().unwrap().into_bytes()];
        let settings = kh_net::Settings { extra_ca, ..kh_net::Settings::default() };
        let egress = Egress::new(settings, &SystemRoots::load()).unwrap().with_resolver(Arc::new(Loopback));
        let clock = Arc::new(ManualClock::at(UnixMillis(1_790_000_000_000)));
        let http = HttpClient::new(Arc::new(egress), Timeouts::default(), clock);
        let known = vault.ready();
        Self { fake, vault, metadata, http, known, token: OnceCell::new(), places: AtomicU64::new(0) }
    }

    pub(crate) fn known(&self, name: &str) -> String {
        self.known[name].as_str().unwrap().to_owned()
    }

    pub(crate) fn vault_url(&self) -> Url {
        format!("https://{VAULT_HOST}:{}", self.vault.address.port()).parse().unwrap()
    }

    pub(crate) fn login_url(&self) -> Url {
        format!("https://{LOGIN_HOST}:{}", self.vault.address.port()).parse().unwrap()
    }

    pub(crate) fn by_secret(&self, secret: &str) -> Auth {
        let (tenant, client_id) = (self.known("tenant"), self.known("client_id"));
        Auth::ClientSecret { tenant, client_id, secret: SecretString::copied(secret) }
    }

    pub(crate) fn target_as(&self, auth: Auth) -> KeyVaultTarget {
        let settings = Settings { vault: self.vault_url(), authority: Some(self.login_url()), auth };
        KeyVaultTarget::new(settings, self.http.clone()).unwrap()
    }

    pub(crate) fn target(&self) -> KeyVaultTarget {
        self.target_as(self.by_secret(&self.known("client_secret")))
    }

    pub(crate) fn command(&self, name: &str, argument: &Value) {
        self.fake.command(name, argument).unwrap();
    }

    /// A token for another program than keyholder.
    async fn token(&self) -> SecretString {
        let mut url = self.login_url();
        url.set_path(&format!("/{}/oauth2/v2.0/token", self.known("tenant")));
        let form = Form::grant("client_credentials", 100)
            .field("client_id", &self.known("client_id"))
            .field("client_secret", &self.known("client_secret"))
            .field("scope", "https://vault.azure.net/.default");
        let answer = self.http.send(Request::new(Method::POST, url).body(form.finish())).await.unwrap();
        let token: Value = serde_json::from_slice(&answer.body).unwrap();
        SecretString::copied(token["access_token"].as_str().unwrap())
    }

    /// One request of another program.
    async fn ask(&self, token: &SecretString, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut url = self.vault_url();
        url.set_path(path);
        url.set_query(Some("api-version=2026-04-01"));
        let mut request = Request::new(method, url).bearer(token).unwrap();
        request = request.header(HeaderName::from_static("x-ms-version"), HeaderValue::from_static("test"));
        if let Some(body) = body {
            request = request.body(OutBody::json(body));
        }
        self.http.send(request).await.unwrap()
    }

    pub(crate) async fn ask_json(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let token = self.token.get_or_init(|| self.token()).await;
        let answer = self.ask(token, method, path, body).await;
        (answer.head.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// The tags of every version of a name.
    pub(crate) async fn tags(&self, name: &str) -> Vec<Value> {
        let mut tags = Vec::new();
        let (_, page) = self.ask_json(Method::GET, &format!("/secrets/{name}/versions"), None).await;
        assert_eq!(page["nextLink"], Value::Null, "a test has fewer versions than a page");
        tags.extend(page["value"].as_array().into_iter().flatten().map(|item| item["tags"].clone()));
        tags
    }
}

/// A write with its document.
pub(crate) fn write(number: u64, secret: &str) -> (WriteToken, SecretBytes) {
    let run: RunId = format!("01900000-0000-7000-8000-{number:012x}").parse().unwrap();
    let token = WriteToken::of(run, "azure", "promote");
    let text = format!(
        r#"{{"client_id":"a","client_secret":"{secret}","_kh":{{"run":"{run}","write":"{token}","generation":1,"fingerprint":"0123456789abcdef","created_at":5}}}}"#
    );
    (token, SecretBytes::new(text.into_bytes()))
}

impl Bench for Azure {
    fn fresh_path(&self) -> SecretPath {
        format!("place-{:04}", self.places.fetch_add(1, Ordering::SeqCst)).parse().unwrap()
    }

    fn foreign_write<'a>(&'a self, path: &'a SecretPath, document: &'a SecretBytes) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let value = std::str::from_utf8(document.expose()).unwrap();
            let (status, _) =
                self.ask_json(Method::PUT, &format!("/secrets/{path}"), Some(&json!({ "value": value }))).await;
            assert_eq!(status, 200);
        })
    }

    fn consumer_read<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Option<SecretBytes>> {
        Box::pin(async move {
            let (status, found) = self.ask_json(Method::GET, &format!("/secrets/{path}/"), None).await;
            (status == 200).then(|| SecretBytes::new(found["value"].as_str().unwrap().as_bytes().to_vec()))
        })
    }

    fn changes(&self) -> u64 {
        self.vault.control.changes()
    }
}
