//! What is handed to operators: `cargo xtask dist` makes the static binary, its bill of materials, a Debian package and
//! checksums in `target/dist`; `dist image` a container image; `dist --verify` builds twice and compares; `dist profile`
//! measures what the compiler optimises for.
//!
//! Invariant: the same commit gives the same bytes, on every machine with the same toolchain and C compiler.

pub mod binary;
pub mod deb;
pub mod image;
pub mod profile;
pub mod sbom;
pub mod twice;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{process, root};

/// Runs `cargo xtask dist ...`.
pub fn run(words: &[&str]) -> Result<()> {
    let folder = folder()?;
    match words {
        ["--verify"] => return twice::run(),
        ["profile"] => return profile::write(),
        [] => {
            let binary = release()?;
            let materials = sbom::write(&folder)?;
            let package = deb::build(&binary, &materials, &folder)?;
            let kept = folder.join("keyholder");
            fs::copy(&binary, &kept)?;
            checksums(&folder, &[kept, materials, package])?;
        }
        ["deb"] => {
            let package = deb::build(&release()?, &sbom::write(&folder)?, &folder)?;
            checksums(&folder, &[package])?;
        }
        ["image"] => println!("built {}", image::build(&release()?, &folder)?.display()),
        ["sbom"] => println!("wrote {}", sbom::write(&folder)?.display()),
        _ => bail!("cargo xtask dist [deb|image|sbom|profile|--verify]"),
    }
    Ok(())
}

/// The release binary of the work tree.
pub fn release() -> Result<PathBuf> {
    binary::release(&root(), &target()?, &source_date_epoch("HEAD")?)
}

/// Where everything is put.
pub fn folder() -> Result<PathBuf> {
    let folder = target()?.join("dist-out");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Cargo's target folder.
pub fn target() -> Result<PathBuf> {
    let binary = crate::scenario::binary("debug")?;
    binary.ancestors().nth(2).map(Path::to_owned).context("no target folder")
}

/// Seconds since 1970 that stand for the commit, in place of the time of the build
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub fn source_date_epoch(commit: &str) -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    Ok(process::output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct", commit]))?
        .trim()
        .to_owned())
}

/// The workspace's version.
pub fn version() -> Result<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \"")).context("no version")?;
    Ok(line.trim_end_matches('"').to_owned())
}

/// SHA-256 of a file, in hex.
pub fn sha256(file: &Path) -> Result<String> {
    let said = process::output(Command::new("sha256sum").arg(file))?;
    said.split_whitespace().next().map(str::to_owned).context("sha256sum said nothing")
}

fn checksums(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let mut lines = String::new();
    for file in files {
        let name = file.file_name().context("no file name")?.to_string_lossy().into_owned();
        lines.extend([&sha256(file)?, "  ", &name, "\n"]);
    }
    print!("{lines}");
    Ok(fs::write(folder.join("SHA256SUMS"), lines)?)
}
