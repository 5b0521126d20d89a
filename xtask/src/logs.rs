//! The catalogue of log lines, read from the sources: every `tracing` macro outside of tests with its level, message,
//! fields and crate. Error, warning and info lines are documented; what to do about errors and warnings stands in
//! `data/log-actions.toml`, one entry per message, checked both ways.
//!
//! Invariant: a line whose message is no literal, or a span made by a macro, is a finding: nothing is logged that the
//! page does not list.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::root;

/// What to do, by message.
const ACTIONS: &str = "xtask/data/log-actions.toml";

/// Levels that the page lists, gravest first.
const LEVELS: [&str; 3] = ["error", "warn", "info"];

const HEAD: &str = "\
# Log lines

Made by `cargo xtask docs` from the sources: every line that keyholder writes at the levels ERROR, WARN and INFO. Lines
at DEBUG and TRACE are for its developers and may change. `{}` stands for text that differs. As JSON, each line is one
object with `timestamp`, `level`, `target` (the crate and module), `message` and the fields; a field without a value is
left out. `trace.id` is the W3C trace id of the request, when it belongs to a trace.
";

/// One line of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    level: usize,
    message: String,
    krate: String,
    fields: BTreeSet<String>,
}

/// The page, and everything that is wrong with the sources or the actions.
pub fn page() -> Result<(String, Vec<String>)> {
    let (mut lines, mut findings) = (BTreeMap::<(usize, String, String), BTreeSet<String>>::new(), Vec::new());
    for file in sources()? {
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        let text = fs::read_to_string(&file)?;
        let tokens: TokenStream = text.parse().map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        let krate = name.split('/').nth(1).unwrap_or_default();
        for found in scan(tokens) {
            match found {
                Ok(line) => {
                    let key = (line.level, line.message, krate.to_owned());
                    lines.entry(key).or_default().extend(line.fields);
                }
                Err(problem) => findings.push(format!("{name}: {problem}")),
            }
        }
    }
    let actions = actions()?;
    let mut wanted = BTreeSet::new();
    let mut out = vec![HEAD.to_owned()];
    for (index, level) in LEVELS.iter().enumerate() {
        let act = index < 2;
        let columns = if act {
            "| message | fields | crate | what to do |\n|---|---|---|---|\n"
        } else {
            "| message | fields | crate |\n|---|---|---|\n"
        };
        out.push(format!("\n## {}\n\n{columns}", level.to_uppercase()));
        for ((_, message, krate), fields) in lines.iter().filter(|((of, ..), _)| *of == index) {
            let fields: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
            let (message_cell, fields) = (code(message), fields.join(", "));
            if !act {
                out.push(format!("| {message_cell} | {fields} | {krate} |\n"));
                continue;
            }
            wanted.insert(message.clone());
            let action = actions.get(message).cloned().unwrap_or_else(|| {
                findings.push(format!("{ACTIONS} does not tell what to do about {message:?} ({krate}, {level})"));
                String::new()
            });
            out.push(format!("| {message_cell} | {fields} | {krate} | {action} |\n"));
        }
    }
    for message in actions.keys().filter(|message| !wanted.contains(*message)) {
        findings
            .push(format!("{ACTIONS} tells what to do about {message:?}, which nothing logs as an error or warning"));
    }
    Ok((out.concat(), findings))
}

/// A code span; one that holds back quotes is fenced by two (CommonMark section 6.1).
fn code(text: &str) -> String {
    let text = text.replace('|', "\\|");
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

fn actions() -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(root().join(ACTIONS)).with_context(|| format!("cannot read {ACTIONS}"))?;
    let table: toml::Table = text.parse()?;
    let rows = table.into_iter().filter_map(|(message, action)| Some((message, action.as_str()?.to_owned())));
    Ok(rows.collect())
}

/// Every source file of the product that is no test.
fn sources() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root().join("crates"))?.map(|entry| Ok(entry?.path().join("src"))).collect::<Result<_>>()?;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Every macro of `tracing` in `tokens`, also inside other macros, without what stands under `#[cfg(test)]`.
fn scan(tokens: TokenStream) -> Vec<Result<Line, String>> {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        at += 1;
        match tree {
            TokenTree::Punct(punct) if punct.as_char() == '#' && is_cfg_test(trees.get(at)) => {
                // the item ends with its block, or with a semicolon
                while let Some(tree) = trees.get(at) {
                    at += 1;
                    let block = matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                    if block || matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ';') {
                        break;
                    }
                }
            }
            TokenTree::Ident(ident) if ident == "tracing" => {
                if let Some((name, arguments)) = call(trees.get(at..).unwrap_or_default()) {
                    found.extend(line(&name, arguments.clone()));
                    found.extend(scan(arguments));
                    at += 4;
                }
            }
            TokenTree::Group(group) => found.extend(scan(group.stream())),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

fn is_cfg_test(tree: Option<&TokenTree>) -> bool {
    matches!(tree, Some(TokenTree::Group(group)) if group.to_string().replace(' ', "") == "[cfg(test)]")
}

/// `:: name ! (...)`.
fn call(trees: &[TokenTree]) -> Option<(String, TokenStream)> {
    let [
        TokenTree::Punct(_),
        TokenTree::Punct(_),
        TokenTree::Ident(name),
        TokenTree::Punct(bang),
        TokenTree::Group(group),
        ..,
    ] = trees
    else {
        return None;
    };
    (bang.as_char() == '!').then(|| (name.to_string(), group.stream()))
}

fn line(name: &str, arguments: TokenStream) -> Option<Result<Line, String>> {
    if ["debug", "trace"].contains(&name) {
        return None;
    }
    let Some(level) = LEVELS.iter().position(|level| *level == name) else {
        return Some(Err(format!(
            "tracing::{name}! is not one of the five levels; spans are made by the tracer alone"
        )));
    };
    let mut fields = BTreeSet::new();
    for argument in split(arguments) {
        if let [TokenTree::Literal(literal)] = argument.as_slice() {
            let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) else {
                return Some(Err(format!("the message {literal} is not text")));
            };
            let message = plain(&text.value());
            if message.replace("{}", "").trim().len() < 4 {
                return Some(Err(format!("the message {literal} says nothing by itself")));
            }
            return Some(Ok(Line { level, message, krate: String::new(), fields }));
        }
        fields.insert(field(&argument));
    }
    Some(Err(format!("a tracing::{name}! has no literal message")))
}

/// Arguments at top-level commas.
fn split(arguments: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut all = vec![Vec::new()];
    for tree in arguments {
        match (&tree, all.last_mut()) {
            (TokenTree::Punct(punct), _) if punct.as_char() == ',' => all.push(Vec::new()),
            (_, Some(last)) => last.push(tree),
            (_, None) => {}
        }
    }
    all.retain(|argument| !argument.is_empty());
    all
}

/// The name of `credential.name = ...`, `%error` or `?peer`.
fn field(argument: &[TokenTree]) -> String {
    let mut name = String::new();
    for tree in argument {
        match tree {
            TokenTree::Punct(punct) if punct.as_char() == '=' => break,
            TokenTree::Punct(punct) if matches!(punct.as_char(), '%' | '?') => {}
            other => name.push_str(&other.to_string()),
        }
    }
    name
}

/// The message with `{}` for every placeholder.
fn plain(format: &str) -> String {
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '}' if letters.peek() == Some(&letter) => out.extend(letters.next()),
            '{' => {
                letters.by_ref().take_while(|inside| *inside != '}').for_each(drop);
                out.push_str("{}");
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &[(&str, &str, &[&str])]) {
        let found: Vec<_> = scan(source.parse().unwrap()).into_iter().map(Result::unwrap).collect();
        let found: Vec<_> = found
            .iter()
            .map(|line| (LEVELS[line.level], line.message.as_str(), line.fields.iter().map(String::as_str).collect()))
            .collect();
        let expected: Vec<(&str, &str, Vec<&str>)> =
            expected.iter().map(|(level, message, fields)| (*level, *message, fields.to_vec())).collect();
        assert_eq!(found, expected, "{source}");
    }

    #[test]
    fn lines_are_found_wherever_they_stand() {
        check(r#"fn f() { tracing::warn!("a plain message"); }"#, &[("warn", "a plain message", &[])]);
        check(
            r#"tracing::info!(a.b = 1, %error, ?peer, most, "it failed: {error:?} {}", x(1, 2));"#,
            &[("info", "it failed: {} {}", &["a.b", "error", "most", "peer"])],
        );
        check(r#"select! { () = w => tracing::error!("in another macro") }"#, &[("error", "in another macro", &[])]);
        check("tracing::error!(\"over \\\n   two lines\");", &[("error", "over two lines", &[])]);
        check(r#"tracing::debug!("for developers"); let tracing = 1;"#, &[]);
        check(r#"#[cfg(test)] mod tests { fn f() { tracing::warn!("only in tests"); } } "#, &[]);
        check(
            r#"#[cfg(test)] mod tests; fn f() { tracing::warn!("after the tests"); }"#,
            &[("warn", "after the tests", &[])],
        );
    }

    #[test]
    fn what_cannot_be_documented_is_a_finding() {
        for source in [
            "tracing::warn!(error, message)",
            r#"tracing::warn!("{what}")"#,
            r#"tracing::info_span!("request")"#,
            r#"tracing::event!(Level::WARN, "hidden from the scanner")"#,
        ] {
            assert!(scan(source.parse().unwrap()).iter().any(Result::is_err), "{source}");
        }
    }

    #[test]
    fn cells() {
        assert_eq!((code("a").as_str(), code("a `b` | c").as_str()), ("`a`", "`` a `b` \\| c ``"));
    }
}
