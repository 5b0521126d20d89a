//! From a path and a key to an open store.
//!
//! Invariant: whatever is wrong (permissions, damage, a wrong key, a newer schema), it is told apart here and the file is
//! left as it was.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use kh_core::{Entropy, SecretBytes, port::StoreError};
use rusqlite::Connection;

use crate::{
    StoreKey,
    create::create,
    crypto::{DataKey, KdfParams},
    error::{self, sqlite, unavailable},
    files::{self, Identity},
    header::Header,
    layout,
    manifest::Manifest,
};

/// Smaller than SQLite's smallest page, a file cannot be a database.
const SMALLEST_DATABASE_BYTES: u64 = 512;

/// A store whose key fits and whose rows are all listed. Gives keys to other parts, and becomes a
/// [`FileStore`](crate::FileStore).
pub struct Unlocked {
    pub(crate) path: PathBuf,
    pub(crate) connection: Connection,
    pub(crate) identity: Identity,
    pub(crate) store_id: Vec<u8>,
    pub(crate) data_key: DataKey,
    pub(crate) counter: u64,
    pub(crate) entropy: Arc<dyn Entropy>,
    created: bool,
}

kh_core::assert_closed!(Unlocked);

impl Unlocked {
    /// 32 bytes for another part of keyholder, such as the audit log's signing seed: HKDF-SHA-256 of the store's data
    /// key under `label`. The same store and label give the same bytes always; other labels tell nothing of them.
    pub fn subkey(&self, label: &str) -> SecretBytes {
        self.data_key.subkey(label)
    }

    /// Whether [`unlock`] made the file just now.
    pub fn created(&self) -> bool {
        self.created
    }
}

impl fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unlocked").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens the store at `path` with `key`, or makes an empty one when there is no file. Blocks: a passphrase takes a few
/// hundred milliseconds and 64 MiB to stretch.
pub fn unlock(path: &Path, key: &StoreKey, entropy: Arc<dyn Entropy>) -> Result<Unlocked, StoreError> {
    unlock_with(path, key, entropy, KdfParams::DEFAULT)
}

/// [`unlock`] with another cost of stretching for a store that is made now; an existing one keeps its own.
pub fn unlock_with(
    path: &Path,
    key: &StoreKey,
    entropy: Arc<dyn Entropy>,
    params: KdfParams,
) -> Result<Unlocked, StoreError> {
    let directory = files::parent(path);
    files::create_private_dir(directory).map_err(|source| error::io(source, "create the directory", directory))?;
    refuse_shared_directory(directory)?;
    let created = match inspect(path)? {
        Found::Store(_) => false,
        Found::Nothing => create(path, key, params, &*entropy)?,
    };
    let Found::Store(identity) = inspect(path)? else {
        return Err(unavailable(format!("{} disappeared", path.display())));
    };
    let mut connection = layout::connect(path)?;
    layout::identify(&connection)?;
    layout::configure(&connection)?;
    let transaction = connection.transaction().map_err(sqlite)?;
    layout::check_tables(&transaction)?;
    layout::check_length(&transaction, path)?;
    let header = Header::load(&transaction)?;
    let data_key = header.open(key)?;
    let manifest = Manifest::load(&transaction, &header.store_id, &data_key)?;
    transaction.finish().map_err(sqlite)?;
    Ok(Unlocked {
        path: path.to_owned(),
        connection,
        identity,
        store_id: header.store_id,
        data_key,
        counter: manifest.counter,
        entropy,
        created,
    })
}

/// What stands at a path.
pub(crate) enum Found {
    /// No file, and no trace of one.
    Nothing,
    /// A private file that may be a store.
    Store(Identity),
}

/// Looks at the file without opening it: closing any handle of it would drop the locks that SQLite holds for other
/// connections of this process (POSIX advisory locks).
pub(crate) fn inspect(path: &Path) -> Result<Found, StoreError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return without_file(path),
        Err(source) => return Err(error::io(source, "open", path)),
    };
    if !metadata.is_file() {
        return Err(StoreError::Truncated(format!("{} is not a file", path.display())));
    }
    let mode = files::mode(&metadata);
    if mode & files::OPEN_TO_OTHERS != 0 {
        return Err(unavailable(format!(
            "{0} is open to others (mode {mode:04o}); after finding out why, run: chmod 600 {0}",
            path.display()
        )));
    }
    if metadata.len() < SMALLEST_DATABASE_BYTES {
        return Err(StoreError::Truncated(format!("{} has only {} bytes", path.display(), metadata.len())));
    }
    Ok(Found::Store(Identity::of(&metadata)))
}

/// A journal without its database must not be played back into a new one.
fn without_file(path: &Path) -> Result<Found, StoreError> {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    if Path::new(&journal).exists() {
        return Err(StoreError::Truncated(format!(
            "{} is missing, but its journal is there; put the file back, or move the journal away to start empty",
            path.display()
        )));
    }
    Ok(Found::Nothing)
}

fn refuse_shared_directory(directory: &Path) -> Result<(), StoreError> {
    let shared = files::replaceable_by_others(directory)
        .map_err(|source| error::io(source, "look at the directory", directory))?;
    if shared {
        return Err(unavailable(format!("others may replace files in {0}; run: chmod go-w {0}", directory.display())));
    }
    Ok(())
}
