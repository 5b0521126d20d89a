//! The two files: private, locked, durable.
//!
//! Invariant: nothing is created with a mode that others could use, and a created file's directory entry is on disk
//! before anything is written into it.

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use kh_core::port::AuditError;

/// Permission bits of group and others.
const OPEN_TO_OTHERS: u32 = 0o077;

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

/// An error that names the file and what was tried.
pub(crate) fn unavailable(source: &io::Error, doing: &str, path: &Path) -> AuditError {
    AuditError::Unavailable(io::Error::new(source.kind(), format!("cannot {doing} {}: {source}", path.display())))
}

/// Opens for reading and appending; creates with mode 0600 when it is missing.
pub(crate) fn open_for_append(path: &Path) -> Result<File, AuditError> {
    let existed = std::fs::exists(path).map_err(|source| unavailable(&source, "open", path))?;
    if !existed {
        create_private_dir(parent(path)).map_err(|source| unavailable(&source, "create the directory of", path))?;
    }
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| unavailable(&source, "open", path))?;
    if !existed {
        File::open(parent(path))
            .and_then(|directory| directory.sync_all())
            .map_err(|source| unavailable(&source, "make durable", path))?;
    }
    let mode = file.metadata().map_err(|source| unavailable(&source, "open", path))?.permissions().mode() & 0o7777;
    if mode & OPEN_TO_OTHERS != 0 {
        let reason = format!("{0} is open to others (mode {mode:04o}); run: chmod 600 {0}", path.display());
        return Err(AuditError::Unavailable(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
    }
    Ok(file)
}

/// Opens for reading; `None` when there is no such file.
pub(crate) fn open_for_reading(path: &Path) -> Result<Option<File>, AuditError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unavailable(&source, "open", path)),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn create_private_dir(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    File::open(parent(directory))?.sync_all()
}
