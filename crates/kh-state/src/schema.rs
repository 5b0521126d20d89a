//! The schema and how a file gets to it. Migrations are a table: entry N turns schema N into schema N + 1, all
//! missing ones run in one transaction, so a crash leaves either the old schema or the new one.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use kh_core::port::StateError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::{
    failure::Failure,
    file::{self, Found},
    snapshot,
};

/// `khol` in the header of the file: this database is keyholder's.
pub(crate) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"khol");

/// Released entries never change; a new schema is a new entry.
const MIGRATIONS: [&str; VERSION as usize] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
];

/// The schema that this binary writes.
pub const VERSION: u32 = 8;

/// Entry N turns schema N + 2 back into schema N + 1: what the later one added, and the count of rows that have it.
const DOWN: [Down; VERSION as usize - 1] = [
    Down {
        count: "SELECT count(*) FROM clients WHERE old_secrets_until IS NOT NULL",
        whose: "clients",
        lost: "until when an old secret stays valid: the secret before the newest one stops at once",
        statement: "ALTER TABLE clients DROP COLUMN old_secrets_until",
    },
    Down {
        count: "SELECT count(*) FROM clients WHERE environment IS NOT NULL",
        whose: "clients",
        lost: "the environment that a client is bound to: it is bound anew after the next upgrade",
        statement: "ALTER TABLE clients DROP COLUMN environment",
    },
    Down {
        count: "SELECT count(*) FROM (SELECT credential FROM rotation_runs UNION \
                SELECT credential FROM rotation_holds UNION SELECT credential FROM rotation_sightings)",
        whose: "credentials",
        lost: "the journal of their rotations, their holds, and the new secrets that unfinished rotations keep sealed",
        // the children first, and none of their triggers: dropping a table deletes its rows
        statement: "DROP TRIGGER rotation_runs_end_before_they_go; DROP TRIGGER rotation_records_stay; \
                    DROP TRIGGER rotation_records_go_with_their_run; DROP TABLE rotation_records; \
                    DROP TABLE rotation_escrow; DROP TABLE rotation_approvals; DROP TABLE rotation_runs; \
                    DROP TABLE rotation_leases; DROP TABLE rotation_holds; DROP TABLE rotation_sightings",
    },
    Down {
        count: "SELECT count(*) FROM clients WHERE token_format != 'opaque' OR audience != '[]' OR may_introspect = 1",
        whose: "clients",
        lost: "for whom a client's tokens are and whether it may introspect; a client with JWTs is disabled",
        // a token with fewer scopes than its client would come back with all of them
        statement: "UPDATE clients SET enabled = 0 WHERE token_format != 'opaque'; \
                    DELETE FROM tokens WHERE scopes IS NOT NULL; \
                    ALTER TABLE tokens DROP COLUMN scopes; ALTER TABLE clients DROP COLUMN may_introspect; \
                    ALTER TABLE clients DROP COLUMN audience; ALTER TABLE clients DROP COLUMN token_format",
    },
    Down {
        count: "SELECT count(*) FROM revocations",
        whose: "revocations",
        lost: "what of callers' tokens is revoked: a revoked token that has not expired is valid again",
        statement: "DROP TABLE revocations",
    },
    Down {
        count: "SELECT count(*) FROM sessions WHERE sealed IS NOT NULL",
        whose: "sessions",
        lost: "the sessions of users at platforms: their tokens are not given back, and the users log in again",
        // the keyholder tokens that spoke for them would be good for nothing
        statement: "DROP TRIGGER sessions_end_with_their_token; DROP TRIGGER sessions_end_with_their_client; \
                    DELETE FROM tokens WHERE digest IN (SELECT token FROM sessions); DROP TABLE sessions",
    },
    Down {
        count: "SELECT count(*) FROM clients WHERE token_binding != 'none' OR id IN \
                (SELECT client FROM tokens WHERE confirmation IS NOT NULL)",
        whose: "clients",
        lost: "that a client's tokens must be bound to it: it is disabled, and tokens that are bound are revoked",
        // a bound token would come back as a bearer token
        statement: "UPDATE clients SET enabled = 0 WHERE token_binding != 'none'; \
                    DELETE FROM tokens WHERE confirmation IS NOT NULL; \
                    ALTER TABLE tokens DROP COLUMN confirmation; ALTER TABLE clients DROP COLUMN token_binding",
    },
];

struct Down {
    count: &'static str,
    whose: &'static str,
    lost: &'static str,
    statement: &'static str,
}

/// What an older schema has no place for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// How many have it.
    pub count: u32,
    /// Who has it: `clients`, `credentials`, `revocations`, `sessions`.
    pub whose: &'static str,
    /// What it is.
    pub what: &'static str,
}

/// How long one statement waits for another process's transaction. Transactions here last milliseconds; ten seconds
/// cover a checkpoint on a slow disk.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The write-ahead log is cut back to this size after a checkpoint, so that one burst does not occupy the disk
/// for ever.
const LOG_KEPT_BYTES: i64 = 16 * 1024 * 1024;

/// What a connection may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Read only, enforced by SQLite.
    Read,
    /// Read and write an existing file.
    Write,
}

/// Makes sure that `path` holds a sound database of this binary's schema. Nothing is changed in a file that is
/// damaged or newer.
pub(crate) fn prepare(path: &Path) -> Result<(), StateError> {
    file::prepare_folder(path)?;
    let lock = file::lock(path)?;
    match file::inspect(path)? {
        Found::Missing => create(path)?,
        Found::Database => {
            file::tighten(path)?;
            check(path)?;
            let mut connection = connect(path, Access::Write)?;
            if version(&connection)? < VERSION {
                keep_copy(&connection, path)?;
                migrate(&mut connection)?;
            }
        }
    }
    drop(lock);
    Ok(())
}

/// Opens an existing database.
pub(crate) fn connect(path: &Path, access: Access) -> Result<Connection, Failure> {
    let mode = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // FULL: a commit returns after the log is synced, so an acknowledged change survives a power cut
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", LOG_KEPT_BYTES)?;
    if access == Access::Write {
        use_write_ahead_log(&connection)?;
    }
    Ok(connection)
}

fn use_write_ahead_log(connection: &Connection) -> Result<(), Failure> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    Err(Failure::Unavailable(format!("the file system has no write-ahead logging (journal mode {mode})")))
}

/// A new database is built beside its place and renamed into it, so that no crash leaves half a file there.
fn create(path: &Path) -> Result<(), StateError> {
    let building = file::beside(path, ".new");
    for leftover in [building.clone(), file::beside(&building, "-wal"), file::beside(&building, "-shm")] {
        match fs::remove_file(&leftover) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::io("cannot remove", &leftover, &error).into()),
        }
    }
    let cannot = |error: io::Error| Failure::io("cannot create", &building, &error);
    let fresh = file::open_private(OpenOptions::new().create_new(true), &building).map_err(cannot)?;
    let mut connection = connect(&building, Access::Write)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(Failure::from)?;
    migrate(&mut connection)?;
    connection.close().map_err(|(_, error)| Failure::from(error))?;
    fresh.sync_all().map_err(cannot)?;
    fs::rename(&building, path).map_err(cannot)?;
    file::sync_folder(path)?;
    tracing::info!(path = %path.display(), "created the state database");
    Ok(())
}

/// Reads through the write-ahead log as well, where the file's own header may be behind, with a connection that
/// cannot write.
fn check(path: &Path) -> Result<(), StateError> {
    let connection = connect(path, Access::Read)?;
    let found = version(&connection)?;
    if found > VERSION {
        return Err(StateError::TooNew { found, known: VERSION });
    }
    let verdict: String =
        connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(Failure::from)?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(StateError::Damaged(format!("{}: {verdict}", path.display())))
}

/// Before a schema is changed, the database as it was is kept beside it. An older copy of the same schema goes.
fn keep_copy(connection: &Connection, path: &Path) -> Result<PathBuf, StateError> {
    let kept = file::beside(path, &format!(".schema-{}", version(connection)?));
    let draft = file::beside(&kept, ".new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::io("cannot remove", &draft, &error).into());
        }
        _ => {}
    }
    snapshot::copy(connection, &draft)?;
    fs::rename(&draft, &kept).map_err(|error| Failure::io("cannot keep a copy at", &kept, &error))?;
    file::sync_folder(path)?;
    tracing::info!(path = %kept.display(), "kept a copy of the state database before its schema is changed");
    Ok(kept)
}

/// The schema of the state at `path`, and what schema `to` has no place for.
pub fn losses(path: &Path, to: u32) -> Result<(u32, Vec<Loss>), StateError> {
    if file::inspect(path)? == Found::Missing {
        return Err(StateError::Damaged(format!("{} does not exist", path.display())));
    }
    let connection = connect(path, Access::Read)?;
    let from = version(&connection)?;
    let mut losses = Vec::new();
    for (_, down) in steps_down(from, to) {
        let count = connection.query_row(down.count, [], |row| row.get(0)).map_err(Failure::from)?;
        if count > 0 {
            losses.push(Loss { count, whose: down.whose, what: down.lost });
        }
    }
    Ok((from, losses))
}

/// The steps from schema `from` to `to`, each with the schema that it leads to.
fn steps_down(from: u32, to: u32) -> Vec<(u32, &'static Down)> {
    let all = (1..).zip(&DOWN);
    let mut steps: Vec<_> = all.filter(|(lower, _)| (to.max(1)..from).contains(lower)).collect();
    steps.reverse();
    steps
}

/// Takes the state at `path` back to schema `to`, for an older keyholder, and answers the copy of it as it was; none if
/// it is that old already. Nobody else may have it open. Look at [`losses`] first.
pub fn downgrade(path: &Path, to: u32) -> Result<Option<PathBuf>, StateError> {
    let lock = file::lock(path)?;
    if file::inspect(path)? == Found::Missing {
        return Err(StateError::Damaged(format!("{} does not exist", path.display())));
    }
    check(path)?;
    let mut connection = connect(path, Access::Write)?;
    let steps = steps_down(version(&connection)?, to);
    if steps.is_empty() {
        return Ok(None);
    }
    let kept = keep_copy(&connection, path)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Failure::from)?;
    for (lower, down) in steps {
        transaction.execute_batch(down.statement).map_err(Failure::from)?;
        transaction.pragma_update(None, "user_version", lower).map_err(Failure::from)?;
    }
    transaction.commit().map_err(Failure::from)?;
    drop(lock);
    Ok(Some(kept))
}

pub(crate) fn version(connection: &Connection) -> Result<u32, Failure> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    if version(connection)? == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = version(&transaction)?;
    let missing = MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    if from > 0 {
        tracing::info!(schema.from = from, schema.to = VERSION, "migrated the state database");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every step of the table leads to the same schema as all steps at once.
    #[test]
    fn migrations_run_one_by_one_and_all_at_once() {
        let dump = |connection: &Connection| -> Vec<String> {
            let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name").unwrap();
            let rows = statement.query_map([], |row| Ok(row.get::<_, Option<String>>(0)?.unwrap_or_default()));
            rows.unwrap().map(Result::unwrap).collect()
        };
        let mut at_once = Connection::open_in_memory().unwrap();
        migrate(&mut at_once).unwrap();
        let mut stepwise = Connection::open_in_memory().unwrap();
        for (index, migration) in MIGRATIONS.iter().enumerate().take(MIGRATIONS.len() - 1) {
            stepwise.execute_batch(migration).unwrap();
            stepwise.pragma_update(None, "user_version", u32::try_from(index + 1).unwrap()).unwrap();
        }
        migrate(&mut stepwise).unwrap();
        assert_eq!(dump(&at_once), dump(&stepwise));
        assert_eq!(version(&stepwise).unwrap(), VERSION);
        assert!(dump(&at_once).iter().any(|sql| sql.contains("old_secrets_until")));
    }
}
