//! The writer: appends under an exclusive lock, after it has verified everything that was added since it last looked.
//!
//! Invariant: when `append` returns, entries and checkpoint are on disk; when it fails, the log has what it had before,
//! or entries that a repetition recognises by their id.

use std::{
    collections::HashSet,
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use kh_core::{
    Clock, SecretBytes, Sha256,
    audit::AuditEvent,
    port::{AuditError, AuditLog},
};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    chain::Walker,
    checkpoint::Checkpoint,
    entry::Entry,
    extent::Extent,
    files::{self, Identity, unavailable},
    finding::FindingKind,
    keys::{PublicKey, Signer},
};

/// The audit log in a file. Several processes may have the same one open.
pub struct FileAuditLog {
    log: PathBuf,
    checkpoints: PathBuf,
    signer: Signer,
    clock: Arc<dyn Clock>,
    known: Mutex<Option<Known>>,
}

/// What this process has verified, and of which files.
struct Known {
    log: Identity,
    checkpoints: Identity,
    walker: Walker,
}

/// Both files, locked; dropping it unlocks.
struct Locked {
    log: File,
    checkpoints: File,
}

impl FileAuditLog {
    /// Opens both files, creating them with mode 0600 when neither is there, verifies all of them with the key of
    /// `signing_seed` (32 bytes) and removes what a crash left of an append. A log that does not verify is
    /// [`AuditError::Broken`].
    pub fn open(
        log: &Path,
        checkpoints: &Path,
        signing_seed: &SecretBytes,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuditError> {
        let this = Self {
            log: log.to_owned(),
            checkpoints: checkpoints.to_owned(),
            signer: Signer::from_seed(signing_seed)?,
            clock,
            known: Mutex::new(None),
        };
        this.append(&[])?;
        Ok(this)
    }

    /// The key to verify this log with. It is no secret: keep a copy where the log cannot be changed from.
    pub fn public_key(&self) -> PublicKey {
        self.signer.public()
    }

    /// Number and hash of the last entry, once everything that is new was verified; 0 for an empty log. Blocks.
    pub fn head(&self) -> Result<(u64, Sha256), AuditError> {
        self.append(&[])?;
        let known = self.known.lock();
        let walker = known.as_ref().map(|known| (known.walker.seq, known.walker.head));
        walker.ok_or_else(|| AuditError::Broken("the log changed while it was looked at".to_owned()))
    }

    /// Opens and locks. A log that is gone while its checkpoints are there is not started anew.
    fn lock(&self) -> Result<Locked, AuditError> {
        if !exists(&self.log)? && has_content(&self.checkpoints)? {
            let reason = format!("{} is gone, but its checkpoints are there", self.log.display());
            return Err(AuditError::Broken(reason));
        }
        if has_content(&self.log)? && !exists(&self.checkpoints)? {
            let reason = format!("the signed checkpoints are missing at {}", self.checkpoints.display());
            return Err(AuditError::Broken(reason));
        }
        let log = files::open_for_append(&self.log)?;
        log.lock().map_err(|source| unavailable(&source, "lock", &self.log))?;
        let checkpoints = files::open_for_append(&self.checkpoints)?;
        let locked = Locked { log, checkpoints };
        let at_path = fs::metadata(&self.log).map(|metadata| Identity::of(&metadata)).ok();
        if at_path != Some(locked.identities()?.0) {
            let source = io::Error::other("it was replaced while it was being locked");
            return Err(unavailable(&source, "use", &self.log));
        }
        Ok(locked)
    }

    /// Verifies what is new in the files since `known`, or all of them.
    fn catch_up(&self, known: Option<Known>, files: &Locked) -> Result<Known, AuditError> {
        let unreadable = |source: io::Error| unavailable(&source, "read", &self.log);
        let (log, checkpoints) = files.identities()?;
        let same = known.filter(|known| known.log == log && known.checkpoints == checkpoints);
        let mut known =
            same.unwrap_or_else(|| Known { log, checkpoints, walker: Walker::new(Some(self.signer.public())) });
        let unchanged = known.walker.log_end.still_there(&files.log).map_err(unreadable)?
            && known.walker.checkpoint_end.still_there(&files.checkpoints).map_err(unreadable)?;
        if !unchanged {
            return Err(AuditError::Broken("the end of the log or of its checkpoints was changed".to_owned()));
        }
        let finding = known.walker.walk(&files.log, &files.checkpoints, Extent::WHOLE).map_err(unreadable)?;
        let incomplete = match finding {
            None => false,
            Some(finding) if finding.kind == FindingKind::IncompleteAppend => true,
            Some(finding) => return Err(AuditError::Broken(finding.sentence)),
        };
        // Before the repair: no crash leaves entries without a whole checkpoint, so what is there is evidence.
        if known.walker.checkpoints == 0 && known.walker.seq > 0 {
            return Err(AuditError::Broken("the signed checkpoints are missing".to_owned()));
        }
        if incomplete {
            self.repair(&mut known.walker, files)?;
        }
        Ok(known)
    }

    /// Cuts off what an interrupted append left. It was never acknowledged.
    fn repair(&self, walker: &mut Walker, files: &Locked) -> Result<(), AuditError> {
        for (end, file, path) in [
            (&mut walker.log_end, &files.log, &self.log),
            (&mut walker.checkpoint_end, &files.checkpoints, &self.checkpoints),
        ] {
            if !end.torn {
                continue;
            }
            file.set_len(end.offset)
                .and_then(|()| file.sync_all())
                .map_err(|source| unavailable(&source, "repair", path))?;
            end.torn = false;
            tracing::warn!(
                audit.file = %path.display(), audit.offset = end.offset,
                "an incomplete line, left by a crash during an append, was removed from the audit log"
            );
        }
        Ok(())
    }

    /// Entries and checkpoint. The walker moves behind what is on disk, also when a later step fails.
    fn write(&self, walker: &mut Walker, files: &Locked, events: &[AuditEvent]) -> Result<(), AuditError> {
        if walker.checkpoints == 0 {
            self.write_checkpoint(walker, files)?;
        }
        self.write_entries(walker, files, events)?;
        self.write_checkpoint(walker, files)
    }

    /// Writes the events that are not there yet.
    fn write_entries(&self, walker: &mut Walker, files: &Locked, events: &[AuditEvent]) -> Result<(), AuditError> {
        let mut batch: HashSet<Uuid> = HashSet::new();
        let (mut seq, mut head) = (walker.seq, walker.head);
        let mut entries = Vec::new();
        let mut content = String::new();
        for event in events {
            if walker.ids.contains(&event.id) || !batch.insert(event.id) {
                continue;
            }
            seq += 1;
            let (entry, line) = Entry::seal(event, seq, head, &self.signer)?;
            head = entry.head().ok_or_else(|| AuditError::Broken("a new hash is not one".to_owned()))?;
            content.push_str(&line);
            entries.push((entry, head, line));
        }
        if entries.is_empty() {
            return Ok(());
        }
        append_durably(&files.log, content.as_bytes(), walker.log_end.offset)
            .map_err(|source| unavailable(&source, "append to", &self.log))?;
        for (entry, head, line) in entries {
            walker.passed_entry(entry, head, line.trim_end_matches('\n').as_bytes());
        }
        Ok(())
    }

    /// Signs the head, if no checkpoint does so yet.
    fn write_checkpoint(&self, walker: &mut Walker, files: &Locked) -> Result<(), AuditError> {
        if walker.checkpoints > 0 && walker.covered == walker.seq {
            return Ok(());
        }
        let (checkpoint, line) = Checkpoint::sign(
            (walker.checkpoints, walker.checkpoint_end.digest),
            (walker.seq, walker.head),
            self.clock.now().wall,
            &self.signer,
        )?;
        append_durably(&files.checkpoints, line.as_bytes(), walker.checkpoint_end.offset)
            .map_err(|source| unavailable(&source, "append to", &self.checkpoints))?;
        walker.passed_checkpoint(&checkpoint, line.trim_end_matches('\n').as_bytes());
        Ok(())
    }
}

impl AuditLog for FileAuditLog {
    fn append(&self, events: &[AuditEvent]) -> Result<(), AuditError> {
        let mut slot = self.known.lock();
        let files = self.lock()?;
        // Taken out: when the files cannot be read or do not verify, the next append verifies everything again.
        let mut known = self.catch_up(slot.take(), &files)?;
        let written = self.write(&mut known.walker, &files, events);
        // A full disk takes nothing from what was verified. What it left is behind the walker's ends, where the next
        // append looks.
        if !matches!(written, Err(AuditError::Broken(_))) {
            *slot = Some(known);
        }
        written
    }
}

impl fmt::Debug for FileAuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileAuditLog").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Locked {
    fn identities(&self) -> Result<(Identity, Identity), AuditError> {
        let of = |file: &File| file.metadata().map(|metadata| Identity::of(&metadata));
        let both = of(&self.log).and_then(|log| Ok((log, of(&self.checkpoints)?)));
        both.map_err(AuditError::Unavailable)
    }
}

/// An error when it cannot be known: a file that may not be looked at is not a missing one.
fn exists(path: &Path) -> Result<bool, AuditError> {
    fs::exists(path).map_err(|source| unavailable(&source, "open", path))
}

fn has_content(path: &Path) -> Result<bool, AuditError> {
    Ok(exists(path)? && fs::metadata(path).map_err(|source| unavailable(&source, "open", path))?.len() > 0)
}

/// One write and one fsync; on failure the file is cut back to `length`, its last good state.
fn append_durably(mut file: &File, content: &[u8], length: u64) -> io::Result<()> {
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err()
        && let Err(error) = file.set_len(length)
    {
        tracing::warn!(%error, "what a failed append left cannot be cut off now; the next append does it");
    }
    written
}
