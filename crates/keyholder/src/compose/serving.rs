//! The file by which other commands of this machine find a running `serve`.
//!
//! Invariants: a file whose lock nobody holds belongs to a process that is gone, whatever its number says; the file
//! is complete when it appears. Several processes may serve one state, each with a file of its own, also where each is the
//! first process of its container.

use std::{
    fs::{File, TryLockError},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use kh_core::{Entropy, UnixMillis};
use kh_inbound::POLL_EVERY;
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
    pub(crate) fn write(state: &Path, serving: &Serving, entropy: &dyn Entropy) -> std::io::Result<Self> {
        for (path, _) in files(state).filter(|(_, file)| !is_held(file)) {
            match std::fs::remove_file(path) {
                // Another start was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result?,
            }
        }
        let mut own = [0; 8];
        entropy.fill(&mut own);
        let name = format!("{PREFIX}{}-{:016x}", serving.pid, u64::from_be_bytes(own));
        let path = state.join(format!("{name}{SUFFIX}"));
        let draft = state.join(format!("{name}.draft"));
        // Locked before it has its name, so that nobody takes it for one that was left behind.
        let locked = write_private_file(&draft, &serde_json::to_vec(serving)?)?;
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

/// By then a serving keyholder has seen what was changed in its state, as often as it looks, unless the machine is very
/// busy: four looks.
pub(crate) const SEEN_WITHIN: Duration = POLL_EVERY.saturating_mul(4);

/// Waits [`SEEN_WITHIN`] for those who serve `state`; answers how many they are.
pub(crate) async fn seen_by_all(state: &Path) -> usize {
    let serving = running(state).len();
    if serving > 0 {
        tokio::time::sleep(SEEN_WITHIN).await;
    }
    serving
}

fn files(state: &Path) -> impl Iterator<Item = (PathBuf, File)> + use<> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        is_name(&name).then_some(())?;
        Some((entry.path(), File::open(entry.path()).ok()?))
    })
}

/// The process id, and what makes the name one's own; that was not always there.
fn is_name(name: &str) -> bool {
    let Some(middle) = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX)) else { return false };
    let (pid, own) = middle.split_once('-').unwrap_or((middle, "0"));
    pid.parse::<u32>().is_ok() && u64::from_str_radix(own, 16).is_ok()
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
    use kh_core::SystemEntropy;

    use super::*;

    fn serving(pid: u32, started: u64) -> Serving {
        Serving { pid, started_at: UnixMillis(started), config: None, addresses: Addresses::default() }
    }

    fn claim(folder: &Path, pid: u32, started: u64) -> Claim {
        Claim::write(folder, &serving(pid, started), &SystemEntropy).expect("claimed")
    }

    fn leave(path: &Path) {
        std::fs::write(path, serde_json::to_vec(&serving(99, 9)).expect("JSON")).expect("written");
    }

    #[test]
    fn only_those_whose_lock_is_held_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = || running(folder.path()).iter().map(|found| found.pid).collect::<Vec<_>>();
        assert!(pids().is_empty());
        let first = claim(folder.path(), 7, 1);
        let second = claim(folder.path(), 5, 2);
        assert_eq!(pids(), [5, 7]);
        drop(second);
        assert_eq!(pids(), [7]);
        // A killed process leaves its file and not its lock.
        let left = ["serving-99.json", "serving-99-00000000000000ff.json"].map(|name| folder.path().join(name));
        for path in &left {
            leave(path);
        }
        assert_eq!(pids(), [7]);
        let third = claim(folder.path(), 8, 3);
        assert!(!left.iter().any(|path| path.exists()), "the next start cleans up");
        assert_eq!(pids(), [8, 7]);
        drop((first, third));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn two_of_one_number_each_remove_their_own_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let started = || running(folder.path()).iter().map(|found| found.started_at.0).collect::<Vec<_>>();
        let first = claim(folder.path(), 1, 1);
        let second = claim(folder.path(), 1, 2);
        assert_eq!(started(), [2, 1]);
        drop(first);
        assert_eq!(started(), [2]);
        drop(second);
        assert!(started().is_empty());
    }

    #[test]
    fn several_that_start_at_once_clean_up_together() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..20 {
            for number in 0..50 {
                leave(&folder.path().join(format!("serving-{number}.json")));
            }
            let at_once = std::sync::Barrier::new(4);
            let claims: Vec<_> = std::thread::scope(|scope| {
                let start = || {
                    at_once.wait();
                    claim(folder.path(), 1, 1)
                };
                let starting: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                starting.into_iter().map(|one| one.join().expect("it starts")).collect()
            });
            assert_eq!(running(folder.path()).len(), claims.len());
        }
    }

    #[test]
    fn other_files_are_no_such_files() {
        for name in
            ["serving-.json", "serving-x.json", "serving-1-.json", "serving-1-x.json", "serving-1-1-1.json", "1.json"]
        {
            assert!(!is_name(name), "{name}");
        }
    }
}
