//! A new store appears whole or not at all.
//!
//! Invariant: an existing file is never replaced, not even by two processes that create at the same moment: the finished
//! file is hard-linked to its place, which fails when there is one.

use std::{fs, io, path::Path};

use kh_core::{Entropy, port::StoreError};

use crate::{
    StoreKey,
    crypto::KdfParams,
    error::{self, sqlite, unavailable},
    files,
    header::Header,
    layout,
    manifest::Manifest,
};

/// Makes an empty store at `path`. Answers whether it did: another process may have been faster.
pub(crate) fn create(
    path: &Path,
    key: &StoreKey,
    params: KdfParams,
    entropy: &dyn Entropy,
) -> Result<bool, StoreError> {
    let directory = files::parent(path);
    let mut suffix = [0; 8];
    entropy.fill(&mut suffix);
    let name = path.file_name().ok_or_else(|| unavailable(format!("{} names no file", path.display())))?;
    let mut draft_name = name.to_owned();
    draft_name.push(format!(".new-{:016x}", u64::from_be_bytes(suffix)));
    let draft = directory.join(draft_name);
    let result = write(&draft, key, params, entropy).and_then(|()| publish(&draft, path));
    if let Err(problem) = fs::remove_file(&draft)
        && problem.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %draft.display(), error = %problem, "the draft of a new secret store could not be removed");
    }
    let created = result?;
    files::sync_dir(directory).map_err(|source| error::io(source, "make durable", directory))?;
    Ok(created)
}

fn write(draft: &Path, key: &StoreKey, params: KdfParams, entropy: &dyn Entropy) -> Result<(), StoreError> {
    let file = files::create_private_file(draft).map_err(|source| error::io(source, "create", draft))?;
    drop(file);
    let mut connection = layout::connect(draft)?;
    layout::configure(&connection)?;
    let (header, data_key) = Header::create(key, params, entropy)?;
    let transaction = connection.transaction().map_err(sqlite)?;
    layout::create_tables(&transaction)?;
    header.insert(&transaction)?;
    Manifest::seal(&transaction, &header.store_id, &data_key, 1)?;
    transaction.commit().map_err(sqlite)?;
    connection.close().map_err(|(_, error)| sqlite(error))
}

fn publish(draft: &Path, path: &Path) -> Result<bool, StoreError> {
    match fs::hard_link(draft, path) {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(error::io(source, "create", path)),
    }
}
