//! What the platform adds to an entity: identity, dates, authors, version, division. Invariant: only members that one
//! of the entity's schemas knows are set, and a caller's value for a read-only member is never kept.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::collection::Rule;
use super::conform::{Conform, date_time};
use super::mix::{mix, mix_text};
use super::path::encode;
use super::schema::{Definitions, Format, ObjectSchema, Property, Schema};
use super::synthesis::settled;

/// Id of the division "Home" of every sandbox organisation (`data/seeds.json`).
pub(crate) const HOME_DIVISION_ID: &str = "9c8f5e2a-0d3b-4c1e-9a47-6f1d2b3c4d5e";

/// Names of members that hold the time of creation.
const CREATED_AT: [&str; 4] = ["dateCreated", "createdDate", "createdAt", "dateSubmitted"];
/// Names of members that hold the time of the last change.
const MODIFIED_AT: [&str; 5] = ["dateModified", "modifiedDate", "lastModified", "modifiedAt", "dateUpdated"];
/// Names of members that hold who created it.
const CREATED_BY: [&str; 2] = ["createdBy", "createdByUser"];
/// Names of members that hold who changed it last.
const MODIFIED_BY: [&str; 2] = ["modifiedBy", "lastModifiedBy"];

/// The circumstances of a change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    pub(crate) now: Timestamp,
    pub(crate) caller_id: &'a str,
}

/// Completes entities after the schemas under which they are shown.
pub(crate) struct Completion<'a> {
    pub(crate) definitions: &'a Definitions,
    pub(crate) schemas: Vec<&'a ObjectSchema>,
}

impl<'a> Completion<'a> {
    fn property(&self, name: &str) -> Option<&'a Property> {
        self.schemas.iter().find_map(|schema| schema.property(name))
    }

    fn each_named<'b>(&'b self, names: &'b [&'b str]) -> impl Iterator<Item = &'a Property> {
        names.iter().filter_map(|name| self.property(name))
    }

    /// Removes what only the platform sets.
    pub(crate) fn strip_read_only(&self, state: &mut Map<String, Value>) {
        state.retain(|name, value| !value.is_null() && !self.property(name).is_some_and(|property| property.read_only));
    }

    /// Requests name another entity by its id (`divisionId`) where answers show it (`division`).
    pub(crate) fn expand_references(&self, state: &mut Map<String, Value>) {
        let mut expanded = Vec::new();
        for (name, id) in state.iter().filter(|(_, value)| value.is_string()) {
            let Some(property) = name.strip_suffix("Id").and_then(|bare| self.property(bare)) else { continue };
            let object = self.definitions.object(&property.schema);
            if object.is_some_and(|object| object.property("id").is_some()) && !state.contains_key(&*property.name) {
                expanded.push((property.name.to_string(), json!({ "id": id })));
            }
        }
        state.extend(expanded);
    }

    /// Sets identity: the id member and `selfUri`.
    pub(crate) fn identify(&self, state: &mut Map<String, Value>, id_property: &str, id: &str, path: &str) {
        let integer = self
            .property(id_property)
            .is_some_and(|p| matches!(self.definitions.resolve(&p.schema), Schema::Integer(_)));
        let value = match id.parse::<i64>() {
            Ok(number) if integer => Value::from(number),
            _ => Value::from(id),
        };
        state.insert(id_property.to_owned(), value);
        if self.property("selfUri").is_some() {
            state.insert("selfUri".to_owned(), Value::from(path));
        }
    }

    /// Sets `id` and `selfUri` of something that nobody created, as far as its schema has them as plain texts.
    pub(crate) fn identify_plain(&self, state: &mut Map<String, Value>, id: &str, path: &str) {
        for (name, text) in [("id", id), ("selfUri", path)] {
            let Some(property) = self.property(name).filter(|_| !text.is_empty()) else { continue };
            if let Schema::Text(rules) = self.definitions.resolve(&property.schema)
                && rules.allowed.is_empty()
            {
                state.insert(name.to_owned(), Value::from(text));
            }
        }
    }

    /// Adds what a new entity has.
    pub(crate) fn stamp_new(&self, state: &mut Map<String, Value>, stamp: Stamp<'_>) {
        self.set_dates(state, &CREATED_AT, stamp.now);
        self.set_authors(state, &CREATED_BY, stamp.caller_id);
        if let Some(property) = self.property("version") {
            let first = match self.definitions.resolve(&property.schema) {
                Schema::Integer(_) => Some(json!(1)),
                Schema::Text(_) => Some(json!("1")),
                _ => None,
            };
            state.extend(first.map(|first| ("version".to_owned(), first)));
        }
        self.home_division(state);
        for name in ["state", "status"] {
            let Some(property) = self.property(name).filter(|_| !state.contains_key(name)) else { continue };
            if let Schema::Text(rules) = self.definitions.resolve(&property.schema)
                && let Some(text) = settled(&rules.allowed, name)
            {
                state.insert(name.to_owned(), Value::from(text));
            }
        }
        self.stamp_change(state, stamp);
    }

    fn home_division(&self, state: &mut Map<String, Value>) {
        let object = self.property("division").and_then(|property| self.definitions.object(&property.schema));
        if object.is_some_and(|object| object.property("id").is_some()) && !state.contains_key("division") {
            let path = format!("/api/v2/authorization/divisions/{HOME_DIVISION_ID}");
            state.insert("division".to_owned(), json!({"id": HOME_DIVISION_ID, "name": "Home", "selfUri": path}));
        }
    }

    /// Notes a change: date and author.
    pub(crate) fn stamp_change(&self, state: &mut Map<String, Value>, stamp: Stamp<'_>) {
        self.set_dates(state, &MODIFIED_AT, stamp.now);
        self.set_authors(state, &MODIFIED_BY, stamp.caller_id);
    }

    /// Counts the version up from that of `old`.
    pub(crate) fn next_version(&self, state: &mut Map<String, Value>, old: &Map<String, Value>) {
        if self.property("version").is_none() {
            return;
        }
        let next = match old.get("version") {
            Some(Value::Number(number)) => number.as_i64().map(|number| Value::from(number.saturating_add(1))),
            Some(Value::String(text)) => text.parse::<i64>().ok().map(|n| Value::from(n.saturating_add(1).to_string())),
            _ => None,
        };
        state.extend(next.map(|next| ("version".to_owned(), next)));
    }

    fn set_dates(&self, state: &mut Map<String, Value>, names: &[&str], now: Timestamp) {
        for property in self.each_named(names) {
            if let Schema::Text(rules) = self.definitions.resolve(&property.schema)
                && rules.format == Format::DateTime
            {
                state.insert(property.name.to_string(), Value::from(date_time(&now)));
            }
        }
    }

    fn set_authors(&self, state: &mut Map<String, Value>, names: &[&str], caller_id: &str) {
        for property in self.each_named(names) {
            let author = match self.definitions.resolve(&property.schema) {
                Schema::Text(_) => Value::from(caller_id),
                Schema::Object(object) if object.property("id").is_some() => json!({ "id": caller_id }),
                _ => continue,
            };
            state.insert(property.name.to_string(), author);
        }
    }
}

/// The state of a new entity: what the caller gave and the schemas know, with what the platform adds.
pub(crate) fn new_state(
    definitions: &Definitions,
    rule: &Rule,
    mut request: Map<String, Value>,
    collection: &str,
    id: &str,
    stamp: Stamp<'_>,
    seed: u64,
) -> Value {
    let schemas = [&rule.item, &rule.created];
    let completion =
        Completion { definitions, schemas: schemas.iter().filter_map(|schema| definitions.object(schema)).collect() };
    completion.expand_references(&mut request);
    completion.strip_read_only(&mut request);
    completion.stamp_new(&mut request, stamp);
    completion.identify(&mut request, &rule.id_property, id, &format!("{collection}/{}", encode(id)));
    let request = Value::Object(request);
    let conform = Conform::new(definitions, mix(seed, mix_text(0, id)));
    let mut state = Map::new();
    for schema in schemas {
        if let Some(Value::Object(fitted)) = conform.fit(schema, &request) {
            state.extend(fitted);
        }
    }
    Value::Object(state)
}
