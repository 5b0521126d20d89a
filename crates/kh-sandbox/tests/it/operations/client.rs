//! A caller of the engine that knows only what a caller of the platform knows: methods, paths and answers.

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use kh_sandbox::operations::{
    Answer, Context, EntityStore, Found, Lookup, Operation, Operations, RequestView, StoreLimits,
};
use serde_json::{Value, json};

pub(super) const CALLER: &str = "11111111-2222-4333-8444-555555555555";

pub(super) struct Client {
    pub(super) operations: Arc<Operations>,
    pub(super) store: EntityStore,
    pub(super) now: Timestamp,
}

impl Client {
    pub(super) fn new(seed: u64) -> Self {
        Self::with_limits(seed, StoreLimits::default())
    }

    pub(super) fn with_limits(seed: u64, limits: StoreLimits) -> Self {
        let operations = Operations::shared();
        let now: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        let store = operations.new_store(seed, now, limits);
        Self { operations, store, now }
    }

    pub(super) fn find(&self, method: &str, path: &str) -> Option<Found> {
        match self.operations.find(&Method::from_bytes(method.as_bytes()).unwrap(), path) {
            Lookup::Found(found) => Some(found),
            Lookup::MethodNotAllowed { .. } | Lookup::NotFound => None,
        }
    }

    /// Calls with raw bytes.
    pub(super) fn send(&self, method: &str, target: &str, content_type: Option<&str>, body: &[u8]) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let found = self.find(method, path).unwrap_or_else(|| panic!("{method} {path} is not published"));
        let context = Context { now: self.now, correlation_id: "corr-1", caller_id: CALLER };
        self.operations.answer(&self.store, &found, &RequestView { query, content_type, body }, &context)
    }

    /// Calls with a JSON body, as SDKs do.
    pub(super) fn call(&self, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let bytes = body.map(|value| value.to_string().into_bytes()).unwrap_or_default();
        self.send(method, target, Some("application/json"), &bytes)
    }

    /// The JSON body of a call that must succeed.
    pub(super) fn ok(&self, method: &str, target: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, target, body);
        assert!((200..300).contains(&answer.status), "{method} {target}: {answer:?}");
        answer.json().cloned().unwrap_or(Value::Null)
    }

    /// Asserts an error answer.
    pub(super) fn refused(&self, status: u16, code: &str, method: &str, target: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, target, body);
        let error = answer.json().cloned().unwrap_or(Value::Null);
        assert_eq!((answer.status, error["code"].as_str()), (status, Some(code)), "{method} {target}: {error}");
        assert_eq!((error["status"].as_u64(), error["contextId"].as_str()), (Some(u64::from(status)), Some("corr-1")));
        error
    }

    /// A call of an operation with everything that it requires: entities above it are created, other path parameters
    /// made up. `None` where the subject could not be brought to life.
    pub(super) fn target_of(&self, operation: &Operation) -> String {
        let mut path = String::new();
        let mut template = String::new();
        for segment in operation.template().split('/').skip(1) {
            let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
                path = format!("{path}/{segment}");
                template = format!("{template}/{segment}");
                continue;
            };
            let id = self.create_in(&path, name).unwrap_or_else(|| "7".to_owned());
            path = format!("{path}/{id}");
            template = format!("{template}/{segment}");
        }
        let query = self.operations.sample_query(operation, 5);
        if query.is_empty() { path } else { format!("{path}?{query}") }
    }

    /// Creates an entity in a collection, if that is possible, and returns its id as a caller learns it.
    pub(super) fn create_in(&self, collection: &str, parameter: &str) -> Option<String> {
        let base = ["/divisionviews/all", "/divisionviews"].iter().find_map(|view| collection.strip_suffix(view));
        let collection = base.unwrap_or(collection);
        let creation = self.find("POST", collection)?;
        let mut body = self.operations.sample_body(&creation.operation, 3);
        // The rows of a data table are free-form: their creator names them.
        if body == Some(json!({})) && parameter == "rowId" {
            body = Some(json!({"key": "row-1"}));
        }
        let query = self.operations.sample_query(&creation.operation, 3);
        let answer = self.call("POST", &format!("{collection}?{query}"), body.as_ref());
        assert!((200..300).contains(&answer.status), "POST {collection}: {answer:?}");
        let value = match answer.json()? {
            Value::Array(elements) => elements.first().cloned()?,
            other => other.clone(),
        };
        let bare = parameter.trim_end_matches("Id").trim_end_matches("Code");
        let id = ["id", parameter, "key", "jobId", "executionId", "version", bare].iter().find_map(|name| match &value
            [name]
        {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        let id = id.or_else(|| Some(body?["key"].as_str()?.to_owned()))?;
        self.exists(collection, &id).then_some(id)
    }

    fn exists(&self, collection: &str, id: &str) -> bool {
        let path = format!("{collection}/{id}");
        self.find("GET", &path).is_some_and(|found| {
            let query = self.operations.sample_query(&found.operation, 3);
            self.call("GET", &format!("{path}?{query}"), None).status == 200
        })
    }
}
