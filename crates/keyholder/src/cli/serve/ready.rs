//! The ready file: where this process listens, for whoever waits for it.
//!
//! Invariant: a process takes away the file that it wrote, and none that another process put in its place.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use kh_core::Code;
use serde::Serialize;

use crate::{compose::write_private_file, output::Failure};

/// What this process wrote.
pub(super) struct ReadyFile {
    path: PathBuf,
    /// Held open, so that no later file gets its inode number.
    written: File,
}

impl ReadyFile {
    /// Writes the addresses as JSON, in the place of an older file.
    pub(super) fn write<T: Serialize>(path: &Path, addresses: &T) -> Result<Self, Failure> {
        let json = serde_json::to_vec(addresses).map_err(|error| Failure::bug("the ready file").caused_by(&error))?;
        let written = write_private_file(path, &json).map_err(|error| {
            Failure::new(Code::USAGE, format!("the ready file {} cannot be written", path.display())).caused_by(&error)
        })?;
        Ok(Self { path: path.to_owned(), written })
    }

    /// Takes it away: nobody is ready any more. One that is gone already is as good.
    pub(super) fn remove(self) {
        let identity = |about: fs::Metadata| (about.dev(), about.ino());
        let written = self.written.metadata().ok().map(identity);
        let found = fs::symlink_metadata(&self.path).ok().map(identity);
        if found.is_some() && found == written {
            fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        // two that listen on unix sockets alone tell the same
        let first = ReadyFile::write(&path, &"unix:api.sock").unwrap();
        let second = ReadyFile::write(&path, &"unix:api.sock").unwrap();
        first.remove();
        assert_eq!(fs::read_to_string(&path).unwrap(), "\"unix:api.sock\"");
        second.remove();
        assert!(!path.exists());

        let third = ReadyFile::write(&path, &"unix:api.sock").unwrap();
        fs::remove_file(&path).unwrap();
        third.remove();
        assert!(!path.exists());
    }
}
