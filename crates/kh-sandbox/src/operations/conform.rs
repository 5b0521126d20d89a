//! Fits a stored or received value to a schema: keeps what the schema knows and accepts, drops the rest, makes up what
//! is required and missing. Invariant: what comes out validates against the schema.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use serde_json::{Map, Number, Value};

use super::mix::mix_text;
use super::schema::{ArraySchema, Definitions, Format, NumberSchema, ObjectSchema, Schema, TextSchema};
use super::synthesis::Synthesis;

/// Nesting that is followed; a caller's deeper value is dropped. The JSON parser's own limit is 128.
const MAX_DEPTH: usize = 64;

/// The fitting of values to schemas, with a seed for what must be made up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conform<'a> {
    definitions: &'a Definitions,
    seed: u64,
}

impl<'a> Conform<'a> {
    pub(crate) fn new(definitions: &'a Definitions, seed: u64) -> Self {
        Self { definitions, seed }
    }

    /// `value` fitted to `schema`; `None` when nothing of it can stand there.
    pub(crate) fn fit(&self, schema: &Schema, value: &Value) -> Option<Value> {
        self.at(schema, value, 0)
    }

    fn at(&self, schema: &Schema, value: &Value, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.definitions.resolve(schema) {
            Schema::Object(object) => Some(self.object(object, value.as_object()?, depth)),
            Schema::Array(array) => self.array(array, value.as_array()?, depth),
            Schema::Text(rules) => text(rules, value).map(Value::String),
            Schema::Integer(rules) => integer(rules, value),
            Schema::Number(rules) => number(rules, value),
            Schema::Boolean => boolean(value).map(Value::Bool),
            Schema::Any | Schema::Reference(_) => (!value.is_null()).then(|| value.clone()),
        }
    }

    fn object(&self, object: &ObjectSchema, value: &Map<String, Value>, depth: usize) -> Value {
        let mut fitted = Map::new();
        for property in &object.properties {
            let known = value.get(&*property.name).filter(|value| !value.is_null());
            let kept = known.and_then(|value| self.at(&property.schema, value, depth + 1));
            let kept = kept.or_else(|| {
                let seed = mix_text(self.seed, &property.name);
                property.required.then(|| Synthesis::new(self.definitions, seed).property(property))
            });
            if let Some(kept) = kept {
                fitted.insert(property.name.to_string(), kept);
            }
        }
        if let Some(additional) = &object.additional {
            let more = value.iter().filter(|(name, _)| object.property(name).is_none());
            fitted
                .extend(more.filter_map(|(name, value)| Some((name.clone(), self.at(additional, value, depth + 1)?))));
        }
        Value::Object(fitted)
    }

    fn array(&self, array: &ArraySchema, value: &[Value], depth: usize) -> Option<Value> {
        let mut fitted: Vec<Value> = Vec::with_capacity(value.len().min(array.max_items));
        for element in value.iter().filter_map(|element| self.at(&array.items, element, depth + 1)) {
            if fitted.len() < array.max_items && (!array.unique || !fitted.contains(&element)) {
                fitted.push(element);
            }
        }
        (fitted.len() >= array.min_items).then_some(Value::Array(fitted))
    }
}

/// The text that a scalar stands for: the platform's parser takes numbers and flags where a text is meant.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn text(rules: &TextSchema, value: &Value) -> Option<String> {
    let text = formatted(rules.format, scalar_text(value)?)?;
    let listed = rules.allowed.is_empty() || rules.allowed.iter().any(|allowed| **allowed == *text);
    let length = text.chars().count();
    let fits = length >= rules.min_length && rules.max_length.is_none_or(|most| length <= most);
    let matches = rules.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&text));
    (listed && fits && matches).then_some(text)
}

/// `text` in the platform's spelling of `format`; `None` when it is not of that format.
fn formatted(format: Format, text: String) -> Option<String> {
    match format {
        Format::Free => Some(text),
        Format::DateTime => Some(date_time(&text.parse::<Timestamp>().ok()?)),
        Format::Date => text.parse::<Date>().ok().map(|date| date.to_string()),
        Format::Interval => {
            let (start, end) = text.split_once('/')?;
            let (start, end): (Timestamp, Timestamp) = (start.parse().ok()?, end.parse().ok()?);
            Some(format!("{}/{}", date_time(&start), date_time(&end)))
        }
        Format::LocalTime => text.parse::<Time>().ok().map(|time| time.strftime("%H:%M:%S").to_string()),
        Format::LocalDateTime => {
            text.parse::<DateTime>().ok().map(|when| when.strftime("%Y-%m-%dT%H:%M:%S").to_string())
        }
        Format::YearMonth => format!("{text}-01").parse::<Date>().is_ok().then_some(text),
        Format::Uri => uri_reference(&text).then_some(text),
    }
}

/// The platform's spelling: milliseconds and `Z`.
pub(crate) fn date_time(when: &Timestamp) -> String {
    when.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Whether `text` can stand where RFC 3986 wants a URI reference; anything doubtful is not offered back.
fn uri_reference(text: &str) -> bool {
    let base = url::Url::parse("https://sandbox.invalid/").expect("a constant URL is valid");
    let plain = |c: char| {
        c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' | '[' | ']')
    };
    let escapes =
        text.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    text.chars().all(plain) && escapes && text.matches('#').count() <= 1 && base.join(text).is_ok()
}

fn integer(rules: &NumberSchema, value: &Value) -> Option<Value> {
    #[expect(clippy::cast_precision_loss, reason = "bounds are small; a rounding of huge numbers is harmless here")]
    let accepts = |number: i64| rules.accepts(number as f64);
    let whole = match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    whole.filter(|number| accepts(*number)).map(Value::from)
}

/// A float without a fraction, within the range where floats are exact.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

fn number(rules: &NumberSchema, value: &Value) -> Option<Value> {
    let number = match value {
        Value::Number(number) => number.clone(),
        Value::String(text) => Number::from_f64(text.trim().parse().ok()?)?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    number.as_f64().is_some_and(|value| rules.accepts(value)).then_some(Value::Number(number))
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
