//! Routes against requests, mistakes against their texts, and the tree against a plain search through all rules.

mod lookup;
mod model;

use super::*;
use crate::{Requirement, RuleError};

/// A rule; `host|METHOD /path` is for that host alone.
fn rule(text: &str) -> RouteRule {
    let (hosts, text) = text.split_once('|').map_or((Vec::new(), text), |(host, text)| (vec![host], text));
    let name = format!("{} {text}", hosts.join(","));
    let rule = RouteRule::new(text, Requirement::any_token()).unwrap().on_hosts(&hosts).unwrap();
    rule.named(name.trim()).unwrap()
}

fn table(rules: &[&str]) -> RouteTable {
    RouteTable::new(rules.iter().map(|text| rule(text)).collect()).unwrap()
}

/// What a request `[host|]METHOD /path` is: a route's name, `405 METHODS` or `none`.
fn found(table: &RouteTable, call: &str) -> String {
    let (host, call) = call.split_once('|').unwrap_or(("", call));
    let (method, path) = call.split_once(' ').unwrap();
    match table.find(host, method, &CanonicalPath::parse(path).unwrap()) {
        Found::Route(at, rule) => {
            assert_eq!(table.rules()[at], *rule);
            rule.name().to_owned()
        }
        Found::MethodNotAllowed(methods) => format!("405 {}", methods.iter().collect::<Vec<_>>().join(",")),
        Found::None => "none".to_owned(),
    }
}

#[test]
fn rules_that_cannot_stand_beside_each_other() {
    let same = |first: &str, second: &str| {
        let error = RouteTable::new(vec![rule(first), rule(second).named("other").unwrap()]).unwrap_err();
        let expected = RouteTableError::SameRequests { first: rule(first).name().into(), second: "other".into() };
        assert_eq!(error, expected, "{first} {second}");
        assert_eq!(
            error.to_string(),
            format!("the routes `{}` and `other` take the same requests", rule(first).name())
        );
    };
    same("GET /a/{id}", "GET /a/*");
    same("GET /a/**", "GET /a/**");
    same("* /a", "* /a");
    same("GET /a%20b", "GET /a%20b");
    same("GET /a@b", "GET /a%40b");
    same("x.example|GET /a", "x.example|GET /a");
    for (one, other) in [
        ("GET /a", "POST /a"),
        ("GET /a", "* /a"),
        ("GET /a", "GET /A"),
        ("GET /a", "GET /a/"),
        ("GET /a", "GET /a/**"),
        ("GET /a", "x.example|GET /a"),
        ("y.example|GET /a", "x.example|GET /a"),
    ] {
        assert_eq!(table(&[one, other]).rules().len(), 2);
    }
    let one = rule("GET /a").named("same").unwrap();
    let other = rule("GET /b").named("same").unwrap();
    assert_eq!(RouteTable::new(vec![one, other]).unwrap_err(), RouteTableError::SameName("same".into()));
    let many = |count: usize| RouteTable::new((0..count).map(|at| rule(&format!("GET /{at}"))).collect());
    assert_eq!(many(ROUTES_MAX).unwrap().rules().len(), ROUTES_MAX);
    assert_eq!(many(ROUTES_MAX + 1).unwrap_err(), RouteTableError::TooMany(ROUTES_MAX + 1));
    let methods =
        |count: usize| RouteTable::new((0..count).map(|at| rule(&format!("{} /", "M".repeat(at + 1)))).collect());
    assert!(methods(METHODS_MAX).is_ok());
    assert_eq!(methods(METHODS_MAX + 1).unwrap_err(), RouteTableError::TooManyMethods);
}

#[test]
fn rules_with_several_hosts_overlap_where_one_host_does() {
    let on = |hosts: &[&str], name: &str| rule("GET /a").on_hosts(hosts).unwrap().named(name).unwrap();
    let first = on(&["a.example", "b.example"], "first");
    let error = RouteTable::new(vec![first.clone(), on(&["c.example", "b.example"], "second")]).unwrap_err();
    assert!(matches!(error, RouteTableError::SameRequests { .. }), "{error}");
    // an own rule that overlaps a built-in one replaces it whole
    let table = RouteTable::beside(vec![first], vec![on(&["c.example", "b.example"], "second")]).unwrap();
    assert_eq!(table.rules().len(), 1);
    assert_eq!(found(&table, "c.example|GET /a"), "none");
}

#[test]
fn an_own_route_stands_in_for_a_built_in_one() {
    let own = vec![rule("GET /a/*").named("own").unwrap()];
    let built_in = vec![rule("GET /a/{id}"), rule("POST /a/{id}")];
    let table = RouteTable::beside(own, built_in).unwrap();
    assert_eq!(table.rules().len(), 2);
    assert_eq!((found(&table, "GET /a/1"), found(&table, "POST /a/1")), ("own".into(), "POST /a/{id}".into()));
    // two built-in ones are a mistake of ours, and told
    let twice = vec![rule("GET /a"), rule("GET /a").named("other").unwrap()];
    assert!(RouteTable::beside(Vec::new(), twice).is_err());
}

#[test]
fn names_hosts_and_issuers() {
    let rule = || RouteRule::new("GET /a", Requirement::Public).unwrap();
    assert_eq!((rule().name(), rule().method()), ("GET /a", Some("GET")));
    let named = rule().named("orders").unwrap().from_issuers(&["b", "a", "b"]);
    assert_eq!((named.name(), named.issuers().collect::<Vec<_>>()), ("orders", vec!["a", "b"]));
    assert!(named.takes_issuer("a") && !named.takes_issuer("ab") && rule().takes_issuer("anything"));
    for bad in ["", " a", "a ", "a\nb", "ä", &"a".repeat(NAME_MAX + 1)] {
        assert!(rule().named(bad).is_err(), "{bad:?}");
    }
    for good in ["api.example.com", "localhost", "192.0.2.1", "[2001:db8::1]", "a_b.example"] {
        assert!(rule().on_hosts(&[good]).is_ok(), "{good}");
    }
    for bad in
        ["", "API.example", "*.example", "a.example:80", "a..b", "-a", "a-", "[::1", "::1", "[0:0::1]", "ä", "a."]
    {
        let error = rule().on_hosts(&["x", bad]).unwrap_err();
        assert_eq!(error.index, 1, "{bad}");
    }
}

#[test]
fn require_lines() {
    for (line, name, scopes) in [
        ("GET /path/{id}=scope.a scope.b", "GET /path/{id}", &["scope.a", "scope.b"][..]),
        ("* /**=a=b", "* /**", &["a=b"]),
        ("POST /a%3Db=x", "POST /a%3Db", &["x"]),
        ("GET /a=", "GET /a", &[]),
    ] {
        let rule = RouteRule::parse_line(line).unwrap();
        let sets: Vec<Vec<&str>> =
            rule.requirement().sets().map(|set| set.iter().map(crate::Word::as_str).collect()).collect();
        let expected = if scopes.is_empty() { Vec::new() } else { vec![scopes.to_vec()] };
        assert_eq!((rule.name(), sets, rule.requirement().is_public()), (name, expected, false), "{line}");
    }
}

#[test]
fn mistakes_in_require_lines() {
    for (line, column, word) in [
        ("", 1, "method, one space"),
        ("GET", 1, "method, one space"),
        ("=a", 1, "method, one space"),
        ("GET=a", 1, "method, one space"),
        ("GET =a", 5, "start with '/'"),
        ("get /a=a", 1, "capitals"),
        ("GET /a", 7, "what is required"),
        ("GET /a?b=c", 7, "query"),
        ("GET /a/../b=c", 8, "dot"),
        ("GET /a= b", 8, "space too many"),
        ("GET /a=b  c", 10, "space too many"),
        ("GET /a=b ", 10, "space too many"),
        ("GET /a=b c\"d", 11, "scope"),
        ("GET /a=b\tc", 9, "scope"),
        ("GET /a=ä", 8, "scope"),
    ] {
        let RuleError { column: at, problem, hint, .. } = RouteRule::parse_line(line).unwrap_err();
        assert_eq!((at, format!("{problem}; {hint}").contains(word)), (column, true), "{line}: {problem}; {hint}");
    }
    assert_eq!(RouteRule::parse_line(&format!("GET /a={}", "b".repeat(257))).unwrap_err().column, 8 + 256);
    assert_eq!(RouteRule::parse_line(&format!("GET /a={}", "b ".repeat(64) + "b")).unwrap_err().column, 8);
    assert_eq!(RouteRule::parse_line(&"a".repeat(REQUIRE_LINE_MAX + 1)).unwrap_err().column, REQUIRE_LINE_MAX + 1);
}
