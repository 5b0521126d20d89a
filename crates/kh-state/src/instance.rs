//! Which processes that share one state are still there: each holds a lock on a file of its own, which the system takes
//! away with the process, however that ends.
//!
//! Invariants: a file has its name only once it is locked, so that nobody takes it for one that was left behind; a lock
//! that cannot be asked for says that its process is there.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use kh_core::{Entropy, port::Instances, port::StateError, session::InstanceId};

use crate::{failure::Failure, file};

const SUFFIX: &str = ".instance-";

/// Held while this process works on the state. Dropping it removes its file.
#[derive(Debug)]
pub struct LockedInstance {
    id: InstanceId,
    database: PathBuf,
    _locked: File,
}

impl LockedInstance {
    /// Makes itself known beside the state at `database`, and clears away the files of those who are gone. Blocks.
    pub fn claim(database: &Path, entropy: &dyn Entropy) -> Result<Self, StateError> {
        clear(database);
        let id = InstanceId::draw(entropy);
        let path = path_of(database, id);
        let draft = file::beside(&path, ".draft");
        let cannot = |error| Failure::io("cannot write", &draft, &error);
        let locked = file::open_private(OpenOptions::new().create_new(true), &draft).map_err(cannot)?;
        locked.lock().map_err(cannot)?;
        std::fs::rename(&draft, &path).map_err(cannot)?;
        Ok(Self { id, database: database.to_owned(), _locked: locked })
    }
}

impl Drop for LockedInstance {
    fn drop(&mut self) {
        // The lock ends with the process anyway, and the next one clears the file away.
        std::fs::remove_file(path_of(&self.database, self.id)).ok();
    }
}

impl Instances for LockedInstance {
    fn own(&self) -> InstanceId {
        self.id
    }

    fn is_gone(&self, instance: InstanceId) -> bool {
        instance != self.id && is_gone(&path_of(&self.database, instance))
    }
}

fn path_of(database: &Path, id: InstanceId) -> PathBuf {
    file::beside(database, &format!("{SUFFIX}{id}"))
}

fn is_gone(path: &Path) -> bool {
    match File::open(path) {
        // A lock that is granted here is given back when the file is closed.
        Ok(file) => !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock | TryLockError::Error(_))),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Removes what processes that are gone left behind. A draft whose process was killed is left: it is empty, and its
/// name comes never again.
fn clear(database: &Path) {
    let Some(name) = database.file_name().and_then(|name| name.to_str()) else { return };
    let prefix = format!("{name}{SUFFIX}");
    for entry in std::fs::read_dir(file::folder(database)).into_iter().flatten().flatten() {
        let is_instance = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.strip_prefix(&prefix).is_some_and(|id| id.parse::<uuid::Uuid>().is_ok()));
        if is_instance && is_gone(&entry.path()) {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use kh_core::SystemEntropy;

    use super::*;

    #[test]
    fn an_instance_is_there_as_long_as_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("state.db");
        let one = LockedInstance::claim(&database, &SystemEntropy).unwrap();
        let two = LockedInstance::claim(&database, &SystemEntropy).unwrap();
        assert!(!one.is_gone(two.own()) && !two.is_gone(one.own()) && !one.is_gone(one.own()));
        // A killed process leaves its file and not its lock.
        let dead = InstanceId::draw(&SystemEntropy);
        std::fs::write(path_of(&database, dead), "").unwrap();
        assert!(one.is_gone(dead) && one.is_gone(InstanceId::draw(&SystemEntropy)));
        let id = two.own();
        drop(two);
        assert!(one.is_gone(id));
        let three = LockedInstance::claim(&database, &SystemEntropy).unwrap();
        assert!(!path_of(&database, dead).exists(), "the next one clears up");
        assert!(!three.is_gone(one.own()));
        drop((one, three));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
