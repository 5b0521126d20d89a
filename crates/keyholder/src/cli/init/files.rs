//! Puts the configuration and its schema into place.
//!
//! Invariants: a file appears whole or not at all; an existing configuration is never overwritten, only kept under
//! another name; drafts go away whatever happens.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use kh_core::Code;

use crate::{config::schema, output::Failure};

/// Backups kept beside each other before somebody should clean up.
const BACKUPS_MAX: u32 = 1000;

/// The files of one configuration, written and not yet in place.
pub(super) struct Staged {
    target: PathBuf,
    config: Draft,
    schema: Option<Draft>,
}

/// What was put into place.
pub(super) struct Published {
    /// Where an older configuration went.
    pub(super) backup: Option<PathBuf>,
    /// The schema; none if something else stands at its place.
    pub(super) schema: Option<PathBuf>,
}

/// A file that is removed unless it was moved away.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // It may have been moved to its place.
        fs::remove_file(&self.0).ok();
    }
}

impl Draft {
    /// Writes `text` beside `target`, through to the disk. Nobody's file and no link is written through.
    fn new(target: &Path, text: &str) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let path = target.with_file_name(format!(".{name}.{}", std::process::id()));
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        let mut file = match create() {
            // A killed process of the same number left it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                create()?
            }
            result => result?,
        };
        let draft = Self(path);
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
        Ok(draft)
    }

    /// Takes the place `target` if nothing stands there.
    fn appear(&self, target: &Path) -> io::Result<()> {
        fs::hard_link(&self.0, target)
    }

    /// Takes the place `target` from whatever stands there.
    fn replace(&self, target: &Path) -> io::Result<()> {
        fs::rename(&self.0, target)
    }
}

impl Staged {
    /// Writes the drafts.
    pub(super) fn new(target: &Path, text: &str) -> Result<Self, Failure> {
        let cannot = |error: io::Error| cannot_write(target, &error);
        let folder = target.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(cannot)?;
        let beside = folder.join(schema::FILE_NAME);
        let schema = if is_ours(&beside) { Some(Draft::new(&beside, &schema::text()).map_err(cannot)?) } else { None };
        Ok(Self { target: target.to_owned(), config: Draft::new(target, text).map_err(cannot)?, schema })
    }

    /// Puts everything into place, the configuration last.
    pub(super) fn publish(self, force: bool) -> Result<Published, Failure> {
        let cannot = |error: io::Error| cannot_write(&self.target, &error);
        let mut published = Published { backup: None, schema: None };
        if let Some(draft) = &self.schema {
            let beside = self.target.with_file_name(schema::FILE_NAME);
            draft.replace(&beside).map_err(cannot)?;
            published.schema = Some(beside);
        }
        match self.config.appear(&self.target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && force => {
                published.backup = Some(back_up(&self.target).map_err(cannot)?);
                self.config.replace(&self.target).map_err(cannot)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Failure::usage(format!("{} appeared meanwhile", self.target.display()))
                    .hint("--force replaces it and keeps it as a backup"));
            }
            // No hard links here, as on some network folders.
            Err(_) if !self.target.exists() => self.config.replace(&self.target).map_err(cannot)?,
            Err(error) => return Err(cannot(error)),
        }
        sync_folder(&self.target);
        Ok(published)
    }
}

/// Whether the schema may be written there: nothing is there, or a schema of this program.
fn is_ours(path: &Path) -> bool {
    if path.symlink_metadata().is_err() {
        return true;
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    let id = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok()?.get("$id")?.as_str().map(str::to_owned);
    id(&text).as_deref() == Some(schema::ID)
}

/// A second name for the file, before the first one goes to its successor: there is never no configuration.
fn back_up(target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    for number in 0..BACKUPS_MAX {
        let suffix = if number == 0 { String::new() } else { format!(".{number}") };
        let backup = target.with_file_name(format!("{name}.bak{suffix}"));
        match fs::hard_link(target, &backup) {
            Ok(()) => return Ok(backup),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) if backup.symlink_metadata().is_err() => {
                fs::copy(target, &backup)?;
                return Ok(backup);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("there are too many backups"))
}

/// Makes the names durable. A file system that cannot is no reason to fail.
fn sync_folder(target: &Path) {
    if let Some(folder) = target.parent() {
        fs::File::open(folder).and_then(|folder| folder.sync_all()).ok();
    }
}

fn cannot_write(target: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::CONFIG_INVALID, format!("cannot write {}", target.display()))
        .caused_by(error)
        .hint("choose another place with --config FILE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_overwritten_and_no_draft_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("keyholder.toml");
        drop(Staged::new(&target, "abandoned").unwrap());
        assert_eq!(names(folder.path()), Vec::<String>::new());
        let published = Staged::new(&target, "one").unwrap().publish(false).unwrap();
        assert!(published.backup.is_none() && published.schema.is_some());
        assert!(Staged::new(&target, "two").unwrap().publish(false).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");
        for (text, backup, kept) in [("two", "keyholder.toml.bak", "one"), ("three", "keyholder.toml.bak.1", "two")] {
            let published = Staged::new(&target, text).unwrap().publish(true).unwrap();
            assert_eq!(published.backup, Some(folder.path().join(backup)));
            assert_eq!(fs::read_to_string(folder.path().join(backup)).unwrap(), kept);
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
        }
        let all = ["keyholder.schema.json", "keyholder.toml", "keyholder.toml.bak", "keyholder.toml.bak.1"];
        assert_eq!(names(folder.path()), all);
    }

    #[test]
    fn a_foreign_file_in_the_schemas_place_stays() {
        for foreign in ["not JSON", "{\"$id\":\"https://example.com/other\"}"] {
            let folder = tempfile::tempdir().unwrap();
            let (target, beside) = (folder.path().join("keyholder.toml"), folder.path().join(schema::FILE_NAME));
            fs::write(&beside, foreign).unwrap();
            let published = Staged::new(&target, "one").unwrap().publish(false).unwrap();
            assert!(published.schema.is_none());
            assert_eq!(fs::read_to_string(&beside).unwrap(), foreign);
        }
        let folder = tempfile::tempdir().unwrap();
        let (target, beside) = (folder.path().join("keyholder.toml"), folder.path().join(schema::FILE_NAME));
        fs::write(&beside, format!("{{\"$id\":\"{}\"}}", schema::ID)).unwrap();
        assert!(Staged::new(&target, "one").unwrap().publish(false).unwrap().schema.is_some());
        assert_eq!(fs::read_to_string(&beside).unwrap(), schema::text());
    }
}
