//! A log file that others rotate: opened for appending, opened again on request.
//!
//! Invariant: a line stands in the file whole or not at all, also when the disk is full, as long as one process writes it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Mode of a new file: paths of calls and names of clients are not for everybody. logrotate's `create` decides for the
/// files that it makes.
const MODE: u32 = 0o640;

/// A file with its name.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    /// Opens or makes it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: append(path)? })
    }

    /// Opens the file that has the name now, and makes it if it is gone. On an error the old one stays in use.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        Ok(())
    }

    /// Appends `lines`; what could only be written in part is cut off again.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return self.cut(written, io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.cut(written, error),
            }
        }
        Ok(())
    }

    fn cut(&mut self, written: usize, error: io::Error) -> io::Result<()> {
        if written > 0 {
            let end = self.file.seek(SeekFrom::End(0))?;
            self.file.set_len(end.saturating_sub(written as u64))?;
        }
        Err(error)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_rotation_lines_go_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let mut log = LogFile::open(&path).unwrap();
        log.append(b"1\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        log.append(b"2\n").unwrap();
        log.reopen().unwrap();
        log.append(b"3\n").unwrap();
        assert_eq!(std::fs::read(&old).unwrap(), b"1\n2\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"3\n");
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(log.reopen().is_err());
        log.append(b"the old file stays in use\n").unwrap();
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut full = LogFile::open(Path::new("/dev/full")).unwrap();
        assert_eq!(full.append(b"line\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
