//! Whether what operators are handed works: the package installed, the units run, the image in an empty root, the
//! manifests against the published schemas, the bill of materials against the linker. Part of `cargo xtask test`.
//!
//! The short form uses the development build, linked statically; `KEYHOLDER_LONG=1` builds the release, twice.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    dist::{self, binary, binary::Development, deb, image, sbom},
    process::{output, run as run_to_end},
    root,
    tools::{self, Tools},
};

/// Installs the tools and runs all checks.
pub fn run() -> Result<()> {
    run_with(&tools::install()?)
}

/// Runs all checks.
pub fn run_with(tools: &Tools) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let built = binary::development()?;
    println!("bill of materials");
    bill_of_materials(tools, &built, folder.path())?;
    println!("Debian package");
    package(&built.binary, folder.path())?;
    println!("container image");
    container(&built.binary, folder.path())?;
    println!("Kubernetes");
    run_to_end(Command::new(tools.python()).arg(scripts().join("manifests.py")).arg(&built.binary))?;
    if std::env::var_os("KEYHOLDER_LONG").is_some() {
        println!("release build, twice");
        dist::twice::run()?;
    }
    Ok(())
}

/// Where the checks' scripts are.
fn scripts() -> PathBuf {
    root().join("tests/deploy")
}

fn script_path(name: &str) -> PathBuf {
    scripts().join(name)
}

/// The document is valid, and lists what was linked: no crate is missing that the resolver names and the binary holds,
/// and none is listed that the resolver does not know.
fn bill_of_materials(tools: &Tools, built: &Development, folder: &Path) -> Result<()> {
    let document = sbom::document(&built.linked)?;
    let file = folder.join(sbom::NAME);
    fs::write(&file, document.to_string())?;
    run_to_end(Command::new(tools.python()).arg(script_path("sbom.py")).arg(&file))?;
    let purls: BTreeSet<String> = document["components"]
        .as_array()
        .into_iter()
        .flatten()
        .chain([&document["metadata"]["component"]])
        .filter_map(|component| component.get("purl")?.as_str().map(str::to_owned))
        .collect();
    let wanted: BTreeSet<String> =
        built.linked.iter().map(|(name, version)| format!("pkg:cargo/{name}@{version}")).collect();
    ensure!(purls == wanted, "the document and the linker differ: {:?}", purls.symmetric_difference(&wanted));
    let resolved = resolved()?;
    let unknown: Vec<_> = built.linked.difference(&resolved).collect();
    ensure!(unknown.is_empty(), "linked, and cargo's resolver does not know them: {unknown:?}");
    let bytes = fs::read(&built.binary)?;
    for (name, version) in resolved.difference(&built.linked) {
        // a path of the crate's sources stands in the messages of its panics
        let trace = format!("/{name}-{version}/src/");
        ensure!(!contains(&bytes, trace.as_bytes()), "{name} {version} is in the binary and not in the document");
    }
    println!("  {} crates, {} of them named by the binary itself", wanted.len(), witnessed(&bytes, &built.linked));
    Ok(())
}

/// How many of the crates have left a path of their sources in the binary.
fn witnessed(bytes: &[u8], linked: &BTreeSet<(String, String)>) -> usize {
    linked.iter().filter(|(name, version)| contains(bytes, format!("/{name}-{version}/src/").as_bytes())).count()
}

/// The crates that cargo resolves for the binary: an account that does not come from the linker.
fn resolved() -> Result<BTreeSet<(String, String)>> {
    let listed = output(
        Command::new("cargo")
            .current_dir(root())
            .args(["tree", "--locked", "--package", "keyholder", "--edges", "normal,no-proc-macro"])
            .args(["--target", binary::TARGET, "--prefix", "none", "--format", "{p}"]),
    )?;
    listed
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().context("a line without a name")?;
            let version = words.next().and_then(|word| word.strip_prefix('v')).context("a line without a version")?;
            Ok((name.to_owned(), version.to_owned()))
        })
        .collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    let Some((first, _)) = part.split_first() else { return true };
    let mut from = 0;
    while let Some(at) = bytes.get(from..).and_then(|rest| rest.iter().position(|byte| byte == first)) {
        if bytes[from + at..].starts_with(part) {
            return true;
        }
        from += at + 1;
    }
    false
}

/// Built, looked at by lintian, and installed into a copy of this machine's root.
fn package(binary: &Path, folder: &Path) -> Result<()> {
    let package = deb::build(binary, folder)?;
    let said = output(Command::new("lintian").args(["--allow-root", "--fail-on", "error,warning"]).arg(&package))?;
    ensure!(said.trim().is_empty(), "lintian: {said}");
    run_to_end(Command::new(script_path("installed.sh")).arg(&package).arg(scripts()))
}

/// Built without a registry, looked into, and run in an empty root.
fn container(binary: &Path, folder: &Path) -> Result<()> {
    let archive = image::build(binary, folder)?;
    run_to_end(Command::new("python3").arg(script_path("image.py")).arg(&archive))
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn parts_are_found_wherever_they_stand() {
        for (text, part, expected) in [
            ("abcabd", "abd", true),
            ("abcabd", "abcabd", true),
            ("aab", "ab", true),
            ("abc", "bd", false),
            ("", "a", false),
        ] {
            assert_eq!(contains(text.as_bytes(), part.as_bytes()), expected, "{text} {part}");
        }
    }
}
