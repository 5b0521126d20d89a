//! Regular expressions of the document: matching, and making a text that matches. Invariant: a sample is only offered
//! when it really matches.

use std::fmt::Write as _;

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};

/// A compiled `pattern` with a text that matches it.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    syntax: Hir,
}

/// Nesting up to which an expression is followed.
const MAX_DEPTH: usize = 32;

impl Pattern {
    /// Compiles `source`; `None` for an expression outside the supported syntax (its rule is then not applied).
    pub(crate) fn new(source: &str) -> Option<Self> {
        Some(Self { regex: Regex::new(source).ok()?, syntax: regex_syntax::parse(source).ok()? })
    }

    /// Whether the expression is found in `text`.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// A text that matches; `seed` varies it.
    pub(crate) fn sample(&self, seed: u64) -> Option<String> {
        let mut text = String::new();
        let mut state = seed;
        append(&self.syntax, &mut text, &mut state, 0);
        self.is_match(&text).then_some(text)
    }
}

fn next(state: &mut u64) -> u64 {
    *state = super::mix::mix(*state, 0x9e37);
    *state
}

fn append(syntax: &Hir, text: &mut String, state: &mut u64, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match syntax.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => {
            let _infallible = write!(text, "{}", String::from_utf8_lossy(&literal.0));
        }
        HirKind::Class(class) => text.extend(pick(class, next(state))),
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX);
            for _ in 0..repetition.min.max(1).min(most) {
                append(&repetition.sub, text, state, depth + 1);
            }
        }
        HirKind::Capture(capture) => append(&capture.sub, text, state, depth + 1),
        HirKind::Concat(parts) => parts.iter().for_each(|part| append(part, text, state, depth + 1)),
        HirKind::Alternation(choices) => {
            if let Some(first) = choices.first() {
                append(first, text, state, depth + 1);
            }
        }
    }
}

/// A printable member of the class where there is one.
fn pick(class: &Class, seed: u64) -> Option<char> {
    let Class::Unicode(unicode) = class else { return Some('a') };
    let printable: Vec<char> = unicode
        .ranges()
        .iter()
        .flat_map(|range| (range.start().max('!')..=range.end().min('~')).take(64))
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let index = usize::try_from(seed % (printable.len().max(1) as u64)).unwrap_or(0);
    printable.get(index).copied().or_else(|| unicode.ranges().first().map(regex_syntax::hir::ClassUnicodeRange::start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_match_their_expression() {
        let sources = [
            "[a-fA-F0-9]{8}-[a-fA-F0-9]{4}-4[a-fA-F0-9]{3}-[89abAB][a-fA-F0-9]{3}-[a-fA-F0-9]{12}",
            "^[A-Za-z0-9]+$",
            "([a-f0-9]{8}|\\*)",
            r"^[a-zA-Z0-9\.\+\-\_\(\)\s]+$",
            "^#([A-Fa-f0-9]{6}|[A-Fa-f0-9]{3})$",
            "(19|20)[0-9]{2}-.*x?",
        ];
        for source in sources {
            let pattern = Pattern::new(source).expect("compiles");
            for seed in 0..20 {
                let sample = pattern.sample(seed);
                assert!(
                    sample.as_deref().is_some_and(|text| Regex::new(source).expect("compiles").is_match(text)),
                    "{source}: {sample:?}"
                );
            }
        }
        assert!(Pattern::new("(").is_none());
    }
}
