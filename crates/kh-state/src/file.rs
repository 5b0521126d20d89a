//! The database file before SQLite sees it: its folder, its permissions, and what its first bytes say. SQLite would
//! silently turn a file of 0 bytes into a new, empty database; here that is damage, because a new database only ever
//! appears complete, by rename.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use kh_core::port::StateError;

use crate::{failure::Failure, schema};

/// The fixed header of a SQLite file: <https://www.sqlite.org/fileformat2.html> section 1.3.
const HEADER: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What stands at the path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: a new installation.
    Missing,
    /// A plausible database of ours, to be checked further by SQLite.
    Database,
}

/// `path` with `suffix` appended to its file name, as SQLite names its companions.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The folder of `path`.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Creates the folder (0700) if it is missing. An existing folder stays as its owner made it, with a warning when
/// others can write into it.
pub(crate) fn prepare_folder(path: &Path) -> Result<(), Failure> {
    let folder = folder(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::io("cannot create the state folder", folder, &error))?;
    let mode = fs::metadata(folder)
        .map_err(|error| Failure::io("cannot read the state folder", folder, &error))?
        .permissions()
        .mode();
    if mode & 0o022 != 0 {
        tracing::warn!(
            path = %folder.display(),
            mode = format!("{:o}", mode & 0o7777),
            "other users can write into the state folder; give it mode 0700"
        );
    }
    Ok(())
}

/// Takes the lock that serialises creation and migration between processes. The operating system releases it when
/// the file is closed, also by SIGKILL.
pub(crate) fn lock(path: &Path) -> Result<File, Failure> {
    let path = beside(path, ".lock");
    let cannot = |error: io::Error| Failure::io("the state folder cannot be written: cannot lock", &path, &error);
    let file = open_private(OpenOptions::new().create(true).truncate(false), &path).map_err(cannot)?;
    file.lock().map_err(cannot)?;
    Ok(file)
}

/// Opens `path` for writing with mode 0600 if it is created.
pub(crate) fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.write(true).mode(0o600).open(path)
}

/// Makes a rename or a new name in the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Failure> {
    let folder = folder(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Failure::io("cannot sync the state folder", folder, &error))
}

/// Takes away what others may do with an existing database file.
pub(crate) fn tighten(path: &Path) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::io("cannot restrict the permissions of", path, &error);
    let mode = fs::metadata(path).map_err(cannot)?.permissions().mode();
    let others = mode & 0o077;
    if others == 0 {
        return Ok(());
    }
    tracing::warn!(
        path = %path.display(),
        mode = format!("{:o}", mode & 0o7777),
        "other users could read the state; its mode is 0600 now"
    );
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(cannot)
}

/// Reads what stands at `path` without changing anything.
pub(crate) fn inspect(path: &Path) -> Result<Found, StateError> {
    let cannot = |error: io::Error| Failure::io("cannot read", path, &error);
    let log_size = fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && log_size == 0 => return Ok(Found::Missing),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StateError::Damaged(format!(
                "{} is gone while its write-ahead log is still there; restore the file beside it",
                path.display()
            )));
        }
        Err(error) => return Err(cannot(error).into()),
    };
    let about = file.metadata().map_err(cannot)?;
    if !about.is_file() {
        return Err(StateError::Damaged(format!("{} is not a regular file", path.display())));
    }
    let mut header = Vec::with_capacity(HEADER);
    file.by_ref().take(HEADER as u64).read_to_end(&mut header).map_err(cannot)?;
    judge(&header, about.len(), log_size).map_err(|fault| fault.into_error(path)).map(|()| Found::Database)
}

/// What a header can be refused for.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Empty,
    NotSqlite,
    Foreign,
    Short { expected: u64, found: u64 },
    TooNew(u32),
}

impl Fault {
    fn into_error(self, path: &Path) -> StateError {
        let path = path.display();
        match self {
            Self::Empty => StateError::Damaged(format!(
                "{path} is empty (0 bytes), which keyholder never writes; restore it, or remove it to start anew"
            )),
            Self::NotSqlite => StateError::Damaged(format!("{path} is not a SQLite database")),
            Self::Foreign => StateError::Damaged(format!("{path} is a SQLite database of another program")),
            Self::Short { expected, found } => {
                StateError::Damaged(format!("{path} is cut short: {found} of {expected} bytes are there"))
            }
            Self::TooNew(found) => StateError::TooNew { found, known: schema::VERSION },
        }
    }
}

/// Judges the first bytes of a file of `size` bytes. With a non-empty write-ahead log (`log_size`) the length proves
/// nothing: pages may still stand in the log alone.
fn judge(header: &[u8], size: u64, log_size: u64) -> Result<(), Fault> {
    if header.is_empty() {
        return Err(Fault::Empty);
    }
    if !header.starts_with(MAGIC) {
        return Err(Fault::NotSqlite);
    }
    let short = |expected| Fault::Short { expected, found: size };
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let short_header = || short(HEADER as u64);
    let version = number(60).ok_or_else(short_header)?;
    let application = number(68).ok_or_else(short_header)?;
    let pages = number(28).ok_or_else(short_header)?;
    // section 1.3.7: the page count is valid only if both counters agree
    let counted = number(24).ok_or_else(short_header)? == number(92).ok_or_else(short_header)?;
    let page_size = match number(16).ok_or_else(short_header)? >> 16 {
        1 => 65_536,
        other => u64::from(other),
    };
    if application != schema::APPLICATION_ID {
        return Err(Fault::Foreign);
    }
    if version > schema::VERSION {
        return Err(Fault::TooNew(version));
    }
    let expected = u64::from(pages) * page_size;
    if log_size == 0 && counted && size < expected {
        return Err(short(expected));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
