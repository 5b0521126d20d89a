//! The Genesys Cloud Platform API as an engine: any of the published operations takes a request and answers what its
//! document promises. Invariant: pure (no sockets, no clock, no randomness from outside); every 2xx body validates
//! against that operation's response schema, every other answer is an `ErrorBody`.
//!
//! What is created can be read, listed, updated and deleted (see [`EntityStore`]). Authentication, permissions
//! ([`Operation::permission_gap`]), rate limits and the stateful specials (`/api/v2/tokens/*`, `/api/v2/oauth/*`,
//! `/api/v2/audits/*`) belong to the caller; asked for the latter, the engine answers validly without state.

mod answer;
mod collection;
mod complete;
mod conform;
mod document;
mod listing;
mod mix;
mod path;
mod pattern;
mod permission;
mod request;
mod route;
mod schema;
mod seeds;
mod store;
mod synthesis;

use std::sync::{Arc, OnceLock};

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

pub use self::document::{DocumentError, Operation};
pub use self::permission::{Gap, Needed, PermissionSet, Requirement};
use self::route::Match;
pub use self::store::{EntityStore, StoreError, StoreLimits};
use crate::error_body::ErrorBody;

/// The published document (Swagger 2.0, gzip): see `data/PROVENANCE.md`.
static SWAGGER_GZ: &[u8] = include_bytes!("../data/genesys-swagger-2026-07.json.gz");
/// Scopes and permissions per operation (gzip), derived from the same document.
static SECURITY_GZ: &[u8] = include_bytes!("../data/genesys-operations-2026-07.json.gz");

/// All operations of the platform, ready to answer. Immutable and shared by all sandboxes of a process.
#[derive(Debug)]
pub struct Operations {
    document: document::Document,
}

/// Where a method and path lead.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// To an operation.
    Found(Found),
    /// The path is published, but not with this method: 405 with these in `Allow`.
    MethodNotAllowed {
        /// The published methods of the path.
        allowed: Vec<Box<str>>,
    },
    /// The path is not published: 404.
    NotFound,
}

/// An operation with the values of its path parameters.
#[derive(Debug, Clone)]
pub struct Found {
    /// The operation.
    pub operation: Arc<Operation>,
    /// Decoded path parameter values in the order of the template.
    pub values: Vec<String>,
}

/// What of a request the engine looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestView<'a> {
    /// The raw query without `?`; empty when there is none.
    pub query: &'a str,
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The body; empty and `null` both mean none.
    pub body: &'a [u8],
}

/// Circumstances of a call.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The sandbox's time, for `dateCreated` and `dateModified`.
    pub now: Timestamp,
    /// Goes into `contextId` of an error.
    pub correlation_id: &'a str,
    /// Id of the calling user or client, for `createdBy` and `modifiedBy`.
    pub caller_id: &'a str,
}

/// What the platform answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: AnswerBody,
}

/// A body with its content type.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerBody {
    /// No body (204, HEAD, or nothing documented).
    Empty,
    /// `application/json`, or the operation's own JSON type.
    Json(&'static str, Value),
    /// A text type with its content.
    Text(&'static str, String),
}

impl Answer {
    /// The platform's error as an answer.
    pub fn error(body: &ErrorBody) -> Self {
        Self { status: body.status, body: AnswerBody::Json("application/json", body.to_value()) }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, body: AnswerBody::Empty }
    }

    /// The `Content-Type` header, absent without a body.
    pub fn content_type(&self) -> Option<&'static str> {
        match &self.body {
            AnswerBody::Empty => None,
            AnswerBody::Json(content_type, _) | AnswerBody::Text(content_type, _) => Some(content_type),
        }
    }

    /// The JSON body, if it is one.
    pub fn json(&self) -> Option<&Value> {
        match &self.body {
            AnswerBody::Json(_, value) => Some(value),
            AnswerBody::Empty | AnswerBody::Text(..) => None,
        }
    }

    /// The body's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.body {
            AnswerBody::Empty => Vec::new(),
            AnswerBody::Json(_, value) => value.to_string().into_bytes(),
            AnswerBody::Text(_, text) => text.clone().into_bytes(),
        }
    }
}

impl Operations {
    /// The engine over the embedded document, parsed at first use (a fraction of a second) and kept for the process.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Operations>> = OnceLock::new();
        let parsed = SHARED.get_or_init(|| {
            let engine = Self::from_documents(SWAGGER_GZ, SECURITY_GZ);
            Arc::new(engine.expect("the embedded document is well formed; a test parses it"))
        });
        Arc::clone(parsed)
    }

    /// An engine over another document: a gzipped Swagger 2.0 and the gzipped list of scopes and permissions.
    pub fn from_documents(swagger_gz: &[u8], security_gz: &[u8]) -> Result<Self, DocumentError> {
        Ok(Self { document: document::Document::parse(swagger_gz, security_gz)? })
    }

    /// The embedded Swagger 2.0 document, gzipped, as published.
    pub fn openapi_gz() -> &'static [u8] {
        SWAGGER_GZ
    }

    /// All operations in the document's order.
    pub fn all(&self) -> &[Arc<Operation>] {
        &self.document.operations
    }

    /// The operation behind a method and path (without query).
    pub fn find(&self, method: &Method, path: &str) -> Lookup {
        match self.document.routes.find(method.as_str(), path) {
            Match::Found(index, values) => match self.document.operations.get(index) {
                Some(operation) => Lookup::Found(Found { operation: Arc::clone(operation), values }),
                None => Lookup::NotFound,
            },
            Match::OtherMethods(allowed) => Lookup::MethodNotAllowed { allowed },
            Match::Nothing => Lookup::NotFound,
        }
    }

    /// Answers a call. Never fails: what is wrong with the request is an answer in the platform's error shape.
    pub fn answer(
        &self,
        store: &EntityStore,
        found: &Found,
        request: &RequestView<'_>,
        context: &Context<'_>,
    ) -> Answer {
        answer::answer(&self.document, store, found, request, context)
    }

    /// A request body that the operation accepts, made up from `seed`; `None` when it takes none.
    pub fn sample_body(&self, operation: &Operation, seed: u64) -> Option<Value> {
        let rule = operation.body.as_ref()?;
        let definitions = &self.document.definitions;
        let synthesis = synthesis::Synthesis::new(definitions, seed);
        Some(match definitions.resolve(&rule.schema) {
            // An empty list would ask for nothing.
            schema::Schema::Array(array) => Value::Array(vec![synthesis.required_only(&array.items)]),
            _ => synthesis.required_only(&rule.schema),
        })
    }

    /// A query string with every required parameter of the operation, made up from `seed`; empty when it needs none.
    pub fn sample_query(&self, operation: &Operation, seed: u64) -> String {
        request::sample_query(&self.document.definitions, operation, seed)
    }

    /// A new entity store of an organisation, filled with the seed entities (see `data/seeds.json`).
    pub fn new_store(&self, seed: u64, now: Timestamp, limits: StoreLimits) -> EntityStore {
        let store = EntityStore::new(seed, limits);
        seeds::plant(&self.document, &store, now);
        store
    }
}
