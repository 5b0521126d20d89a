//! The document's schemas in a compact form. Invariant: every reference points into the table of definitions that was
//! built with it, and `allOf` and `discriminator` are already resolved into plain objects.

use std::sync::Arc;

use super::pattern::Pattern;

/// Number of a definition in the document's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DefinitionId(pub(crate) u32);

/// A Swagger 2.0 schema.
#[derive(Debug, Clone)]
pub(crate) enum Schema {
    /// `$ref` to a definition.
    Reference(DefinitionId),
    /// An object.
    Object(Arc<ObjectSchema>),
    /// An array.
    Array(Arc<ArraySchema>),
    /// A string.
    Text(Arc<TextSchema>),
    /// A whole number.
    Integer(Arc<NumberSchema>),
    /// A number.
    Number(Arc<NumberSchema>),
    /// `true` or `false`.
    Boolean,
    /// No type given: anything.
    Any,
}

/// Rules of an object.
#[derive(Debug, Default)]
pub(crate) struct ObjectSchema {
    /// Known properties in the document's order.
    pub(crate) properties: Vec<Property>,
    /// What further properties look like; `None` when the document names them all.
    pub(crate) additional: Option<Schema>,
}

impl ObjectSchema {
    /// The property of that name.
    pub(crate) fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|property| &*property.name == name)
    }
}

/// One known property of an object.
#[derive(Debug, Clone)]
pub(crate) struct Property {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its schema.
    pub(crate) schema: Schema,
    /// Whether the object must have it.
    pub(crate) required: bool,
    /// Whether the platform sets it (`readOnly`): a caller's value is ignored.
    pub(crate) read_only: bool,
}

/// Rules of an array.
#[derive(Debug)]
pub(crate) struct ArraySchema {
    /// Its elements.
    pub(crate) items: Schema,
    /// Fewest elements.
    pub(crate) min_items: usize,
    /// Most elements.
    pub(crate) max_items: usize,
    /// Whether all elements differ.
    pub(crate) unique: bool,
}

/// Rules of a string.
#[derive(Debug, Default)]
pub(crate) struct TextSchema {
    /// The allowed values; empty when free.
    pub(crate) allowed: Vec<Box<str>>,
    /// The form of the text.
    pub(crate) format: Format,
    /// A regular expression that must be found in it.
    pub(crate) pattern: Option<Arc<Pattern>>,
    /// Fewest characters.
    pub(crate) min_length: usize,
    /// Most characters.
    pub(crate) max_length: Option<usize>,
}

/// Forms of a string that the document uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// Any text, also for formats that nobody published rules for.
    #[default]
    Free,
    /// RFC 3339 date and time.
    DateTime,
    /// RFC 3339 full-date.
    Date,
    /// ISO 8601 interval, start and end separated by a slash.
    Interval,
    /// `HH:MM:SS`.
    LocalTime,
    /// Date and time without an offset.
    LocalDateTime,
    /// `YYYY-MM`.
    YearMonth,
    /// URI reference (the platform's `selfUri` is a path).
    Uri,
}

/// Rules of a number. Bounds are inclusive.
#[derive(Debug, Default)]
pub(crate) struct NumberSchema {
    /// Smallest value.
    pub(crate) minimum: Option<f64>,
    /// Largest value.
    pub(crate) maximum: Option<f64>,
    /// The allowed values; empty when free.
    pub(crate) allowed: Vec<i64>,
    /// Whether it must fit 32 bits.
    pub(crate) int32: bool,
    /// Whether `minimum` itself is excluded.
    pub(crate) above_minimum: bool,
    /// Whether `maximum` itself is excluded.
    pub(crate) below_maximum: bool,
}

impl NumberSchema {
    /// Whether `value` is within the rules.
    pub(crate) fn accepts(&self, value: f64) -> bool {
        let over = self.minimum.is_none_or(|least| value > least || (!self.above_minimum && value >= least));
        let under = self.maximum.is_none_or(|most| value < most || (!self.below_maximum && value <= most));
        let fits = !self.int32 || (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value);
        #[expect(clippy::cast_precision_loss, reason = "enumerated numbers are small")]
        let listed =
            self.allowed.is_empty() || self.allowed.iter().any(|allowed| (*allowed as f64 - value).abs() < 0.5);
        over && under && fits && listed
    }
}

/// The table of definitions.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    pub(crate) schemas: Vec<Schema>,
}

/// Longest chain of references that is followed; the document's longest is 1.
const MAX_REFERENCE_CHAIN: usize = 16;

impl Definitions {
    /// The schema behind any references.
    pub(crate) fn resolve<'a>(&'a self, schema: &'a Schema) -> &'a Schema {
        let mut at = schema;
        for _ in 0..MAX_REFERENCE_CHAIN {
            let Schema::Reference(DefinitionId(id)) = at else { return at };
            let Some(next) = self.schemas.get(*id as usize) else { return &Schema::Any };
            at = next;
        }
        &Schema::Any
    }

    /// The object behind any references.
    pub(crate) fn object<'a>(&'a self, schema: &'a Schema) -> Option<&'a ObjectSchema> {
        match self.resolve(schema) {
            Schema::Object(object) => Some(object),
            _ => None,
        }
    }
}
