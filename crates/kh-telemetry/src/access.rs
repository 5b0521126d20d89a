//! The access log: one line per finished request, written by a thread of its own.
//!
//! Invariants: telling it about a request never waits; a request that finds the queue full is counted as dropped; a line
//! that the disk does not take is counted as failed and is gone, and the next one is tried again.

mod line;

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use kh_core::{metric, port::observer::Finished};
use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

pub use self::line::{FIELDS, Form};
use crate::file::LogFile;

/// Requests that may wait to be written. At 10,000 requests a second that is most of a second of a stalled disk; one
/// takes some 500 bytes.
const QUEUE: usize = 8_192;

/// Lines written at once.
const BATCH: usize = 256;

/// Where lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, which others may rotate.
    File(PathBuf),
}

/// What happened to lines.
#[derive(Clone, Debug)]
struct Counters {
    written: Counter,
    dropped: Counter,
    failed: Counter,
}

impl Counters {
    fn register(registry: &mut Registry) -> Self {
        const NAME: &str = "keyholder_access_log_lines";
        let family = Family::<[(&str, &str); 1], Counter>::default();
        registry.register(NAME, metric::help(NAME), family.clone());
        let of = |result| family.get_or_create_owned(&[("result", result)]);
        Self { written: of("written"), dropped: of("dropped"), failed: of("failed") }
    }
}

/// Registers the access log's counters where there is no access log, so that the series are there in every case.
pub fn register_idle(registry: &mut Registry) {
    Counters::register(registry);
}

enum Message {
    Request(Arc<Finished>),
    /// Look at the switches.
    Wake,
}

#[derive(Default)]
struct Switches {
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// The access log. Dropped without [`AccessLog::stop`], it ends with what it has taken.
pub struct AccessLog {
    queue: SyncSender<Message>,
    switches: Arc<Switches>,
    counters: Counters,
    ended: Mutex<Receiver<()>>,
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessLog")
    }
}

impl AccessLog {
    /// Opens the target and starts the thread.
    pub fn start(target: &Target, form: Form, registry: &mut Registry) -> io::Result<Self> {
        let sink = match target {
            Target::Stdout => Sink::Stdout,
            Target::File(path) => Sink::File(LogFile::open(path)?),
        };
        let counters = Counters::register(registry);
        let switches = Arc::new(Switches::default());
        let (queue, requests) = sync_channel(QUEUE);
        let (ending, ended) = sync_channel(1);
        let writer = Writer { sink, form, counters: counters.clone(), switches: Arc::clone(&switches) };
        thread::Builder::new().name("kh-access-log".to_owned()).spawn(move || {
            writer.run(&requests);
            // Whoever waited may have given up.
            ending.send(()).ok();
        })?;
        Ok(Self { queue, switches, counters, ended: Mutex::new(ended) })
    }

    /// One more finished request. Never waits.
    pub fn tell(&self, request: &Arc<Finished>) {
        match self.queue.try_send(Message::Request(Arc::clone(request))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counters.dropped.inc();
            }
        }
    }

    /// Opens the file again before the next line: for rotation.
    pub fn reopen(&self) {
        self.switches.reopen.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Writes what waits and ends; answers whether that was done within `deadline`. Blocks for at most that long.
    pub fn stop(&self, deadline: Duration) -> bool {
        self.switches.stop.store(true, Ordering::SeqCst);
        self.wake();
        match self.ended.lock().recv_timeout(deadline) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }

    fn wake(&self) {
        // With a full queue the thread is awake and looks at the switches after each batch.
        self.queue.try_send(Message::Wake).ok();
    }
}

enum Sink {
    Stdout,
    File(LogFile),
}

impl Sink {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Self::File(file) => file.append(lines),
        }
    }
}

struct Writer {
    sink: Sink,
    form: Form,
    counters: Counters,
    switches: Arc<Switches>,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Message>) {
        let mut lines = Vec::new();
        let mut failing = false;
        while let Ok(first) = requests.recv() {
            self.look(&mut failing);
            let mut count = self.take(first, &mut lines);
            let mut empty = false;
            while count < BATCH {
                match requests.try_recv() {
                    Ok(message) => count += self.take(message, &mut lines),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                        empty = true;
                        break;
                    }
                }
            }
            self.write(&mut lines, count, &mut failing);
            // what woke the thread may have been in the batch
            self.look(&mut failing);
            if empty && self.switches.stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn take(&self, message: Message, lines: &mut Vec<u8>) -> usize {
        let Message::Request(request) = message else { return 0 };
        line::write(&request, self.form, lines);
        1
    }

    fn look(&mut self, failing: &mut bool) {
        if self.switches.reopen.swap(false, Ordering::SeqCst)
            && let Sink::File(file) = &mut self.sink
        {
            match file.reopen() {
                Ok(()) => *failing = false,
                Err(error) => tracing::error!(%error, "the access log cannot be opened again; the old file is kept"),
            }
        }
    }

    fn write(&mut self, lines: &mut Vec<u8>, count: usize, failing: &mut bool) {
        if count == 0 {
            return;
        }
        match self.sink.append(lines) {
            Ok(()) => {
                self.counters.written.inc_by(count as u64);
                if std::mem::take(failing) {
                    tracing::info!("the access log can be written again");
                }
            }
            Err(error) => {
                self.counters.failed.inc_by(count as u64);
                // told once until it works again: the disk may be full of just such lines
                if !std::mem::replace(failing, true) {
                    tracing::error!(%error, "the access log cannot be written; lines are lost until it can");
                }
            }
        }
        lines.clear();
    }
}

#[cfg(test)]
mod tests;
