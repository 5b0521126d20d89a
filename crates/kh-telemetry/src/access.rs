//! The access log: one line per finished request, written by a thread of its own.
//!
//! Invariants: telling it about a request never waits; a request that finds the queue full is counted as dropped; a line
//! that the disk does not take is counted as failed and is gone, and the next one is tried again.

mod line;

use std::{io, sync::Arc, time::Duration};

use kh_core::{metric, port::observer::Finished};
use kh_linelog::{LineCounters, LineLog};
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

pub use self::line::{FIELDS, Form};
pub use kh_linelog::Target;

/// Requests that may wait to be written. At 10,000 requests a second that is most of a second of a stalled disk; one
/// takes some 500 bytes.
const QUEUE: usize = 8_192;

fn register(registry: &mut Registry) -> LineCounters {
    const NAME: &str = "keyholder_access_log_lines";
    let family = Family::<[(&str, &str); 1], Counter>::default();
    registry.register(NAME, metric::help(NAME), family.clone());
    let of = |result| family.get_or_create_owned(&[("result", result)]);
    LineCounters { written: of("written"), dropped: of("dropped"), failed: of("failed") }
}

/// Registers the access log's counters where there is no access log, so that the series are there in every case.
pub fn register_idle(registry: &mut Registry) {
    register(registry);
}

/// The access log. Dropped without [`AccessLog::stop`], it ends with what it has taken.
#[derive(Debug)]
pub struct AccessLog(LineLog<Arc<Finished>>);

impl AccessLog {
    /// Opens the target and starts the thread.
    pub fn start(target: &Target, form: Form, registry: &mut Registry) -> io::Result<Self> {
        let render = move |request: Arc<Finished>, lines: &mut Vec<u8>| line::write(&request, form, lines);
        LineLog::start("access log", target, QUEUE, register(registry), render).map(Self)
    }

    /// One more finished request. Never waits.
    pub fn tell(&self, request: &Arc<Finished>) {
        self.0.tell(Arc::clone(request));
    }

    /// Opens the file again before the next line: for rotation.
    pub fn reopen(&self) {
        self.0.reopen();
    }

    /// Writes what waits and ends; answers whether that was done within `deadline`. Blocks for at most that long.
    pub fn stop(&self, deadline: Duration) -> bool {
        self.0.stop(deadline)
    }
}

#[cfg(test)]
mod tests;
