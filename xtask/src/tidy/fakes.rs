//! Whether each rule of the fakes of secret stores has a source and a test: the page of the rules against the fakes'
//! sources and tests.
//!
//! Invariant: what a fake can refuse is found in its sources, not in a list that somebody has to keep.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::documents::test_exists;
use crate::root;

/// The page of the rules.
const PAGE: &str = "docs/reference/store-fakes.md";

/// Files whose every test is the test of a rule.
const TESTS: &[&str] = &[
    "crates/kh-fakes/src/aws/sigv4.rs",
    "crates/kh-fakes/src/aws/tests.rs",
    "crates/kh-fakes/src/vault/acl.rs",
    "crates/kh-fakes/tests/it/azure.rs",
    "crates/kh-fakes/tests/it/google.rs",
    "crates/kh-fakes/tests/it/vault.rs",
    "crates/kh-fakes/tests/it/vault/identity.rs",
    "crates/kh-fakes/tests/it/vault/server.rs",
];

/// What stands before the inner code of a refusal of Key Vault's, and before other words, which begin with a small letter.
const OPTIONAL: &str = "Some(";

/// A fake: the module with its files, and what stands before the words of a refusal.
const FAKES: &[(&str, &[&str])] = &[
    ("azure", &["refused(", "login_error(", "return error(", OPTIONAL]),
    ("google", &["refused("]),
    ("vault", &["error("]),
];

/// Every finding.
pub fn check() -> Result<Vec<String>> {
    let page = fs::read_to_string(root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let mut findings = wrong_rows(&page)?;
    for file in TESTS {
        let source = fs::read_to_string(root().join(file)).with_context(|| format!("cannot read {file}"))?;
        let unnamed = tests_in(&source).into_iter().filter(|test| !page.contains(&format!("::{test}`")));
        findings.extend(unnamed.map(|test| format!("{PAGE} has no rule with the test {test} of {file}")));
    }
    let told: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    for source in sources("aws")? {
        findings.extend(kinds(&source).into_iter().filter(|kind| !told.contains(kind)).map(untold));
    }
    for (fake, constructors) in FAKES {
        for source in sources(fake)? {
            let literals = constructors.iter().flat_map(|before| {
                let is_code =
                    |text: &&str| *before != OPTIONAL || text.starts_with(|letter: char| letter.is_ascii_uppercase());
                literals_after(&source, before).into_iter().filter(is_code)
            });
            findings.extend(literals.filter(|text| !is_told(text, &told)).map(untold));
        }
    }
    Ok(findings)
}

fn untold(refusal: &str) -> String {
    format!("{PAGE} has no rule for the refusal {refusal:?}")
}

/// Rows without a rule, a source or a test that exists.
fn wrong_rows(page: &str) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let rows = page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    for row in rows.filter(|row| *row != "| rule | source | tests |") {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [rule, source, tests] = cells.as_slice() else {
            findings.push(format!("{PAGE}: a row has not 3 cells: {row}"));
            continue;
        };
        if rule.is_empty() || source.is_empty() {
            findings.push(format!("{PAGE}: a rule has no source: {row}"));
        }
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            findings.push(format!("{PAGE}: a rule has no test: {rule}"));
        }
        for test in named {
            let exists = match test.split_once(".py::") {
                Some((script, function)) => has_function(script, function)?,
                None => test_exists(test)?,
            };
            if !exists {
                findings.push(format!("{PAGE} names the test {test}, which is not there"));
            }
        }
    }
    Ok(findings)
}

fn has_function(script: &str, function: &str) -> Result<bool> {
    let path = root().join("tests/stores").join(script).with_extension("py");
    Ok(path.is_file() && fs::read_to_string(path)?.contains(&format!("\ndef {function}(")))
}

/// The names of a file's tests.
fn tests_in(source: &str) -> Vec<&str> {
    let mut marked = false;
    let mut names = Vec::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if marked && !line.starts_with("#[") {
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            names.extend(function.and_then(|rest| rest.split('(').next()));
            marked = false;
        }
    }
    names
}

/// The sources of one fake without their tests.
fn sources(fake: &str) -> Result<Vec<String>> {
    let folder = root().join("crates/kh-fakes/src");
    let mut files = vec![folder.join(fake).with_extension("rs")];
    below(&folder.join(fake), &mut files)?;
    let own = files.into_iter().filter(|file| !file.ends_with("tests.rs"));
    own.map(|file| {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(text.split("\nmod tests {").next().unwrap_or_default().to_owned())
    })
    .collect()
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            below(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// AWS' names of refusals, wherever they stand.
fn kinds(source: &str) -> Vec<&str> {
    let named = |text: &&str| {
        text.len() > 9
            && text.bytes().all(|byte| byte.is_ascii_alphabetic())
            && (text.ends_with("Exception") || text.ends_with("ServiceError"))
    };
    source.split('"').filter(named).collect()
}

/// The first text in each call of `constructor`, behind a status where one stands there.
fn literals_after<'a>(source: &'a str, constructor: &str) -> Vec<&'a str> {
    let calls = source.match_indices(constructor).filter_map(|(at, _)| source.get(at + constructor.len()..));
    calls
        .filter_map(|rest| {
            let rest = rest.trim_start().trim_start_matches(|letter: char| letter.is_ascii_digit());
            let rest = rest.trim_start_matches(',').trim_start();
            let rest = rest.strip_prefix("&format!(").unwrap_or(rest).trim_start().strip_prefix('"')?;
            let end = rest.match_indices('"').find(|(at, _)| !rest[..*at].ends_with('\\'))?.0;
            rest.get(..end)
        })
        .collect()
}

/// Whether a phrase of the page has the fixed part of this text, or is in it.
fn is_told(text: &str, told: &[&str]) -> bool {
    let fixed = text.split(['{', '}', '\\', '*', ':', '"']).map(str::trim).max_by_key(|part| part.len());
    let fixed = fixed.unwrap_or_default();
    told.iter()
        .any(|phrase| *phrase == text || phrase.len() > 4 && (fixed.starts_with(phrase) || text.contains(phrase)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_found_in_sources() {
        let source = r#"error(400, "no data"); map_err(|_| error(
            404, &format!("no handler for {path:?}.")));  other(1, "x") error(405, TEXT)"#;
        assert_eq!(literals_after(source, "error("), ["no data", "no handler for {path:?}."]);
        assert_eq!(kinds(r#"new("LimitExceededException", "a"), "Exceptional", "InternalServiceError""#).len(), 2);
        assert!(is_told("no handler for {path:?}.", &["no handler"]) && is_told("Conflict", &["Conflict"]));
        assert!(!is_told("no data", &["no handler", "data", "no"]));
    }

    #[test]
    fn every_rule_of_the_fakes_has_its_source_and_its_test() {
        assert_eq!(check().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_row_without_source_or_test_is_found() {
        let of = |row: &str| wrong_rows(row).unwrap().len();
        let held = "`kh-fakes::aws::tests::a_version_is_never_changed`, `aws.py::versions_are_immutable`";
        assert_eq!(of(&format!("| a | b | {held} |")), 0);
        assert_eq!(of(&format!("| a | | {held} |")), 1);
        assert_eq!(of("| a | b | by hand |"), 1);
        assert_eq!(of("| a | b | `kh-fakes::aws::tests::none` `aws.py::none` |"), 2);
        assert_eq!(of("| a | b |"), 1);
        assert_eq!(tests_in("#[test]\nfn one() {}\n#[tokio::test]\nasync fn two() {}\nfn three() {}"), ["one", "two"]);
    }
}
