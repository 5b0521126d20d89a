//! The file by which other commands of this machine find a running `serve`.
//!
//! Invariants: a file whose lock nobody holds belongs to a process that is gone, whatever its number says; the file
//! is complete when it appears. Several processes may serve one state, each with a file of its own.

use std::{
    fs::{File, TryLockError},
    io::Read,
    path::{Path, PathBuf},
};

use kh_core::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{Addresses, write_private_file};

const PREFIX: &str = "serving-";
const SUFFIX: &str = ".json";

/// Largest such file read, in bytes: it holds a few paths and addresses.
const BYTES_MAX: u64 = 64 * 1024;

/// A running keyholder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Serving {
    /// Its process id.
    pub(crate) pid: u32,
    /// When it started.
    pub(crate) started_at: UnixMillis,
    /// Its configuration.
    pub(crate) config: Option<PathBuf>,
    /// Where it listens.
    #[serde(flatten)]
    pub(crate) addresses: Addresses,
}

/// Held while serving. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    _locked: File,
}

impl Claim {
    /// Writes the file of `serving` into the state folder, and removes those of processes that are gone.
    pub(crate) fn write(state: &Path, serving: &Serving) -> std::io::Result<Self> {
        for (path, _) in files(state).filter(|(_, file)| !is_held(file)) {
            std::fs::remove_file(path)?;
        }
        let path = state.join(format!("{PREFIX}{}{SUFFIX}", serving.pid));
        let draft = state.join(format!("{PREFIX}{}.draft", serving.pid));
        write_private_file(&draft, &serde_json::to_vec(serving)?)?;
        // Locked before it has its name, so that nobody takes it for one that was left behind.
        let locked = File::open(&draft)?;
        locked.lock()?;
        std::fs::rename(&draft, &path)?;
        Ok(Self { path, _locked: locked })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock ends with the process anyway, and the next start removes the file.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Those who serve `state` now, the newest first.
pub(crate) fn running(state: &Path) -> Vec<Serving> {
    let held = files(state).filter(|(_, file)| is_held(file));
    let mut found: Vec<Serving> = held.filter_map(|(_, file)| read(&file)).collect();
    found.sort_by_key(|serving| std::cmp::Reverse((serving.started_at, serving.pid)));
    found
}

fn files(state: &Path) -> impl Iterator<Item = (PathBuf, File)> + use<> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse::<u32>().ok()?;
        Some((entry.path(), File::open(entry.path()).ok()?))
    })
}

fn is_held(file: &File) -> bool {
    // A lock that is granted here is given back when the file is closed.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn read(file: &File) -> Option<Serving> {
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(pid: u32, started: u64) -> Serving {
        Serving { pid, started_at: UnixMillis(started), config: None, addresses: Addresses::default() }
    }

    #[test]
    fn only_those_whose_lock_is_held_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = || running(folder.path()).iter().map(|found| found.pid).collect::<Vec<_>>();
        assert!(pids().is_empty());
        let first = Claim::write(folder.path(), &serving(7, 1)).expect("claimed");
        let second = Claim::write(folder.path(), &serving(5, 2)).expect("claimed");
        assert_eq!(pids(), [5, 7]);
        drop(second);
        assert_eq!(pids(), [7]);
        // A killed process leaves its file and not its lock.
        let left = folder.path().join("serving-99.json");
        std::fs::write(&left, serde_json::to_vec(&serving(99, 9)).expect("JSON")).expect("written");
        assert_eq!(pids(), [7]);
        let third = Claim::write(folder.path(), &serving(8, 3)).expect("claimed");
        assert!(!left.exists(), "the next start cleans up");
        assert_eq!(pids(), [8, 7]);
        drop((first, third));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
