//! Templates by their segments.
//!
//! Invariant: a walk tries what is more specific first, and ends at the first template that fits; whatever a lenient
//! server could take for a template that is more specific than the one found was met before, and makes the request
//! ambiguous. Each node is visited once at most, so a walk costs no more than the table has nodes, whatever is asked.

use std::borrow::Cow;

use crate::{
    path::CanonicalPath,
    segment,
    template::{Part, Template},
};

/// A rule's place at the end of a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The number of its method, below [`super::METHODS_MAX`]; `None` is every method.
    method: Option<u8>,
    /// Which rule, below [`super::ROUTES_MAX`].
    index: u16,
}

impl Step {
    /// A rule with the method of this number, or with every method.
    pub(super) fn new(method: Option<usize>, index: usize) -> Self {
        let method = method.map(|number| u8::try_from(number).expect("there are at most 64 methods"));
        Self { method, index: u16::try_from(index).expect("there are at most 16,384 routes") }
    }

    /// Which rule.
    pub(super) fn index(self) -> usize {
        usize::from(self.index)
    }
}

/// The rules of one template, one per method at most.
#[derive(Debug, Default)]
struct Ends(Vec<Step>);

#[derive(Debug, Default)]
struct Node {
    /// Words, decoded, by length and then alphabet.
    words: Vec<(Box<[u8]>, usize)>,
    /// The node of "any one segment".
    one: Option<usize>,
    /// The template may end here.
    here: Ends,
    /// The template may end here with any further segments.
    rest: Ends,
}

/// Templates of one host.
#[derive(Debug)]
pub(super) struct Tree(Vec<Node>);

impl Default for Tree {
    fn default() -> Self {
        Self(vec![Node::default()])
    }
}

/// Outcome of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// The rule with this index.
    Found(usize),
    /// A lenient server could take the request for a rule that is more specific than any whose words it has.
    Ambiguous,
    /// No rule.
    Nothing,
}

/// A request's method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verb {
    /// Its number, if rules have it.
    exact: Option<u8>,
    /// The methods that it would be in capitals, itself not among them.
    lenient: u64,
    /// The number of `GET`, for a `HEAD` request.
    instead: Option<u8>,
}

impl Verb {
    pub(super) fn of(method: &str, names: &[Box<str>]) -> Self {
        let number =
            |wanted: &str| names.iter().zip(0..).find(|(name, _)| ***name == *wanted).map(|(_, number)| number);
        let exact = number(method);
        let lenient = if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let same = |name: &str| name.eq_ignore_ascii_case(method) || (is_head(method) && name == "GET");
            names.iter().enumerate().filter(|(_, name)| same(name)).fold(0, |bits, (at, _)| bits | 1 << at)
        } else {
            0
        };
        let instead = if method == "HEAD" { number("GET") } else { None };
        Self { exact, lenient, instead }
    }
}

fn is_head(method: &str) -> bool {
    method.eq_ignore_ascii_case("HEAD")
}

impl Ends {
    fn of(&self, method: Option<u8>) -> Option<Step> {
        self.0.iter().find(|step| step.method == method).copied()
    }

    fn select(&self, verb: Verb) -> Walk {
        if self.0.is_empty() {
            return Walk::Nothing;
        }
        let named = |number: Option<u8>| number.and_then(|number| self.of(Some(number)));
        if let Some(step) = named(verb.exact) {
            return Walk::Found(step.index());
        }
        if verb.lenient & self.methods() != 0 {
            return Walk::Ambiguous;
        }
        named(verb.instead).or_else(|| self.of(None)).map_or(Walk::Nothing, |step| Walk::Found(step.index()))
    }

    /// The methods that have a rule of their own; `HEAD` comes with `GET` only where it is a number of its own.
    fn methods(&self) -> u64 {
        self.0.iter().filter_map(|step| step.method).fold(0, |bits, number| bits | 1 << number)
    }
}

impl Walk {
    /// What a lenient reading of the path found.
    fn leniently(self) -> Self {
        if self == Self::Nothing { self } else { Self::Ambiguous }
    }

    fn or(self, next: impl FnOnce() -> Self) -> Self {
        if self == Self::Nothing { next() } else { self }
    }
}

impl Tree {
    /// Enters a rule; the index of the rule that has its place already, if one has.
    pub(super) fn insert(&mut self, template: &Template, step: Step) -> Result<(), Step> {
        let mut at = 0;
        for part in template.parts() {
            at = self.child(at, part);
        }
        let node = self.0.get_mut(at).expect("a child that was just looked up exists");
        let ends = if template.has_rest() { &mut node.rest } else { &mut node.here };
        if let Some(taken) = ends.of(step.method) {
            return Err(taken);
        }
        ends.0.push(step);
        Ok(())
    }

    /// The rule that has the place of this template and of the method of `step`, if one has.
    pub(super) fn taken(&self, template: &Template, step: Step) -> Option<Step> {
        let mut node = self.0.first()?;
        for part in template.parts() {
            let next = match part {
                Part::One => node.one?,
                Part::Word(word) => node.word(&segment::decoded(word).collect::<Vec<u8>>())?,
            };
            node = self.0.get(next)?;
        }
        if template.has_rest() { &node.rest } else { &node.here }.of(step.method)
    }

    /// Gives back what building took too much.
    pub(super) fn finish(&mut self) {
        self.0.iter_mut().for_each(|node| {
            node.words.shrink_to_fit();
        });
        self.0.shrink_to_fit();
    }

    fn child(&mut self, at: usize, part: Part<'_>) -> usize {
        let new = self.0.len();
        let node = self.0.get_mut(at).expect("a node's children exist");
        let child = match part {
            Part::One => *node.one.get_or_insert(new),
            Part::Word(word) => {
                // of a thousand words hardly one has an escape
                let word = if word.bytes().any(|byte| byte == b'%') {
                    Cow::Owned(segment::decoded(word).collect::<Vec<u8>>())
                } else {
                    Cow::Borrowed(word.as_bytes())
                };
                match node.words.binary_search_by(|(known, _)| by_length(known, &word)) {
                    Ok(found) => node.words.get(found).map_or(new, |(_, child)| *child),
                    Err(place) => {
                        // most have one
                        node.words.reserve_exact(usize::from(node.words.is_empty()));
                        node.words.insert(place, (word.into(), new));
                        new
                    }
                }
            }
        };
        if child == new {
            self.0.push(Node::default());
        }
        child
    }

    /// Which rule fits this path and method best.
    pub(super) fn walk(&self, path: &CanonicalPath<'_>, verb: Verb) -> Walk {
        self.from(0, path.as_str().strip_prefix('/'), verb)
    }

    /// The walk from the node `at` on, with `rest` after the slash still to go.
    fn from(&self, at: usize, rest: Option<&str>, verb: Verb) -> Walk {
        let Some(node) = self.0.get(at) else { return Walk::Nothing };
        let Some(rest) = rest else {
            return node.here.select(verb).or(|| self.with_slash(node, verb)).or(|| node.rest.select(verb));
        };
        let (text, after) = segment::cut(rest);
        let exact = node.word(text.as_bytes()).or_else(|| node.escaped(text));
        exact
            .map_or(Walk::Nothing, |child| self.from(child, after, verb))
            .or(|| self.leniently(node, exact, text, after, verb))
            .or(|| match node.one {
                Some(child) if !text.is_empty() => self.from(child, after, verb),
                _ => Walk::Nothing,
            })
            .or(|| node.rest.select(verb))
    }

    /// The path ends here; a lenient server may add a slash.
    fn with_slash(&self, node: &Node, verb: Verb) -> Walk {
        let slash = node.word(b"").and_then(|child| self.0.get(child));
        slash.map_or(Walk::Nothing, |node| node.here.select(verb).leniently())
    }

    /// The words, other than `exact`, that a lenient server could take `text` for.
    fn leniently(&self, node: &Node, exact: Option<usize>, text: &str, after: Option<&str>, verb: Verb) -> Walk {
        // the slash that ends a path may be left away
        if text.is_empty() && after.is_none() {
            return node.here.select(verb).leniently();
        }
        let plain = !text.bytes().any(|byte| matches!(byte, b'%' | b';' | b'.'));
        let words = if plain { node.of_length(text.len()) } else { &node.words };
        words
            .iter()
            .filter(|(word, child)| Some(*child) != exact && segment::reads_as(text, word))
            .map(|(_, child)| self.from(*child, after, verb).leniently())
            .find(|walk| *walk != Walk::Nothing)
            .unwrap_or(Walk::Nothing)
    }

    /// The methods of all templates that this path has the words of.
    pub(super) fn methods_at(&self, path: &CanonicalPath<'_>) -> u64 {
        self.methods_from(0, path.as_str().strip_prefix('/'))
    }

    fn methods_from(&self, at: usize, rest: Option<&str>) -> u64 {
        let Some(node) = self.0.get(at) else { return 0 };
        let Some(rest) = rest else { return node.here.methods() | node.rest.methods() };
        let (text, after) = segment::cut(rest);
        let exact = node.word(text.as_bytes()).or_else(|| node.escaped(text));
        let one = node.one.filter(|_| !text.is_empty());
        let below = exact.into_iter().chain(one).fold(0, |bits, child| bits | self.methods_from(child, after));
        below | node.rest.methods()
    }
}

impl Node {
    fn word(&self, text: &[u8]) -> Option<usize> {
        let found = self.words.binary_search_by(|(word, _)| by_length(word, text)).ok()?;
        self.words.get(found).map(|(_, child)| *child)
    }

    /// The word that a segment with escapes is.
    fn escaped(&self, text: &str) -> Option<usize> {
        if !text.contains('%') {
            return None;
        }
        let same = |word: &[u8]| segment::decoded(text).eq(word.iter().copied());
        self.words.iter().find(|(word, _)| same(word)).map(|(_, child)| *child)
    }

    fn of_length(&self, length: usize) -> &[(Box<[u8]>, usize)] {
        let start = self.words.partition_point(|(word, _)| word.len() < length);
        let from = self.words.get(start..).unwrap_or_default();
        let end = from.partition_point(|(word, _)| word.len() == length);
        from.get(..end).unwrap_or_default()
    }
}

fn by_length(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}
