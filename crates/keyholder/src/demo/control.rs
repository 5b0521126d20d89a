//! The sandbox's control API: its journal, its faults, its limits.
//!
//! Invariant: the story believes only this journal about what reached the platform.

use kh_core::Sha256;
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::{Value, json};

/// Journal entries asked for at once; the step under load makes some thousand.
const ENTRIES: u32 = 20_000;

/// One request as the platform saw it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) seq: u64,
    pub(super) method: String,
    pub(super) endpoint: String,
    pub(super) status: Option<u16>,
    pub(super) token_sha256: Option<String>,
}

/// What the platform saw within a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal(pub(super) Vec<Seen>);

impl Journal {
    /// Requests of this endpoint, whatever became of them.
    pub(super) fn count(&self, method: &str, endpoint: &str) -> usize {
        self.0.iter().filter(|seen| seen.method == method && seen.endpoint == endpoint).count()
    }

    /// Requests of this endpoint that were answered with `status`.
    pub(super) fn answered(&self, method: &str, endpoint: &str, status: u16) -> usize {
        let meant = |seen: &&Seen| seen.method == method && seen.endpoint == endpoint && seen.status == Some(status);
        self.0.iter().filter(meant).count()
    }

    /// Logins at Genesys Cloud.
    pub(super) fn logins(&self) -> usize {
        self.count("POST", "/oauth/token")
    }
}

/// The control API of one sandbox.
#[derive(Clone, Debug)]
pub(super) struct Control {
    http: Client,
    base: String,
}

impl Control {
    pub(super) fn new(http: Client, base: &str) -> Self {
        Self { http, base: base.to_owned() }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let mut request = self.http.request(method, format!("{}/_sandbox/{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| format!("the sandbox's control API failed: {error}"))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| format!("the sandbox's control API failed: {error}"))?;
        if !status.is_success() {
            return Err(format!("the sandbox's control API refused {path}: {status} {text}"));
        }
        if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).map_err(|error| error.to_string()) }
    }

    /// Number of the newest request, to read on from.
    pub(super) async fn mark(&self) -> Result<u64, String> {
        Ok(self.since(0).await?.0.last().map_or(0, |seen| seen.seq))
    }

    /// Everything after `mark`.
    pub(super) async fn since(&self, mark: u64) -> Result<Journal, String> {
        let answer = self.call(Method::GET, &format!("requests?after={mark}&limit={ENTRIES}"), None).await?;
        let requests = answer.get("requests").cloned().unwrap_or_default();
        serde_json::from_value(requests).map(Journal).map_err(|error| format!("the journal is not readable: {error}"))
    }

    /// Replaces the fault plan.
    pub(super) async fn faults(&self, rules: Value) -> Result<(), String> {
        self.call(Method::PUT, "faults", Some(json!({ "rules": rules }))).await.map(drop)
    }

    /// Kills every token of `client` (or all), as an administrator would.
    pub(super) async fn revoke(&self, client: &str) -> Result<u64, String> {
        let answer = self.call(Method::POST, "tokens/revoke", Some(json!({ "client": client }))).await?;
        Ok(answer.get("revoked").and_then(Value::as_u64).unwrap_or(0))
    }

    /// The limits as they are.
    pub(super) async fn limits(&self) -> Result<Value, String> {
        self.call(Method::GET, "limits", None).await
    }

    /// Replaces the limits.
    pub(super) async fn set_limits(&self, limits: Value) -> Result<(), String> {
        self.call(Method::PUT, "limits", Some(limits)).await.map(drop)
    }
}

/// Hex SHA-256 of a token, as the journal names it.
pub(super) fn named(token: &str) -> String {
    Sha256::of(token.as_bytes()).to_hex()
}
