//! A mistake in the configuration: where it is, what is wrong, and what to write instead.
//!
//! Invariant: neither a mistake nor the source kept for showing it holds a secret; see [`super::mask`].

use std::{fmt, ops::Range};

use serde::Serialize;

use super::mask;

/// Whether keyholder can start in spite of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It works and is risky.
    Warning,
}

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mistake {
    /// How bad it is.
    pub severity: Severity,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong; a lower-case fragment.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Bytes of the source that it is about.
    #[serde(skip)]
    pub span: Range<usize>,
}

/// Every mistake of one configuration, in the order of the file, with the masked source.
#[derive(Clone, Debug)]
pub struct Mistakes {
    /// The mistakes; never empty when returned as an error.
    pub all: Vec<Mistake>,
    /// The source with everything that may be a secret masked.
    pub source: String,
}

impl Mistakes {
    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.all.iter().filter(|mistake| mistake.severity == Severity::Error).count()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors() {
            1 => f.write_str("the configuration has a mistake"),
            count => write!(f, "the configuration has {count} mistakes"),
        }
    }
}

impl std::error::Error for Mistakes {}

/// Collects mistakes while a file is read.
pub(super) struct Sink {
    found: std::cell::RefCell<Vec<Mistake>>,
    source: String,
    /// Which keys were asked for, by section: what the schema is compared with.
    #[cfg(test)]
    pub(super) asked: std::cell::RefCell<Vec<(String, &'static str)>>,
}

impl Sink {
    pub(super) fn new(source: &str) -> Self {
        Self {
            found: std::cell::RefCell::default(),
            source: source.to_owned(),
            #[cfg(test)]
            asked: std::cell::RefCell::default(),
        }
    }

    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>, hint: Option<String>) {
        self.push(Severity::Error, span, &message.into(), hint);
    }

    pub(super) fn warning(&self, span: Range<usize>, message: impl Into<String>, hint: &str) {
        self.push(Severity::Warning, span, &message.into(), Some(hint.to_owned()));
    }

    fn push(&self, severity: Severity, span: Range<usize>, message: &str, hint: Option<String>) {
        let (line, column) = position(&self.source, span.start);
        let message = mask::mask_words(message);
        self.found.borrow_mut().push(Mistake { severity, line, column, message, hint, span });
    }

    /// What was found, in the order of the file.
    pub(super) fn finish(self) -> Mistakes {
        let mut all = self.found.into_inner();
        all.sort_by_key(|mistake| (mistake.span.start, mistake.span.end));
        all.dedup();
        Mistakes { all, source: mask::mask(&self.source) }
    }
}

/// Line and column, both from 1; the column counts characters.
pub(super) fn position(source: &str, at: usize) -> (usize, usize) {
    let mut end = at.min(source.len());
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    let before = source.get(..end).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

#[cfg(test)]
mod tests {
    use super::position;

    #[test]
    fn positions() {
        for (source, at, expected) in
            [("", 0, (1, 1)), ("a\nbc", 3, (2, 2)), ("ü=1", 2, (1, 2)), ("ü", 1, (1, 1)), ("a\n", 9, (2, 1))]
        {
            assert_eq!(position(source, at), expected, "{source:?} {at}");
        }
    }
}
