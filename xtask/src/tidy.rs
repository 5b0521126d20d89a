//! `cargo xtask tidy`: what no compiler checks. Floors (dependencies go down only), file headers, size of files,
//! one line per dependency in the docs, generated pages in step with the binary, documents that still hold, and no path of
//! anybody's machine.

mod documents;
mod errors;
mod fakes;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{logs, process, root, scenario};

/// The floor of each crate: it may depend on crates of lower floors only.
const FLOORS: &[(&str, u8)] = &[
    ("kh-core", 0),
    ("kh-resilience", 1),
    ("kh-linelog", 1),
    ("kh-net", 2),
    ("kh-token", 2),
    ("kh-policy", 2),
    ("kh-verify", 2),
    ("kh-rotation", 2),
    ("kh-broker", 3),
    ("kh-inbound", 3),
    ("kh-issuer", 3),
    ("kh-rotator", 3),
    ("kh-platform", 4),
    ("kh-store", 4),
    ("kh-store-vault", 4),
    ("kh-store-aws", 4),
    ("kh-store-azure", 4),
    ("kh-store-google", 4),
    ("kh-deliver", 4),
    ("kh-state", 4),
    ("kh-audit", 4),
    ("kh-telemetry", 4),
    ("kh-security", 4),
    ("kh-gateway", 5),
    ("kh-admin", 5),
    ("kh-sandbox", 5),
    ("kh-fakes", 5),
    ("keyholder", 6),
];

/// Crates that must not know any other crate of ours, so that they are independent witnesses.
const ALONE: &[&str] = &["kh-sandbox", "kh-fakes"];

/// Longest source file, in lines. Tables live in data files.
const FILE_LINES_MAX: usize = 600;

/// Pages written by the binary itself: file, and the command that prints it.
const GENERATED: &[(&str, &[&str])] = &[
    ("docs/reference/keyholder.toml", &["config", "example"]),
    ("docs/reference/keyholder.schema.json", &["config", "schema"]),
    ("docs/reference/cli.md", &["docs", "cli"]),
    ("docs/reference/error-codes.md", &["docs", "error-codes"]),
    ("docs/reference/metrics.md", &["docs", "metrics"]),
    ("docs/reference/spans.md", &["docs", "spans"]),
    ("docs/reference/access-log.md", &["docs", "access-log"]),
    ("docs/reference/token-reasons.md", &["docs", "token-reasons"]),
    ("docs/reference/admin-api.json", &["docs", "admin-api"]),
];

/// The page made from the sources' log lines.
const LOGS_PAGE: &str = "docs/reference/logs.md";

/// Runs every check and lists all findings.
pub fn run(binary: Option<&str>) -> Result<()> {
    let mut findings = Vec::new();
    let workspace = workspace()?;
    findings.extend(floors(&workspace)?);
    findings.extend(started(&workspace)?);
    findings.extend(sources()?);
    findings.extend(dependencies_documented()?);
    let keyholder = binary.map_or_else(scenario::build, |binary| Ok(binary.into()))?;
    findings.extend(generated_pages(&keyholder)?);
    findings.extend(documents::check(&keyholder)?);
    findings.extend(fakes::check()?);
    let (logs, problems) = logs::page()?;
    findings.extend(problems);
    if fs::read_to_string(root().join(LOGS_PAGE)).unwrap_or_default() != logs {
        findings.push(format!("{LOGS_PAGE} is not what the sources log; run cargo xtask docs"));
    }
    findings.extend(errors::check(&keyholder)?);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    ensure!(findings.is_empty(), "{} findings", findings.len());
    Ok(())
}

/// Writes the generated pages.
pub fn write_docs(binary: Option<&str>) -> Result<()> {
    let keyholder = binary.map_or_else(scenario::build, |binary| Ok(binary.into()))?;
    for (page, words) in GENERATED {
        fs::write(root().join(page), process::output(Command::new(&keyholder).args(*words))?)?;
        println!("wrote {page}");
    }
    let (logs, problems) = logs::page()?;
    fs::write(root().join(LOGS_PAGE), logs)?;
    println!("wrote {LOGS_PAGE}");
    for problem in problems {
        eprintln!("docs: {problem}");
    }
    Ok(())
}

fn generated_pages(keyholder: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (page, words) in GENERATED {
        let printed = process::output(Command::new(keyholder).args(*words))?;
        if fs::read_to_string(root().join(page)).unwrap_or_default() != printed {
            findings.push(format!("{page} is not what the binary prints; run cargo xtask docs"));
        }
    }
    Ok(findings)
}

/// The workspace, as cargo sees it.
fn workspace() -> Result<Value> {
    let text = process::output(Command::new("cargo").current_dir(root()).args([
        "metadata",
        "--format-version=1",
        "--no-deps",
    ]))?;
    Ok(serde_json::from_str(&text)?)
}

/// The README's `cargo run` names no program, so that there must be exactly one to start.
fn started(metadata: &Value) -> Result<Vec<String>> {
    let members = metadata.get("workspace_default_members").and_then(Value::as_array).context("no members")?;
    let mut programs = Vec::new();
    for package in metadata.get("packages").and_then(Value::as_array).context("no packages")? {
        if !package.get("id").is_some_and(|id| members.contains(id)) {
            continue;
        }
        for target in package.get("targets").and_then(Value::as_array).into_iter().flatten() {
            if target.get("kind").and_then(Value::as_array).is_some_and(|kinds| kinds.contains(&Value::from("bin"))) {
                programs.push(process::text(target, "name")?);
            }
        }
    }
    let only = programs == ["keyholder"];
    Ok(if only { Vec::new() } else { vec![format!("cargo run has to choose between the programs {programs:?}")] })
}

fn floors(metadata: &Value) -> Result<Vec<String>> {
    let floor: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut findings = Vec::new();
    for package in metadata.get("packages").and_then(Value::as_array).context("no packages")? {
        let name = process::text(package, "name")?;
        if ["xtask", "keyholder-fuzz"].contains(&name) {
            continue;
        }
        let Some(own) = floor.get(name) else {
            findings.push(format!("{name} has no floor; give it one in xtask/src/tidy.rs"));
            continue;
        };
        for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let used = process::text(dependency, "name")?;
            let is_test = dependency.get("kind").and_then(Value::as_str) == Some("dev");
            if let Some(other) = floor.get(used)
                && !is_test
                && (other >= own || ALONE.contains(&name))
            {
                findings.push(format!("{name} (floor {own}) depends on {used} (floor {other})"));
            }
        }
    }
    Ok(findings)
}

fn sources() -> Result<Vec<String>> {
    let listed = process::output(Command::new("git").current_dir(root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut findings = Vec::new();
    for name in listed.lines() {
        let path = root().join(name);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if is_rust(&path) {
            if !text.starts_with("//!") {
                findings.push(format!("{name} does not start by saying what it is (//!)"));
            }
            if text.lines().count() > FILE_LINES_MAX {
                findings.push(format!("{name} has more than {FILE_LINES_MAX} lines"));
            }
        }
        if name != "xtask/src/tidy.rs" && foreign_path(&text) {
            findings.push(format!("{name} names a path of somebody's machine"));
        }
    }
    Ok(findings)
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn foreign_path(text: &str) -> bool {
    ["/home/", "/Users/", "/root/", "/work/"]
        .iter()
        .any(|start| text.contains(&format!("\"{start}")) || text.contains(&format!(" {start}")))
}

fn dependencies_documented() -> Result<Vec<String>> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let page = fs::read_to_string(root().join("docs/dependencies.md")).unwrap_or_default();
    let table =
        manifest.split("[workspace.dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or_default();
    let names: BTreeSet<&str> = table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("kh-"))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .collect();
    let used = used_dependencies()?;
    let mut findings = Vec::new();
    for name in names {
        if !page.contains(&format!("| {name} |")) {
            findings.push(format!("{name} has no line in docs/dependencies.md"));
        }
        if !used.contains(name) {
            findings.push(format!("{name} stands in the workspace's table and no crate uses it"));
        }
    }
    Ok(findings)
}

fn used_dependencies() -> Result<BTreeSet<String>> {
    let mut manifests: Vec<PathBuf> = fs::read_dir(root().join("crates"))?
        .map(|entry| Ok(entry?.path().join("Cargo.toml")))
        .collect::<Result<_>>()?;
    manifests.extend(["fuzz/Cargo.toml", "xtask/Cargo.toml"].map(|manifest| root().join(manifest)));
    let mut used = BTreeSet::new();
    for manifest in manifests {
        for line in fs::read_to_string(manifest)?.lines() {
            if let Some((name, _)) = line.split_once(['.', ' ']) {
                used.insert(name.to_owned());
            }
        }
    }
    Ok(used)
}
