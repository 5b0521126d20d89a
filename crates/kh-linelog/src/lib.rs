//! Logs of lines: a bounded queue, one thread that writes, a file that others rotate.
//!
//! Invariants: telling a log something never waits; what finds the queue full is counted as dropped; a line that the
//! disk does not take is counted as failed and is gone, and the next one is tried again; a line stands whole or not at
//! all.

mod file;
mod log;

pub use file::LogFile;
pub use log::{LineCounters, LineLog, Target};
