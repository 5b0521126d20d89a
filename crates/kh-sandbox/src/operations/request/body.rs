//! The request body. Invariant: official SDKs pass: they send `null` or nothing where no body is needed, and
//! `Content-Type: application/json` on everything.

use serde_json::Value;

use crate::error_body::ErrorBody;
use crate::operations::document::{BodyRule, Operation};
use crate::operations::schema::{Definitions, ObjectSchema, Schema, TextSchema};
use crate::operations::{Context, RequestView};

/// Nesting of a body that is checked; deeper parts are left to the fitting, which drops them.
const MAX_CHECKED_DEPTH: usize = 32;

/// The one required property that is asked for. The document calls more of them required than the platform enforces
/// (the description of a division), and refusing what the platform takes would be worse than taking too much.
const NEEDED: &str = "name";

/// What is wrong with a body, and where.
struct Wrong {
    code: &'static str,
    message: String,
    field: String,
}

/// A body as it was sent.
enum Parsed {
    /// Nothing, or `null`.
    Absent,
    /// A file or form that the engine does not look into.
    Opaque,
    /// JSON, or a text where one is wanted.
    Value(Value),
}

/// Parses and checks the body of a request.
pub(super) fn check(
    definitions: &Definitions,
    operation: &Operation,
    view: &RequestView<'_>,
    context: &Context<'_>,
) -> Result<Option<Value>, Box<ErrorBody>> {
    // An operation without a body parameter takes whatever comes: SDKs send `null`, uploads send files.
    let Some(rule) = &operation.body else { return Ok(None) };
    let value = match parse(definitions, rule, view, context)? {
        Parsed::Opaque => return Ok(None),
        Parsed::Absent if !rule.required => return Ok(None),
        Parsed::Absent => {
            let reason = "The request could not be understood by the server: a request body is required.";
            return Err(Box::new(ErrorBody::bad_request(reason, context.correlation_id)));
        }
        Parsed::Value(value) => value,
    };
    let creating = operation.method.as_ref() == "POST";
    let checking = Checking { definitions, creating };
    match checking.at(&rule.schema, &value, "", 0) {
        Ok(()) => Ok(Some(value)),
        Err(wrong) => {
            let body = ErrorBody::new(400, wrong.code, wrong.message, context.correlation_id);
            Err(Box::new(body.detail(wrong.code, &wrong.field)))
        }
    }
}

fn parse(
    definitions: &Definitions,
    rule: &BodyRule,
    view: &RequestView<'_>,
    context: &Context<'_>,
) -> Result<Parsed, Box<ErrorBody>> {
    if view.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Parsed::Absent);
    }
    let media_type = view.content_type.and_then(|text| text.split(';').next()).map(str::trim).unwrap_or_default();
    let text_wanted = matches!(definitions.resolve(&rule.schema), Schema::Text(_));
    if text_wanted && media_type.starts_with("text/") {
        return Ok(Parsed::Value(Value::String(String::from_utf8_lossy(view.body).into_owned())));
    }
    // The document names no multipart operation; where one is sent, the platform's own upload services would take it.
    if media_type.starts_with("multipart/") || media_type == "application/octet-stream" {
        return Ok(Parsed::Opaque);
    }
    let json =
        media_type.is_empty() || media_type == "*/*" || media_type.ends_with("/json") || media_type.ends_with("+json");
    if !json {
        let message = "Unsupported Media Type - Unsupported or incorrect media type, such as an incorrect Content-Type value in the header.";
        return Err(Box::new(ErrorBody::new(415, "unsupported.media.type", message, context.correlation_id)));
    }
    let parsed = serde_json::from_slice(view.body);
    parsed.map(|value: Value| if value.is_null() { Parsed::Absent } else { Parsed::Value(value) }).map_err(|error| {
        let reason = format!("The request could not be understood by the server due to malformed syntax: {error}");
        Box::new(ErrorBody::bad_request(reason, context.correlation_id))
    })
}

struct Checking<'a> {
    definitions: &'a Definitions,
    /// The name is asked for when something is created; an update may be partial.
    creating: bool,
}

impl Checking<'_> {
    fn at(&self, schema: &Schema, value: &Value, field: &str, depth: usize) -> Result<(), Wrong> {
        if value.is_null() || depth > MAX_CHECKED_DEPTH {
            return Ok(());
        }
        match (self.definitions.resolve(schema), value) {
            (Schema::Object(object), Value::Object(_)) => self.object(object, value, field, depth),
            (Schema::Array(array), Value::Array(elements)) => {
                elements.iter().try_for_each(|element| self.at(&array.items, element, field, depth + 1))
            }
            (Schema::Text(rules), Value::String(text)) => enumerated(rules, text, field),
            (Schema::Integer(_) | Schema::Number(_), Value::String(text)) if text.trim().parse::<f64>().is_ok() => {
                Ok(())
            }
            (Schema::Boolean, Value::String(text)) if text.parse::<bool>().is_ok() => Ok(()),
            (Schema::Text(_), Value::Number(_) | Value::Bool(_))
            | (Schema::Integer(_) | Schema::Number(_), Value::Number(_))
            | (Schema::Boolean, Value::Bool(_))
            | (Schema::Any | Schema::Reference(_), _) => Ok(()),
            (Schema::Object(_), _) => Err(wrong_kind("an object", field)),
            (Schema::Array(_), _) => Err(wrong_kind("an array", field)),
            (Schema::Text(_), _) => Err(wrong_kind("a string", field)),
            (Schema::Integer(_) | Schema::Number(_), _) => Err(wrong_kind("a number", field)),
            (Schema::Boolean, _) => Err(wrong_kind("a boolean", field)),
        }
    }

    fn object(&self, object: &ObjectSchema, value: &Value, field: &str, depth: usize) -> Result<(), Wrong> {
        for property in &object.properties {
            let here = if field.is_empty() { property.name.to_string() } else { format!("{field}.{}", property.name) };
            let given = value.get(&*property.name).filter(|given| !given.is_null());
            if given.is_none() && self.creating && depth == 0 && property.required && *property.name == *NEEDED {
                let message = format!("The property {here} is required.");
                return Err(Wrong { code: "bad.request", message, field: here });
            }
            if let Some(given) = given.filter(|_| !property.read_only) {
                self.at(&property.schema, given, &here, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn wrong_kind(wanted: &str, field: &str) -> Wrong {
    let place = if field.is_empty() { "The request body".to_owned() } else { format!("The property {field}") };
    Wrong { code: "bad.request", message: format!("{place} must be {wanted}."), field: field.to_owned() }
}

/// The published `invalid.value`.
fn enumerated(rules: &TextSchema, text: &str, field: &str) -> Result<(), Wrong> {
    if rules.allowed.is_empty() || rules.allowed.iter().any(|allowed| **allowed == *text) {
        return Ok(());
    }
    let shown: String = text.chars().take(200).collect();
    let allowed = rules.allowed.join(", ");
    let message = format!("Value [{shown}] is not valid for field type [{field}]. Allowable values are: {allowed}");
    Err(Wrong { code: "invalid.value", message, field: field.to_owned() })
}
