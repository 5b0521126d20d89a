//! JSON that can be read in only one way: an object whose members have different names at every depth (RFC 7515 section
//! 4, RFC 7519 section 4, RFC 8725 section 2.4), nothing behind it, bounded depth.
//!
//! Names are compared as they are after their escapes are undone. Text without escapes is borrowed.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Deepest nesting: the claims of real issuers have four levels.
const DEPTH_MAX: u8 = 16;

/// Up to this many members are compared each with each; more are sorted first.
const COMPARED_MAX: usize = 24;

/// A JSON value.
#[derive(Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// A JSON number.
#[derive(Debug, PartialEq, Clone, Copy)]
pub(crate) enum Number {
    /// Without a sign, fraction or exponent.
    Whole(u64),
    /// Below zero, without a fraction or exponent.
    Negative(i64),
    /// Anything else that fits an IEEE 754 double, which is finite.
    Fraction(f64),
}

/// A JSON object; its members' names differ.
#[derive(Debug, PartialEq, Default)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Object<'a> {
    /// Reads bytes that are one object and nothing else.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match Json::parse(bytes)? {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The member of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The member of this name, out of the object.
    pub(crate) fn take(&mut self, name: &str) -> Option<Json<'a>> {
        let at = self.0.iter().position(|(own, _)| own == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// The member of this name as text: absent, or wrong.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, NotText> {
        self.get(name).map(|value| value.text().ok_or(NotText)).transpose()
    }

    /// The members in their order.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// How many members it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn has_duplicates(&self) -> bool {
        if self.0.len() <= COMPARED_MAX {
            let repeats = |(at, (name, _)): (usize, &(Cow<'a, str>, Json<'a>))| {
                self.0.iter().take(at).any(|(earlier, _)| earlier == name)
            };
            return self.0.iter().enumerate().any(repeats);
        }
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| matches!(pair, [one, next] if one == next))
    }
}

/// A member that has to be text is something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotText;

impl<'a> Json<'a> {
    /// Reads bytes that are one value and nothing else.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        // once for the whole, not for each of its strings
        let text = std::str::from_utf8(bytes).ok()?;
        let mut from = serde_json::Deserializer::from_str(text);
        let value = Value { depth: 0 }.deserialize(&mut from).ok()?;
        from.end().ok()?;
        Some(value)
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The texts of a list that has nothing else.
    pub(crate) fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Self::List(items) => items.iter().map(Json::text).collect(),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Value {
    depth: u8,
}

impl Value {
    fn below<E: Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Json<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(Number::Whole(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(u64::try_from(value).map_or(Number::Negative(value), Number::Whole)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        if !value.is_finite() {
            return Err(E::custom("not a number"));
        }
        Ok(Json::Number(Number::Fraction(value)))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json<'de>, A::Error> {
        let below = self.below()?;
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json<'de>, A::Error> {
        let below = self.below()?;
        let mut members = Vec::new();
        while let Some(Name(name)) = from.next_key()? {
            members.push((name, from.next_value_seed(below)?));
        }
        let object = Object(members);
        if object.has_duplicates() {
            return Err(A::Error::custom("two members of one name"));
        }
        Ok(Json::Object(object))
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_only() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":1}}"#,
            r#"{"x":[{"y":{"a":1,"b":2,"a":3}}]}"#,
            r#"{"":1,"":2}"#,
            r#"{"a":1}{}"#,
            r#"{"a":1},"#,
            r#"{"a":1,}"#,
            "{'a':1}",
            r#"{"a":NaN}"#,
            r#"{"a":1e999}"#,
            r#"{"a":01}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\n\"}",
            "\u{feff}{}",
            "[]",
            "\"a\"",
            "null",
            "",
        ] {
            assert_eq!(Object::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Object::parse(b"{\"a\":\"\xff\"}"), None, "no UTF-8");
        let read = Object::parse(br#" {"a":1,"A":2,"b":{"a":-1.5}} "#).unwrap();
        assert_eq!(read.get("a"), Some(&Json::Number(Number::Whole(1))));
        assert_eq!(read.get("A"), Some(&Json::Number(Number::Whole(2))));
        assert_eq!(read.get("c"), None);
    }

    #[test]
    fn many_members_are_told_apart_too() {
        let many = |last: &str| {
            let members: Vec<String> = (0..3_000).map(|at| format!("\"m{at}\":0")).collect();
            format!("{{{},\"{last}\":0}}", members.join(","))
        };
        assert!(Object::parse(many("new").as_bytes()).is_some());
        assert!(Object::parse(many("m0").as_bytes()).is_none());
        assert!(Object::parse(many("\\u006d17").as_bytes()).is_none());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Object::parse(nested(usize::from(DEPTH_MAX) - 1).as_bytes()).is_some());
        assert!(Object::parse(nested(usize::from(DEPTH_MAX)).as_bytes()).is_none());
        assert!(Object::parse(nested(100_000).as_bytes()).is_none());
    }

    #[test]
    fn numbers_keep_their_kind() {
        // a build that lets serde_json keep numbers as text would break this, and every claim with a number
        for (text, number) in [
            ("0", Number::Whole(0)),
            ("18446744073709551615", Number::Whole(u64::MAX)),
            ("-1", Number::Negative(-1)),
            ("1.5", Number::Fraction(1.5)),
            ("1e3", Number::Fraction(1000.0)),
            ("18446744073709551616", Number::Fraction(18_446_744_073_709_551_616.0)),
        ] {
            assert_eq!(Json::parse(text.as_bytes()), Some(Json::Number(number)), "{text}");
        }
    }
}
