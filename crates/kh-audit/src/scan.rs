//! Verification: reads both files from the start and changes nothing.
//!
//! Invariant: reads under the log's shared lock, so that an append in progress is never taken for damage.

use std::path::Path;

use kh_core::port::AuditError;

use crate::{
    chain::Walker,
    files,
    finding::{Finding, FindingKind, Report},
    keys::PublicKey,
};

/// Verifies `log` against `checkpoints`. With `public_key`, only that key's signatures count; without it the first
/// checkpoint's key is trusted, which tells nothing when somebody replaced both files.
///
/// An error means that the files cannot be read; what they say is in the report.
pub fn verify(log: &Path, checkpoints: &Path, public_key: Option<&PublicKey>) -> Result<Report, AuditError> {
    let mut walker = Walker::new(public_key.copied());
    let finding = walk(&mut walker, log, checkpoints)?;
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

fn walk(walker: &mut Walker, log: &Path, checkpoints: &Path) -> Result<Option<Finding>, AuditError> {
    let Some(log_file) = files::open_for_reading(log)? else {
        return Ok(Some(Finding::new(FindingKind::LogMissing, 1, format!("there is no log at {}", log.display()))));
    };
    log_file.lock_shared().map_err(|source| files::unavailable(&source, "lock", log))?;
    let missing = || {
        let sentence = format!("the signed checkpoints are missing at {}", checkpoints.display());
        Finding::new(FindingKind::CheckpointsMissing, 1, sentence)
    };
    let Some(checkpoint_file) = files::open_for_reading(checkpoints)? else {
        return Ok(Some(missing()));
    };
    let finding =
        walker.walk(&log_file, &checkpoint_file).map_err(|source| files::unavailable(&source, "read", log))?;
    if walker.checkpoints == 0 && finding.as_ref().is_none_or(|finding| finding.kind == FindingKind::Unsigned) {
        return Ok(Some(missing()));
    }
    Ok(finding)
}
