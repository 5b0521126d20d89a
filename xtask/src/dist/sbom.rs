//! The bill of materials: CycloneDX 1.6 in JSON, one component per crate that the linker was given, and the C code
//! that some of them bring along.
//!
//! Invariant: made from the linker's own command line, so it lists what is in the binary and nothing else; no time and
//! no random number is in it but the commit's time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::binary::{self, Tree};
use crate::{process, root};

/// The file's name.
pub const NAME: &str = "keyholder.cdx.json";

type Package = (String, String);

/// C code that is compiled into the binary: crate, library, licence. Its version stands in the crate's build metadata
/// or below.
const BUNDLED: &[(&str, &str, &str)] = &[
    ("libsqlite3-sys", "sqlite", "blessing"),
    ("aws-lc-sys", "aws-lc", "ISC AND (Apache-2.0 OR ISC)"),
    ("libmimalloc-sys", "mimalloc", "MIT"),
];

/// Makes the file in `folder`.
pub fn write(folder: &Path) -> Result<PathBuf> {
    let linked = binary::development(Tree::Shipped)?.linked;
    let file = folder.join(NAME);
    fs::write(&file, format!("{:#}\n", document(&linked)?))?;
    Ok(file)
}

/// The document for the crates that were linked.
pub fn document(linked: &BTreeSet<Package>) -> Result<Value> {
    let metadata: Value = serde_json::from_str(&process::output(Command::new("cargo").current_dir(root()).args([
        "metadata",
        "--locked",
        "--format-version=1",
    ]))?)?;
    let checksums = checksums()?;
    let mut ids: BTreeMap<String, Package> = BTreeMap::new();
    let mut components = Vec::new();
    let packages = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    for package in packages {
        let key = (process::text(package, "name")?.to_owned(), process::text(package, "version")?.to_owned());
        if !linked.contains(&key) {
            continue;
        }
        ids.insert(process::text(package, "id")?.to_owned(), key.clone());
        if key.0 != "keyholder" {
            components.push(component(package, &key, checksums.get(&key).map(String::as_str)));
        }
    }
    for (krate, library, licence) in BUNDLED {
        if let Some((_, version)) = linked.iter().find(|(name, _)| name == krate) {
            components.push(bundled(library, &format!("bundled with {krate} {version}"), licence));
        }
    }
    components.push(bundled("glibc", &glibc()?, "LGPL-2.1-or-later"));
    components.push(bundled("rust-std", &rustc()?, "MIT OR Apache-2.0"));
    components.sort_by_key(|component| component["bom-ref"].as_str().map(str::to_owned));
    let main = ids.values().find(|(name, _)| name == "keyholder").context("keyholder is not linked")?.clone();
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": timestamp()?,
            "tools": { "components": [{ "type": "application", "name": "cargo xtask dist", "version": main.1 }] },
            "component": {
                "type": "application", "bom-ref": reference(&main), "name": main.0, "version": main.1,
                "licenses": [{ "expression": "Apache-2.0 OR MIT" }], "purl": reference(&main),
            },
        },
        "components": components,
        "dependencies": dependencies(&metadata, &ids),
    }))
}

/// The package URL (<https://github.com/package-url/purl-spec>), also used as the reference within the document.
fn reference((name, version): &Package) -> String {
    format!("pkg:cargo/{name}@{version}")
}

fn component(package: &Value, key: &Package, checksum: Option<&str>) -> Value {
    let mut component = json!({
        "type": "library", "bom-ref": reference(key), "name": key.0, "version": key.1, "scope": "required",
        "purl": reference(key),
    });
    let field = |name: &str| package.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(licence) = field("license") {
        // the old way to write OR
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(url) = field("repository") {
        component["externalReferences"] = json!([{ "type": "vcs", "url": url }]);
    }
    component
}

fn bundled(name: &str, version: &str, licence: &str) -> Value {
    json!({
        "type": "library", "bom-ref": format!("bundled:{name}"), "name": name, "version": version, "scope": "required",
        "licenses": [{ "expression": licence }],
    })
}

/// Edges between linked crates.
fn dependencies(metadata: &Value, ids: &BTreeMap<String, Package>) -> Vec<Value> {
    let nodes = metadata.pointer("/resolve/nodes").and_then(Value::as_array);
    let mut all: Vec<Value> = Vec::new();
    for node in nodes.into_iter().flatten() {
        let Some(package) = node.get("id").and_then(Value::as_str).and_then(|id| ids.get(id)) else { continue };
        let below: BTreeSet<String> = node
            .get("deps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|dependency| is_normal(dependency))
            .filter_map(|dependency| ids.get(dependency.get("pkg")?.as_str()?))
            .map(reference)
            .collect();
        all.push(json!({ "ref": reference(package), "dependsOn": below }));
    }
    all.sort_by_key(|entry| entry["ref"].as_str().map(str::to_owned));
    all
}

fn is_normal(dependency: &Value) -> bool {
    let kinds = dependency.get("dep_kinds").and_then(Value::as_array);
    kinds.into_iter().flatten().any(|kind| kind.get("kind").is_some_and(Value::is_null))
}

/// SHA-256 of each package's archive, from the lock file.
fn checksums() -> Result<BTreeMap<Package, String>> {
    let lock = fs::read_to_string(root().join("Cargo.lock"))?;
    let mut all = BTreeMap::new();
    for block in lock.split("[[package]]") {
        let field =
            |name: &str| block.lines().find_map(|line| line.strip_prefix(&format!("{name} = \""))?.strip_suffix('"'));
        if let (Some(name), Some(version), Some(checksum)) = (field("name"), field("version"), field("checksum")) {
            all.insert((name.to_owned(), version.to_owned()), checksum.to_owned());
        }
    }
    Ok(all)
}

fn glibc() -> Result<String> {
    Ok(process::output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?.trim().replace("glibc ", ""))
}

fn rustc() -> Result<String> {
    let said = process::output(Command::new("rustc").arg("--version"))?;
    said.split(' ').nth(1).map(str::to_owned).context("rustc has no version")
}

fn timestamp() -> Result<String> {
    let at = format!("@{}", super::source_date_epoch("HEAD")?);
    Ok(process::output(Command::new("date").args(["--utc", "--date", &at, "+%Y-%m-%dT%H:%M:%SZ"]))?.trim().to_owned())
}
