//! The application of the story: an ordinary HTTP client that knows keyholder's address, an id and a secret.
//!
//! Invariant: everything that reaches it is kept, so that the story can look through all of it.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Client, Method};
use serde_json::Value;

/// An answer as the application got it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A text field of the body's first level.
    pub(super) fn field(&self, name: &str) -> String {
        self.json().get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// An application with its own login at keyholder.
#[derive(Clone, Debug)]
pub(super) struct Application {
    http: Client,
    gateway: String,
    id: String,
    secret: String,
    token: String,
    /// Every byte that came back: status lines aside, headers and bodies.
    received: Arc<Mutex<Vec<String>>>,
}

impl Application {
    pub(super) fn new(http: Client, gateway: &str, id: &str, secret: &str) -> Self {
        let [gateway, id, secret] = [gateway, id, secret].map(str::to_owned);
        Self { http, gateway, id, secret, token: String::new(), received: Arc::default() }
    }

    /// keyholder's token, which is all it ever sends.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, String> {
        let response = request.send().await.map_err(|error| format!("the application got no answer: {error}"))?;
        let status = response.status().as_u16();
        let headers = format!("{:?}", response.headers());
        let body = response.text().await.map_err(|error| format!("the application's answer broke off: {error}"))?;
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(headers);
        received.push(body.clone());
        drop(received);
        Ok(Answer { status, body })
    }

    /// Logs in as an official Genesys Cloud SDK does.
    pub(super) async fn login(&mut self) -> Result<Answer, String> {
        let request = self
            .http
            .post(format!("{}/oauth/token", self.gateway))
            .basic_auth(&self.id, Some(&self.secret))
            .form(&[("grant_type", "client_credentials")]);
        let answer = self.send(request).await?;
        self.token = answer.field("access_token");
        Ok(answer)
    }

    /// Logs in as a client of CXone does, with the access key's id and secret that keyholder issued.
    pub(super) async fn login_cxone(&mut self) -> Result<Answer, String> {
        let key = serde_json::json!({ "accessKeyId": self.id, "accessKeySecret": self.secret });
        let request = self.http.post(format!("{}/authentication/v1/token/access-key", self.gateway)).json(&key);
        let answer = self.send(request).await?;
        self.token = answer.field("access_token");
        Ok(answer)
    }

    /// One call with the token; a body makes it JSON.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.gateway))
            .bearer_auth(&self.token)
            .header(reqwest::header::ACCEPT, "application/json");
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, String> {
        self.call(Method::GET, path, None).await
    }

    /// Everything that it ever received, and what it was given.
    pub(super) fn everything(&self) -> Vec<String> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = received.clone();
        all.extend([self.id.clone(), self.secret.clone(), self.token.clone()]);
        all
    }
}
