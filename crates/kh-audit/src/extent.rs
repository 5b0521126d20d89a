//! How long both files are at one moment between two appends, for whoever copies them: what is written once is never
//! changed, so the first bytes of that length are the log as it stood then.
//!
//! Invariant: both lengths are of the same moment; no append is under way while they are read.

use std::{fs::File, io, path::Path};

use kh_core::port::AuditError;

use crate::files;

/// Lengths in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Of the log.
    pub log: u64,
    /// Of its checkpoints.
    pub checkpoints: u64,
}

impl Extent {
    /// To the ends of both files, wherever they are.
    pub(crate) const WHOLE: Self = Self { log: u64::MAX, checkpoints: u64::MAX };

    /// Of both files as they are now; the caller has the log's lock.
    pub(crate) fn of(log: &File, checkpoints: &File) -> io::Result<Self> {
        Ok(Self { log: log.metadata()?.len(), checkpoints: checkpoints.metadata()?.len() })
    }
}

/// Looks at both files under the log's shared lock. Waits while an append is under way.
pub fn extent(log: &Path, checkpoints: &Path) -> Result<Extent, AuditError> {
    let missing = |path: &Path| AuditError::Broken(format!("{} is missing", path.display()));
    let log_file = files::open_for_reading(log)?.ok_or_else(|| missing(log))?;
    log_file.lock_shared().map_err(|source| files::unavailable(&source, "lock", log))?;
    let checkpoint_file = files::open_for_reading(checkpoints)?.ok_or_else(|| missing(checkpoints))?;
    Extent::of(&log_file, &checkpoint_file).map_err(|source| files::unavailable(&source, "look at", log))
}
