//! A copy of the store as it stood at one moment, while other processes go on reading.
//!
//! Invariant: from [`Snapshot::begin`] until it is dropped nobody writes, so that whoever takes other copies in between
//! has one moment of everything; the copy is a store of its own under the same key.

use std::path::Path;

use kh_core::port::StoreError;
use rusqlite::{Connection, backup::Backup};

use crate::{
    error::{self, sqlite, unavailable},
    files, layout,
    unlock::{Found, inspect},
};

/// One moment of the store.
pub struct Snapshot {
    /// Holds the right to write and never uses it.
    writer: Connection,
    /// SQLite copies from no connection that may write.
    reader: Connection,
}

impl Snapshot {
    /// Keeps everybody from writing. Blocks while somebody writes.
    pub fn begin(path: &Path) -> Result<Self, StoreError> {
        let Found::Store(_) = inspect(path)? else {
            return Err(StoreError::Truncated(format!("{} does not exist", path.display())));
        };
        let open = || {
            let connection = layout::connect(path)?;
            layout::identify(&connection)?;
            layout::configure(&connection)?;
            Ok::<_, StoreError>(connection)
        };
        let (writer, reader) = (open()?, open()?);
        writer.execute_batch("BEGIN IMMEDIATE").map_err(sqlite)?;
        layout::check_tables(&writer)?;
        layout::check_length(&writer, path)?;
        Ok(Self { writer, reader })
    }

    /// Writes the copy into the new file `to`. A store is small: at most 4,096 names of ten versions.
    pub fn copy_to(&self, to: &Path) -> Result<(), StoreError> {
        let file = files::create_private_file(to).map_err(|source| error::io(source, "create", to))?;
        let mut copy = Connection::open(to).map_err(sqlite)?;
        let done = Backup::new(&self.reader, &mut copy).and_then(|backup| backup.step(-1)).map_err(sqlite)?;
        if done != rusqlite::backup::StepResult::Done {
            return Err(unavailable("the copy of the store was locked"));
        }
        copy.close().map_err(|(_, error)| sqlite(error))?;
        file.sync_all().map_err(|source| error::io(source, "make durable", to))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = self.writer.execute_batch("ROLLBACK") {
            tracing::warn!(%error, "the secret store's lock could not be given back");
        }
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}
