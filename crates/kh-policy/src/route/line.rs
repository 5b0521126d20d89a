//! The short form of a route: `GET /path/{id}=scope.a scope.b`.
//!
//! Invariant: a line that parses requires what it says. No line makes a route public, and a line without words says so
//! with its `=`.

use kh_core::scope::is_scope_byte;

use crate::{
    Requirement, RouteRule, Word,
    requirement::TEXT_MAX,
    template::{RuleError, mistake},
};

/// Longest accepted line, in bytes: a rule and some 50 scopes of 30 characters.
pub const REQUIRE_LINE_MAX: usize = 2_048;

const SCOPES: &str = "write scopes with one space between them, all of which are required";

impl RouteRule {
    /// Parses `METHOD /path=SCOPE SCOPE`: the route as [`RouteRule::new`] reads it, then the scopes, all of which are
    /// required. Nothing after `=` is any verified token. A `=` in the path is written `%3D`.
    pub fn parse_line(text: &str) -> Result<Self, RuleError> {
        if text.len() > REQUIRE_LINE_MAX {
            return Err(mistake(REQUIRE_LINE_MAX + 1, "the line is too long", "name fewer scopes"));
        }
        let Some((rule, scopes)) = text.split_once('=') else {
            // a mistake in the rule itself comes first
            Self::new(text, Requirement::any_token())?;
            let hint = "end it with `=` for any verified token, or with `=` and scopes";
            return Err(mistake(text.len() + 1, "the line does not say what is required", hint));
        };
        let route = Self::new(rule, Requirement::any_token())?;
        if scopes.is_empty() {
            return Ok(route);
        }
        let words = parse_scopes(scopes, rule.len() + 2)?;
        let too_many = |_| mistake(rule.len() + 2, "there are too many scopes", "at most 64 can be required");
        Ok(route.requiring(Requirement::any_of(vec![words]).map_err(too_many)?))
    }
}

fn parse_scopes(text: &str, column: usize) -> Result<Vec<Word>, RuleError> {
    let mut words = Vec::new();
    let mut at = column;
    for word in text.split(' ') {
        if word.is_empty() {
            return Err(mistake(at, "there is a space too many", SCOPES));
        }
        if let Some(offset) = word.bytes().position(|byte| !is_scope_byte(byte)) {
            return Err(mistake(at + offset, "this character does not belong into a scope", SCOPES));
        }
        let scope = Word::scope(word.to_owned());
        words
            .push(scope.map_err(|_| mistake(at + TEXT_MAX, "the scope is too long", "a scope has at most 256 bytes"))?);
        at += word.len() + 1;
    }
    Ok(words)
}
