//! From the paper form to the compact one. Invariant: afterwards no `allOf`, `discriminator` or unresolved reference
//! is left.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::raw::{RawAdditional, RawSchema, Text};
use crate::operations::pattern::Pattern;
use crate::operations::schema::{
    ArraySchema, DefinitionId, Definitions, Format, NumberSchema, ObjectSchema, Property, Schema, TextSchema,
};

/// Depth of `allOf` inside `allOf` that is followed.
const MAX_ALL_OF_DEPTH: usize = 16;

/// Prefix of a reference to a definition.
const REFERENCE_PREFIX: &str = "#/definitions/";

/// Converts schemas; names and patterns are shared among them.
pub(super) struct Converter<'a> {
    raw: &'a BTreeMap<Text<'a>, &'a RawValue>,
    ids: HashMap<&'a str, DefinitionId>,
    names: HashMap<Box<str>, Arc<str>>,
    patterns: HashMap<Box<str>, Option<Arc<Pattern>>>,
    /// A plain string: the most frequent schema of all.
    plain_text: Arc<TextSchema>,
}

impl<'a> Converter<'a> {
    pub(super) fn new(raw: &'a BTreeMap<Text<'a>, &'a RawValue>) -> Self {
        let ids = raw.keys().zip(0..).map(|(name, id)| (&**name, DefinitionId(id))).collect();
        let plain_text = Arc::default();
        Self { raw, ids, names: HashMap::new(), patterns: HashMap::new(), plain_text }
    }

    /// The table of all definitions.
    pub(super) fn definitions(&mut self) -> Result<Definitions, serde_json::Error> {
        let parsed = self.raw.values().map(|text| Ok(self.schema(&serde_json::from_str(text.get())?)));
        Ok(Definitions { schemas: parsed.collect::<Result<_, serde_json::Error>>()? })
    }

    /// One schema.
    pub(super) fn schema(&mut self, raw: &RawSchema<'_>) -> Schema {
        if let Some(reference) = &raw.reference {
            let name = reference.strip_prefix(REFERENCE_PREFIX).unwrap_or(reference);
            return self.ids.get(name).map_or(Schema::Any, |id| Schema::Reference(*id));
        }
        match raw.kind.as_deref() {
            Some("array") => self.array(raw),
            Some("string") => self.text(raw),
            Some("integer") => Schema::Integer(Arc::new(number(raw))),
            Some("number") => Schema::Number(Arc::new(number(raw))),
            Some("boolean") => Schema::Boolean,
            Some("object") => self.object(raw),
            _ if !raw.properties.is_empty() || !raw.all_of.is_empty() => self.object(raw),
            _ => Schema::Any,
        }
    }

    fn array(&mut self, raw: &RawSchema<'_>) -> Schema {
        Schema::Array(Arc::new(ArraySchema {
            items: raw.items.as_ref().map_or(Schema::Any, |items| self.schema(items)),
            min_items: size(raw.min_items).unwrap_or(0),
            max_items: size(raw.max_items).unwrap_or(usize::MAX),
            unique: raw.unique_items,
        }))
    }

    fn text(&mut self, raw: &RawSchema<'_>) -> Schema {
        let rules = TextSchema {
            allowed: raw.allowed.iter().filter_map(|value| value.as_str()).map(Into::into).collect(),
            format: format(raw.format.as_deref()),
            pattern: raw.pattern.as_deref().and_then(|source| self.pattern(source)),
            min_length: size(raw.min_length).unwrap_or(0),
            max_length: size(raw.max_length),
        };
        let plain = rules.allowed.is_empty()
            && rules.format == Format::Free
            && rules.pattern.is_none()
            && rules.min_length == 0
            && rules.max_length.is_none();
        Schema::Text(if plain { Arc::clone(&self.plain_text) } else { Arc::new(rules) })
    }

    fn pattern(&mut self, source: &str) -> Option<Arc<Pattern>> {
        let entry = self.patterns.entry(source.into());
        entry.or_insert_with(|| Pattern::new(source).map(Arc::new)).clone()
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = name.into();
        self.names.insert(name.into(), Arc::clone(&shared));
        shared
    }

    fn object(&mut self, raw: &RawSchema<'_>) -> Schema {
        let mut object = ObjectSchema::default();
        self.merge(raw, &mut object, 0);
        if object.properties.is_empty() && object.additional.is_none() {
            object.additional = Some(Schema::Any);
        }
        Schema::Object(Arc::new(object))
    }

    fn merge(&mut self, raw: &RawSchema<'_>, into: &mut ObjectSchema, depth: usize) {
        if depth > MAX_ALL_OF_DEPTH {
            return;
        }
        let definitions = self.raw;
        for part in &raw.all_of {
            let name = part.reference.as_deref().and_then(|reference| reference.strip_prefix(REFERENCE_PREFIX));
            let Some(name) = name else {
                self.merge(part, into, depth + 1);
                continue;
            };
            // A definition that does not parse fails the document where its own turn comes.
            let base = definitions.get(name).and_then(|text| serde_json::from_str::<RawSchema<'_>>(text.get()).ok());
            if let Some(base) = base {
                self.merge(&base, into, depth + 1);
            }
        }
        for (name, schema) in &raw.properties {
            let property = Property {
                name: self.name(name),
                schema: self.schema(schema),
                required: false,
                read_only: schema.read_only,
            };
            into.properties.retain(|known| known.name != property.name);
            into.properties.push(property);
        }
        match raw.additional_properties.as_ref() {
            Some(RawAdditional::Schema(schema)) => into.additional = Some(self.schema(schema)),
            Some(RawAdditional::Allowed(true)) => into.additional = Some(Schema::Any),
            Some(RawAdditional::Allowed(false)) | None => {}
        }
        self.require(raw, into);
    }

    /// Marks required properties; one that is only named there (a discriminator, too) becomes a text.
    fn require(&mut self, raw: &RawSchema<'_>, into: &mut ObjectSchema) {
        let open = raw.properties.is_empty() && raw.all_of.is_empty();
        for name in raw.required.iter().chain(raw.discriminator.as_ref()) {
            if let Some(property) = into.properties.iter_mut().find(|property| *property.name == **name) {
                property.required = true;
                continue;
            }
            let schema = Schema::Text(Arc::clone(&self.plain_text));
            into.properties.push(Property { name: self.name(name), schema, required: true, read_only: false });
            if open {
                into.additional.get_or_insert(Schema::Any);
            }
        }
    }
}

fn size(value: Option<u64>) -> Option<usize> {
    value.map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

fn number(raw: &RawSchema<'_>) -> NumberSchema {
    NumberSchema {
        minimum: raw.minimum,
        maximum: raw.maximum,
        allowed: raw.allowed.iter().filter_map(serde_json::Value::as_i64).collect(),
        int32: raw.format.as_deref() == Some("int32"),
        above_minimum: raw.exclusive_minimum,
        below_maximum: raw.exclusive_maximum,
    }
}

fn format(name: Option<&str>) -> Format {
    match name {
        Some("date-time") => Format::DateTime,
        Some("date") => Format::Date,
        Some("interval") => Format::Interval,
        Some("local-time") => Format::LocalTime,
        Some("local-date-time") => Format::LocalDateTime,
        Some("year-month") => Format::YearMonth,
        Some("uri" | "url") => Format::Uri,
        _ => Format::Free,
    }
}
