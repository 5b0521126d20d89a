//! Makes up values that a schema accepts. Invariant: same seed, same value; recursion is cut off (optional parts by
//! depth and budget, required parts by a hard depth), and every value that is built passes the schema's rules.

mod text;

pub(crate) use self::text::settled;

use serde_json::{Map, Number, Value};

use super::mix::{mix, mix_text};
use super::schema::{ArraySchema, Definitions, NumberSchema, ObjectSchema, Property, Schema};

/// Down to this depth optional properties are shown; deeper ones would only make the answers large.
const OPTIONAL_DEPTH: usize = 2;
/// Values in one made-up body after which only required parts are added: keeps an answer near 20 kB.
const OPTIONAL_BUDGET: usize = 300;
/// Depth at which even required parts end. The document has no cycle of required properties, so this is never reached.
const HARD_DEPTH: usize = 48;

/// Which optional parts are made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Required,
    Rich,
}

/// A source of made-up values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Synthesis<'a> {
    definitions: &'a Definitions,
    seed: u64,
}

struct Making {
    detail: Detail,
    budget: usize,
}

impl<'a> Synthesis<'a> {
    pub(crate) fn new(definitions: &'a Definitions, seed: u64) -> Self {
        Self { definitions, seed }
    }

    /// A value with required and optional parts.
    pub(crate) fn rich(&self, schema: &Schema) -> Value {
        let mut making = Making { detail: Detail::Rich, budget: OPTIONAL_BUDGET };
        self.value(schema, "", self.seed, 0, &mut making)
    }

    /// The smallest valid value.
    pub(crate) fn required_only(&self, schema: &Schema) -> Value {
        let mut making = Making { detail: Detail::Required, budget: 0 };
        self.value(schema, "", self.seed, 0, &mut making)
    }

    /// The smallest valid value of a property, whose name says what a plausible value is.
    pub(crate) fn property(&self, property: &Property) -> Value {
        let mut making = Making { detail: Detail::Required, budget: 0 };
        let seed = mix_text(self.seed, &property.name);
        self.value(&property.schema, &property.name, seed, 0, &mut making)
    }

    fn value(&self, schema: &Schema, name: &str, seed: u64, depth: usize, making: &mut Making) -> Value {
        making.budget = making.budget.saturating_sub(1);
        match self.definitions.resolve(schema) {
            Schema::Object(object) => self.object(object, seed, depth, making),
            Schema::Array(array) => self.array(array, name, seed, depth, making),
            Schema::Text(rules) => Value::String(text::sample(rules, name, seed)),
            Schema::Integer(rules) => integer(rules, name, seed),
            Schema::Number(rules) => number(rules, seed),
            Schema::Boolean => Value::Bool(matches!(name, "enabled" | "active" | "success") || seed.is_multiple_of(4)),
            Schema::Any | Schema::Reference(_) => Value::Object(Map::new()),
        }
    }

    fn shows_optional(depth: usize, making: &Making) -> bool {
        making.detail == Detail::Rich && depth < OPTIONAL_DEPTH && making.budget > 0
    }

    fn object(&self, object: &ObjectSchema, seed: u64, depth: usize, making: &mut Making) -> Value {
        let mut map = Map::new();
        if depth >= HARD_DEPTH {
            return Value::Object(map);
        }
        let required_first = object.properties.iter().filter(|property| property.required);
        let optional = object.properties.iter().filter(|property| !property.required);
        for property in required_first.chain(optional) {
            if property.required || Self::shows_optional(depth, making) {
                let seed = mix_text(seed, &property.name);
                let value = self.value(&property.schema, &property.name, seed, depth + 1, making);
                map.insert(property.name.to_string(), value);
            }
        }
        if let Some(additional) = &object.additional
            && object.properties.is_empty()
            && !matches!(additional, Schema::Any)
            && Self::shows_optional(depth, making)
        {
            map.insert("sample".to_owned(), self.value(additional, "sample", mix(seed, 7), depth + 1, making));
        }
        Value::Object(map)
    }

    fn array(&self, array: &ArraySchema, name: &str, seed: u64, depth: usize, making: &mut Making) -> Value {
        let shown = usize::from(Self::shows_optional(depth, making));
        let wanted = shown.max(array.min_items).min(array.max_items);
        let wanted = if depth >= HARD_DEPTH { 0 } else { wanted };
        let mut elements: Vec<Value> = Vec::with_capacity(wanted);
        // A unique array may need more tries than elements; four per element find another one where there is one.
        for try_number in 0..wanted.saturating_mul(4) as u64 {
            if elements.len() == wanted {
                break;
            }
            let element = self.value(&array.items, name, mix(seed, try_number), depth + 1, making);
            if !array.unique || !elements.contains(&element) {
                elements.push(element);
            }
        }
        Value::Array(elements)
    }
}

fn integer(rules: &NumberSchema, name: &str, seed: u64) -> Value {
    if !rules.allowed.is_empty() {
        let index = usize::try_from(seed).unwrap_or(0) % rules.allowed.len();
        return Value::from(rules.allowed.get(index).copied().unwrap_or_default());
    }
    let plausible = match name {
        "version" | "pageNumber" | "pageCount" => 1,
        _ => i64::try_from(seed % 60).unwrap_or(0),
    };
    Value::from(bounded(rules, plausible))
}

fn bounded(rules: &NumberSchema, plausible: i64) -> i64 {
    let least = rules.minimum.map(|least| least.ceil() as i64 + i64::from(rules.above_minimum && least.fract() == 0.0));
    let most = rules.maximum.map(|most| most.floor() as i64 - i64::from(rules.below_maximum && most.fract() == 0.0));
    let raised = least.map_or(plausible, |least| plausible.max(least));
    most.map_or(raised, |most| raised.min(most))
}

fn number(rules: &NumberSchema, seed: u64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "below a thousand")]
    let plausible = (seed % 1000) as f64 / 10.0;
    let candidates = [Some(plausible), rules.minimum, rules.maximum, middle(rules)];
    let fitting = candidates.into_iter().flatten().find(|value| rules.accepts(*value));
    Number::from_f64(fitting.unwrap_or(plausible)).map_or(Value::from(0), Value::Number)
}

fn middle(rules: &NumberSchema) -> Option<f64> {
    Some(f64::midpoint(rules.minimum?, rules.maximum?))
}
