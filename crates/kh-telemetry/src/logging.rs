//! The process's log: lines for people or JSON, on standard error or in a file; the level can be changed while it runs.
//!
//! Invariants: a server's lines wait in a queue, bounded in lines and bytes, for the one thread that writes them, and
//! whoever logs never waits; a line that finds the queue full is counted and gone; a line that the file does not take is
//! counted and goes to standard error.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kh_linelog::{LineCounters, LineLog, LogFile, Target};
use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::{EnvFilter, Registry, fmt, prelude::*, reload};

/// What is logged without any setting.
pub const DEFAULT_FILTER: &str = "info";

/// Lines of a server that may wait to be written; one has some 300 bytes.
const QUEUE: usize = 4_096;

/// Bytes of lines that may wait: more than a queue of usual lines has.
const WAITING_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The form of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// For people, coloured or not.
    Human {
        /// With ANSI colours; never in a file.
        color: bool,
    },
    /// One JSON object per line: `timestamp`, `level`, `target`, `message`, and the fields.
    Json,
}

/// Why logging was not set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error("the log filter is not valid")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// The file cannot be opened.
    #[error("the log file {} cannot be opened", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no thread to write it.
    #[error("the thread that writes the log cannot be started")]
    Thread(#[source] io::Error),
    /// Another part of the process holds the subscriber: nothing was changed.
    #[error("this process's log belongs to somebody else")]
    Foreign,
}

/// What became of lines that are not where they should be.
#[derive(Clone, Debug, Default)]
pub struct LogCounters {
    /// The log file did not take them; they went to standard error.
    pub file_errors: Counter,
    /// The queue was full; they are gone.
    pub dropped: Counter,
}

/// The log of a server, to be changed while it runs. Clones share it.
#[derive(Clone)]
pub struct LogHandle {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    queue: Arc<Queue>,
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogHandle")
    }
}

/// A filter such as `info` or `info,kh_broker=debug`.
pub fn parse_filter(text: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(text).map_err(LogError::Filter)
}

/// Installs the log of a command that ends soon: each thread writes its lines to standard error itself. A second call in
/// one process keeps the first.
pub fn start(filter: &str, form: Form) -> Result<(), LogError> {
    install(parse_filter(filter)?, form, Writer::Direct);
    Ok(())
}

/// Installs the log of a server, in `file` or on standard error, with a thread that writes it; [`LogHandle::stop`] writes
/// what waits at the end. A second call in one process keeps the first, and its handle changes nothing.
pub fn start_server(filter: &str, form: Form, file: Option<&Path>) -> Result<LogHandle, LogError> {
    let filter = parse_filter(filter)?;
    let file = file.map(open).transpose()?;
    let form = match (form, &file) {
        (Form::Human { .. }, Some(_)) => Form::Human { color: false },
        (form, _) => form,
    };
    let queue = Arc::new(Queue::start(file, io::stderr()).map_err(LogError::Thread)?);
    let filter = install(filter, form, Writer::Queue(Arc::clone(&queue)));
    Ok(LogHandle { filter, queue })
}

/// By the handle the filter is changed; none when there is a log already.
fn install(filter: EnvFilter, form: Form, writer: Writer) -> Option<reload::Handle<EnvFilter, Registry>> {
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match form {
        Form::Human { color } => {
            let layer = fmt::layer().with_writer(writer).with_ansi(color).with_target(false);
            registry.with(layer).try_init()
        }
        Form::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(writer)).try_init()
        }
    };
    installed.is_ok().then_some(handle)
}

fn open(path: &Path) -> Result<LogFile, LogError> {
    LogFile::open(path).map_err(|source| LogError::File { path: path.to_owned(), source })
}

impl LogHandle {
    /// Logs by another filter from now on.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let filter = parse_filter(filter)?;
        let handle = self.filter.as_ref().ok_or(LogError::Foreign)?;
        handle.reload(filter).map_err(|_gone| LogError::Foreign)
    }

    /// Opens the log file again before the next line, after a rotation. Without a file nothing happens. On an error the
    /// old file stays, and the log says so.
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// Writes what waits and ends; answers whether that was done within `deadline`. Blocks for at most that long. What is
    /// logged later is dropped.
    pub fn stop(&self, deadline: Duration) -> bool {
        self.queue.lines.stop(deadline)
    }

    /// What became of lines that are not where they should be.
    pub fn counters(&self) -> LogCounters {
        self.queue.counters.clone()
    }
}

/// A line that waits. Its bytes count until it is dropped.
struct Line {
    text: Box<[u8]>,
    waiting: Arc<AtomicUsize>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.text.len(), Ordering::Relaxed);
    }
}

/// The way to the thread that writes.
struct Queue {
    lines: LineLog<Line>,
    waiting: Arc<AtomicUsize>,
    reopen: Arc<AtomicBool>,
    counters: LogCounters,
}

impl Queue {
    /// Lines go to `file` where there is one, and to `rest` where it does not take them.
    fn start(file: Option<LogFile>, rest: impl Write + Send + 'static) -> io::Result<Self> {
        let (counters, reopen) = (LogCounters::default(), Arc::<AtomicBool>::default());
        let mut place = Place { file, rest, reopen: Arc::clone(&reopen), errors: counters.file_errors.clone() };
        let told = LineCounters { dropped: counters.dropped.clone(), ..LineCounters::default() };
        let write = move |line: Line, _: &mut Vec<u8>| place.write(&line.text);
        // with no target of its own it has no failure that it would log here again
        let lines = LineLog::start("process log", &Target::Nowhere, QUEUE, told, write)?;
        Ok(Self { lines, waiting: Arc::default(), reopen, counters })
    }

    /// One more line. Never waits.
    fn tell(&self, text: &[u8]) {
        let with_it = |waiting: usize| waiting.checked_add(text.len()).filter(|sum| *sum <= WAITING_BYTES_MAX);
        if self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with_it).is_err() {
            self.counters.dropped.inc();
            return;
        }
        self.lines.tell(Line { text: text.into(), waiting: Arc::clone(&self.waiting) });
    }

    fn reopen(&self) {
        self.reopen.store(true, Ordering::SeqCst);
        // nothing to write: it wakes the thread, which is awake where the queue is full
        self.tell(b"");
    }
}

/// Where the thread writes.
struct Place<W> {
    file: Option<LogFile>,
    rest: W,
    reopen: Arc<AtomicBool>,
    errors: Counter,
}

impl<W: Write> Place<W> {
    fn write(&mut self, line: &[u8]) {
        if self.reopen.swap(false, Ordering::SeqCst)
            && let Some(file) = &mut self.file
            && let Err(error) = file.reopen()
        {
            tracing::error!(%error, "the log file cannot be opened again; the old file is kept");
        }
        if line.is_empty() {
            return;
        }
        if let Some(file) = &mut self.file {
            if file.append(line).is_ok() {
                return;
            }
            self.errors.inc();
        }
        // there is no place left to tell of a failure
        self.rest.write_all(line).ok();
    }
}

/// Takes whole lines: the formatter hands over one line at once.
#[derive(Clone)]
enum Writer {
    /// To standard error, by the thread that logs.
    Direct,
    /// To the thread that writes.
    Queue(Arc<Queue>),
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Direct => io::stderr().write_all(line)?,
            Self::Queue(queue) => queue.tell(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> fmt::MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Longer than any writing here takes.
    const LONG: Duration = Duration::from_mins(1);

    /// Keeps what it is given, and stalls while somebody holds the lock.
    #[derive(Clone, Default)]
    struct Reader(Arc<Mutex<Vec<u8>>>);

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn numbered(reader: &Reader) -> Vec<usize> {
        let text = String::from_utf8(reader.0.lock().clone()).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    #[test]
    fn lines_go_to_the_file_and_past_a_full_one() {
        const LINE: &[u8] = b"a line that a test wrote\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyholder.log");
        for (file, errors, past) in [(path.as_path(), 0, &b""[..]), (Path::new("/dev/full"), 1, LINE)] {
            let rest = Reader::default();
            let queue = Arc::new(Queue::start(Some(open(file).unwrap()), rest.clone()).unwrap());
            Writer::Queue(Arc::clone(&queue)).write_all(LINE).unwrap();
            assert!(queue.lines.stop(LONG));
            assert_eq!((queue.counters.file_errors.get(), queue.counters.dropped.get()), (errors, 0));
            assert_eq!(*rest.0.lock(), past);
        }
        assert_eq!(std::fs::read(&path).unwrap(), LINE);
        assert!(matches!(open(&folder.path().join("no/such/folder")), Err(LogError::File { .. })));
    }

    #[test]
    fn after_a_rotation_lines_go_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let queue = Queue::start(Some(open(&path).unwrap()), Reader::default()).unwrap();
        std::fs::rename(&path, &old).unwrap();
        queue.reopen();
        queue.tell(b"1\n");
        assert!(queue.lines.stop(LONG));
        assert_eq!((std::fs::read(&old).unwrap(), std::fs::read(&path).unwrap()), (Vec::new(), b"1\n".to_vec()));
    }

    #[test]
    fn whoever_logs_waits_for_no_reader_and_what_is_lost_is_counted() {
        const LINES: usize = 10_000;
        let reader = Reader::default();
        let stalled = reader.0.lock();
        let queue = Arc::new(Queue::start(None, reader.clone()).unwrap());
        let mut writer = Writer::Queue(Arc::clone(&queue));
        for at in 0..LINES {
            writer.write_all(format!("{at}\n").as_bytes()).unwrap();
        }
        let lost = usize::try_from(queue.counters.dropped.get()).unwrap();
        // the thread may have one line in its hand
        assert!((LINES - QUEUE - 1..=LINES - QUEUE).contains(&lost), "{lost}");
        assert!(!queue.lines.stop(Duration::ZERO), "it stalls");
        drop(stalled);
        assert!(queue.lines.stop(LONG));
        let read = numbered(&reader);
        assert_eq!((read.len(), read.first()), (LINES - lost, Some(&0)));
        assert!(read.is_sorted(), "lines keep their order");
        assert_eq!(queue.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn nothing_is_lost_while_it_is_read() {
        let reader = Reader::default();
        let queue = Queue::start(None, reader.clone()).unwrap();
        (0..QUEUE).for_each(|at| queue.tell(format!("{at}\n").as_bytes()));
        assert!(queue.lines.stop(LONG));
        assert_eq!(numbered(&reader), (0..QUEUE).collect::<Vec<_>>());
        assert_eq!(queue.counters.dropped.get(), 0);
    }

    #[test]
    fn long_lines_that_wait_have_a_bound_too() {
        let reader = Reader::default();
        let stalled = reader.0.lock();
        let queue = Queue::start(None, reader.clone()).unwrap();
        let long = vec![b'x'; WAITING_BYTES_MAX / 2];
        (0..3).for_each(|_| queue.tell(&long));
        assert_eq!(queue.counters.dropped.get(), 1);
        drop(stalled);
        assert!(queue.lines.stop(LONG));
        assert_eq!(reader.0.lock().len(), WAITING_BYTES_MAX);
    }

    #[test]
    fn filters() {
        for good in ["info", "debug", "info,kh_broker=debug"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        assert!(matches!(parse_filter("kh_broker=loud"), Err(LogError::Filter(_))));
    }
}
