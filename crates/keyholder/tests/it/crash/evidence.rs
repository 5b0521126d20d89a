//! How the state's files looked at a moment, seen from outside.
//!
//! Invariant: equal looks may hide a change (two writes within one tick of the file system's clock), different looks
//! never invent one; so counting differences never counts too much.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Files that only a serving keyholder writes while no command changes a client.
pub const OF_TOKENS: &[&str] = &["state.db", "state.db-wal"];

/// Files that only commands write: secrets and the log of what people changed.
pub const OF_COMMANDS: &[&str] = &["secrets.db", "secrets.db-journal", "audit.log", "audit.checkpoints"];

/// Size and times of some files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look(Vec<Option<(u64, i64, i64)>>);

impl Look {
    pub fn at(state: &Path, files: &[&str]) -> Self {
        let of = |name: &&str| {
            let metadata = fs::metadata(state.join(name)).ok()?;
            Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
        };
        Self(files.iter().map(of).collect())
    }
}

/// Whether a transaction of the secret store was cut off: its journal is there.
pub fn hot_journal(state: &Path) -> bool {
    fs::metadata(state.join("secrets.db-journal")).is_ok_and(|metadata| metadata.len() > 0)
}

/// Whether an append to the audit log was cut off in the middle of a line.
pub fn torn_line(state: &Path) -> bool {
    ["audit.log", "audit.checkpoints"].iter().any(|name| {
        let bytes = fs::read(state.join(name)).unwrap_or_default();
        !bytes.is_empty() && bytes.last() != Some(&b'\n')
    })
}

/// Every file of a folder with its bytes.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    all.sort();
    all
}
