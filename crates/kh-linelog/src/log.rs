//! The queue and the thread behind it.
//!
//! Invariants: [`LineLog::tell`] never waits; the thread ends with what it has taken; told once per misfortune, because
//! the disk may be full of just such lines.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use crate::LogFile;

/// Items written at once.
const BATCH: usize = 256;

/// Where lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, which others may rotate.
    File(PathBuf),
    /// Nowhere: whoever makes the lines passes them on.
    Nowhere,
}

/// What happened to items.
#[derive(Clone, Debug, Default)]
pub struct LineCounters {
    /// Their lines stand in the log.
    pub written: Counter,
    /// The queue was full.
    pub dropped: Counter,
    /// The disk did not take their lines.
    pub failed: Counter,
}

enum Message<T> {
    Item(T),
    /// Look at the switches.
    Wake,
}

#[derive(Default)]
struct Switches {
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// A log of items of one kind. Dropped without [`LineLog::stop`], it ends with what it has taken.
pub struct LineLog<T> {
    queue: SyncSender<Message<T>>,
    switches: Arc<Switches>,
    counters: LineCounters,
    ended: Mutex<Receiver<()>>,
}

impl<T> std::fmt::Debug for LineLog<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LineLog")
    }
}

impl<T: Send + 'static> LineLog<T> {
    /// Opens the target and starts the thread. `name` is what the process's log calls it, for example `access log`;
    /// `queue_max` items may wait; `render` appends an item's lines, each with its end, on that thread.
    pub fn start(
        name: &'static str,
        target: &Target,
        queue_max: usize,
        counters: LineCounters,
        render: impl FnMut(T, &mut Vec<u8>) + Send + 'static,
    ) -> io::Result<Self> {
        let sink = match target {
            Target::Stdout => Sink::Stdout,
            Target::File(path) => Sink::File(LogFile::open(path)?),
            Target::Nowhere => Sink::Nowhere,
        };
        let switches = Arc::new(Switches::default());
        let (queue, items) = sync_channel(queue_max);
        let (ending, ended) = sync_channel(1);
        let writer =
            Writer { name, sink, render, counters: counters.clone(), switches: Arc::clone(&switches), failing: false };
        thread::Builder::new().name(format!("kh-{}", name.replace(' ', "-"))).spawn(move || {
            writer.run(&items);
            // from here on nothing is taken
            drop(items);
            // Whoever waited may have given up.
            ending.send(()).ok();
        })?;
        Ok(Self { queue, switches, counters, ended: Mutex::new(ended) })
    }

    /// One more item. Never waits.
    pub fn tell(&self, item: T) {
        match self.queue.try_send(Message::Item(item)) {
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

    /// The counters given at the start.
    pub fn counters(&self) -> &LineCounters {
        &self.counters
    }

    fn wake(&self) {
        // With a full queue the thread is awake and looks at the switches after each batch.
        self.queue.try_send(Message::Wake).ok();
    }
}

enum Sink {
    Stdout,
    File(LogFile),
    Nowhere,
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
            Self::Nowhere => Ok(()),
        }
    }
}

struct Writer<R> {
    name: &'static str,
    sink: Sink,
    render: R,
    counters: LineCounters,
    switches: Arc<Switches>,
    failing: bool,
}

impl<R> Writer<R> {
    fn run<T>(mut self, items: &Receiver<Message<T>>)
    where
        R: FnMut(T, &mut Vec<u8>),
    {
        let mut lines = Vec::new();
        while let Some(first) = self.await_message(items) {
            self.look();
            let mut count = self.take(first, &mut lines);
            for message in items.try_iter().take(BATCH - 1) {
                count += self.take(message, &mut lines);
            }
            self.write(&mut lines, count);
            // what woke the thread may have been in the batch
            self.look();
        }
    }

    /// The next message; none when nobody can send one any more, or when all was taken after a stop.
    fn await_message<T>(&self, items: &Receiver<Message<T>>) -> Option<Message<T>> {
        // a stop that found the queue full sent nothing that would wake the thread
        if self.switches.stop.load(Ordering::SeqCst) { items.try_recv().ok() } else { items.recv().ok() }
    }

    fn take<T>(&mut self, message: Message<T>, lines: &mut Vec<u8>) -> u64
    where
        R: FnMut(T, &mut Vec<u8>),
    {
        let Message::Item(item) = message else { return 0 };
        let before = lines.len();
        (self.render)(item, lines);
        u64::from(lines.len() > before)
    }

    fn look(&mut self) {
        if self.switches.reopen.swap(false, Ordering::SeqCst)
            && let Sink::File(file) = &mut self.sink
        {
            match file.reopen() {
                Ok(()) => self.failing = false,
                Err(error) => {
                    tracing::error!(log.name = self.name, %error, "a log cannot be opened again; the old file is kept");
                }
            }
        }
    }

    fn write(&mut self, lines: &mut Vec<u8>, count: u64) {
        if count == 0 {
            return;
        }
        match self.sink.append(lines) {
            Ok(()) => {
                self.counters.written.inc_by(count);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(log.name = self.name, "a log can be written again");
                }
            }
            Err(error) => {
                self.counters.failed.inc_by(count);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(log.name = self.name, %error, "a log cannot be written; lines are lost until it can");
                }
            }
        }
        lines.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_may_have_no_line_and_a_log_no_place() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let log = LineLog::start("test log", &Target::Nowhere, 16, LineCounters::default(), move |item: u32, lines| {
            told.lock().push(item);
            if item.is_multiple_of(2) {
                lines.extend_from_slice(b"line\n");
            }
        })
        .unwrap();
        (0..10).for_each(|item| log.tell(item));
        assert!(log.stop(Duration::from_mins(1)));
        assert_eq!((log.counters().written.get(), log.counters().dropped.get()), (5, 0));
        assert_eq!(*seen.lock(), (0..10).collect::<Vec<_>>());
        log.tell(11);
        assert_eq!(log.counters().dropped.get(), 1, "after the end nothing is taken");
    }

    #[test]
    fn a_stop_that_finds_the_queue_full_ends_the_thread() {
        // with the first, which is taken out: whole batches
        const WAITING: usize = 2 * BATCH - 1;
        let (holding, held) = sync_channel(1);
        let (release, released) = sync_channel::<()>(1);
        let render = move |item: usize, lines: &mut Vec<u8>| {
            if item == 0 {
                holding.send(()).unwrap();
                released.recv().unwrap();
            }
            lines.push(b'\n');
        };
        let log = LineLog::start("test log", &Target::Nowhere, WAITING, LineCounters::default(), render).unwrap();
        log.tell(0);
        held.recv().unwrap();
        (1..=WAITING).for_each(|item| log.tell(item));
        assert!(!log.stop(Duration::ZERO), "it is held, and its queue is full");
        release.send(()).unwrap();
        assert!(log.ended.lock().recv_timeout(Duration::from_mins(1)).is_ok(), "and ends when it is let go");
        assert_eq!((log.counters().written.get(), log.counters().dropped.get()), (2 * BATCH as u64, 0));
    }
}
