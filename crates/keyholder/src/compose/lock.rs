//! Who may use an installation at the same time: every process that opens it holds its lock file shared, and what
//! replaces files as a whole (`store restore`, `store rekey`, `store migrate`) holds it alone.
//!
//! Invariant: the lock is the kernel's (flock(2)): it ends with its process, also by SIGKILL, so a lock file that was
//! left behind means nothing.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use kh_core::Code;

use crate::output::Failure;

/// How long a command waits for another one to end: commands take a second or two, `serve` stays.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_millis(100);

/// File systems on which another machine's locks may not be seen, by their magic number (statfs(2)).
const NETWORK: [(i64, &str); 8] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
];

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct InstallationLock {
    _file: File,
}

/// The lock file of a state folder.
pub(crate) fn lock_file(state: &Path) -> PathBuf {
    state.join("keyholder.lock")
}

impl InstallationLock {
    /// For a process that uses the installation beside others.
    pub(crate) fn shared(state: &Path) -> Result<Self, Failure> {
        warn_of_network(state);
        let file = open(state)?;
        wait_for(|| file.try_lock_shared()).map_err(|error| {
            refused(error, state, "its files are being replaced by `keyholder store restore`, `rekey` or `migrate`")
                .hint("wait until that command has ended")
        })?;
        Ok(Self { _file: file })
    }

    /// The same for a process that only looks and makes nothing, not even the lock file; none if there is none.
    pub(crate) fn shared_if_there(state: &Path) -> Result<Option<Self>, Failure> {
        if lock_file(state).exists() { Self::shared(state).map(Some) } else { Ok(None) }
    }

    /// For a process that replaces what others would read.
    pub(crate) fn alone(state: &Path) -> Result<Self, Failure> {
        warn_of_network(state);
        let file = open(state)?;
        wait_for(|| file.try_lock()).map_err(|error| {
            refused(error, state, "another keyholder uses it")
                .hint("stop `keyholder serve` and other commands on this state folder, then try again")
        })?;
        Ok(Self { _file: file })
    }
}

fn open(state: &Path) -> Result<File, Failure> {
    let path = lock_file(state);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let opened = match opened {
        // locking needs no right to write: on a read-only file system the rest fails with its own words
        Err(error) if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
            File::open(&path).map_err(|_| error)
        }
        other => other,
    };
    opened.map_err(|error| {
        Failure::new(Code::STATE_UNAVAILABLE, format!("the lock file {} cannot be opened", path.display()))
            .caused_by(&error)
            .hint("check the state folder: disk full, read-only, or not yours?")
    })
}

fn wait_for(take: impl Fn() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match take() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            decided => return decided,
        }
    }
    take()
}

fn refused(error: TryLockError, state: &Path, why: &str) -> Failure {
    match error {
        TryLockError::WouldBlock => {
            Failure::new(Code::STATE_IN_USE, format!("the state folder {} is in use: {why}", state.display()))
        }
        TryLockError::Error(error) => {
            Failure::new(Code::STATE_UNAVAILABLE, format!("the state folder {} cannot be locked", state.display()))
                .caused_by(&error)
        }
    }
}

fn warn_of_network(state: &Path) {
    let Ok(about) = rustix::fs::statfs(state) else { return };
    if let Some(name) = network_name(about.f_type) {
        tracing::warn!(
            path = %state.display(),
            filesystem = name,
            "the state folder is on a network file system: use it from one machine only, locks may not reach another"
        );
    }
}

/// The name of a network file system. Some kernels tell the number with its sign extended.
fn network_name(magic: i64) -> Option<&'static str> {
    NETWORK.iter().find(|(known, _)| *known == magic & 0xffff_ffff).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_number() {
        for (magic, name) in [
            (0x6969, Some("NFS")),
            (0xff53_4d42, Some("CIFS")),
            (i64::from(0xff53_4d42_u32.cast_signed()), Some("CIFS")),
            (0xef53, None),
            (0x0102_1994, None),
        ] {
            assert_eq!(network_name(magic), name, "{magic:x}");
        }
    }

    #[test]
    fn many_share_and_one_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (open(folder.path()).unwrap(), open(folder.path()).unwrap());
        first.try_lock_shared().unwrap();
        second.try_lock_shared().unwrap();
        let third = open(folder.path()).unwrap();
        assert!(matches!(third.try_lock(), Err(TryLockError::WouldBlock)));
        drop((first, second));
        third.try_lock().unwrap();
        assert!(matches!(open(folder.path()).unwrap().try_lock_shared(), Err(TryLockError::WouldBlock)));
    }
}
