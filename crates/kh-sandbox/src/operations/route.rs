//! The route index: a tree over path segments. Invariant: a literal segment beats a parameter, the walk costs one step
//! per segment (plus bounded backtracking), and no input makes it panic.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;

/// Longest path that is looked at, in segments. The longest published path has 13; more can not match.
const MAX_SEGMENTS: usize = 24;

/// Number of an operation in the document.
pub(crate) type OperationIndex = usize;

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    parameter: Option<usize>,
    methods: Vec<(Box<str>, OperationIndex)>,
}

/// Method and path to operation.
#[derive(Debug)]
pub(crate) struct Routes {
    nodes: Vec<Node>,
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// An operation and the decoded values of its path parameters, in order.
    Found(OperationIndex, Vec<String>),
    /// The path is known under other methods only.
    OtherMethods(Vec<Box<str>>),
    /// No published path matches.
    Nothing,
}

impl Default for Routes {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Routes {
    /// Adds an operation under its path template (`/api/v2/users/{userId}`).
    pub(crate) fn insert(&mut self, method: &str, template: &str, operation: OperationIndex) {
        let mut at = 0;
        for segment in template.split('/').skip(1) {
            at = self.child_or_new(at, segment);
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.methods.push((method.into(), operation));
        }
    }

    fn child_or_new(&mut self, at: usize, segment: &str) -> usize {
        let new = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        let child = if is_parameter(segment) {
            *node.parameter.get_or_insert(new)
        } else {
            *node.literals.entry(segment.into()).or_insert(new)
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Looks `path` (without query) up.
    pub(crate) fn find(&self, method: &str, path: &str) -> Match {
        let Some(rest) = path.strip_prefix('/') else { return Match::Nothing };
        let segments: Vec<&str> = rest.split('/').take(MAX_SEGMENTS + 1).collect();
        if segments.len() > MAX_SEGMENTS {
            return Match::Nothing;
        }
        let mut walk = Walk { routes: self, method, values: Vec::new(), other_methods: None };
        match walk.step(0, &segments) {
            Some(operation) => {
                let values =
                    walk.values.iter().map(|raw| percent_decode_str(raw).decode_utf8_lossy().into_owned()).collect();
                Match::Found(operation, values)
            }
            None => walk.other_methods.map_or(Match::Nothing, Match::OtherMethods),
        }
    }
}

/// Whether a template's segment is a parameter.
pub(crate) fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

struct Walk<'a> {
    routes: &'a Routes,
    method: &'a str,
    values: Vec<&'a str>,
    other_methods: Option<Vec<Box<str>>>,
}

impl<'a> Walk<'a> {
    fn step(&mut self, at: usize, segments: &[&'a str]) -> Option<OperationIndex> {
        let node = self.routes.nodes.get(at)?;
        let Some((segment, rest)) = segments.split_first() else { return self.arrive(node) };
        if let Some(found) = node.literals.get(*segment).and_then(|child| self.step(*child, rest)) {
            return Some(found);
        }
        let child = node.parameter.filter(|_| !segment.is_empty())?;
        self.values.push(segment);
        let found = self.step(child, rest);
        if found.is_none() {
            self.values.pop();
        }
        found
    }

    fn arrive(&mut self, node: &Node) -> Option<OperationIndex> {
        let found = node.methods.iter().find(|(method, _)| &**method == self.method).map(|(_, operation)| *operation);
        if found.is_none() && !node.methods.is_empty() {
            let methods = node.methods.iter().map(|(method, _)| method.clone());
            self.other_methods.get_or_insert_default().extend(methods);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes() -> Routes {
        let mut routes = Routes::default();
        let templates = [
            ("GET", "/api/v2/users"),
            ("GET", "/api/v2/users/{userId}"),
            ("DELETE", "/api/v2/users/{userId}"),
            ("GET", "/api/v2/users/me"),
            ("GET", "/api/v2/users/{userId}/queues/{queueId}"),
            ("GET", "/api/v2/users/me/stations"),
        ];
        for (index, (method, template)) in templates.iter().enumerate() {
            routes.insert(method, template, index);
        }
        routes
    }

    fn found(method: &str, path: &str) -> Option<(usize, Vec<String>)> {
        match routes().find(method, path) {
            Match::Found(operation, values) => Some((operation, values)),
            Match::OtherMethods(_) | Match::Nothing => None,
        }
    }

    #[test]
    fn literals_beat_parameters_and_a_dead_end_falls_back() {
        assert_eq!(found("GET", "/api/v2/users/me"), Some((3, vec![])));
        assert_eq!(found("GET", "/api/v2/users/u1"), Some((1, vec!["u1".into()])));
        assert_eq!(found("DELETE", "/api/v2/users/me"), Some((2, vec!["me".into()])));
        assert_eq!(found("GET", "/api/v2/users/me/queues/q1"), Some((4, vec!["me".into(), "q1".into()])));
        assert_eq!(found("GET", "/api/v2/users/me/stations"), Some((5, vec![])));
        assert_eq!(found("GET", "/api/v2/users/a%2Fb"), Some((1, vec!["a/b".into()])));
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        assert_eq!(routes().find("GET", "/api/v2/users/"), Match::Nothing);
        assert_eq!(routes().find("GET", "api/v2/users"), Match::Nothing);
        assert_eq!(routes().find("GET", ""), Match::Nothing);
        assert_eq!(routes().find("GET", &"/x".repeat(10_000)), Match::Nothing);
        assert_eq!(routes().find("POST", "/api/v2/users"), Match::OtherMethods(vec!["GET".into()]));
    }

    proptest! {
        #[test]
        fn no_path_panics(method in ".{0,8}", path in "\\PC{0,200}", tail in "(/(api|v2|users|me|queues|%[0-9A-F]{2}|[a-z]{0,3})){0,30}") {
            let routes = routes();
            let _matched = routes.find(&method, &path);
            let _matched = routes.find("GET", &tail);
            let _matched = routes.find("GET", &format!("/api/v2/users{tail}"));
        }
    }
}
