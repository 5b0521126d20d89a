//! The syntax of rules: a method, and a path whose segments may be wildcards.
//!
//! Invariant: a template that parses can be met by an accepted request; what no [`CanonicalPath`] has is refused with
//! its column. It is kept as its text: a table has thousands, and their segments are looked at when it is built.

use crate::{
    path::{CanonicalPath, PathError, is_ordinary_segment},
    segment,
};

/// Longest accepted rule, in bytes: the longest path template of the platforms has under 200.
pub const RULE_MAX: usize = 512;

/// Why a rule was refused: where (column, from 1) and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}; {hint}")]
pub struct RuleError {
    /// Which rule of the list, from 0.
    pub index: usize,
    /// Column of the mistake, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: &'static str,
    /// What to write instead.
    pub hint: &'static str,
}

/// One segment of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Exactly this segment.
    Word(&'a str),
    /// Any one segment that is not empty.
    One,
}

impl<'a> Part<'a> {
    /// Of a segment that was checked.
    fn of(segment: &'a str) -> Self {
        if segment == "*" || segment.starts_with('{') { Self::One } else { Self::Word(segment) }
    }
}

/// What ends a pattern for any further segments.
const REST: &str = "**";

/// A method and a path with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    text: Box<str>,
    /// Bytes of the method.
    method: usize,
}

const EXAMPLE: &str = "write it like `GET /api/v2/users/**`";

pub(crate) fn mistake(column: usize, problem: &'static str, hint: &'static str) -> RuleError {
    RuleError { index: 0, column, problem, hint }
}

impl Template {
    /// Parses `METHOD /path`: METHOD in capitals or `*`; in the path, `*` or `{name}` stands for one segment, and
    /// `**` at the end for any further segments, also none.
    pub(crate) fn parse(text: &str) -> Result<Self, RuleError> {
        if text.len() > RULE_MAX {
            return Err(mistake(RULE_MAX + 1, "the rule is too long", "use `**` for the rest of the path"));
        }
        let Some((method, path)) = text.split_once(' ') else {
            return Err(mistake(1, "a rule has a method, one space and a path", EXAMPLE));
        };
        let column = method.len() + 2;
        if path.starts_with(' ') || path.ends_with(' ') {
            return Err(mistake(column, "there is more than one space", EXAMPLE));
        }
        check_method(method)?;
        if !path.starts_with('/') {
            return Err(mistake(column, "the path does not start with '/'", EXAMPLE));
        }
        if let Some(at) = path.find('?') {
            return Err(mistake(
                column + at,
                "a rule has no query",
                "leave the query away: a rule allows every query of its path",
            ));
        }
        check_path(path, column)?;
        Ok(Self { text: text.into(), method: method.len() })
    }

    /// A rule of a built-in table, whose rules are held by tests.
    pub(crate) fn known(method: &str, path: &str) -> Self {
        Self { text: [method, " ", path].concat().into(), method: method.len() }
    }

    /// The rule as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// `None` is every method.
    pub(crate) fn method(&self) -> Option<&str> {
        self.text.get(..self.method).filter(|method| *method != "*")
    }

    /// The segments, without the `**` that may end them.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let path = self.text.get(self.method + 1..).unwrap_or_default();
        segment::split(Some(path)).skip(1).take_while(|segment| *segment != REST).map(Part::of)
    }

    /// Whether `**` ends the pattern.
    pub(crate) fn has_rest(&self) -> bool {
        self.text.ends_with(REST)
    }
}

fn check_method(method: &str) -> Result<(), RuleError> {
    if method == "*" {
        return Ok(());
    }
    if method.is_empty() {
        return Err(mistake(1, "the method is missing", EXAMPLE));
    }
    // Methods are case-sensitive (RFC 9110 section 9.1): `get` would never match.
    if let Some(at) = method.find(|letter: char| !letter.is_ascii_uppercase()) {
        return Err(mistake(
            at + 1,
            "the method is not a word in capitals",
            "write GET, POST, ... or * for every method",
        ));
    }
    Ok(())
}

fn check_path(path: &str, column: usize) -> Result<(), RuleError> {
    let mut at = column + 1;
    let mut segments = segment::split(Some(path)).skip(1).peekable();
    while let Some(text) = segments.next() {
        if text == REST {
            if segments.peek().is_some() {
                return Err(mistake(
                    at,
                    "`**` is not the last segment",
                    "end the rule there, or use `*` for one segment",
                ));
            }
            return Ok(());
        }
        check_part(text, at, segments.peek().is_none())?;
        at += text.len() + 1;
    }
    Ok(())
}

fn check_part(text: &str, column: usize, last: bool) -> Result<(), RuleError> {
    // most are; the built-in table has 20,000 segments
    if text == "*" || (is_ordinary_segment(text) && !text.bytes().any(|byte| byte == b'*')) {
        return Ok(());
    }
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return if good {
            Ok(())
        } else {
            Err(mistake(column, "the name in braces is not a word", "write `{id}` or `*` for one segment"))
        };
    }
    if let Some(offset) = text.find(['*', '{', '}']) {
        return Err(mistake(
            column + offset,
            "a wildcard is only part of a segment",
            "a wildcard stands for a whole segment: `/*/`, `/{id}/` or `/**` at the end",
        ));
    }
    if text.is_empty() && last {
        return Ok(());
    }
    let path = format!("/{text}");
    match CanonicalPath::parse(&path) {
        Ok(_) if !text.is_empty() => Ok(()),
        Ok(_) => Err(mistake(column, "there is an empty segment", "write one slash between segments")),
        Err(error) => Err(explain(error, column)),
    }
}

fn explain(error: PathError, column: usize) -> RuleError {
    let canonical = "no request with such a path is ever accepted: write the path as the API documents it";
    // positions count from 1 within "/segment"
    let (at, problem) = match error {
        PathError::TooLong | PathError::NotAbsolute => (1, "the segment is not valid"),
        PathError::EmptySegment(at) => (at, "the segment is empty"),
        PathError::DotSegment(at) => (at, "there is a dot segment"),
        PathError::Character(at) => (at, "this character does not belong into a path"),
        PathError::BadEscape(at) => (at, "this percent escape is broken"),
        PathError::EscapedDelimiter(at) => (at, "a slash, backslash or control character is escaped"),
        PathError::NeedlessEscape(at) => (at, "a letter, digit or one of -._~ is escaped"),
        PathError::DoubleEncoding(at) => (at, "the path is encoded twice"),
        PathError::NotUtf8(at) => (at, "the escapes are not UTF-8"),
    };
    mistake(column + at - 1, problem, canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_read_as_it_is_written() {
        let read = |text: &str| Template::parse(text).unwrap();
        let every = read("* /**");
        assert_eq!((every.method(), every.has_rest(), every.parts().next()), (None, true, None));
        let one = read("GET /a/{id}/*/");
        assert_eq!((one.method(), one.has_rest(), one.text()), (Some("GET"), false, "GET /a/{id}/*/"));
        let parts = [Part::Word("a"), Part::One, Part::One, Part::Word("")];
        assert!(one.parts().eq(parts));
        assert!(read("POST /a/**").parts().eq([Part::Word("a")]));
    }
}
