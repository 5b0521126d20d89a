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
    dist::{
        self,
        binary::{self, Development, Tree},
        deb, image, sbom,
    },
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
    let built = binary::development(Tree::Tests)?;
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
    // the features of the tests bring along two crates that the shipped binary has not
    let known = resolved(&["--workspace"], "normal,dev,no-proc-macro")?;
    let unknown: Vec<_> = built.linked.difference(&known).collect();
    ensure!(unknown.is_empty(), "linked, and cargo's resolver does not know them: {unknown:?}");
    let bytes = fs::read(&built.binary)?;
    let traces = traces(&bytes);
    let has_left_one = |(name, version): &(String, String)| traces.contains(format!("{name}-{version}").as_bytes());
    for krate in resolved(&["--package", "keyholder"], "normal,no-proc-macro")?.difference(&built.linked) {
        ensure!(!has_left_one(krate), "{krate:?} is in the binary and not in the document");
    }
    let witnessed = built.linked.iter().filter(|krate| has_left_one(krate)).count();
    println!("  {} crates, {} of them named by the binary itself", wanted.len(), witnessed);
    Ok(())
}

/// The folders of sources that the messages of panics name: `name-version` of most crates that are in the binary.
fn traces(bytes: &[u8]) -> BTreeSet<&[u8]> {
    /// Longer than the name and version of any crate.
    const FOLDER_MAX: usize = 128;
    let folder = |end: usize| {
        let before = bytes.get(end.saturating_sub(FOLDER_MAX)..end)?;
        let slash = before.iter().rposition(|byte| *byte == b'/')?;
        before.get(slash + 1..)
    };
    memchr::memmem::find_iter(bytes, b"/src/").filter_map(folder).collect()
}

/// The crates that cargo resolves for these packages along these edges: an account that does not come from the linker.
fn resolved(packages: &[&str], edges: &str) -> Result<BTreeSet<(String, String)>> {
    let listed =
        output(
            Command::new("cargo")
                .current_dir(root())
                .args(["tree", "--locked", "--edges", edges])
                .args(packages)
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

/// Built, looked at by lintian, and installed into a copy of this machine's root.
fn package(binary: &Path, folder: &Path) -> Result<()> {
    let package = deb::build(binary, &folder.join(sbom::NAME), folder)?;
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
    use super::traces;

    #[test]
    fn crates_leave_the_folders_of_their_sources() {
        let long = "x".repeat(200);
        let text = format!("/a/serde-1.0.2/src/de.rs /kh/src/lib.rs{long}/src/ /b-2/srcs/");
        let found: Vec<&[u8]> = traces(text.as_bytes()).into_iter().collect();
        assert_eq!(found, [&b"kh"[..], b"serde-1.0.2"]);
    }
}
