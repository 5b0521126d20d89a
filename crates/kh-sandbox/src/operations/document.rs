//! The published document, read once and kept small: operations, definitions, routes and the entity collections found
//! in them. Invariant: descriptions, examples and error responses are dropped while parsing, never held.

mod convert;
mod raw;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;

use flate2::read::GzDecoder;

use self::convert::Converter;
use self::raw::{RawDocument, RawOperation, RawParameter, RawPath, RawSecurity, Text};
use super::collection::{self, Role, Target};
use super::permission::{Gap, Needed, PermissionSet, Requirement};
use super::route::Routes;
use super::schema::{Definitions, Schema};

/// Most bytes that a document may unpack to; the published one has 23 MB.
const MAX_DOCUMENT_BYTES: u64 = 128 * 1024 * 1024;

/// A document that can not be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not gzip, or larger than the limit.
    #[error("unpack the document")]
    Unpack(#[source] std::io::Error),
    /// Not the JSON that is expected.
    #[error("parse the document")]
    Parse(#[source] serde_json::Error),
}

/// Everything that the engine keeps of the document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) operations: Vec<Arc<Operation>>,
    pub(crate) definitions: Definitions,
    pub(crate) routes: Routes,
}

/// One operation of the platform.
#[derive(Debug)]
pub struct Operation {
    pub(crate) method: Box<str>,
    pub(crate) template: Box<str>,
    pub(crate) id: Box<str>,
    pub(crate) scopes: Box<[Box<str>]>,
    pub(crate) requirement: Option<Requirement>,
    pub(crate) authenticated: bool,
    pub(crate) parameters: Box<[Parameter]>,
    pub(crate) body: Option<BodyRule>,
    pub(crate) success: Success,
    pub(crate) role: Role,
    pub(crate) target: Target,
}

impl Operation {
    /// The HTTP method, upper case.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path template, e.g. `/api/v2/users/{userId}`: the key of rate limits and journals.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The published operation id, e.g. `getUser`.
    pub fn operation_id(&self) -> &str {
        &self.id
    }

    /// Scopes of which a user-context token needs one; empty when none is needed.
    pub fn scopes(&self) -> &[Box<str>] {
        &self.scopes
    }

    /// Whether the platform wants an access token. 33 published operations take none (or another kind of token).
    pub fn requires_authentication(&self) -> bool {
        self.authenticated
    }

    /// The permissions that a caller needs.
    pub fn requirement(&self) -> Option<&Requirement> {
        self.requirement.as_ref()
    }

    /// What `granted` lacks to call this operation, `None` when nothing.
    pub fn permission_gap(&self, granted: &PermissionSet) -> Option<Gap> {
        self.requirement.as_ref().and_then(|requirement| requirement.gap(granted))
    }

    /// The status of a successful answer.
    pub fn success_status(&self) -> u16 {
        self.success.status
    }

    /// Under which key the document describes that answer: the status, or `default`.
    pub fn success_key(&self) -> &str {
        &self.success.key
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| &*parameter.name == name)
    }
}

/// A query or header parameter.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: Box<str>,
    pub(crate) in_query: bool,
    pub(crate) required: bool,
    pub(crate) schema: Schema,
    pub(crate) default: Option<Box<str>>,
}

/// The body parameter.
#[derive(Debug)]
pub(crate) struct BodyRule {
    pub(crate) required: bool,
    pub(crate) schema: Schema,
}

/// The documented answer that the engine gives.
#[derive(Debug)]
pub(crate) struct Success {
    pub(crate) status: u16,
    pub(crate) key: Box<str>,
    pub(crate) schema: Option<Schema>,
    pub(crate) content_type: &'static str,
}

impl Document {
    pub(crate) fn parse(swagger_gz: &[u8], security_gz: &[u8]) -> Result<Self, DocumentError> {
        let text = unpack(swagger_gz)?;
        let raw: RawDocument<'_> = serde_json::from_slice(&text).map_err(DocumentError::Parse)?;
        let security_text = unpack(security_gz)?;
        let security: Vec<RawSecurity<'_>> = serde_json::from_slice(&security_text).map_err(DocumentError::Parse)?;
        Self::build(&raw, &security).map_err(DocumentError::Parse)
    }

    fn build(raw: &RawDocument<'_>, security: &[RawSecurity<'_>]) -> Result<Self, serde_json::Error> {
        let mut converter = Converter::new(&raw.definitions);
        let definitions = converter.definitions()?;
        let security: HashMap<(&str, &str), &RawSecurity<'_>> =
            security.iter().map(|entry| ((&*entry.m, &*entry.p), entry)).collect();
        let mut operations = Vec::new();
        for (template, text) in &raw.paths {
            let methods: RawPath<'_> = serde_json::from_str(text.get())?;
            for (method, operation) in &methods {
                let method = method.to_ascii_uppercase();
                let rights = security.get(&(method.as_str(), &**template)).copied();
                operations.push(convert_operation(&mut converter, method, template, operation, rights));
            }
        }
        collection::assign_roles(&definitions, &mut operations);
        let mut routes = Routes::default();
        for (index, operation) in operations.iter().enumerate() {
            routes.insert(&operation.method, &operation.template, index);
        }
        Ok(Self { operations: operations.into_iter().map(Arc::new).collect(), definitions, routes })
    }

    /// The operation of exactly that method and template.
    pub(crate) fn by_template(&self, method: &str, template: &str) -> Option<&Arc<Operation>> {
        self.operations.iter().find(|operation| &*operation.method == method && &*operation.template == template)
    }
}

fn unpack(gz: &[u8]) -> Result<Vec<u8>, DocumentError> {
    let mut text = Vec::new();
    let mut limited = GzDecoder::new(gz).take(MAX_DOCUMENT_BYTES);
    limited.read_to_end(&mut text).map_err(DocumentError::Unpack)?;
    Ok(text)
}

fn convert_operation(
    converter: &mut Converter<'_>,
    method: String,
    template: &str,
    raw: &RawOperation<'_>,
    rights: Option<&RawSecurity<'_>>,
) -> Operation {
    let parameters = raw.parameters.iter().filter(|parameter| matches!(&*parameter.place, "query" | "header"));
    let parameters = parameters.map(|parameter| convert_parameter(converter, parameter)).collect();
    let body = raw.parameters.iter().find(|parameter| &*parameter.place == "body");
    let body = body.and_then(|parameter| {
        let schema = converter.schema(parameter.schema.as_ref()?);
        Some(BodyRule { required: parameter.required, schema })
    });
    let success = choose_success(converter, &method, raw);
    Operation {
        template: template.into(),
        id: (&*raw.operation_id).into(),
        scopes: rights.map(|entry| boxed(&entry.scopes_any)).unwrap_or_default(),
        requirement: rights.and_then(requirement),
        authenticated: rights.is_none_or(|entry| entry.auth.iter().any(|scheme| &**scheme == "PureCloud OAuth")),
        parameters,
        body,
        success,
        role: Role::Other,
        target: Target::default(),
        method: method.into(),
    }
}

fn boxed(texts: &[Text<'_>]) -> Box<[Box<str>]> {
    texts.iter().map(|text| (&**text).into()).collect()
}

fn requirement(entry: &RawSecurity<'_>) -> Option<Requirement> {
    let needed = match entry.perm_type.as_deref()? {
        "ALL" => Needed::All,
        _ => Needed::Any,
    };
    // One operation carries a sentence ("They are enforced by the backend") where a permission is meant: no rule.
    let named = entry.perms.iter().filter(|permission| !permission.contains(' '));
    let permissions: Box<[Box<str>]> = named.map(|permission| (&**permission).into()).collect();
    (!permissions.is_empty()).then_some(Requirement { needed, permissions })
}

fn convert_parameter(converter: &mut Converter<'_>, raw: &RawParameter<'_>) -> Parameter {
    let default = raw.default.as_ref().map(|value| match value {
        serde_json::Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    });
    Parameter {
        name: (&*raw.name).into(),
        in_query: &*raw.place == "query",
        required: raw.required,
        schema: converter.schema(&raw.rules()),
        default,
    }
}

/// Chooses one of the documented answers. The document's generator adds a 200 to many operations; where a 204 for a
/// deletion or a 201 for a creation stands beside it, that is what the platform sends.
fn choose_success(converter: &mut Converter<'_>, method: &str, raw: &RawOperation<'_>) -> Success {
    let has_schema = |status: &str| raw.responses.get(status).is_some_and(|response| response.schema.is_some());
    let reference = |status: &str| raw.responses.get(status)?.schema.as_ref()?.reference.as_deref();
    let same = |one: &str, other: &str| reference(one) == reference(other);
    let special = match method {
        "DELETE" if raw.responses.contains_key("204") => Some("204"),
        // Where the two differ, the 201 repeats the request by mistake.
        "POST" if has_schema("201") && (!has_schema("200") || same("200", "201")) => Some("201"),
        _ => None,
    };
    let with_schema = ["200", "201", "202", "206"].into_iter().find(|status| has_schema(status));
    let bare = ["204", "200", "202", "201", "206"].into_iter().find(|status| raw.responses.contains_key(*status));
    let key = special.or(with_schema).or(bare).unwrap_or("default");
    let schema = raw.responses.get(key).and_then(|response| response.schema.as_ref());
    Success {
        status: key.parse().unwrap_or(200),
        key: key.into(),
        schema: schema.map(|schema| converter.schema(schema)),
        content_type: content_type(&raw.produces),
    }
}

/// The content types that the document knows, as constants.
fn content_type(produces: &[Text<'_>]) -> &'static str {
    match produces.first().map(|first| &**first) {
        Some("text/plain") => "text/plain",
        Some("text/calendar") => "text/calendar",
        Some("application/scim+json") => "application/scim+json",
        _ => "application/json",
    }
}

#[cfg(test)]
mod tests;
