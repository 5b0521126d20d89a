//! A key file that is replaced together with the store's key: the new key lies beside the old one until the store is
//! sealed with it, then takes its place.
//!
//! Invariant: at every moment the store opens with the key at its place or with the one beside it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use kh_core::{Entropy, port::StoreError};
use kh_store::{StoreKey, Unlocked};

use crate::{compose::Paths, config::KeySource, output::Failure};

/// Where the next key of the key file `path` lies until it counts.
pub(crate) fn pending(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

/// The file whose key is replaced in its place, if the configuration names one.
pub(crate) fn replaceable(paths: &Paths, source: &KeySource) -> Option<PathBuf> {
    match source {
        KeySource::Generated | KeySource::KeyFile(_) => paths.key_file(source),
        KeySource::KeyCredential(_)
        | KeySource::PassphraseFile(_)
        | KeySource::KeyEnv(_)
        | KeySource::PassphraseEnv(_) => None,
    }
}

/// Opens with the key beside the configured one, if a rekey was killed between the store and the file; the key is put
/// into its place.
pub(crate) fn finish(
    paths: &Paths,
    source: &KeySource,
    entropy: &Arc<dyn Entropy>,
) -> Result<Option<Unlocked>, Failure> {
    let Some(place) = replaceable(paths, source) else { return Ok(None) };
    let next = pending(&place);
    if !next.exists() {
        return Ok(None);
    }
    let key = StoreKey::from_key_file(&next)?;
    match kh_store::unlock(&paths.store, &key, Arc::clone(entropy)) {
        Ok(unlocked) => {
            match put_in_place(&next, &place) {
                Ok(()) => {
                    tracing::info!(path = %place.display(), "finished a change of the store's key that was interrupted");
                }
                Err(error) => {
                    tracing::warn!(path = %place.display(), %error, "the store's new key could not be put into its place");
                }
            }
            Ok(Some(unlocked))
        }
        Err(StoreError::WrongKey) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Durable. Another process that does the same at the same time does no harm.
pub(crate) fn put_in_place(next: &Path, place: &Path) -> std::io::Result<()> {
    match std::fs::rename(next, place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && place.exists() => {}
        renamed => renamed?,
    }
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}
