//! One sandbox, one HTTP client, and the calls that every test makes.

use kh_sandbox::{Sandbox, SandboxConfig, SandboxHandle};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// A running sandbox and a client for it.
pub(crate) struct Rig {
    pub(crate) sandbox: SandboxHandle,
    pub(crate) http: reqwest::Client,
}

/// An answer, wholly read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.header(name).parse().unwrap_or_else(|_| panic!("{name} is no number in {self:?}"))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A plain client; the library wants a process-wide provider even for http.
pub(crate) fn http_client() -> reqwest::Client {
    provider();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

pub(crate) fn provider() {
    // The second installation of the process fails, and the first one is the same.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

impl Rig {
    pub(crate) async fn start(config: SandboxConfig) -> Self {
        Self { sandbox: Sandbox::start(config).await.unwrap(), http: http_client() }
    }

    pub(crate) async fn default() -> Self {
        Self::start(SandboxConfig::default()).await
    }

    pub(crate) fn login_request(&self, id: &str, secret: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/oauth/token", self.sandbox.genesys_url);
        self.http.post(url).basic_auth(id, Some(secret)).form(&[("grant_type", "client_credentials")])
    }

    pub(crate) async fn login(&self, id: &str, secret: &str) -> Answer {
        answer(self.login_request(id, secret)).await
    }

    /// A token of the client with this index in the configuration.
    pub(crate) async fn token_of(&self, index: usize) -> String {
        let client = &self.sandbox.clients[index];
        let answer = self.login(&client.id, client.secret.expose()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn token(&self) -> String {
        self.token_of(0).await
    }

    pub(crate) fn request(&self, method: &str, path: &str, token: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.sandbox.genesys_url);
        self.http.request(method.parse().unwrap(), url).bearer_auth(token)
    }

    pub(crate) async fn call(&self, method: &str, path: &str, token: &str) -> Answer {
        answer(self.request(method, path, token)).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        answer(self.request(method, path, token).json(&body)).await
    }

    pub(crate) async fn control(&self, method: &str, path: &str, body: Value) -> Answer {
        let url = format!("{}{path}", self.sandbox.control_url);
        let request = self.http.request(method.parse().unwrap(), url);
        answer(if body.is_null() { request } else { request.json(&body) }).await
    }

    /// Stops the clock, so that windows do not end in the middle of a slow test.
    pub(crate) async fn freeze(&self) {
        assert_eq!(self.control("POST", "/_sandbox/clock", json!({"freeze": true})).await.status, 200);
    }

    pub(crate) async fn pass(&self, seconds: i64) {
        assert_eq!(self.control("POST", "/_sandbox/clock", json!({"shift_seconds": seconds})).await.status, 200);
    }

    pub(crate) async fn faults(&self, rules: Value) {
        let answer = self.control("PUT", "/_sandbox/faults", rules).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
