//! What the shipped binary does under load, for the compiler: `cargo xtask dist profile` builds it with counters, sends
//! the benches' load through it and writes `xtask/data/keyholder.profdata`, with which every `dist` is built.
//!
//! Invariant: a profile decides on speed and layout and nothing else; where its counts do not fit, the same program is
//! built, only slower, and `dist` says so. A compiler whose LLVM is older than the profile's cannot read it.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{binary, target};
use crate::{bench::training, process, root, tools};

/// The counts.
const COUNTS: &str = "xtask/data/keyholder.profdata";
/// The compiler and the dependencies that they were made with.
const MADE_WITH: &str = "xtask/data/keyholder.profdata.txt";

/// Makes the profile anew.
pub fn write() -> Result<()> {
    tools::install()?;
    let merge = merger()?;
    let source = root();
    let made_with = made_with(&source)?;
    let folder = target()?.join("counting");
    let counts = folder.join("counts");
    if counts.exists() {
        fs::remove_dir_all(&counts)?;
    }
    println!("building with counters");
    let program = binary::build(&source, &folder, &super::source_date_epoch("HEAD")?, vec![flag("generate", &counts)])?;
    training::run(&program)?;
    let mut files = Vec::new();
    for file in fs::read_dir(&counts).context("the processes left no counts")? {
        files.push(file?.path());
    }
    let merged = folder.join("merged.profdata");
    process::run(Command::new(merge).args(["merge", "--sparse", "--output"]).arg(&merged).args(files))?;
    fs::copy(&merged, source.join(COUNTS))?;
    fs::write(source.join(MADE_WITH), made_with)?;
    println!("wrote {COUNTS}: build `cargo xtask dist` with it, look at `cargo xtask bench gateway`, and commit it");
    Ok(())
}

/// What rustc is told so that it uses the profile of `source`. It names the file among what it read, so cargo builds anew
/// when the file has changed.
pub fn of(source: &Path) -> Result<Vec<OsString>> {
    let recorded = fs::read_to_string(source.join(MADE_WITH))?;
    let now = made_with(source)?;
    let others: Vec<&str> = now.lines().filter(|line| !recorded.lines().any(|old| old == *line)).collect();
    if let [first, ..] = others.as_slice() {
        let count = others.len();
        eprintln!("xtask: the profile does not know {count} of this build's crates in these versions, as {first}");
        eprintln!("xtask: they and what uses them will be slower; cargo xtask dist profile makes a new profile");
    }
    // each function that was changed since would be a warning
    Ok(vec![flag("use", &source.join(COUNTS)), "-Cllvm-args=-no-pgo-warn-mismatch".into()])
}

fn flag(what: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(format!("-Cprofile-{what}="));
    flag.push(path);
    flag
}

/// The compiler, and the crates in the binary, a line each. The names of functions, by which their counts are found again,
/// come from these.
fn made_with(source: &Path) -> Result<String> {
    let rustc = process::output(Command::new("rustc").arg("--version"))?;
    let tree = ["tree", "--locked", "--package", "keyholder", "--edges", "normal,build", "--prefix", "none"];
    let tree =
        process::output(Command::new("cargo").current_dir(source).args(tree).args(["--target", binary::TARGET]))?;
    // a crate of the workspace stands there with its folder, and one that was told before with a star
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(" (").next()).collect();
    let lines: String = crates.into_iter().flat_map(|name| [name, "\n"]).collect();
    Ok(rustc + &lines)
}

/// `llvm-profdata` of the compiler's LLVM.
fn merger() -> Result<PathBuf> {
    let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let component = Path::new(sysroot.trim()).join("lib/rustlib").join(binary::TARGET).join("bin/llvm-profdata");
    if component.exists() {
        return Ok(component);
    }
    let about = process::output(Command::new("rustc").arg("-vV"))?;
    let version = about.lines().find_map(|line| line.strip_prefix("LLVM version: ")).context("rustc names no LLVM")?;
    let major = version.split('.').next().unwrap_or(version);
    let packaged = format!("llvm-profdata-{major}");
    if Command::new(&packaged).arg("--version").output().is_ok_and(|said| said.status.success()) {
        return Ok(packaged.into());
    }
    bail!("no llvm-profdata of LLVM {major}: `rustup component add llvm-tools`, or Debian's package llvm-{major}")
}
