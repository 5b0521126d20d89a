//! What a fake is: a function from a whole request to a whole reply, over state of its own.
//!
//! Invariant: [`Fake::answer`] does everything it does at once; the frame decides whether the request reaches it and
//! whether its reply reaches the caller.

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;

use crate::clock::FakeClock;

/// A request with its whole body.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method; those that HTTP does not name too, such as `LIST`.
    pub method: Method,
    /// Scheme and authority that it came by, such as `https://127.0.0.1:4711`, from `Host`.
    pub origin: String,
    /// The path, as it was sent.
    pub path: String,
    /// The query without `?`, as it was sent; empty when there is none.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Request {
    /// A header as text; none when absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The query's parameters, percent-decoded.
    pub fn parameters(&self) -> Vec<(String, String)> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(k, v)| (decoded(&k.replace('+', " ")), decoded(&v.replace('+', " "))))
            .collect()
    }

    /// One parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The path's parts, percent-decoded, without empty ones.
    pub fn segments(&self) -> Vec<String> {
        self.path.split('/').filter(|part| !part.is_empty()).map(decoded).collect()
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A reply with its whole body.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// Whether answering changed the state of the store (not of tokens, counters or leases).
    pub changed: bool,
}

impl Reply {
    /// A JSON reply that changed nothing.
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string().into(),
            changed: false,
        }
    }

    /// A reply without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), changed: false }
    }

    /// The same reply to a request that changed the store.
    pub fn changed(mut self) -> Self {
        self.changed = true;
        self
    }

    /// The same reply with one more header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The rules of one service. Answers at once: state is behind its own lock, nothing waits.
pub trait Fake: Send + Sync + 'static {
    /// What is asked, in a few words without secrets, such as `kv.write`: faults are aimed by it, and the journal shows
    /// it. Looks, changes nothing.
    fn operation(&self, request: &Request) -> String;

    /// Does what is asked.
    fn answer(&self, request: &Request, clock: &FakeClock) -> Reply;

    /// How this service says 403 to an identity that may not.
    fn forbidden(&self) -> Reply;

    /// How this service says that too much is asked, with the seconds to wait where it tells them.
    fn throttled(&self, retry_after_seconds: Option<u64>) -> Reply;

    /// How this service says that it failed inside.
    fn failed(&self) -> Reply;

    /// What a client needs to begin, for the ready file: tokens, keys, names. A JSON object.
    fn credentials(&self) -> Value;

    /// Names that the service has beside those of this machine: its certificate covers them.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    /// A command of a test that only this service knows, such as `seal`. Tells what came of it.
    fn command(&self, name: &str, argument: &Value) -> Result<Value, String>;
}
