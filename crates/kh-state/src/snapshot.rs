//! A copy of the state as it stood at one moment, while other processes go on writing.
//!
//! Invariant: between [`Snapshot::begin`] and [`Snapshot::pin`] nobody writes; afterwards everybody may, and the copy
//! holds what stood there at that moment.

use std::{path::Path, time::Duration};

use kh_core::port::StateError;
use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use crate::{
    failure::Failure,
    file, schema,
    schema::{Access, connect},
};

/// Pages copied in one step: 4 MiB, so that a copy of a large state takes no memory.
const PAGES_PER_STEP: i32 = 1024;

/// How often a busy target is tried again. Nobody else knows the target.
const BUSY_TRIES: u32 = 100;

/// One moment of the state.
pub struct Snapshot {
    writer: Option<Connection>,
    reader: Connection,
    schema: u32,
}

impl Snapshot {
    /// Keeps everybody from writing until [`Snapshot::pin`]. Blocks while somebody writes.
    pub fn begin(path: &Path) -> Result<Self, StateError> {
        let writer = connect(path, Access::Write)?;
        writer.execute_batch("BEGIN IMMEDIATE").map_err(Failure::from)?;
        let reader = connect(path, Access::Read)?;
        reader.execute_batch("BEGIN DEFERRED").map_err(Failure::from)?;
        // the first read is the moment
        let schema = schema::version(&reader)?;
        if schema > schema::VERSION {
            return Err(StateError::TooNew { found: schema, known: schema::VERSION });
        }
        Ok(Self { writer: Some(writer), reader, schema })
    }

    /// Lets others write again. In write-ahead logging a reader keeps its moment.
    pub fn pin(&mut self) -> Result<(), StateError> {
        if let Some(writer) = self.writer.take() {
            writer.execute_batch("ROLLBACK").map_err(Failure::from)?;
        }
        Ok(())
    }

    /// The schema of what is copied.
    pub fn schema(&self) -> u32 {
        self.schema
    }

    /// Writes the copy into the new file `to`, as a database of its own without companions.
    pub fn copy_to(&self, to: &Path) -> Result<(), StateError> {
        copy(&self.reader, to)
    }
}

/// Copies the database behind `from` into a new private file.
pub(crate) fn copy(from: &Connection, to: &Path) -> Result<(), StateError> {
    let cannot = |error: std::io::Error| Failure::io("cannot create", to, &error);
    let target = file::open_private(std::fs::OpenOptions::new().create_new(true), to).map_err(cannot)?;
    let mut copy = Connection::open(to).map_err(Failure::from)?;
    {
        let backup = Backup::new(from, &mut copy).map_err(Failure::from)?;
        let mut busy = 0;
        loop {
            match backup.step(PAGES_PER_STEP).map_err(Failure::from)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ if busy < BUSY_TRIES => {
                    busy += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                _ => return Err(Failure::Unavailable("the copy stays locked".to_owned()).into()),
            }
        }
    }
    // the copy is one file: whoever takes it away must not leave a log behind
    let mode: String =
        copy.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0)).map_err(Failure::from)?;
    if mode != "delete" {
        return Err(Failure::Unavailable(format!("the copy stays in journal mode {mode}")).into());
    }
    copy.close().map_err(|(_, error)| Failure::from(error))?;
    Ok(target.sync_all().map_err(cannot)?)
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("schema", &self.schema).finish_non_exhaustive()
    }
}
