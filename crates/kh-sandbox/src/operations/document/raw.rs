//! The document as it stands on paper: only the members that the engine reads. Invariant: borrowed from the text where
//! JSON escapes allow it, so that parsing 23 MB copies little.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A text of the document. A type of its own, because serde borrows through it also inside options, lists and maps.
#[derive(Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Maps are searched with plain texts; equality and order are those of the text.
impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == *other
    }
}

/// Paths and definitions stay text until their turn comes: the whole tree at once would take ten times the memory of
/// what is kept.
#[derive(Deserialize)]
pub(super) struct RawDocument<'a> {
    #[serde(borrow)]
    pub(super) paths: BTreeMap<Text<'a>, &'a RawValue>,
    #[serde(borrow)]
    pub(super) definitions: BTreeMap<Text<'a>, &'a RawValue>,
}

/// The operations of one path by method.
pub(super) type RawPath<'a> = BTreeMap<Text<'a>, RawOperation<'a>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawOperation<'a> {
    #[serde(borrow)]
    pub(super) operation_id: Text<'a>,
    #[serde(borrow, default)]
    pub(super) produces: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) parameters: Vec<RawParameter<'a>>,
    #[serde(borrow, deserialize_with = "successes")]
    pub(super) responses: BTreeMap<Text<'a>, RawResponse<'a>>,
}

/// Reads the answers of success only: twelve error answers per operation would be most of the memory.
fn successes<'de, D: Deserializer<'de>>(source: D) -> Result<BTreeMap<Text<'de>, RawResponse<'de>>, D::Error> {
    struct Successes;

    impl<'de> Visitor<'de> for Successes {
        type Value = BTreeMap<Text<'de>, RawResponse<'de>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a map of answers by status")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut kept = BTreeMap::new();
            while let Some(status) = map.next_key::<Text<'de>>()? {
                if status.starts_with('2') || &*status == "default" {
                    kept.insert(status, map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(kept)
        }
    }

    source.deserialize_map(Successes)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawParameter<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow, rename = "in")]
    pub(super) place: Text<'a>,
    #[serde(default)]
    pub(super) required: bool,
    #[serde(borrow, default)]
    pub(super) schema: Option<RawSchema<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    format: Option<Text<'a>>,
    #[serde(default, rename = "enum")]
    allowed: Vec<Value>,
    #[serde(borrow, default)]
    items: Option<RawSchema<'a>>,
    #[serde(borrow, default)]
    pattern: Option<Text<'a>>,
    #[serde(default)]
    minimum: Option<f64>,
    #[serde(default)]
    maximum: Option<f64>,
    #[serde(default)]
    pub(super) default: Option<Value>,
}

impl<'a> RawParameter<'a> {
    /// The rules of a parameter outside the body, which Swagger 2.0 writes beside its name.
    pub(super) fn rules(&self) -> RawSchema<'a> {
        RawSchema {
            kind: self.kind.clone(),
            format: self.format.clone(),
            allowed: self.allowed.clone(),
            items: self.items.clone().map(Box::new),
            pattern: self.pattern.clone(),
            minimum: self.minimum,
            maximum: self.maximum,
            ..RawSchema::default()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawResponse<'a> {
    #[serde(borrow, default)]
    pub(super) schema: Option<RawSchema<'a>>,
}

#[expect(clippy::struct_excessive_bools, reason = "the flags of Swagger 2.0 as they stand on paper")]
#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawSchema<'a> {
    #[serde(borrow, rename = "$ref")]
    pub(super) reference: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) format: Option<Text<'a>>,
    #[serde(rename = "enum")]
    pub(super) allowed: Vec<Value>,
    pub(super) read_only: bool,
    #[serde(borrow)]
    pub(super) required: Vec<Text<'a>>,
    #[serde(borrow)]
    pub(super) properties: BTreeMap<Text<'a>, RawSchema<'a>>,
    #[serde(borrow)]
    pub(super) items: Option<Box<RawSchema<'a>>>,
    #[serde(borrow)]
    pub(super) additional_properties: Option<RawAdditional<'a>>,
    #[serde(borrow)]
    pub(super) all_of: Vec<RawSchema<'a>>,
    #[serde(borrow)]
    pub(super) discriminator: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) pattern: Option<Text<'a>>,
    pub(super) min_items: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) unique_items: bool,
    pub(super) min_length: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) exclusive_minimum: bool,
    pub(super) exclusive_maximum: bool,
}

/// `additionalProperties`: a schema, or yes/no.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
pub(super) enum RawAdditional<'a> {
    /// Anything, or nothing.
    Allowed(bool),
    /// Values of this schema.
    Schema(#[serde(borrow)] Box<RawSchema<'a>>),
}

/// One operation's entry in the list of scopes and permissions.
#[derive(Deserialize)]
pub(super) struct RawSecurity<'a> {
    #[serde(borrow)]
    pub(super) m: Text<'a>,
    #[serde(borrow)]
    pub(super) p: Text<'a>,
    #[serde(borrow)]
    pub(super) auth: Vec<Text<'a>>,
    #[serde(borrow)]
    pub(super) scopes_any: Vec<Text<'a>>,
    #[serde(borrow)]
    pub(super) perm_type: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) perms: Vec<Text<'a>>,
}
