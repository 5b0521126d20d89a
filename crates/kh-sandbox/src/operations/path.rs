//! Paths of entities. Invariant: a parameter's value is always one encoded segment, so that no id can pose as a path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::route::is_parameter;

/// RFC 3986 unreserved characters stay as they are in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The template with its parameters filled in, in order.
pub(crate) fn concrete(template: &str, values: &[String]) -> String {
    let mut values = values.iter();
    let mut path = String::with_capacity(template.len() + 32);
    for segment in template.split('/').skip(1) {
        path.push('/');
        let value = if is_parameter(segment) { values.next() } else { None };
        match value {
            Some(value) => path.extend(utf8_percent_encode(value, SEGMENT)),
            None => path.push_str(segment),
        }
    }
    path
}

/// `/a/b/c` as `/a/b` and `c`.
pub(crate) fn split_last(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// An id as a path segment.
pub(crate) fn encode(id: &str) -> String {
    utf8_percent_encode(id, SEGMENT).to_string()
}

/// A path segment as an id.
pub(crate) fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_a_slash_stays_one_segment() {
        let path = concrete("/api/v2/users/{userId}/queues", &["a/b c".to_owned()]);
        assert_eq!(path, "/api/v2/users/a%2Fb%20c/queues");
        assert_eq!(split_last("/a/b/c"), ("/a/b", "c"));
        assert_eq!(decode(&encode("a/b c\u{e9}")), "a/b c\u{e9}");
    }
}
