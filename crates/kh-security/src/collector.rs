//! The way of lines to an HTTPS collector: a bounded queue, batches, tries, and a spool on disk for the time that it is
//! away.
//!
//! Lines are gathered for [`Timing::delay`] or until a batch is full, written to the spool and made durable (fdatasync),
//! and then sent, the oldest first, one request at a time. So a line is on disk one delay and one write after it happened,
//! and what the process loses when it is killed is what happened within that time. A line may be sent twice after a crash
//! or a lost answer: it has an id by which the receiver may know it (`metadata.uid`).
//!
//! Without a spool, or while the disk is full, batches wait in memory, at most [`MEMORY_MAX`] bytes of them. They are
//! written before any later one once the disk takes them. A folder has one owner: a second process keeps its batches in
//! memory too, and takes the folder over, with what is in it, when the first has ended.
//!
//! Invariants: offering a line never waits; what is lost is counted with its reason; nothing here asks the wall clock;
//! the bearer token appears in no line, no file and no log.

mod backlog;
mod post;
mod run;
mod settings;
mod spool;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc as blocking,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use kh_core::Entropy;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[cfg(any(test, fuzzing))]
pub(crate) use self::spool::{parse_position, scan};
pub use self::{
    backlog::MEMORY_MAX,
    post::{BearerSource, CollectorClient},
    run::LAST_TRY,
    settings::{Collecting, SettingsError, Timing},
    spool::SPOOL_MIN,
};
pub(crate) use self::{
    post::{Post, Verdict},
    spool::Batch,
};
use crate::counters::{CollectorCounters, Counters};

/// Lines that may wait to be gathered. Some seconds of an attack; longer ones are for the spool.
const QUEUE: usize = 16_384;

/// Bytes of lines that may wait to be gathered: lines have one KiB, and an attacker can make them four.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// The running collector.
pub struct Collector {
    offer: Offer,
    stop: CancellationToken,
    ended: Mutex<blocking::Receiver<()>>,
    failing: Arc<AtomicBool>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collector")
    }
}

/// Where lines are handed in. Clones share the queue.
#[derive(Clone)]
pub(crate) struct Offer {
    queue: mpsc::Sender<Bytes>,
    /// Bytes in the queue, and of lines that are about to be: never fewer than are in it.
    waiting: Arc<AtomicUsize>,
    counters: CollectorCounters,
}

impl Offer {
    /// The queue, and its other end.
    pub(crate) fn new(counters: &CollectorCounters) -> (Self, Intake) {
        let (queue, lines) = mpsc::channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let intake = Intake { lines, waiting: Arc::clone(&waiting) };
        (Self { queue, waiting, counters: counters.clone() }, intake)
    }

    /// Takes a line, or counts it as lost.
    pub(crate) fn offer(&self, line: Bytes) {
        let length = line.len();
        // counted before it is in: once it is, the other end may take it off the sum at any moment
        let before = self.waiting.fetch_add(length, Ordering::Relaxed);
        if before.saturating_add(length) > QUEUE_BYTES || self.queue.try_send(line).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.counters.queue_full.inc();
        }
    }
}

/// The other end of the queue.
pub(crate) struct Intake {
    lines: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl Intake {
    async fn next(&mut self) -> Option<Bytes> {
        self.lines.recv().await.inspect(|line| self.took(line))
    }

    fn try_next(&mut self) -> Option<Bytes> {
        self.lines.try_recv().ok().inspect(|line| self.took(line))
    }

    fn took(&self, line: &Bytes) {
        self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
    }
}

impl Collector {
    /// Opens the spool and starts a thread, on which all writing, waiting and sending is done. A spool that another process
    /// uses is no error; one that cannot be used is.
    pub fn start(
        settings: &Collecting,
        client: CollectorClient,
        entropy: Arc<dyn Entropy>,
        counters: &Counters,
    ) -> io::Result<Self> {
        let backlog = backlog::Backlog::open(settings.spool.as_ref(), counters.collector.clone())?;
        let (offer, intake) = Offer::new(&counters.collector);
        let stop = CancellationToken::new();
        let failing = Arc::new(AtomicBool::new(false));
        let run = run::Run::new(backlog, client, settings.timing, entropy, counters.collector.clone())
            .telling(Arc::clone(&failing));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ending, ended) = blocking::sync_channel(1);
        let stopped = stop.clone();
        thread::Builder::new().name("kh-collector".to_owned()).spawn(move || {
            runtime.block_on(run.go(intake, stopped));
            // whoever waited may have given up
            ending.send(()).ok();
        })?;
        Ok(Self { offer, stop, ended: Mutex::new(ended), failing })
    }

    /// Whether its last answer was not that it took lines: they are kept, and tried again.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub(crate) fn offer(&self) -> Offer {
        self.offer.clone()
    }

    /// Gathers what waits, keeps it, sends what the collector takes at once, and ends; answers whether that was done
    /// within `deadline`, which is to be longer than [`LAST_TRY`]. Blocks for at most that long.
    pub fn stop(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        match self.ended.lock().recv_timeout(deadline) {
            Ok(()) | Err(blocking::RecvTimeoutError::Disconnected) => true,
            Err(blocking::RecvTimeoutError::Timeout) => false,
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
