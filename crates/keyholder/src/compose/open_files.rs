//! As many open files as the system lets the process have.
//!
//! Invariant: best effort and never a reason not to start; a limit that stays low is logged once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A gateway with fewer runs out of connections before it runs out of anything else: a proxied call holds two.
const ENOUGH: u64 = 4_096;

/// Raises the soft limit of open files to the hard one. The usual soft limit of 1,024 protects programs that call
/// `select` (select(2), "BUGS"), which nothing here does.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    if let Some(most) = getrlimit(Resource::Nofile).current
        && most < ENOUGH
    {
        tracing::warn!(most, "few files may be open at once: half as many calls can be proxied (see `ulimit -Hn`)");
    }
}
