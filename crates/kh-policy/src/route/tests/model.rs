//! The tree against a search that knows no tree: every rule is tried, and the best kept.

use kh_core::{Entropy, SeededEntropy};

use super::*;
use crate::segment;

/// How a part of a rule fits a part of a request, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Rest,
    Wildcard,
    /// `GET` for a `HEAD` request.
    Instead,
    /// Only for a lenient server.
    Lenient,
    Exact,
}

/// How a template fits a path, segment by segment; `None` when it doesn't.
fn fit_path(rule: &str, path: &str) -> Option<Vec<Fit>> {
    let mut parts: Vec<&str> = rule[1..].split('/').collect();
    let rest = parts.last() == Some(&"**");
    if rest {
        parts.pop();
    }
    let mut segments: Vec<&str> = path[1..].split('/').collect();
    let mut end = Fit::Exact;
    if !rest && segments.len() == parts.len() + 1 && segments.last() == Some(&"") {
        segments.pop();
        end = Fit::Lenient;
    } else if !rest && parts.len() == segments.len() + 1 && parts.last() == Some(&"") {
        parts.pop();
        end = Fit::Lenient;
    }
    if segments.len() < parts.len() || (!rest && segments.len() > parts.len()) {
        return None;
    }
    let mut fits = Vec::new();
    for (part, text) in parts.iter().zip(&segments) {
        fits.push(if *part == "*" {
            if text.is_empty() {
                return None;
            }
            Fit::Wildcard
        } else if segment::same(part, text) {
            Fit::Exact
        } else if lenient(text, &segment::decoded(part).collect::<Vec<u8>>()) {
            Fit::Lenient
        } else {
            return None;
        });
    }
    fits.push(if rest { Fit::Rest } else { end });
    Some(fits)
}

/// What lenient servers make of a segment, each in its own way.
fn lenient(text: &str, word: &[u8]) -> bool {
    let text = String::from_utf8(segment::decoded(text).collect()).unwrap().to_ascii_lowercase();
    let word = String::from_utf8(word.to_vec()).unwrap().to_ascii_lowercase();
    let name = text.split(';').next().unwrap();
    let stem = name.split('.').next().unwrap();
    let without_extension = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    [text.as_str(), name, stem, without_extension].iter().any(|reading| {
        let trimmed = reading.trim_matches(|letter: char| letter.is_ascii_whitespace());
        trimmed == word && (text.is_empty() || !word.is_empty())
    })
}

fn fit_method(rule: &str, method: &str) -> Option<Fit> {
    if rule == method {
        return Some(Fit::Exact);
    }
    if rule == "*" {
        return Some(Fit::Wildcard);
    }
    let (lower, head) = (method.chars().any(char::is_lowercase), method.eq_ignore_ascii_case("HEAD"));
    if lower && (rule.eq_ignore_ascii_case(method) || (head && rule == "GET")) {
        return Some(Fit::Lenient);
    }
    (method == "HEAD" && rule == "GET").then_some(Fit::Instead)
}

fn naive(rules: &[String], call: &str) -> String {
    let (host, call) = call.split_once('|').unwrap_or(("", call));
    let (method, path) = call.split_once(' ').unwrap();
    let mut best: Option<(bool, Vec<Fit>, Fit, &str)> = None;
    let mut allowed = Vec::new();
    for rule in rules {
        let (on, text) = rule.split_once('|').map_or((None, rule.as_str()), |(host, text)| (Some(host), text));
        let (its_method, template) = text.split_once(' ').unwrap();
        let Some(path_fit) = fit_path(template, path).filter(|_| on.is_none_or(|on| on == host)) else { continue };
        if !path_fit.contains(&Fit::Lenient) {
            allowed.push(its_method);
        }
        let Some(method_fit) = fit_method(its_method, method) else { continue };
        let name = rule.as_str();
        let new = (on.is_some(), path_fit, method_fit, name);
        if best.as_ref().is_none_or(|old| (&new.0, &new.1, &new.2) > (&old.0, &old.1, &old.2)) {
            best = Some(new);
        }
    }
    match best {
        Some((_, path, method, _)) if path.contains(&Fit::Lenient) || method == Fit::Lenient => "none".to_owned(),
        Some((.., name)) => name.replace('|', " "),
        None if allowed.is_empty() => "none".to_owned(),
        None => {
            allowed.sort_unstable();
            allowed.dedup();
            format!("405 {}", allowed.join(","))
        }
    }
}

const WORDS: [&str; 12] = ["a", "A", "b", "bc", "Bc", "a.b", "a;x", "a%20", "v1", "b%40c", "b@c", "a.b.c"];
const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "*", "get", "head", "Post"];
const HOSTS: [&str; 3] = ["", "x.example|", "y.example|"];

struct Dice(SeededEntropy);

impl Dice {
    fn of<'a>(&self, list: &[&'a str]) -> &'a str {
        list[usize::try_from(self.0.below(list.len() as u64)).unwrap()]
    }

    fn path(&self, ends: &[&str], one: &str) -> String {
        let depth = self.0.below(4);
        let mut path = String::new();
        for _ in 0..depth {
            let part = if !one.is_empty() && self.0.below(3) == 0 { one } else { self.of(&WORDS) };
            path.extend(["/", part]);
        }
        path.push_str(self.of(ends));
        if path.is_empty() { "/".to_owned() } else { path }
    }

    fn rules(&self) -> Vec<String> {
        let mut rules: Vec<String> = Vec::new();
        for _ in 0..=self.0.below(12) {
            let method = self.of(&METHODS[..4]);
            let text = format!("{}{method} {}", self.of(&HOSTS), self.path(&["", "", "", "/", "/**"], "*"));
            rules.push(text);
            let parsed = rules.iter().map(|text| rule(text)).collect();
            if RouteTable::new(parsed).is_err() {
                rules.pop();
            }
        }
        rules
    }

    fn call(&self, rules: &[String]) -> String {
        let ends = ["", "", "", "/", "/z"];
        if !rules.is_empty() && self.0.below(2) == 0 {
            // near a rule, so that fits are common
            let rule = &rules[usize::try_from(self.0.below(rules.len() as u64)).unwrap()];
            let path = &rule[rule.find('/').unwrap()..];
            let path = path.strip_suffix("/**").unwrap_or(path).replace('*', self.of(&WORDS));
            let path = format!("{path}{}", self.of(&ends[..4]));
            if CanonicalPath::parse(&path).is_ok() {
                return format!("{}{} {path}", self.of(&HOSTS), self.of(&METHODS).replace('*', "PUT"));
            }
        }
        format!("{}{} {}", self.of(&HOSTS), self.of(&METHODS).replace('*', "PUT"), self.path(&ends, ""))
    }
}

#[test]
fn the_tree_finds_what_a_search_through_all_rules_finds() {
    let dice = Dice(SeededEntropy::new(5));
    let (mut routes, mut refused, mut methods, mut ambiguous) = (0, 0, 0, 0);
    for _ in 0..2_000 {
        let rules = dice.rules();
        let table = RouteTable::new(rules.iter().map(|text| rule(text)).collect()).unwrap();
        for _ in 0..50 {
            let call = dice.call(&rules);
            let (is, expected) = (found(&table, &call), naive(&rules, &call));
            assert_eq!(is, expected, "{call} among {rules:?}");
            match is.as_str() {
                "none" if naive(&without_lenience(&rules, &call), &call) != "none" => ambiguous += 1,
                "none" => refused += 1,
                text if text.starts_with("405") => methods += 1,
                _ => routes += 1,
            }
        }
    }
    assert!(
        routes > 15_000 && refused > 5_000 && methods > 2_000 && ambiguous > 1_000,
        "{routes} {refused} {methods} {ambiguous}"
    );
}

/// The rules that fit this call by their words alone.
fn without_lenience(rules: &[String], call: &str) -> Vec<String> {
    let call = call.rsplit('|').next().unwrap();
    let (method, path) = call.split_once(' ').unwrap();
    let strict = |rule: &&String| {
        let (its_method, template) = rule.rsplit('|').next().unwrap().split_once(' ').unwrap();
        fit_path(template, path).is_none_or(|fits| !fits.contains(&Fit::Lenient))
            && fit_method(its_method, method) != Some(Fit::Lenient)
    };
    rules.iter().filter(strict).cloned().collect()
}
