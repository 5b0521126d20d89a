//! The unix socket of a local listener: made private, given up tidily, and open to the processes of some users only.
//!
//! Invariants: a process of a user who is not admitted is sent away before a byte of its request is read; the socket
//! never replaces one that somebody listens on; it lies in a folder in which nobody else can put another in its place.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    net::Shutdown,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::{UnixListener as StdListener, UnixStream as StdStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use axum::serve::Listener;
use kh_core::{Code, Problem};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::serve::{Peer, whole_answer};

/// Connections that may wait to be accepted: as many programs of one machine may start at once.
const BACKLOG: i32 = 1024;

/// Strangers' connections that are kept for a moment: the oldest gives way to the next.
const PARTING_MAX: usize = 16;

/// Pause after an accept that failed, most likely for want of file descriptors: others must be closed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The users whose processes are admitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Callers {
    uids: Vec<u32>,
    /// Whether users beside our own are named.
    has_others: bool,
}

impl Callers {
    /// The user of this process alone. Not even root: it has other ways.
    pub fn own() -> Self {
        Self::own_and(&[])
    }

    /// The user of this process, and these.
    pub fn own_and(others: &[u32]) -> Self {
        let own = own_uid();
        Self { uids: [&[own], others].concat(), has_others: others.iter().any(|uid| *uid != own) }
    }

    /// Only these, without our own: what a test needs to be a stranger.
    pub fn only(uids: &[u32]) -> Self {
        Self { uids: uids.to_vec(), has_others: true }
    }

    /// Whether a process of this user is admitted.
    pub fn admit(&self, uid: u32) -> bool {
        self.uids.contains(&uid)
    }

    /// With other users a socket must let everybody knock, and the check of the peer is the guard.
    fn mode(&self) -> u32 {
        if self.has_others { 0o666 } else { 0o600 }
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process could replace the socket or listen in its place.
    #[error("the folder {folder:?} is not safe for a socket: {reason}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is something else at its place.
    #[error("{path:?} is there and not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another process listens on it.
    #[error("another process listens on {path:?}")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("the socket {path:?} cannot be {action}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried: "made", "replaced".
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A listening unix socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct SocketListener {
    listener: UnixListener,
    callers: Callers,
    refused: u64,
    /// Connections of strangers who were told and are still there. Closed at once, they would be reset while they
    /// write their request, and the answer would be lost. What they write is never read.
    parting: VecDeque<StdStream>,
    _place: Option<Place>,
}

/// The socket's file while it is ours.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Device and inode of what was made here: a file that came later is somebody else's.
    identity: (u64, u64),
    /// Held locked for the listener's life, so that of two starts at once one gives way.
    lock: File,
}

impl SocketListener {
    /// Listens on `path` for `callers`. A socket that nobody listens on any more is replaced. Must run within a tokio
    /// runtime. Beside the socket, `PATH.lock` is made and stays.
    pub fn bind(path: &Path, callers: Callers) -> Result<Self, SocketError> {
        let failed = |action| {
            let path = path.to_owned();
            move |source| SocketError::Io { path, action, source }
        };
        let (folder, owner) = safe_folder(path)?;
        if !is_trusted(owner) {
            return Err(SocketError::Folder { folder, reason: "it belongs to another user" });
        }
        let lock = lock_beside(path)?;
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("made"))?;
        SockAddr::unix(path).and_then(|address| socket.bind(&address)).map_err(failed("made"))?;
        // Nobody can connect before `listen`, so there is no moment with a mode that the umask chose.
        fs::set_permissions(path, fs::Permissions::from_mode(callers.mode())).map_err(failed("made"))?;
        let about = fs::symlink_metadata(path).map_err(failed("made"))?;
        let place = Place { path: path.to_owned(), identity: (about.dev(), about.ino()), lock };
        socket.listen(BACKLOG).map_err(failed("made"))?;
        let made = Self::given(StdListener::from(socket), callers).map_err(failed("made"))?;
        Ok(Self { _place: Some(place), ..made })
    }

    /// Serves a socket that somebody else made and listens on, such as a service manager. Its file stays.
    pub fn given(listener: StdListener, callers: Callers) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            callers,
            refused: 0,
            parting: VecDeque::new(),
            _place: None,
        })
    }

    fn refuse(&mut self, stream: UnixStream, uid: Option<u32>) {
        self.refused += 1;
        // A stranger who keeps knocking must not fill the log: the 1st, 2nd, 4th, 8th, ... are told.
        if self.refused.is_power_of_two() {
            let refused = self.refused;
            tracing::warn!(peer.uid = uid, refused, "the socket sent away a process of another user");
        }
        let problem = Problem::new(Code::GUARD_REFUSED, "this socket is not for processes of your user")
            .hint("ask its operator for `allow_uids` in [broker]");
        // Best effort: a fresh socket's buffer is empty, so this never waits.
        let answer = whole_answer(&problem, "");
        let told = stream.into_std().and_then(|mut stream| {
            stream.write_all(&answer)?;
            stream.shutdown(Shutdown::Write)?;
            Ok(stream)
        });
        if self.parting.len() >= PARTING_MAX {
            self.parting.pop_front();
        }
        self.parting.extend(told);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file could not be removed");
        }
        // A program that is just being started holds a copy of the descriptor, and with it the lock, until it is executed.
        self.lock.unlock().ok();
    }
}

/// A peer that was admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// The user of the process, as the kernel tells (SO_PEERCRED, unix(7)).
    pub uid: u32,
}

impl From<Admitted> for Peer {
    fn from(admitted: Admitted) -> Self {
        Self::Unix { uid: admitted.uid }
    }
}

impl Listener for SocketListener {
    type Io = UnixStream;
    type Addr = Admitted;

    async fn accept(&mut self) -> (UnixStream, Admitted) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match stream.peer_cred().map(|peer| peer.uid()) {
                    Ok(uid) if self.callers.admit(uid) => return (stream, Admitted { uid }),
                    told => self.refuse(stream, told.ok()),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection to the socket could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Admitted> {
        Ok(Admitted { uid: own_uid() })
    }
}

/// Refuses a folder in which another user could put a file in our place. Also what a caller of the socket checks
/// before it believes who answers; for a caller the folder may belong to another user, who then is the one that it
/// trusts, unless anybody could have made it.
pub fn check_folder(path: &Path) -> Result<(), SocketError> {
    safe_folder(path).map(drop)
}

/// Whether what belongs to this user is not a stranger's.
fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == own_uid()
}

/// The folder of `path` and its owner, once it and all above it have been looked at.
fn safe_folder(path: &Path) -> Result<(PathBuf, u32), SocketError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = |source| SocketError::Io { path: path.to_owned(), action: "made", source };
    let real = folder.canonicalize().map_err(io)?;
    let owner = fs::metadata(&real).map_err(io)?.uid();
    let (mut below, mut below_owner) = (real.as_path(), owner);
    for (height, above) in real.ancestors().enumerate() {
        let about = fs::metadata(above).map_err(io)?;
        let refuse = |folder: &Path, reason| Err(SocketError::Folder { folder: folder.to_owned(), reason });
        let others_write = about.mode() & 0o022 != 0;
        if height == 0 && others_write {
            return refuse(above, "others than its owner can write to it");
        }
        // In a folder with the sticky bit, such as /tmp, only its owner can replace an entry.
        if others_write && about.mode() & 0o1000 == 0 {
            return refuse(above, "others can replace what lies in it");
        }
        // And anybody can make one, to lie in wait with it.
        if others_write && !is_trusted(below_owner) {
            return refuse(below, "another user made it in a folder where everybody can");
        }
        (below, below_owner) = (above, about.uid());
    }
    Ok((real, owner))
}

/// The lock of a socket's name, or [`SocketError::InUse`].
fn lock_beside(path: &Path) -> Result<File, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let io = |source| SocketError::Io { path: path.to_owned(), action: "made", source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(PathBuf::from(name))
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Removes a socket that a killed process left behind.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), action: "replaced", source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(about) if !about.file_type().is_socket() => return Err(SocketError::NotASocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    match StdStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Also a socket that is too busy to answer is one that somebody listens on.
        Ok(_) | Err(_) => Err(SocketError::InUse { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
