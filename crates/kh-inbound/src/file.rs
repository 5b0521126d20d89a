//! Key sets from files.
//!
//! Invariant: one read is bounded in bytes, and an error tells the path and never what the file holds.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use kh_core::port::{BoxFuture, KeyDocument, KeySource, RemoteError};

/// Largest file: a set of a hundred RSA keys has 50 KB.
pub const FILE_MAX: u64 = 256 * 1024;

/// A JWK Set in a file.
#[derive(Debug)]
pub struct FileKeys(PathBuf);

impl FileKeys {
    /// Reads `path` whenever it is asked.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl KeySource for FileKeys {
    fn fetch(&self) -> BoxFuture<'_, Result<KeyDocument, RemoteError>> {
        let path = self.0.clone();
        Box::pin(async move {
            let reading = tokio::task::spawn_blocking(move || read(&path));
            reading.await.unwrap_or_else(|_| Err(RemoteError::new("reading the key set did not end")))
        })
    }

    fn at_start(&self) -> Option<Result<KeyDocument, RemoteError>> {
        Some(read(&self.0))
    }
}

fn read(path: &Path) -> Result<KeyDocument, RemoteError> {
    let cannot =
        |error: std::io::Error| RemoteError::new(format!("{} cannot be read: {}", path.display(), error.kind()));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(RemoteError::new(format!("{} is larger than {FILE_MAX} bytes", path.display())));
    }
    Ok(KeyDocument { bytes, fresh_for: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let keys = FileKeys::new(&path);
        assert!(keys.fetch().await.unwrap_err().reason.contains("cannot be read: entity not found"));
        std::fs::write(&path, vec![b' '; usize::try_from(FILE_MAX).unwrap()]).unwrap();
        assert_eq!(keys.fetch().await.unwrap().bytes.len() as u64, FILE_MAX);
        std::fs::write(&path, vec![b' '; usize::try_from(FILE_MAX).unwrap() + 1]).unwrap();
        assert!(keys.at_start().unwrap().unwrap_err().reason.contains("is larger than"));
    }
}
