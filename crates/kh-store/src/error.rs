//! From SQLite's and the file system's errors to the store's: which mean damage, which a foreign hand, which only that
//! it does not work now.

use std::{io, path::Path};

use kh_core::port::StoreError;
use rusqlite::{Error, ErrorCode};

/// A file-system error while `doing` something.
pub(crate) fn io(source: io::Error, doing: &str, path: &Path) -> StoreError {
    let why = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::NotFound => "no such file or directory",
        _ => "input/output error",
    };
    StoreError::Unavailable {
        reason: format!("cannot {doing} {}: {why}", path.display()),
        source: Some(Box::new(source)),
    }
}

/// Not available, for a reason that has no error value behind it.
pub(crate) fn unavailable(reason: impl Into<String>) -> StoreError {
    StoreError::Unavailable { reason: reason.into(), source: None }
}

/// What SQLite's error says about the store. SQLite's messages name tables and codes, never values.
pub(crate) fn sqlite(error: Error) -> StoreError {
    let Error::SqliteFailure(failure, _) = &error else {
        return StoreError::Tampered(format!("a row does not have the form it was written in ({error})"));
    };
    let reason = match failure.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            return StoreError::Truncated(format!("the file is cut short, overwritten or not a database ({error})"));
        }
        ErrorCode::Unknown
        | ErrorCode::TypeMismatch
        | ErrorCode::ConstraintViolation
        | ErrorCode::TooBig
        | ErrorCode::NotFound
        | ErrorCode::ParameterOutOfRange => {
            return StoreError::Tampered(format!("its tables do not have the form they were written in ({error})"));
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            "another process holds the file for too long"
        }
        ErrorCode::ReadOnly => "the file or its directory is read-only",
        ErrorCode::DiskFull => "the disk is full",
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            "the file cannot be opened"
        }
        ErrorCode::SystemIoFailure => "the file cannot be read or written (disk full, size limit or device error)",
        ErrorCode::OutOfMemory => "out of memory",
        ErrorCode::SchemaChanged | ErrorCode::OperationAborted | ErrorCode::OperationInterrupted => {
            "the operation was interrupted"
        }
        _ => "SQLite failed",
    };
    StoreError::Unavailable { reason: reason.to_owned(), source: Some(Box::new(error)) }
}
