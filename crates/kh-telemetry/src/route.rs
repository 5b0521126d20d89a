//! Route templates: a path with everything that may be an id or a name of somebody taken out.
//!
//! Invariant: a template holds words of the platforms' published paths and versions only, so that it has few values and
//! tells nothing about a customer, whatever a caller sends.

use std::{collections::HashSet, sync::LazyLock};

/// The static segments of the platforms' published API paths, one per line.
static SEGMENTS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("../data/segments.txt").lines().collect());

/// Most segments of a template; the longest published path has 13.
const SEGMENTS_MAX: usize = 16;

/// What stands for anything else.
const ID: &str = "{id}";

/// The template of a canonical path, such as `/api/v2/users/{id}`.
pub fn template(path: &str) -> String {
    let mut out = String::with_capacity(path.len().min(256));
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    for segment in segments.by_ref().take(SEGMENTS_MAX) {
        out.push('/');
        match SEGMENTS.get(segment.to_ascii_lowercase().as_str()) {
            Some(word) => out.push_str(word),
            None if is_version(segment) => out.push_str(segment),
            None => out.push_str(ID),
        }
    }
    if segments.next().is_some() {
        out.push_str("/...");
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// Whether a segment is a word or a version of the published paths.
pub(crate) fn is_published(segment: &str) -> bool {
    SEGMENTS.contains(segment.to_ascii_lowercase().as_str()) || is_version(segment)
}

/// `v2`, `v34.0`.
fn is_version(segment: &str) -> bool {
    let Some(number) = segment.strip_prefix('v') else { return false };
    number.len() <= 4
        && number.starts_with(|first: char| first.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates() {
        for (path, expected) in [
            ("/api/v2/users", "/api/v2/users"),
            ("/api/v2/users/", "/api/v2/users"),
            ("/api/v2/users/6c5f4b1e-0000-4000-8000-000000000000/queues", "/api/v2/users/{id}/queues"),
            ("/api/v2/users/me", "/api/v2/users/me"),
            ("/api/v2/flows/datatables/x/rows/Jane%20Doe", "/api/v2/flows/datatables/{id}/rows/{id}"),
            ("/gateway/api/v2/users", "/{id}/api/v2/users"),
            ("/inContactAPI/services/v34.0/agents/4711", "/incontactapi/services/v34.0/agents/{id}"),
            ("/oauth/token", "/oauth/token"),
            ("/v123456", "/{id}"),
            ("/", "/"),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
        assert_eq!(template(&"/a".repeat(40)), "/{id}".repeat(SEGMENTS_MAX) + "/...");
    }

    proptest! {
        #[test]
        fn nothing_of_a_caller_gets_in(path in "(/[a-zA-Z0-9%._~-]{0,20}){0,20}") {
            for segment in template(&path).split('/').filter(|segment| !segment.is_empty()) {
                let known = SEGMENTS.contains(segment) || is_version(segment) || [ID, "..."].contains(&segment);
                prop_assert!(known, "{segment}");
            }
        }
    }
}
