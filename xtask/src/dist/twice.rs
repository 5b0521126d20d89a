//! `cargo xtask dist --verify`: is the release binary the same when it is built again, elsewhere?

use std::{fs, process::Command};

use anyhow::{Result, bail, ensure};

use super::{binary, sha256, source_date_epoch};
use crate::{process, root};

/// Builds the last commit in two folders of different names and lengths, with target folders of their own, and
/// compares the bytes. Two binaries that differ are kept for a look at them.
pub fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // once: somebody may commit while the builds run
    let commit = process::output(Command::new("git").current_dir(root()).args(["rev-parse", "HEAD"]))?;
    let commit = commit.trim();
    let epoch = source_date_epoch(commit)?;
    let archive = folder.path().join("source.tar");
    process::run(Command::new("git").current_dir(root()).args(["archive", commit, "--output"]).arg(&archive))?;
    let kept = super::folder()?;
    let mut made = Vec::new();
    for name in ["one", "another-folder-with-a-longer-name"] {
        let source = folder.path().join(name).join("source");
        fs::create_dir_all(&source)?;
        process::run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?;
        let built = binary::release(&source, &folder.path().join(name).join("target"), &epoch)?;
        let copy = kept.join(format!("keyholder-{name}"));
        fs::copy(&built, &copy)?;
        let bytes = fs::read(&copy)?;
        let own = folder.path().display().to_string();
        ensure!(!bytes.windows(own.len()).any(|part| part == own.as_bytes()), "the binary names the folder {own}");
        let digest = sha256(&copy)?;
        println!("{digest}  {commit} built in {}", source.display());
        made.push((digest, copy));
        fs::remove_dir_all(folder.path().join(name))?;
    }
    let [(first, one), (second, other)] = made.as_slice() else { bail!("there are not two builds") };
    ensure!(first == second, "the two binaries differ: compare {} and {}", one.display(), other.display());
    fs::remove_file(one)?;
    fs::remove_file(other)?;
    println!("reproducible: two builds in different folders have the same SHA-256");
    Ok(())
}
