//! The container image: `deploy/container/Containerfile` built with `buildah`, without a registry and without a daemon.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{process, root};

/// Where this machine keeps the public certificate authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Builds the image from a static binary; answers the OCI archive in `folder`.
pub fn build(binary: &Path, folder: &Path) -> Result<PathBuf> {
    let context = folder.join("image-context");
    if context.exists() {
        fs::remove_dir_all(&context)?;
    }
    // inside of a folder of its own, because only what is below the copied folder keeps its mode
    let state = context.join("volume/keyholder");
    fs::create_dir_all(&state)?;
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700))?;
    fs::copy(binary, context.join("keyholder"))?;
    fs::copy(AUTHORITIES, context.join("ca-certificates.crt"))
        .with_context(|| format!("{AUTHORITIES}: install ca-certificates"))?;
    process::run(Command::new("strip").arg("--strip-unneeded").arg(context.join("keyholder")))?;
    let archive = folder.join("keyholder-image.tar");
    if archive.exists() {
        fs::remove_file(&archive)?;
    }
    let storage = folder.join("image-storage");
    buildah(&storage)
        .args(["build", "--quiet", "--isolation", "chroot", "--format", "docker", "--timestamp"])
        .arg(super::source_date_epoch("HEAD")?)
        .args(["--tag", "keyholder:latest", "--file"])
        .arg(root().join("deploy/container/Containerfile"))
        .arg(&context)
        .run()?;
    buildah(&storage)
        .args(["push", "--quiet", "keyholder:latest"])
        .arg(format!("docker-archive:{}", archive.display()))
        .run()?;
    fs::remove_dir_all(&context)?;
    Ok(archive)
}

/// `buildah` with storage of its own, so that it neither needs nor touches the machine's images.
pub fn buildah(storage: &Path) -> Buildah {
    let mut command = Command::new("buildah");
    command
        .arg("--storage-driver")
        .arg("vfs")
        .arg("--root")
        .arg(storage.join("root"))
        .arg("--runroot")
        .arg(storage.join("run"));
    Buildah(command)
}

/// One call of `buildah`.
pub struct Buildah(Command);

impl Buildah {
    /// Further words.
    pub fn args<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.0.args(words);
        self
    }

    /// One further word.
    pub fn arg(mut self, word: impl AsRef<std::ffi::OsStr>) -> Self {
        self.0.arg(word);
        self
    }

    /// Runs it.
    pub fn run(mut self) -> Result<()> {
        process::run(self.0.stdout(std::process::Stdio::null()))
    }
}
