//! One line of an allow-list: `METHOD /path/pattern`.
//!
//! Invariant: a rule that parses means what it says; nothing in it is silently ignored.

use crate::{
    path::CanonicalPath,
    segment,
    template::{Part, RuleError, Template},
};

/// A parsed rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(Template);

impl Rule {
    /// Parses `METHOD /path`: METHOD in capitals or `*`; in the path, `*` or `{name}` stands for one segment, and
    /// `**` at the end for any further segments, also none.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        Template::parse(text).map(Self)
    }

    /// Whether the rule allows this call.
    pub fn matches(&self, method: &str, path: &CanonicalPath<'_>) -> bool {
        if self.0.method().is_some_and(|allowed| allowed != method) {
            return false;
        }
        let mut segments = path.segments();
        for part in self.0.parts() {
            let Some(text) = segments.next() else { return false };
            let fits = match part {
                Part::Word(word) => segment::same(word, text),
                Part::One => !text.is_empty(),
            };
            if !fits {
                return false;
            }
        }
        self.0.has_rest() || segments.next().is_none()
    }
}

#[cfg(test)]
mod tests;
