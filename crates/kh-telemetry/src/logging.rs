//! The process's log: lines for people or JSON, on standard error or in a file; the level can be changed while it runs.
//!
//! Invariant: a line that the file does not take is counted and goes to standard error; nothing waits for it.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use kh_linelog::LogFile;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::{EnvFilter, Registry, fmt, prelude::*, reload};

/// What is logged without any setting.
pub const DEFAULT_FILTER: &str = "info";

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
    /// Another part of the process holds the subscriber: nothing was changed.
    #[error("this process's log belongs to somebody else")]
    Foreign,
}

/// Where lines go.
#[derive(Debug)]
struct Sink {
    file: Mutex<Option<LogFile>>,
    errors: Counter,
}

/// The log of the process, to be changed while it runs. Clones share it.
#[derive(Clone)]
pub struct LogHandle {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    sink: Arc<Sink>,
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

/// Installs the process's log. A second call in one process keeps the first, and its handle changes nothing.
pub fn start(filter: &str, form: Form, file: Option<&Path>) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse_filter(filter)?);
    let file = file.map(open).transpose()?;
    let in_file = file.is_some();
    let sink = Arc::new(Sink { file: Mutex::new(file), errors: Counter::default() });
    let writer = Writer(Arc::clone(&sink));
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match form {
        Form::Human { color } => {
            let layer = fmt::layer().with_writer(writer).with_ansi(color && !in_file).with_target(false);
            registry.with(layer).try_init()
        }
        Form::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(writer)).try_init()
        }
    };
    Ok(LogHandle { filter: installed.is_ok().then_some(handle), sink })
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

    /// Opens the log file again, after a rotation. Without a file nothing happens. On an error the old file stays.
    pub fn reopen(&self) -> io::Result<()> {
        self.sink.file.lock().as_mut().map_or(Ok(()), LogFile::reopen)
    }

    /// Lines that the file did not take.
    pub fn errors(&self) -> Counter {
        self.sink.errors.clone()
    }
}

/// Writes whole lines: the formatter hands over one line at once.
#[derive(Clone)]
struct Writer(Arc<Sink>);

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = self.0.file.lock().as_mut() {
            if file.append(line).is_ok() {
                return Ok(line.len());
            }
            self.0.errors.inc();
        }
        io::stderr().write_all(line)?;
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
    use super::*;

    #[test]
    fn lines_go_to_the_file_and_past_a_full_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyholder.log");
        for (file, errors) in [(path.as_path(), 0), (Path::new("/dev/full"), 1)] {
            let sink = Sink { file: Mutex::new(Some(open(file).unwrap())), errors: Counter::default() };
            let mut writer = Writer(Arc::new(sink));
            writer.write_all(b"a line that a test wrote\n").unwrap();
            assert_eq!(writer.0.errors.get(), errors);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"a line that a test wrote\n");
        assert!(matches!(open(&folder.path().join("no/such/folder")), Err(LogError::File { .. })));
    }

    #[test]
    fn filters() {
        for good in ["info", "debug", "info,kh_broker=debug"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        assert!(matches!(parse_filter("kh_broker=loud"), Err(LogError::Filter(_))));
    }
}
