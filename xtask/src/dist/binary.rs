//! The static binary, in the `dist` profile for operators and in the development profile for the checks.
//!
//! Invariant: no path of the building machine and no time of the build is in the release binary.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::profile;
use crate::{process, root, scenario};

/// The only target that is built: glibc resolves names without shared libraries since 2.34, so a binary with
/// `crt-static` needs nothing of the machine it runs on.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Links everything, the C library as well.
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// The binary that is shipped, of `source`.
pub fn release(source: &Path, target: &Path, epoch: &str) -> Result<PathBuf> {
    build(source, target, epoch, profile::of(source)?)
}

/// Builds `source` in the `dist` profile below `target`, with fixed names in place of this machine's folders and more
/// flags for rustc.
pub fn build(source: &Path, target: &Path, epoch: &str, more: Vec<OsString>) -> Result<PathBuf> {
    let mut renamed = vec![(source.to_owned(), "/keyholder"), (target.to_owned(), "/target")];
    let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    renamed.push((PathBuf::from(sysroot.trim()), "/rust"));
    renamed.push((cargo_home()?, "/cargo"));
    // Of several prefixes rustc takes the last that fits, so the longest must come last.
    renamed.sort_by_key(|(folder, _)| folder.as_os_str().len());
    let mut flags = more;
    flags.push(STATIC.into());
    let mut c_flags = String::from("-Wno-builtin-macro-redefined");
    for (folder, name) in &renamed {
        let pair = format!("{}={name}", folder.display());
        flags.push(format!("--remap-path-prefix={pair}").into());
        c_flags.extend([" -ffile-prefix-map=", &pair]);
    }
    process::run(
        Command::new("cargo")
            .current_dir(source)
            .args(["build", "--quiet", "--locked", "--profile", "dist", "--package", "keyholder", "--bin", "keyholder"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join(&OsString::from("\u{1f}")))
            .env("CFLAGS", &c_flags)
            .env("SOURCE_DATE_EPOCH", epoch)
            .env("ZERO_AR_DATE", "1")
            .env_remove("RUSTFLAGS"),
    )?;
    Ok(target.join(TARGET).join("dist/keyholder"))
}

fn cargo_home() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"))).context("no cargo home")
}

/// Which dependencies a static binary of the development profile has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// Those of the binary that is shipped.
    Shipped,
    /// The same with the features that they have in the tests: the tests' libraries, linked once more.
    Tests,
}

/// The static binary of the development profile.
pub struct Development {
    /// The binary.
    pub binary: PathBuf,
    /// Name and version of every crate that the linker was given, without the standard library's.
    pub linked: BTreeSet<(String, String)>,
}

/// Names the file for the linker's arguments to this program in the place of rustc.
pub const LINK_ARGUMENTS: &str = "KEYHOLDER_XTASK_LINK_ARGUMENTS";

/// Links keyholder statically from what the development build has compiled already, and asks the linker what it got.
pub fn development(tree: Tree) -> Result<Development> {
    let folder = super::target()?.join("static");
    fs::create_dir_all(&folder)?;
    let arguments = folder.join("link-args");
    let selection = match tree {
        Tree::Shipped => &["--package", "keyholder"],
        Tree::Tests => &scenario::SHARED,
    };
    link_again()?;
    // cargo has flags for one crate alone only where it selects one package, and then that decides on all features
    let built = process::output(
        Command::new("cargo")
            .current_dir(root())
            .args(["build", "--quiet", "--locked", "--message-format=json", "--bin", "keyholder"])
            .args(selection)
            .env("RUSTC_WRAPPER", std::env::current_exe()?)
            .env(LINK_ARGUMENTS, &arguments),
    )?;
    let binary = folder.join("keyholder");
    fs::copy(scenario::binary("debug")?, &binary)?;
    // puts the ordinary binary back in its place
    link_again()?;
    scenario::build()?;
    Ok(Development { binary, linked: linked(&built, &fs::read_to_string(&arguments)?)? })
}

/// Lets cargo compile the binary's own few lines anew.
fn link_again() -> Result<()> {
    #[allow(clippy::disallowed_methods, reason = "what cargo compares")]
    let now = std::time::SystemTime::now();
    let main = root().join("crates/keyholder/src/main.rs");
    Ok(fs::File::options().append(true).open(main)?.set_modified(now)?)
}

/// In the place of rustc: the same call, in which keyholder's binary is linked statically and the linker's arguments are
/// written to `file`.
pub fn as_rustc(mut call: impl Iterator<Item = OsString>, file: &OsStr) -> std::io::Error {
    let Some(rustc) = call.next() else { return std::io::Error::other("cargo names no compiler") };
    let words: Vec<OsString> = call.collect();
    let says = |flag: &str, value: &str| words.windows(2).any(|pair| pair == [flag, value]);
    let mut command = Command::new(rustc);
    command.args(&words);
    if says("--crate-name", "keyholder") && says("--crate-type", "bin") {
        let mut print = OsString::from("--print=link-args=");
        print.push(file);
        command.arg(STATIC).arg(print);
    }
    command.exec()
}

/// The crates behind the libraries on the linker's command line.
fn linked(messages: &str, arguments: &str) -> Result<BTreeSet<(String, String)>> {
    let mut owners: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line)?;
        let Some(package) = message.get("package_id").and_then(Value::as_str) else { continue };
        for file in message.get("filenames").and_then(Value::as_array).into_iter().flatten() {
            owners.insert(file.as_str().unwrap_or_default().to_owned(), name_and_version(package)?);
        }
    }
    let mut found = BTreeSet::new();
    let is_library = |word: &&str| Path::new(word).extension().is_some_and(|extension| extension == "rlib");
    // the standard library's stand in the toolchain
    let own = arguments.split(['"', ' ']).filter(is_library).filter(|word| !word.contains("/rustlib/"));
    for library in own {
        found.insert(owners.get(library).with_context(|| format!("nobody made {library}"))?.clone());
    }
    ensure!(found.len() > 50, "the linker was given {} crates, which cannot be all", found.len());
    Ok(found)
}

/// Of a package id: `registry+URL#name@1.0.0`, or `path+file:///folder/name#1.0.0` where the folder is the name.
fn name_and_version(package: &str) -> Result<(String, String)> {
    let (place, rest) = package.split_once('#').context("a package id has a #")?;
    let (name, version) = match rest.split_once('@') {
        Some(both) => both,
        None => (place.rsplit('/').next().unwrap_or_default(), rest),
    };
    Ok((name.to_owned(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_ids_of_both_kinds() {
        for (id, name) in [("registry+https://x/y#serde@1.0.0", "serde"), ("path+file:///a/kh-core#0.1.0", "kh-core")] {
            assert_eq!(name_and_version(id).unwrap().0, name);
        }
        assert!(name_and_version("x").is_err());
    }
}
