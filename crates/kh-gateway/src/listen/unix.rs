//! The file of a unix socket: made with its mode, replaced when its process is dead, removed at the end.
//!
//! Invariants: a file that is not a socket, or on which somebody listens, is left alone. Between keyholders a lock file
//! beside it decides (`flock`), which a dead process cannot hold; so two that start at once cannot both take the path.
//! Only the very file that was made here is removed.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};

/// Tries to lock the file that the path names, when an earlier owner removes it meanwhile.
const LOCK_TRIES: usize = 16;

/// A socket's file and the right to it. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    made: (u64, u64),
    lock: Lock,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.made);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a socket's file could not be removed");
        }
        self.lock.remove();
    }
}

/// The lock file, locked.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    /// Open for as long as the lock is held.
    file: File,
}

impl Lock {
    /// Takes the lock, or says that somebody has it.
    fn take(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        for _ in 0..LOCK_TRIES {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // its last owner may have removed it between our opening and locking it
            let lock = Self { path: path.clone(), file };
            if lock.is_current()? {
                return Ok(lock);
            }
        }
        Err(in_use())
    }

    fn is_current(&self) -> io::Result<bool> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) => Ok(identity(&found) == identity(&self.file.metadata()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the file while the lock is held, so that nobody's else is removed.
    fn remove(&self) {
        if self.is_current().unwrap_or(false)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "a socket's lock file could not be removed");
        }
    }
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")
}

/// Listens on `path`, whose file gets `mode` before anybody can connect.
pub(crate) fn bind(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    let lock = Lock::take(path)?;
    let made = make(path, mode, backlog);
    if made.is_err() {
        lock.remove();
    }
    let (listener, made) = made?;
    Ok((listener, SocketFile { path: path.to_owned(), made, lock }))
}

fn make(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, (u64, u64))> {
    clear(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let made = identity(&fs::symlink_metadata(path)?);
    // a socket that does not listen yet refuses everybody
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok((socket.into(), made))
}

/// Removes what a dead process left at `path`.
fn clear(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket"));
    }
    match UnixStream::connect(path) {
        // nobody listens: what is left is only a name
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // a full queue is somebody's queue
        Ok(_) => Err(in_use()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(in_use()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
