//! Verification: reads both files from the start and changes nothing.
//!
//! Invariants: what is read are both files as they stood between two appends, so that an append in progress is never
//! taken for damage; the log's lock is not held while they are read, so that no append waits for a long log, unless
//! something was found.

use std::{fs::File, io, path::Path};

use kh_core::port::AuditError;

use crate::{
    chain::Walker,
    extent::Extent,
    files,
    finding::{Finding, FindingKind, Report},
    keys::PublicKey,
};

/// Verifies `log` against `checkpoints`, as they stand now. With `public_key`, only that key's signatures count;
/// without it the first checkpoint's key is trusted, which tells nothing when somebody replaced both files.
///
/// An error means that the files cannot be read; what they say is in the report.
pub fn verify(log: &Path, checkpoints: &Path, public_key: Option<&PublicKey>) -> Result<Report, AuditError> {
    let mut walker = Walker::new(public_key.copied());
    let finding = match look(log, checkpoints)? {
        Err(missing) => Some(missing),
        Ok(seen) => {
            let unreadable = |source: io::Error| files::unavailable(&source, "read", log);
            let mut finding = seen.walk(&mut walker, seen.until).map_err(unreadable)?;
            if finding.is_some() {
                // A writer may have repaired what a crash left and written other lines in its place while it was read:
                // only what is also found while nobody writes is a finding.
                walker = Walker::new(public_key.copied());
                seen.log.lock_shared().map_err(|source| files::unavailable(&source, "lock", log))?;
                finding = seen.walk(&mut walker, Extent::WHOLE).map_err(unreadable)?;
            }
            finding
        }
    };
    Ok(Report {
        entries: walker.seq,
        checkpoints: walker.checkpoints,
        uncovered: walker.seq.saturating_sub(walker.covered),
        head: walker.head,
        public_key: walker.key,
        pinned: public_key.is_some(),
        finding,
    })
}

/// Both files and how long they were at one moment between two appends.
struct Seen {
    log: File,
    checkpoints: File,
    until: Extent,
    /// What is found when the checkpoints' file has none.
    missing: Finding,
}

/// Opens both files and looks at their lengths under the log's shared lock, which is given back. The inner error: a
/// file that is not there.
fn look(log: &Path, checkpoints: &Path) -> Result<Result<Seen, Finding>, AuditError> {
    let Some(log_file) = files::open_for_reading(log)? else {
        return Ok(Err(Finding::new(FindingKind::LogMissing, 1, format!("there is no log at {}", log.display()))));
    };
    log_file.lock_shared().map_err(|source| files::unavailable(&source, "lock", log))?;
    let sentence = format!("the signed checkpoints are missing at {}", checkpoints.display());
    let missing = Finding::new(FindingKind::CheckpointsMissing, 1, sentence);
    let Some(checkpoint_file) = files::open_for_reading(checkpoints)? else {
        return Ok(Err(missing));
    };
    let until =
        Extent::of(&log_file, &checkpoint_file).map_err(|source| files::unavailable(&source, "look at", log))?;
    log_file.unlock().map_err(|source| files::unavailable(&source, "unlock", log))?;
    Ok(Ok(Seen { log: log_file, checkpoints: checkpoint_file, until, missing }))
}

impl Seen {
    fn walk(&self, walker: &mut Walker, until: Extent) -> io::Result<Option<Finding>> {
        let finding = walker.walk(&self.log, &self.checkpoints, until)?;
        if walker.checkpoints == 0 && finding.as_ref().is_none_or(|finding| finding.kind == FindingKind::Unsigned) {
            return Ok(Some(self.missing.clone()));
        }
        Ok(finding)
    }
}

#[cfg(test)]
mod tests;
