//! Rules against calls, and mistakes against their columns.

use super::*;
use crate::template::RULE_MAX;

#[track_caller]
fn check(rule: &str, allowed: &[&str], refused: &[&str]) {
    let rule = Rule::parse(rule).unwrap();
    for (calls, expected) in [(allowed, true), (refused, false)] {
        for call in calls {
            let (method, path) = call.split_once(' ').unwrap();
            let path = CanonicalPath::parse(path).unwrap();
            assert_eq!(rule.matches(method, &path), expected, "{call}");
        }
    }
}

#[test]
fn rules() {
    check(
        "GET /api/v2/users/**",
        &["GET /api/v2/users", "GET /api/v2/users/", "GET /api/v2/users/1", "GET /api/v2/users/1/x/y"],
        &["POST /api/v2/users", "HEAD /api/v2/users", "get /api/v2/users", "GET /api/v2/usersx", "GET /api/v2"],
    );
    check(
        "GET /api/v2/users/{userId}",
        &["GET /api/v2/users/1", "GET /api/v2/users/a%20b"],
        &["GET /api/v2/users", "GET /api/v2/users/", "GET /api/v2/users/1/x", "GET /api/v2/Users/1"],
    );
    check("* /a/*/c", &["GET /a/b/c", "X /a/d/c"], &["GET /a/c", "GET /a/b/c/", "GET /a/b/b/c"]);
    check("GET /**", &["GET /", "GET /a", "GET /a/b/"], &["POST /a"]);
    check("GET /", &["GET /"], &["GET /a"]);
    check("GET /a/", &["GET /a/"], &["GET /a", "GET /a/b"]);
    check("GET /a%20b/%C3%A9", &["GET /a%20b/%c3%a9"], &["GET /a+b/%C3%A9"]);
    check("GET /a@b", &["GET /a%40b", "GET /a@b"], &[]);
}

#[test]
fn mistakes() {
    for (rule, column, word) in [
        ("", 1, "method, one space"),
        ("GET", 1, "method, one space"),
        (" /a", 1, "missing"),
        ("get /a", 1, "capitals"),
        ("GEt /a", 3, "capitals"),
        ("** /a", 1, "capitals"),
        ("GET  /a", 5, "space"),
        ("GET /a ", 5, "space"),
        ("GET a", 5, "start with '/'"),
        ("GET http://x/a", 5, "start with '/'"),
        ("GET /a?b=1", 7, "query"),
        ("GET /**/a", 6, "last"),
        ("GET /a*", 7, "whole segment"),
        ("GET /a/x{id}", 9, "whole segment"),
        ("GET /{}", 6, "braces"),
        ("GET /{a-b}", 6, "braces"),
        ("GET //a", 6, "empty"),
        ("GET /a/../b", 8, "dot"),
        ("GET /a%2Fb", 7, "slash"),
        ("GET /a%6a", 7, "escaped"),
        ("GET /ä", 6, "character"),
        ("GET /a#b", 7, "character"),
    ] {
        let error = Rule::parse(rule).unwrap_err();
        let text = error.to_string();
        assert_eq!((error.column, text.contains(word)), (column, true), "{rule}: {text}");
    }
    assert!(Rule::parse(&format!("GET /{}", "a".repeat(RULE_MAX))).is_err());
}
