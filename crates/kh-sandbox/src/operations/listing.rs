//! Pages of a listing. Invariant: walking from the first page along the given links or cursors meets every entity
//! exactly once; only members that the listing's schema has are set.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Context;
use super::document::Operation;
use super::request::{Query, invalid_parameter};
use super::schema::{Definitions, ObjectSchema, Schema};
use crate::error_body::ErrorBody;

/// Page size where the document gives no default.
const DEFAULT_PAGE_SIZE: usize = 25;
/// Largest page where the document gives no maximum; the platform's largest documented page has 1000 entities.
const MAX_PAGE_SIZE: usize = 1000;
/// Parameters that carry a cursor forward, in order of preference.
const CURSORS: [&str; 4] = ["after", "cursor", "nextPage", "pageToken"];

/// How a listing is cut into pages.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Style {
    /// `pageNumber`, from 1.
    Numbered,
    /// An opaque position in the named parameter.
    Cursor(&'static str),
    /// SCIM (RFC 7644 §3.4.2.4): `startIndex` from 1 and `count`.
    Scim,
    /// Everything at once.
    Whole,
}

/// One page, ready to be written into an answer.
#[derive(Debug)]
pub(crate) struct Page {
    style: Style,
    size: usize,
    start: usize,
    total: usize,
}

impl Page {
    /// The page that the query asks for, of `total` entities.
    pub(crate) fn of(
        definitions: &Definitions,
        operation: &Operation,
        query: &Query<'_>,
        total: usize,
        context: &Context<'_>,
    ) -> Result<Self, Box<ErrorBody>> {
        let style = style(operation);
        let size_parameter = if style == Style::Scim { "count" } else { "pageSize" };
        let size = match style {
            Style::Whole => total.max(1),
            _ => page_size(definitions, operation, query, size_parameter, context)?,
        };
        let start = match &style {
            Style::Whole => 0,
            Style::Numbered => positive(query, "pageNumber", context)?.saturating_sub(1).saturating_mul(size),
            Style::Scim => positive(query, "startIndex", context)?.saturating_sub(1),
            Style::Cursor(name) => match query.first(name) {
                None => 0,
                Some(token) => cursor_position(token)
                    .ok_or_else(|| invalid_parameter(name, token, "a cursor of an earlier page", context))?,
            },
        };
        Ok(Self { style, size, start, total })
    }

    /// The entities on this page.
    pub(crate) fn cut<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        let rest = all.get(self.start.min(all.len())..).unwrap_or_default();
        rest.get(..self.size.min(rest.len())).unwrap_or_default()
    }

    fn number(&self) -> usize {
        self.start / self.size.max(1) + 1
    }

    fn count(&self) -> usize {
        self.total.div_ceil(self.size.max(1))
    }

    fn next_start(&self) -> Option<usize> {
        let next = self.start.saturating_add(self.size);
        (next < self.total).then_some(next)
    }

    /// Writes the paging members that `schema` knows into `body`.
    pub(crate) fn describe(
        &self,
        schema: &ObjectSchema,
        definitions: &Definitions,
        path: &str,
        query: &Query<'_>,
        body: &mut Map<String, Value>,
    ) {
        let links = Links { page: self, path, query };
        let next = self.next_start();
        let previous = (self.start > 0).then(|| self.start.saturating_sub(self.size));
        let cursor = |start: usize| Some(Value::from(cursor_token(start)));
        for property in &schema.properties {
            let name = &*property.name;
            let value = match name {
                "pageSize" | "itemsPerPage" => Some(Value::from(self.size)),
                "pageNumber" => Some(Value::from(self.number())),
                "startIndex" => Some(Value::from(self.start + 1)),
                "pageCount" => Some(Value::from(self.count())),
                "total" | "totalResults" | "totalNumberOfEntities" | "unfilteredTotal" | "totalCount" => {
                    Some(Value::from(self.total))
                }
                "count" => Some(Value::from(self.total.saturating_sub(self.start).min(self.size))),
                "selfUri" => Some(Value::from(links.to(self.start))),
                "firstUri" => Some(Value::from(links.to(0))),
                "lastUri" => Some(Value::from(links.to(self.count().saturating_sub(1) * self.size))),
                "nextUri" => next.map(|start| Value::from(links.to(start))),
                "previousUri" => previous.map(|start| Value::from(links.to(start))),
                "after" | "nextPage" | "cursor" if matches!(self.style, Style::Cursor(_)) => next.and_then(cursor),
                "before" | "previousPage" if matches!(self.style, Style::Cursor(_)) => previous.and_then(cursor),
                "cursors" => next.and_then(cursor).map(|after| serde_json::json!({ "after": after })),
                _ => continue,
            };
            let kind = definitions.resolve(&property.schema);
            match value.and_then(|value| in_kind(kind, value)) {
                Some(value) => drop(body.insert(name.to_owned(), value)),
                None if property.required => {}
                None => drop(body.remove(name)),
            }
        }
    }
}

/// The value in the kind that the schema wants (some listings have their numbers as text).
fn in_kind(kind: &Schema, value: Value) -> Option<Value> {
    match (kind, &value) {
        (Schema::Text(_), Value::Number(number)) => Some(Value::from(number.to_string())),
        (Schema::Text(_), Value::String(_)) | (Schema::Integer(_) | Schema::Number(_), Value::Number(_)) => Some(value),
        (Schema::Object(object), Value::Object(_)) if object.property("after").is_some() => Some(value),
        _ => None,
    }
}

fn style(operation: &Operation) -> Style {
    let known = |name: &str| operation.parameter(name).is_some_and(|parameter| parameter.in_query);
    if known("pageNumber") {
        return Style::Numbered;
    }
    if known("startIndex") && known("count") {
        return Style::Scim;
    }
    CURSORS.into_iter().find(|name| known(name)).map_or(Style::Whole, Style::Cursor)
}

fn positive(query: &Query<'_>, name: &str, context: &Context<'_>) -> Result<usize, Box<ErrorBody>> {
    let Some(text) = query.first(name) else { return Ok(1) };
    let number = text.trim().parse::<usize>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| invalid_parameter(name, text, "whole numbers from 1", context))
}

fn page_size(
    definitions: &Definitions,
    operation: &Operation,
    query: &Query<'_>,
    name: &str,
    context: &Context<'_>,
) -> Result<usize, Box<ErrorBody>> {
    let parameter = operation.parameter(name);
    let maximum = parameter.and_then(|parameter| match definitions.resolve(&parameter.schema) {
        Schema::Integer(rules) => rules.maximum.map(whole_count),
        _ => None,
    });
    let Some(text) = query.first(name) else {
        let default = parameter.and_then(|parameter| parameter.default.as_deref()?.parse().ok());
        return Ok(default.unwrap_or(DEFAULT_PAGE_SIZE));
    };
    let size = text.trim().parse::<usize>().ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| invalid_parameter(name, text, "whole numbers from 1", context))?;
    Ok(size.min(maximum.unwrap_or(MAX_PAGE_SIZE)))
}

/// A documented maximum as a count.
fn whole_count(maximum: f64) -> usize {
    #[expect(clippy::cast_sign_loss, reason = "made non-negative first; the cast saturates")]
    let count = maximum.max(1.0) as usize;
    count
}

/// Opaque for callers: base64url like the platform's, so that nobody counts on its inside.
fn cursor_token(start: usize) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("position:{start}"))
}

fn cursor_position(token: &str) -> Option<usize> {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).ok()?;
    std::str::from_utf8(&decoded).ok()?.strip_prefix("position:")?.parse().ok()
}

struct Links<'a> {
    page: &'a Page,
    path: &'a str,
    query: &'a Query<'a>,
}

impl Links<'_> {
    /// The path and query of the page that starts at `start`; like the platform's, without scheme and host.
    fn to(&self, start: usize) -> String {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        let (position, size_name): (&str, &str) = match &self.page.style {
            Style::Whole => return self.path.to_owned(),
            Style::Numbered => ("pageNumber", "pageSize"),
            Style::Scim => ("startIndex", "count"),
            Style::Cursor(name) => (name, "pageSize"),
        };
        for (name, value) in self.query.without(&[position, size_name, "before", "previousPage"]) {
            pairs.append_pair(name, value);
        }
        pairs.append_pair(size_name, &self.page.size.to_string());
        let position_value = match &self.page.style {
            Style::Cursor(_) => (start > 0).then(|| cursor_token(start)),
            Style::Scim => Some((start + 1).to_string()),
            Style::Numbered | Style::Whole => Some((start / self.page.size.max(1) + 1).to_string()),
        };
        if let Some(value) = position_value {
            pairs.append_pair(position, &value);
        }
        format!("{}?{}", self.path, pairs.finish())
    }
}

/// Applies the filters that most listings have: `id` (several) and `name` (`*` at either end).
pub(crate) fn filter(operation: &Operation, query: &Query<'_>, id_property: &str, entities: &mut Vec<Arc<Value>>) {
    let text = |entity: &Value, name: &str| match entity.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    if operation.parameter("id").is_some() && query.first("id").is_some() {
        entities.retain(|entity| query.all("id").any(|id| text(entity, id_property) == id));
    }
    if let Some(wanted) = query.first("name").filter(|_| operation.parameter("name").is_some()) {
        entities.retain(|entity| name_matches(wanted, &text(entity, "name")));
    }
}

fn name_matches(wanted: &str, name: &str) -> bool {
    let (wanted, name) = (wanted.to_lowercase(), name.to_lowercase());
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(_), Some(_)) => name.contains(wanted.trim_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == wanted,
    }
}
