//! What SQLite and the file system say, in words an operator can act on. A [`Failure`] can be cloned, because one
//! failed commit fails every change that was grouped into it.

use std::{io, path::Path};

use kh_core::port::StateError;
use rusqlite::ErrorCode;

/// A failure of the database as a whole, as opposed to a refusal of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// What is on disk cannot be trusted.
    Damaged(String),
    /// It cannot be read or written now.
    Unavailable(String),
}

impl Failure {
    /// An error while reading a row: a value that this program never writes is damage.
    pub(crate) fn from_row(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => {
                Self::Damaged(format!("a stored value does not parse ({error})"))
            }
            other => other.into(),
        }
    }

    /// An error of the file system on `path` while `doing`.
    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::Unavailable(format!("{doing} {}: {error}", path.display()))
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let unavailable = |what: &str| Self::Unavailable(format!("{what} ({error})"));
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged(format!("its structure is broken ({error})")),
            Some(ErrorCode::NotADatabase) => Self::Damaged(format!("it is not a SQLite database ({error})")),
            Some(ErrorCode::DiskFull) => unavailable("the disk is full"),
            Some(ErrorCode::ReadOnly) => unavailable("the database is read-only"),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                unavailable("another process holds the database's lock")
            }
            Some(ErrorCode::SystemIoFailure) => unavailable("reading or writing the database file failed"),
            Some(ErrorCode::CannotOpen) => unavailable("the database file cannot be opened"),
            Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
                unavailable("access to the database file is denied")
            }
            _ => unavailable("the database refused the operation"),
        }
    }
}

impl From<Failure> for StateError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Damaged(reason) => Self::Damaged(reason),
            Failure::Unavailable(reason) => Self::Unavailable { reason, source: None },
        }
    }
}
