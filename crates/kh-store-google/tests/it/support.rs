//! The fake project, the adapter on it, and other programs beside it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::Method;
use kh_core::{
    ManualClock, SecretBytes, SecretString, UnixMillis,
    port::BoxFuture,
    rotation::{RunId, SecretPath, WriteToken},
};
use kh_fakes::{Fake, Options, Running, google::SecretManager};
use kh_net::{
    Egress,
    http::{HttpClient, OutBody, Request, Timeouts},
};
use kh_store::conformance::target::Bench;
use kh_store_google::{Auth, SecretManagerTarget, Settings};
use serde_json::{Value, json};

/// A running project.
pub(crate) struct Google {
    fake: Arc<SecretManager>,
    pub(crate) running: Running,
    http: HttpClient,
    places: AtomicU64,
}

impl Google {
    pub(crate) async fn start() -> Self {
        let fake = Arc::new(SecretManager::default());
        let running = kh_fakes::start(Arc::clone(&fake) as Arc<dyn Fake>, Options::default()).await.unwrap();
        let clock = Arc::new(ManualClock::at(UnixMillis(1_790_000_000_000)));
        let http = HttpClient::new(Arc::new(Egress::trusting(&[]).unwrap()), Timeouts::default(), clock);
        Self { fake, running, http, places: AtomicU64::new(0) }
    }

    pub(crate) fn settings(&self, auth: Auth) -> Settings {
        Settings {
            project: self.running.ready()["project"].as_str().unwrap().to_owned(),
            alias: Settings::ALIAS.to_owned(),
            endpoint: Some(self.running.url.parse().unwrap()),
            auth,
        }
    }

    /// As the service account that the metadata server knows.
    pub(crate) async fn target(&self) -> SecretManagerTarget {
        let auth = Auth::Metadata { endpoint: Some(self.running.url.parse().unwrap()) };
        SecretManagerTarget::new(self.settings(auth)).await.unwrap()
    }

    pub(crate) fn command(&self, name: &str, argument: &Value) {
        self.fake.command(name, argument).unwrap();
    }

    /// One request of another program.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}/v1/projects/acme/secrets{path}", self.running.url).parse().unwrap();
        let token = SecretString::copied(self.running.ready()["token"].as_str().unwrap());
        let mut request = Request::new(method, url).bearer(&token).unwrap();
        if let Some(body) = body {
            request = request.body(OutBody::json(body));
        }
        let answer = self.http.send(request).await.unwrap();
        (answer.head.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// Adds a version and tells its number.
    pub(crate) async fn add(&self, path: &SecretPath, document: &[u8]) -> String {
        let body = json!({"payload": {"data": BASE64_STANDARD.encode(document)}});
        let (status, added) = self.ask(Method::POST, &format!("/{path}:addVersion"), Some(&body)).await;
        assert_eq!(status, 200, "{added}");
        added["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    /// How many versions there are in this state.
    pub(crate) async fn count(&self, path: &SecretPath, state: &str) -> usize {
        let (_, page) = self.ask(Method::GET, &format!("/{path}/versions?pageSize=200"), None).await;
        page["versions"].as_array().into_iter().flatten().filter(|version| version["state"] == state).count()
    }
}

/// A write with its document.
pub(crate) fn write(number: u64, secret: &str) -> (WriteToken, SecretBytes) {
    let run: RunId = format!("01900000-0000-7000-8000-{number:012x}").parse().unwrap();
    let token = WriteToken::of(run, "google", "promote");
    let text = format!(
        r#"{{"client_id":"a","client_secret":"{secret}","_kh":{{"run":"{run}","write":"{token}","generation":1,"fingerprint":"0123456789abcdef","created_at":5}}}}"#
    );
    (token, SecretBytes::new(text.into_bytes()))
}

impl Bench for Google {
    fn fresh_path(&self) -> SecretPath {
        format!("place_{:04}", self.places.fetch_add(1, Ordering::SeqCst)).parse().unwrap()
    }

    fn foreign_write<'a>(&'a self, path: &'a SecretPath, document: &'a SecretBytes) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let container = json!({"replication": {"automatic": {}}});
            let (status, _) = self.ask(Method::POST, &format!("?secretId={path}"), Some(&container)).await;
            assert!([200, 409].contains(&status));
            let number = self.add(path, document.expose()).await;
            let aliases = json!({"versionAliases": {"current": number}});
            let (status, _) =
                self.ask(Method::PATCH, &format!("/{path}?updateMask=versionAliases"), Some(&aliases)).await;
            assert_eq!(status, 200);
        })
    }

    fn consumer_read<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Option<SecretBytes>> {
        Box::pin(async move {
            let (status, found) = self.ask(Method::GET, &format!("/{path}/versions/current:access"), None).await;
            let data = found["payload"]["data"].as_str().filter(|_| status == 200)?;
            Some(SecretBytes::new(BASE64_STANDARD.decode(data).unwrap()))
        })
    }

    fn changes(&self) -> u64 {
        self.running.control.changes()
    }
}
