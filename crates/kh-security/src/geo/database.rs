//! One database file: taken up when it changes, kept when it is bad.
//!
//! Invariants: what is looked up in has been verified from the first byte to the last; the file that was read is one file,
//! not the begin of one and the end of another; each misfortune is told once per file.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use maxminddb::Reader;
use parking_lot::Mutex;

use crate::counters::{Counters, DatabaseCounters};

/// Largest file that is read: the largest that MaxMind sells (GeoIP2 Enterprise) has less than half of it.
pub const DATABASE_MAX: u64 = 1 << 30;

/// What a database knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Countries.
    Country,
    /// Cities.
    City,
    /// Autonomous systems.
    Asn,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Country, Self::City, Self::Asn];

    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Country => "country",
            Self::City => "city",
            Self::Asn => "asn",
        }
    }

    /// Whether a database of this type (`GeoLite2-City`, `DBIP-ASN-Lite`) has its records in the form that is read.
    fn takes(self, database_type: &str) -> bool {
        let has = |word: &str| database_type.contains(word);
        match self {
            // a city's record holds all that a country's does
            Self::Country => has("Country") || has("City") || has("Enterprise"),
            Self::City => has("City") || has("Enterprise"),
            Self::Asn => has("ASN") || has("ISP"),
        }
    }
}

/// Which state of a file was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("it cannot be read: {}", .0.kind())]
    Io(#[from] io::Error),
    #[error("it is larger than {DATABASE_MAX} bytes")]
    TooLarge,
    #[error("it changed while it was read")]
    Changed,
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it is a database of another kind")]
    OtherKind,
}

/// Whether a file is a good database of this kind, and if not, why: as it would be taken up, and without doing so. Reads
/// and checks the whole file.
pub fn examine(kind: Kind, path: &Path) -> Result<(), String> {
    let database = Database::new(kind, path.to_owned(), &Counters::default());
    let stamp = fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
    database.load(stamp).map(drop).map_err(|error| error.to_string())
}

/// Which state of a file was tried last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tried {
    Nothing,
    Missing,
    File(Stamp),
}

/// A file and what was last taken from it.
pub(crate) struct Database {
    kind: Kind,
    path: PathBuf,
    current: ArcSwapOption<Reader<Vec<u8>>>,
    /// What was tried last: the same state is not tried twice.
    tried: Mutex<Tried>,
    counters: DatabaseCounters,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("kind", &self.kind).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Database {
    pub(crate) fn new(kind: Kind, path: PathBuf, counters: &Counters) -> Self {
        let counters = counters.database(kind);
        Self { kind, path, current: ArcSwapOption::empty(), tried: Mutex::new(Tried::Nothing), counters }
    }

    /// Takes the file up if it has changed since it was looked at last.
    pub(crate) fn refresh(&self) {
        let stamp = fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata));
        let found = stamp.map_or(Tried::Missing, Tried::File);
        let mut tried = self.tried.lock();
        if std::mem::replace(&mut *tried, found) == found {
            return;
        }
        match self.load(stamp) {
            Ok(reader) => {
                let built = reader.metadata().build_epoch;
                self.counters.loaded.inc();
                self.counters.built.set(i64::try_from(built).unwrap_or(i64::MAX));
                tracing::info!(
                    geo.database = self.kind.as_str(),
                    geo.built = built,
                    geo.type = reader.metadata().database_type,
                    "a location database was taken up"
                );
                self.current.store(Some(reader.into()));
            }
            Err(error) => {
                // what changed while it was read is looked at again
                if matches!(error, LoadError::Changed) {
                    *tried = Tried::Nothing;
                }
                self.counters.refused.inc();
                tracing::warn!(
                    geo.database = self.kind.as_str(),
                    geo.kept = self.current.load().is_some(),
                    path = %self.path.display(),
                    reason = %error,
                    "a location database was not taken up"
                );
            }
        }
    }

    fn load(&self, expected: Option<Stamp>) -> Result<Reader<Vec<u8>>, LoadError> {
        let bytes = read(&self.path, expected)?;
        let damaged = |error: maxminddb::MaxMindDbError| LoadError::Damaged(error.to_string());
        let reader = Reader::from_source(bytes).map_err(damaged)?;
        if !self.kind.takes(&reader.metadata().database_type) {
            return Err(LoadError::OtherKind);
        }
        reader.verify().map_err(damaged)?;
        Ok(reader)
    }

    /// The last good state of the file.
    pub(crate) fn current(&self) -> Option<Arc<Reader<Vec<u8>>>> {
        self.current.load_full()
    }
}

fn read(path: &Path, expected: Option<Stamp>) -> Result<Vec<u8>, LoadError> {
    // opening a pipe would wait for its other end
    if !fs::metadata(path)?.is_file() {
        return Err(LoadError::Io(io::ErrorKind::InvalidInput.into()));
    }
    let file = File::open(path)?;
    let before = Stamp::of(&file.metadata()?);
    if before.length > DATABASE_MAX {
        return Err(LoadError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.length).map_err(|_| LoadError::TooLarge)? + 1);
    (&file).take(DATABASE_MAX + 1).read_to_end(&mut bytes)?;
    let after = Stamp::of(&file.metadata()?);
    // an update by renaming leaves this file alone; one that writes into it shows
    if before != after || Some(before) != expected || bytes.len() as u64 != before.length {
        return Err(LoadError::Changed);
    }
    Ok(bytes)
}
