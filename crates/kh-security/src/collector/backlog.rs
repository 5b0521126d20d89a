//! Batches that wait: on disk, or in memory where that is not to be had; and what the collector refused for good.
//!
//! Invariant: both are bounded, the oldest go first, and every lost line is counted.

use std::{
    collections::VecDeque,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    Batch,
    spool::{At, Lost, NotKept, Spool},
};
use crate::counters::CollectorCounters;

/// Bytes of batches that wait in memory.
pub const MEMORY_MAX: usize = 8 * 1024 * 1024;

/// Bytes of lines that were refused for good and are kept for a person to look at; more are only counted.
const DEAD_LETTERS_MAX: u64 = 4 * 1024 * 1024;

/// All batches that wait.
pub(super) struct Backlog {
    spool: Option<Spool>,
    folder: Option<PathBuf>,
    memory: VecDeque<Batch>,
    memory_bytes: usize,
    /// Where the batch that [`Backlog::front`] gave out stands on disk; none for one from memory.
    front: Option<At>,
    disk_failing: bool,
    counters: CollectorCounters,
}

impl Backlog {
    pub(super) fn open(spool: Option<&(PathBuf, u64)>, counters: CollectorCounters) -> io::Result<Self> {
        let mut backlog = Self {
            spool: None,
            folder: spool.map(|(folder, _)| folder.clone()),
            memory: VecDeque::new(),
            memory_bytes: 0,
            front: None,
            disk_failing: false,
            counters,
        };
        if let Some((folder, max_bytes)) = spool {
            let (spool, opened) = Spool::open(folder, *max_bytes)?;
            if opened.torn_bytes > 0 {
                tracing::warn!(
                    bytes = opened.torn_bytes,
                    "the security log's spool ended in a half-written batch, which was cut off"
                );
            }
            if opened.damaged > 0 {
                backlog.counters.damaged.inc_by(opened.damaged);
                tracing::warn!(
                    segments = opened.damaged,
                    "a part of the security log's spool is damaged; what could be read of it is sent, and the file is set aside"
                );
            }
            backlog.spool = Some(spool);
        }
        backlog.tell();
        Ok(backlog)
    }

    #[cfg(test)]
    pub(super) fn write_by(&mut self, write: super::spool::Write) {
        if let Some(spool) = &mut self.spool {
            spool.write_by(write);
        }
    }

    /// Keeps a batch.
    pub(super) fn push(&mut self, batch: Batch) {
        let kept = self.spool.as_mut().map(|spool| spool.push(&batch));
        match kept {
            Some(Ok(Lost { lines })) => {
                self.counters.spool_full.inc_by(lines);
                if std::mem::take(&mut self.disk_failing) {
                    tracing::info!("the security log's spool can be written again");
                }
            }
            Some(Err(NotKept { error, lost: Lost { lines } })) => {
                self.counters.spool_full.inc_by(lines);
                if !std::mem::replace(&mut self.disk_failing, true) {
                    tracing::error!(
                        %error,
                        "the security log's spool cannot be written; lines for the collector wait in memory until it can"
                    );
                }
                self.remember(batch);
            }
            None => self.remember(batch),
        }
        self.tell();
    }

    fn remember(&mut self, batch: Batch) {
        self.memory_bytes += batch.body.len();
        self.memory.push_back(batch);
        while self.memory_bytes > MEMORY_MAX {
            let Some(oldest) = self.memory.pop_front() else { break };
            self.memory_bytes -= oldest.body.len();
            self.counters.spool_full.inc_by(u64::from(oldest.lines));
        }
    }

    /// The oldest batch on disk, else the oldest in memory.
    pub(super) fn front(&mut self) -> Option<Batch> {
        if let Some(spool) = &mut self.spool {
            let (batch, lost) = spool.front();
            self.counters.damaged.inc_by(lost.lines);
            if let Some((at, batch)) = batch {
                self.front = Some(at);
                return Some(batch);
            }
        }
        self.front = None;
        // taken out at once: it must not be the one that is dropped while it is on its way
        let batch = self.memory.pop_front();
        self.memory_bytes -= batch.as_ref().map_or(0, |batch| batch.body.len());
        batch
    }

    /// The batch of [`Backlog::front`] is done with.
    pub(super) fn pop(&mut self) {
        if let Some((spool, at)) = self.spool.as_mut().zip(self.front.take()) {
            spool.pop(at);
        }
        self.tell();
    }

    /// The batch of [`Backlog::front`] was in memory alone and is not sent: it is kept again, on disk if that works now.
    pub(super) fn give_back(&mut self, batch: Batch) {
        if self.front.is_none() {
            self.push(batch);
        }
    }

    /// Lines that would be lost with the process, those on their way aside.
    pub(super) fn waits_in_memory(&self) -> u64 {
        self.memory.iter().map(|batch| u64::from(batch.lines)).sum()
    }

    /// Keeps lines that were refused for good, as long as there is room, and counts them.
    pub(super) fn bury(&self, batch: &Batch) {
        self.counters.dead_letter.inc_by(u64::from(batch.lines));
        if let Some(folder) = &self.folder
            && let Err(error) = bury(&folder.join("dead-letter.jsonl"), &batch.body)
        {
            tracing::warn!(%error, "a line that the collector refused could not be kept");
        }
    }

    fn tell(&self) {
        let (spool_bytes, spool_lines) = self.spool.as_ref().map_or((0, 0), |spool| (spool.bytes(), spool.lines()));
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.counters.backlog_bytes.set(gauge(spool_bytes + self.memory_bytes as u64));
        self.counters.backlog_lines.set(gauge(spool_lines + self.waits_in_memory()));
    }
}

fn bury(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.len() + lines.len() as u64 > DEAD_LETTERS_MAX {
        return Ok(());
    }
    file.write_all(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{collector::SPOOL_MIN, counters::Counters};

    fn half_a_mib() -> Batch {
        Batch { lines: 1, body: vec![b'x'; 512 * 1024].into() }
    }

    fn disk_full(_: &std::fs::File, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn what_goes_for_a_batch_that_cannot_be_written_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let counters = Counters::default().collector;
        let mut backlog = Backlog::open(Some(&(folder.path().to_owned(), SPOOL_MIN)), counters.clone()).unwrap();
        while counters.spool_full.get() == 0 {
            backlog.push(half_a_mib());
        }
        let mut pushed = counters.spool_full.get() + counters.backlog_lines.get().unsigned_abs();
        let lost = counters.spool_full.get();
        backlog.write_by(disk_full);
        for _ in 0..8 {
            backlog.push(half_a_mib());
            pushed += 1;
            let kept = counters.backlog_lines.get().unsigned_abs();
            assert_eq!(kept + counters.spool_full.get(), pushed, "kept, or counted as lost");
        }
        assert_eq!(backlog.waits_in_memory(), 8, "the disk took none");
        assert!(counters.spool_full.get() > lost, "some went from the disk");
    }
}
