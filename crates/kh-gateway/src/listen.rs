//! Where a gateway listens: its own TCP and unix sockets, and sockets that a supervisor opened.
//!
//! Invariants: an address means exactly itself (an IPv6 one never takes IPv4 callers); a socket that another process
//! listens on is never shared with it or taken from it; nobody connects to a unix socket before it has its mode.

mod unix;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use socket2::{Domain, Protocol, Socket, Type};

pub(crate) use self::unix::SocketFile;
use crate::config::StartError;

/// Connections that wait in the kernel before they are accepted.
const BACKLOG: i32 = 1_024;

/// What stands before the path of a unix socket.
const UNIX: &str = "unix:";

/// One thing to listen on.
#[derive(Debug)]
pub enum Listen {
    /// A TCP address; port 0 takes a free one. An IPv6 address takes IPv6 callers only, whatever the machine's setting.
    Tcp(SocketAddr),
    /// A unix socket, made here and removed at the end.
    Unix(PathBuf),
    /// A socket that listens already, such as one of systemd's. It is not removed at the end.
    Given(Given),
}

/// A listening socket from elsewhere.
#[derive(Debug)]
pub enum Given {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A unix socket.
    Unix(std::os::unix::net::UnixListener),
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Given(_) => f.write_str("a socket of the supervisor"),
        }
    }
}

/// Why a text is nothing to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Neither an address nor `unix:` and a path.
    #[error("it is neither an IP address with a port nor unix:PATH")]
    Address,
    /// No path, or one with a NUL.
    #[error("unix: is followed by no usable path")]
    Path,
}

impl FromStr for Listen {
    type Err = ListenError;

    /// `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/keyholder/gateway.sock`.
    fn from_str(text: &str) -> Result<Self, ListenError> {
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(Self::Tcp).map_err(|_| ListenError::Address);
        };
        // `unix://path` would name a host in a URL; a folder is no socket
        if path.is_empty() || path.starts_with("//") || path.ends_with('/') || path.contains('\0') {
            return Err(ListenError::Path);
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

/// One listening socket of one worker.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// A worker's handle on something to listen on.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) socket: Bound,
    /// Whether it goes on to listen in somebody else's hands after this gateway: then who waits in its queue is served
    /// by whoever comes next.
    pub(crate) given: bool,
}

/// Everything that is listened on.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// For each worker, one of each.
    pub(crate) of_workers: Vec<Vec<Opened>>,
    /// TCP addresses with their real ports, in the order given.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Paths of the unix sockets, in the order given.
    pub(crate) paths: Vec<PathBuf>,
    /// The files of those made here.
    pub(crate) files: Vec<SocketFile>,
}

/// Opens everything for `workers` workers. `mode` is that of the unix sockets made here.
pub(crate) fn open(wanted: Vec<Listen>, workers: usize, mode: u32) -> Result<Listeners, StartError> {
    let of_workers = (0..workers).map(|_| Vec::new()).collect();
    let mut all = Listeners { of_workers, ..Listeners::default() };
    for listen in wanted {
        let address = listen.to_string();
        let opened = match listen {
            Listen::Tcp(address) => all.tcp(address),
            Listen::Unix(path) => all.unix(&path, mode),
            Listen::Given(given) => all.given(given),
        };
        opened.map_err(|source| StartError::Listen { address, source })?;
    }
    Ok(all)
}

impl Listeners {
    fn tcp(&mut self, wanted: SocketAddr) -> io::Result<()> {
        let claim = claim(wanted)?;
        // with port 0 the claim picks the port for all
        let address = claim.local_addr()?;
        for of_worker in &mut self.of_workers {
            of_worker.push(Opened { socket: Bound::Tcp(bind(address)?), given: false });
        }
        self.addresses.push(address);
        Ok(())
    }

    fn unix(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        let (listener, file) = unix::bind(path, mode, BACKLOG)?;
        for of_worker in &mut self.of_workers {
            of_worker.push(Opened { socket: Bound::Unix(listener.try_clone()?), given: false });
        }
        self.paths.push(path.to_owned());
        self.files.push(file);
        Ok(())
    }

    /// The workers share a given socket: the kernel wakes whoever is idle.
    fn given(&mut self, given: Given) -> io::Result<()> {
        match given {
            Given::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                self.addresses.push(listener.local_addr()?);
                for of_worker in &mut self.of_workers {
                    of_worker.push(Opened { socket: Bound::Tcp(listener.try_clone()?), given: true });
                }
            }
            Given::Unix(listener) => {
                listener.set_nonblocking(true)?;
                self.paths.extend(listener.local_addr()?.as_pathname().map(Path::to_owned));
                for of_worker in &mut self.of_workers {
                    of_worker.push(Opened { socket: Bound::Unix(listener.try_clone()?), given: true });
                }
            }
        }
        Ok(())
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // connections of an earlier process that linger are no reason to refuse
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Fails if another process listens on `address`: with `SO_REUSEPORT` it would silently share the callers with us. The
/// claim is held until our own sockets listen: of two processes that start at once, one fails here.
fn claim(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    // only one socket of an address may begin to listen without `SO_REUSEPORT`
    socket.listen(1)?;
    // our own sockets may join from now on; nobody else's claim may
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    // the kernel spreads connections over the workers' sockets
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
