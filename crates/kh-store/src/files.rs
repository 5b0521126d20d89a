//! Files and directories that only their owner may read.
//!
//! Invariant: what is created here has its final mode from the first moment; no window in which others could open it.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Permission bits of group and others.
pub(crate) const OPEN_TO_OTHERS: u32 = 0o077;

/// Write permission of group and others on a directory lets them replace the files in it.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// With the sticky bit only a file's owner may replace it, as in `/tmp`.
const STICKY: u32 = 0o1000;

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Permission bits, with set-id and sticky.
pub(crate) fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

/// What tells one file from another that later has the same path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Makes `directory` and what is missing above it with mode 0700; leaves an existing one as it is.
pub(crate) fn create_private_dir(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    sync_dir(parent(directory))
}

/// Whether others than the owner could put another file in the place of one in `directory`.
pub(crate) fn replaceable_by_others(directory: &Path) -> io::Result<bool> {
    let mode = mode(&fs::metadata(directory)?);
    Ok(mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0)
}

/// A new file of mode 0600; fails with `AlreadyExists` when there is one.
pub(crate) fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the entries of `directory` durable.
pub(crate) fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
