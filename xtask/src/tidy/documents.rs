//! Whether the documentation is still true where a machine can tell: links lead somewhere, commands and settings parse,
//! and tests that prove a claim exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::root;

/// Folders whose `sh` blocks are commands to copy and whose `toml` blocks are settings; README.md is one more.
const COMMAND_PAGES: [&str; 3] = ["docs/errors", "docs/guide", "docs/runbooks"];

/// The page whose `toml` blocks are the sandbox's own configuration.
const SANDBOX_PAGE: &str = "docs/guide/sandbox.md";

/// The page whose every claim names a test.
const THREAT_MODEL: &str = "docs/threat-model.md";

/// The page whose every cell names a test, or says why there is none. The head of a column names where its tests are.
const STORE_FAULTS: &str = "docs/reference/store-faults.md";

/// The page whose every row names a test in its last cell.
const TOKEN_ATTACKS: &str = "docs/reference/token-attacks.md";

/// How a cell begins whose fault a store cannot have.
const NOT_THERE: &str = "cannot be:";

/// Every finding about links, commands and named tests.
pub fn check(keyholder: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for page in pages()? {
        let name = page.strip_prefix(root()).unwrap_or(&page).display().to_string();
        let text = fs::read_to_string(&page).with_context(|| format!("cannot read {name}"))?;
        findings.extend(broken_links(&name, &page, &text));
        if name == "README.md" || COMMAND_PAGES.iter().any(|folder| name.starts_with(folder)) {
            findings.extend(wrong_commands(&name, &text, keyholder)?);
            if name != SANDBOX_PAGE {
                findings.extend(wrong_settings(&name, &text, keyholder)?);
            }
        }
        if name == THREAT_MODEL {
            findings.extend(missing_tests(&name, &text)?);
        }
        if name == TOKEN_ATTACKS {
            findings.extend(missing_tests(&name, &text)?);
            findings.extend(rows_without_test(&name, &text));
        }
        if name == STORE_FAULTS {
            findings.extend(open_cells(&name, &text)?);
        }
    }
    Ok(findings)
}

/// The root's pages and everything below docs.
fn pages() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("docs")];
    let of_root = fs::read_dir(root())?.collect::<Result<Vec<_>, _>>()?;
    found.extend(of_root.into_iter().map(|entry| entry.path()).filter(|path| is_page(path)));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if is_page(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Lines with whether they stand in a fenced block, and in which language.
fn lines(text: &str) -> impl Iterator<Item = (Option<&str>, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().filter_map(move |line| match (line.trim_start().strip_prefix("```"), fence) {
        (Some(language), None) => {
            fence = Some(language.trim());
            None
        }
        (Some(_), Some(_)) => {
            fence = None;
            None
        }
        (None, inside) => Some((inside, line)),
    })
}

fn broken_links(name: &str, page: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (_, line) in lines(text).filter(|(fence, _)| fence.is_none()) {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target)) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => page.to_owned(),
                file => page.parent().unwrap_or(page).join(file),
            };
            if !path.exists() {
                findings.push(format!("{name} links to {target}, which is not there"));
            } else if !anchor.is_empty() && !anchors(&fs::read_to_string(&path).unwrap_or_default()).contains(anchor) {
                findings.push(format!("{name} links to {target}, which has no such heading"));
            }
        }
    }
    findings
}

/// Anchors of a page's headings, as the common renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = lines(text).filter(|(fence, line)| fence.is_none() && line.starts_with('#'));
    headings.map(|(_, line)| slug(line.trim_start_matches('#').trim())).collect()
}

fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// Runs every command with `--help` behind it: the parser refuses unknown commands, flags and values before it helps.
fn wrong_commands(name: &str, text: &str, keyholder: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    // a line that ends with a backslash goes on in the next one
    let whole = blocks(text, "sh").concat().replace("\\\n", "");
    for words in whole.lines().flat_map(commands) {
        // what stands behind `--` is another program's
        let own = words.iter().take_while(|word| *word != "--");
        let status = Command::new(keyholder)
            .args(own)
            .arg("--help")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            findings.push(format!("{name}: keyholder does not understand `keyholder {}`", words.join(" ")));
        }
    }
    Ok(findings)
}

/// Lets keyholder check every `toml` block as if it were a whole file.
fn wrong_settings(name: &str, text: &str, keyholder: &Path) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("keyholder.toml");
    let mut findings = Vec::new();
    for (number, block) in blocks(text, "toml").into_iter().enumerate() {
        fs::write(&file, block)?;
        let checked = Command::new(keyholder)
            .args(["check", "--syntax", "--config"])
            .arg(&file)
            .arg("--state")
            .arg(folder.path())
            .env_clear()
            .output()?;
        if !checked.status.success() {
            let said = String::from_utf8_lossy(&checked.stderr).lines().next().unwrap_or_default().to_owned();
            findings.push(format!("{name}: toml block {} is not a configuration: {said}", number + 1));
        }
    }
    Ok(findings)
}

/// The contents of all fenced blocks in `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim) {
        match (line.strip_prefix("```"), open) {
            (Some(opened), false) if opened == language => {
                open = true;
                found.push(String::new());
            }
            (Some(_), _) => open = false,
            (None, true) => {
                if let Some(block) = found.last_mut() {
                    block.push_str(line);
                    block.push('\n');
                }
            }
            (None, false) => {}
        }
    }
    found
}

/// The arguments of every keyholder command in one line of shell.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for mut words in simple_commands(line) {
        let start = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["keyholder", ..] => 1,
            ["cargo", "run", "--release", "--", ..] => 4,
            _ => continue,
        };
        words.drain(..start);
        found.push(words);
    }
    found
}

/// Words between the operators of a shell line; redirections end a command's words, a comment ends the line.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut letters = line.chars().peekable();
    let mut redirected = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {
                let inside: String = letters.by_ref().take_while(|next| *next != letter).collect();
                word.get_or_insert_default().push_str(&inside);
            }
            '#' if word.is_none() => break,
            ' ' => words.extend(word.take().filter(|_| !redirected)),
            '<' | '>' => {
                words.extend(word.take().filter(|_| !redirected));
                redirected = true;
            }
            '|' | '&' | ';' | '(' | ')' => {
                words.extend(word.take().filter(|_| !redirected));
                redirected = false;
                all.push(std::mem::take(&mut words));
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word.filter(|_| !redirected));
    all.push(words);
    all
}

/// Names like `kh-store::it::damage::changes_by_sql_are_found` in back quotes: crate, module path, test. `it` is the
/// crate's integration tests, `tests` a unit-test module.
fn missing_tests(name: &str, text: &str) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut seen = 0;
    for reference in text.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::")) {
        seen += 1;
        if !test_exists(reference)? {
            findings.push(format!("{name} names the test {reference}, which is not there"));
        }
    }
    if seen == 0 {
        findings.push(format!("{name} names no test at all"));
    }
    Ok(findings)
}

/// Rows of the tables whose last cell names no test.
fn rows_without_test(name: &str, text: &str) -> Vec<String> {
    let rows =
        text.lines().filter_map(cells).filter(|row| !row.iter().all(|cell| cell.bytes().all(|byte| byte == b'-')));
    // a page may have several tables, each with its head
    let is_head = |row: &Vec<&str>| row.last().is_some_and(|cell| *cell == "test");
    let without = rows.filter(|row| !is_head(row) && row.last().is_none_or(|cell| !cell.contains("::")));
    without.map(|row| format!("{name}: the row of {} names no test", row.first().unwrap_or(&""))).collect()
}

/// Cells of a table without a test that exists, and without a reason for it.
fn open_cells(name: &str, text: &str) -> Result<Vec<String>> {
    let mut rows = text.lines().filter_map(cells);
    let head = rows.next().unwrap_or_default();
    let places: Vec<&str> = head.iter().filter_map(|cell| cell.split('`').nth(1)).collect();
    let mut findings = Vec::new();
    let mut seen = 0;
    for row in rows.filter(|row| !row.iter().all(|cell| cell.bytes().all(|byte| byte == b'-'))) {
        let [fault, tests @ ..] = row.as_slice() else { continue };
        if tests.len() != places.len() {
            findings.push(format!("{name}: the row of {fault} has not {} cells", places.len()));
        }
        for (place, cell) in places.iter().zip(tests) {
            let named: Vec<&str> = cell.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::")).collect();
            if named.is_empty() && !cell.starts_with(NOT_THERE) {
                findings.push(format!("{name}: {fault} at {place} names no test and no reason"));
            }
            for test in named {
                seen += 1;
                if !test_exists(&format!("{place}::{test}"))? {
                    findings.push(format!("{name} names the test {place}::{test}, which is not there"));
                }
            }
        }
    }
    if places.len() < 2 || seen == 0 {
        findings.push(format!("{name} has no table of tests"));
    }
    Ok(findings)
}

/// The cells of a table's line.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

pub(super) fn test_exists(reference: &str) -> Result<bool> {
    Ok(file_of_test(reference)?.is_some())
}

/// The file in which the named test stands.
pub(super) fn file_of_test(reference: &str) -> Result<Option<PathBuf>> {
    let parts: Vec<&str> = reference.split("::").collect();
    let [krate, modules @ .., test] = parts.as_slice() else { return Ok(None) };
    let folder = root().join("crates").join(krate);
    let file = |start: &str, modules: &[&str]| folder.join(start).join(modules.join("/")).with_extension("rs");
    let candidates = match modules {
        ["it", below @ ..] => vec![file("tests/it", below)],
        [inline @ .., "tests"] => vec![file("src", modules), file("src", inline)],
        _ => vec![file("src", modules)],
    };
    for candidate in candidates.into_iter().filter(|candidate| candidate.is_file()) {
        if has_test(&fs::read_to_string(&candidate)?, test) {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// Whether a function of this name follows a test attribute, with nothing but attributes in between.
fn has_test(source: &str, name: &str) -> bool {
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if marked && !line.starts_with("#[") && !line.starts_with("//") {
            let function = line.trim_start_matches("pub ").trim_start_matches("async ").strip_prefix("fn ");
            if function.and_then(|rest| rest.split('(').next()) == Some(name) {
                return true;
            }
            marked = false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_a_line() {
        for (line, expected) in [
            ("keyholder check --syntax", vec!["check --syntax"]),
            ("keyholder config example > keyholder.toml", vec!["config example"]),
            ("keyholder check && keyholder serve # now", vec!["check", "serve"]),
            ("cat x | keyholder secret set acme", vec!["secret set acme"]),
            ("keyholder client add a --allow 'GET /api/**'", vec!["client add a --allow GET /api/**"]),
            ("curl -H \"A: $(keyholder token get acme)\" url", vec![]),
            ("T=$(keyholder token get acme)", vec!["token get acme"]),
            ("cargo run --release -- demo", vec!["demo"]),
            ("# keyholder nothing", vec![]),
        ] {
            let found: Vec<String> = commands(line).iter().map(|words| words.join(" ")).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn blocks_of_a_language() {
        let text = "```toml\na = 1\n```\nx\n```sh\ntoml\n```\n- y\n\n  ```toml\n  b = 2\n  ```\n";
        assert_eq!(blocks(text, "toml"), ["a = 1\n", "b = 2\n"]);
    }

    #[test]
    fn links_and_headings() {
        assert!(anchors("# Guarded operations\n```\n# no\n```\n## It's `a_b`, 2").contains("guarded-operations"));
        assert!(anchors("## It's `a_b`, 2").contains("its-a_b-2"));
        let page = root().join("README.md");
        let of = |text: &str| broken_links("p", &page, text).len();
        assert_eq!(of("[a](Cargo.toml) [b](https://x.invalid) [c](nowhere.md)"), 1);
        assert_eq!(of("```\n[a](nowhere.md)\n```"), 0);
        assert_eq!(of("[a](docs/glossary.md#no-such-heading)"), 1);
    }

    #[test]
    fn every_fault_of_every_store_has_its_test() {
        let text = fs::read_to_string(root().join(STORE_FAULTS)).unwrap();
        assert_eq!(open_cells(STORE_FAULTS, &text).unwrap(), Vec::<String>::new());
        assert!(text.lines().filter(|line| line.starts_with("| ")).count() > 8, "the table is there");
    }

    #[test]
    fn a_cell_names_a_test_or_a_reason() {
        let of = |rows: &str| {
            let head = "| fault | file `kh-store::it` | Vault `kh-store-vault::it` |\n|---|---|---|";
            open_cells("p", &format!("{head}\n{rows}\n")).unwrap()
        };
        let held = "`target::the_embedded_store_keeps_the_port_of_rotation`";
        assert_eq!(of(&format!("| a | {held} | cannot be: one file |")), Vec::<String>::new());
        for (rows, told) in [
            (format!("| a | {held} | |"), "names no test and no reason"),
            (format!("| a | {held} | does its best |"), "names no test and no reason"),
            (format!("| a | {held} | `target::the_embedded_store_keeps_the_port_of_rotation` |"), "which is not there"),
            (format!("| a | {held} |"), "has not 2 cells"),
            ("| a | cannot be: x | cannot be: y |".to_owned(), "has no table of tests"),
        ] {
            let found = of(&rows).join("\n");
            assert!(found.contains(told), "{rows}: {found}");
        }
    }

    #[test]
    fn tests_are_found_by_name() {
        let source =
            "#[test]\n#[allow(x)]\nfn one() {}\nfn two() {}\n#[tokio::test(flavor = \"x\")]\nasync fn three() {}";
        assert_eq!(["one", "two", "three", "on"].map(|name| has_test(source, name)), [true, false, true, false]);
        assert!(!test_exists("kh-core::secret::tests::no_such_test").unwrap());
        assert!(test_exists("kh-core::secret::tests::debug_never_tells").unwrap());
    }
}
