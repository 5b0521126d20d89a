//! The SQLite file: how it is opened, its tables, and the check that they are exactly these.
//!
//! Invariant: rollback journal, `synchronous=EXTRA`: a commit that returned is in the main file and on the disk. No
//! trigger or view of somebody else ever runs.

use std::{fs, path::Path, time::Duration};

use kh_core::port::StoreError;
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{
    SCHEMA,
    error::{self, sqlite},
};

/// "KHSS", so that `file` and we know the file from any other SQLite database.
const APPLICATION_ID: i32 = 0x4B48_5353;

/// How long to wait for another process's transaction. One takes milliseconds; five seconds cover a disk that stalls.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Name and statement of each table, by name. `removed` remembers the last version of a name that is gone, so that a
/// version number never names two values.
const TABLES: [(&str, &str); 5] = [
    (
        "header",
        "CREATE TABLE header (id INTEGER PRIMARY KEY CHECK (id = 1), schema INTEGER NOT NULL, store_id BLOB NOT NULL, \
         kdf TEXT NOT NULL, kdf_salt BLOB NOT NULL, kdf_memory_kib INTEGER NOT NULL, kdf_passes INTEGER NOT NULL, \
         kdf_lanes INTEGER NOT NULL, key_check BLOB NOT NULL, wrap_salt BLOB NOT NULL, wrapped_key BLOB NOT NULL, \
         checksum BLOB NOT NULL) STRICT",
    ),
    (
        "manifest",
        "CREATE TABLE manifest (id INTEGER PRIMARY KEY CHECK (id = 1), counter INTEGER NOT NULL, mac BLOB NOT NULL) \
         STRICT",
    ),
    ("outbox", "CREATE TABLE outbox (seq INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT"),
    (
        "removed",
        "CREATE TABLE removed (name TEXT PRIMARY KEY, version INTEGER NOT NULL, counter INTEGER NOT NULL) STRICT, \
         WITHOUT ROWID",
    ),
    (
        "secret",
        "CREATE TABLE secret (name TEXT NOT NULL, version INTEGER NOT NULL, digest BLOB NOT NULL, \
         created_at INTEGER NOT NULL, created_by TEXT NOT NULL, size INTEGER NOT NULL, salt BLOB NOT NULL, \
         sealed BLOB NOT NULL, PRIMARY KEY (name, version)) STRICT, WITHOUT ROWID",
    ),
];

/// Opens an existing file. Never creates one.
pub(crate) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
    Ok(connection)
}

/// Whether this is a store that this binary may read, before anything else of it is touched.
pub(crate) fn identify(connection: &Connection) -> Result<(), StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(sqlite);
    if pragma("application_id")? != APPLICATION_ID {
        return Err(StoreError::Truncated("the file is not a keyholder secret store".to_owned()));
    }
    let found = pragma("user_version")?.cast_unsigned();
    if found > SCHEMA {
        return Err(StoreError::TooNew { found, known: SCHEMA });
    }
    if found != SCHEMA {
        return Err(StoreError::Tampered(format!("it claims schema {found}, which never existed")));
    }
    Ok(())
}

/// Fails when the file is shorter than its own page count says. SQLite itself takes a last page that is cut short for
/// one that ends in zeros. Call it within a transaction that has read, so that no other process is writing; looks at
/// the file without opening it (see `unlock::inspect`).
pub(crate) fn check_length(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0)).map_err(sqlite);
    let expected = pragma("page_count")?.saturating_mul(pragma("page_size")?);
    let found = fs::metadata(path).map_err(|source| error::io(source, "look at", path))?.len();
    if found < expected {
        return Err(StoreError::Truncated(format!("the file has {found} of its {expected} bytes")));
    }
    Ok(())
}

/// Settings of one connection.
pub(crate) fn configure(connection: &Connection) -> Result<(), StoreError> {
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, on).map_err(sqlite)?;
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = EXTRA; PRAGMA fullfsync = ON; PRAGMA secure_delete = ON; \
             PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -1024;",
        )
        .map_err(sqlite)?;
    let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(sqlite)?;
    if journal != "delete" {
        return Err(StoreError::Tampered(format!("its journal mode was changed to {journal}")));
    }
    Ok(())
}

/// Makes the tables in an empty database.
pub(crate) fn create_tables(connection: &Connection) -> Result<(), StoreError> {
    for (_, statement) in TABLES {
        connection.execute_batch(statement).map_err(sqlite)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
    connection.pragma_update(None, "user_version", SCHEMA).map_err(sqlite)
}

/// Fails unless the tables are exactly ours, and nothing else is there.
pub(crate) fn check_tables(connection: &Connection) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")
        .map_err(sqlite)?;
    let found = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .and_then(Iterator::collect::<Result<Vec<(String, String, String, Option<String>)>, _>>)
        .map_err(sqlite)?;
    let expected = TABLES.iter().map(|(name, sql)| ("table", *name, *name, Some(*sql)));
    let same = expected.eq(found
        .iter()
        .map(|(kind, name, table, sql)| (kind.as_str(), name.as_str(), table.as_str(), sql.as_deref())));
    if !same {
        return Err(StoreError::Tampered("its tables were changed".to_owned()));
    }
    Ok(())
}
