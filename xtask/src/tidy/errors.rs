//! Whether every error code is provoked by a test: each page of `docs/errors` names tests in its last line, and these
//! must exist and be about the code.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use super::documents::file_of_test;
use crate::{process, root};

/// Every finding about the pages of error codes.
pub fn check(keyholder: &Path) -> Result<Vec<String>> {
    let listed = process::output(Command::new(keyholder).args(["explain", "--list", "--output", "json"]).env_clear())?;
    let listed: Value = serde_json::from_str(&listed)?;
    let table = fs::read_to_string(root().join("crates/kh-core/src/error.rs"))?;
    let constants = constants(&table);
    let mut findings = Vec::new();
    for one in listed.as_array().context("explain --list is no list")? {
        let code = process::text(one, "code")?;
        let constant = constants.get(code).copied().unwrap_or_default();
        let told = process::output(Command::new(keyholder).args(["explain", code, "--output", "json"]).env_clear())?;
        let page: Value = serde_json::from_str(&told)?;
        let tests: Vec<&str> =
            page.get("tests").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if tests.is_empty() {
            findings.push(format!("the page of {code} names no test"));
        }
        for test in tests {
            match file_of_test(test)? {
                None => findings.push(format!("the page of {code} names the test {test}, which is not there")),
                Some(file) if !is_about(&fs::read_to_string(&file)?, code, constant) => {
                    findings.push(format!("the page of {code} names {test}, whose file never mentions that code"));
                }
                Some(_) => {}
            }
        }
    }
    Ok(findings)
}

/// The Rust constant of each code, from the table's own lines: `NAME = "keyholder.x.y", STATUS, "title";`.
fn constants(table: &str) -> BTreeMap<&str, &str> {
    let line = |line: &'_ str| -> Option<(usize, usize)> {
        let at = line.find(" = \"keyholder.")?;
        Some((at, line[at + 4..].find('"')? + at + 4))
    };
    let rows = table.lines().map(str::trim);
    rows.filter_map(|row| line(row).map(|(name, end)| (&row[name + 4..end], &row[..name]))).collect()
}

/// Whether a test file mentions a code by its text or its constant, and not only as the start of a longer name.
fn is_about(source: &str, code: &str, constant: &str) -> bool {
    let whole = |needle: &str| {
        source.match_indices(needle).any(|(at, _)| {
            let after = source[at + needle.len()..].chars().next();
            !after.is_some_and(|next| next.is_ascii_alphanumeric() || next == '_' || next == '.')
        })
    };
    whole(code) || (!constant.is_empty() && whole(&format!("Code::{constant}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_their_constants() {
        let table = "codes! {\n  /// Doc.\n  A_B = \"keyholder.a.b\", 401, \"t\";\n}\n";
        assert_eq!(constants(table), BTreeMap::from([("keyholder.a.b", "A_B")]));
    }

    #[test]
    fn a_file_is_about_a_code_when_it_names_it_whole() {
        for (source, expected) in [
            ("x \"keyholder.a\" y", true),
            ("x Code::A)", true),
            ("x \"keyholder.a.b\" y", false),
            ("x Code::A_B)", false),
            ("nothing", false),
        ] {
            assert_eq!(is_about(source, "keyholder.a", "A"), expected, "{source}");
        }
    }
}
