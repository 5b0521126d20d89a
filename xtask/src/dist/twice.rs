//! `cargo xtask dist --verify`: is the release binary the same when it is built again, elsewhere?

use std::{fs, process::Command};

use anyhow::{Result, ensure};

use super::{binary, sha256};
use crate::{process, root};

/// Builds the last commit in two folders of different names and lengths, with target folders of their own, and
/// compares the bytes.
pub fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut made = Vec::new();
    for name in ["one", "another-folder-with-a-longer-name"] {
        let source = folder.path().join(name).join("source");
        fs::create_dir_all(&source)?;
        let archive = folder.path().join("source.tar");
        process::run(Command::new("git").current_dir(root()).args(["archive", "--output"]).arg(&archive).arg("HEAD"))?;
        process::run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?;
        let built = binary::release(&source, &folder.path().join(name).join("target"))?;
        let kept = folder.path().join(format!("keyholder-{}", made.len()));
        fs::copy(&built, &kept)?;
        let text = fs::read(&kept)?;
        let own = folder.path().display().to_string();
        ensure!(!text.windows(own.len()).any(|part| part == own.as_bytes()), "the binary names the folder {own}");
        made.push(sha256(&kept)?);
        println!("{}  built in {}", made[made.len() - 1], source.display());
        fs::remove_dir_all(folder.path().join(name))?;
    }
    ensure!(made.first() == made.last(), "the two binaries differ");
    println!("reproducible: two builds in different folders have the same SHA-256");
    Ok(())
}
