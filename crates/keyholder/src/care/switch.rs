//! Replacing the files of an installation so that a kill at any moment loses nothing: a journal names every rename
//! before the first one is made, and the renames can be repeated.
//!
//! Invariant: while the journal is there, each target's new file is either still staged or in its place, and its old
//! file either in its place (then the new one is staged) or aside. So going on from any point leads to the same end.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use kh_core::Code;
use serde::{Deserialize, Serialize};

use crate::{compose::write_private_file, output::Failure};

/// The journal's form.
const FORMAT: u32 = 1;

/// The journal of a state folder; it is there from the first rename to the last.
pub(crate) fn journal_file(state: &Path) -> PathBuf {
    state.join("restore.journal")
}

/// One file that is replaced.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replacement {
    /// The new file, on the target's file system.
    pub(crate) staged: PathBuf,
    /// Its place.
    pub(crate) target: PathBuf,
    /// Where the old file goes, and those that belong to it: a journal of SQLite must not be played into a new file.
    pub(crate) aside: Vec<(PathBuf, PathBuf)>,
}

/// Everything that is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    format: u32,
    /// What is restored, for whoever reads the file.
    pub(crate) backup: String,
    /// The files.
    pub(crate) files: Vec<Replacement>,
    /// Folders that are empty at the end and go.
    pub(crate) staging: Vec<PathBuf>,
}

/// One step; each can be repeated.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Moves an old file away, unless the new one is in its place already.
    Aside { staged: &'a Path, from: &'a Path, to: &'a Path },
    /// Moves a new file to its place, unless it is there already.
    Place { from: &'a Path, to: &'a Path },
    /// Makes the names in a folder durable.
    Sync(&'a Path),
}

impl Journal {
    pub(crate) fn new(backup: String, files: Vec<Replacement>, staging: Vec<PathBuf>) -> Self {
        Self { format: FORMAT, backup, files, staging }
    }

    /// The journal of an interrupted restore.
    pub(crate) fn load(state: &Path) -> Result<Option<Self>, Failure> {
        let path = journal_file(state);
        let unreadable = |error: &dyn std::error::Error| {
            Failure::new(Code::RESTORE_UNFINISHED, format!("the journal {} cannot be read", path.display()))
                .caused_by(error)
                .hint("the staged files and those kept aside are named in it; ask before you touch them")
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&error)),
        };
        let journal: Self = serde_json::from_slice(&text).map_err(|error| unreadable(&error))?;
        if journal.format != FORMAT {
            let told = format!("the journal {} is of a newer keyholder", path.display());
            return Err(Failure::new(Code::STORE_TOO_NEW, told).hint("use the keyholder that began the restore"));
        }
        Ok(Some(journal))
    }

    /// Writes the journal; from now on the old installation is not used any more.
    pub(crate) fn begin(&self, state: &Path) -> Result<(), Failure> {
        let text =
            serde_json::to_vec(self).map_err(|error| Failure::bug("a journal has a JSON form").caused_by(&error))?;
        let path = journal_file(state);
        write_private_file(&path, &text).and_then(|_| sync(state)).map_err(|error| cannot("write", &path, &error))
    }

    /// Does everything that is not done yet, and takes the journal away.
    pub(crate) fn finish(&self, state: &Path) -> Result<(), Failure> {
        for step in self.steps() {
            step.run()?;
        }
        let path = journal_file(state);
        fs::remove_file(&path).and_then(|()| sync(state)).map_err(|error| cannot("remove", &path, &error))?;
        for folder in &self.staging {
            // An empty folder that stays does no harm.
            fs::remove_dir_all(folder).ok();
        }
        Ok(())
    }

    fn steps(&self) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        let mut folders: BTreeSet<&Path> = BTreeSet::new();
        for file in &self.files {
            for (from, to) in &file.aside {
                steps.push(Step::Aside { staged: &file.staged, from, to });
                folders.extend([folder(from), folder(to)]);
            }
            folders.extend([folder(&file.staged), folder(&file.target)]);
        }
        steps.extend(folders.iter().map(|folder| Step::Sync(folder)));
        steps.extend(self.files.iter().map(|file| Step::Place { from: &file.staged, to: &file.target }));
        steps.extend(folders.iter().map(|folder| Step::Sync(folder)));
        steps
    }
}

impl Step<'_> {
    fn run(&self) -> Result<(), Failure> {
        match self {
            Step::Aside { staged, from, to } => {
                if !exists(staged)? || !exists(from)? {
                    return Ok(());
                }
                make_folder(folder(to))?;
                move_to(from, to)
            }
            Step::Place { from, to } => {
                if !exists(from)? {
                    return Ok(());
                }
                move_to(from, to)
            }
            // one that nothing was moved to need not exist
            Step::Sync(folder) if !exists(folder)? => Ok(()),
            Step::Sync(folder) => sync(folder).map_err(|error| cannot("make durable", folder, &error)),
        }
    }
}

/// Never over another file: that would be one nobody knows of.
fn move_to(from: &Path, to: &Path) -> Result<(), Failure> {
    if exists(to)? {
        let told = format!("{} stands where {} has to go", to.display(), from.display());
        return Err(Failure::new(Code::RESTORE_UNFINISHED, told)
            .hint("move it away and run `keyholder store restore --resume`"));
    }
    fs::rename(from, to).map_err(|error| cannot("move", from, &error))
}

fn exists(path: &Path) -> Result<bool, Failure> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(cannot("look at", path, &error)),
    }
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| cannot("create", path, &error))
}

/// The folder of a file.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn cannot(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::STATE_UNAVAILABLE, format!("cannot {doing} {}", path.display()))
        .caused_by(error)
        .hint("check the state folder: disk full, read-only, or not yours?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(root: &Path) -> Journal {
        let mut files = Vec::new();
        for name in ["secrets.db", "state.db", "new.only"] {
            let at = |folder: &str, name: &str| root.join(folder).join(name);
            let aside = ["", "-wal"].map(|suffix| {
                (at("live", &format!("{name}{suffix}")), at("live/replaced", &format!("{name}{suffix}")))
            });
            files.push(Replacement { staged: at("staging", name), target: at("live", name), aside: aside.to_vec() });
        }
        Journal::new("a test".to_owned(), files, vec![root.join("staging")])
    }

    fn lay_out(root: &Path) {
        for folder in ["live", "staging"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        for name in ["live/secrets.db", "live/state.db", "live/state.db-wal"] {
            fs::write(root.join(name), format!("old {name}")).unwrap();
        }
        for name in ["secrets.db", "state.db", "new.only"] {
            fs::write(root.join("staging").join(name), format!("new {name}")).unwrap();
        }
    }

    fn read(root: &Path, name: &str) -> Option<String> {
        fs::read_to_string(root.join(name)).ok()
    }

    /// Ends after every possible number of steps, goes on from what is on the disk, and compares the end.
    #[test]
    fn an_interruption_after_any_step_leads_to_the_same_end_and_loses_no_file() {
        let steps = journal(Path::new("/x")).steps().len();
        assert!(steps > 12, "{steps} steps");
        for ended_after in 0..=steps {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            lay_out(root);
            let made = journal(root);
            made.begin(&root.join("live")).unwrap();
            for step in made.steps().iter().take(ended_after) {
                step.run().unwrap();
            }
            let found = Journal::load(&root.join("live")).unwrap().expect("the journal says what to do");
            found.finish(&root.join("live")).unwrap();
            assert!(Journal::load(&root.join("live")).unwrap().is_none());
            for name in ["secrets.db", "state.db", "new.only"] {
                assert_eq!(read(root, &format!("live/{name}")), Some(format!("new {name}")), "after {ended_after}");
            }
            for name in ["secrets.db", "state.db", "state.db-wal"] {
                let kept = read(root, &format!("live/replaced/{name}"));
                assert_eq!(kept, Some(format!("old live/{name}")), "after {ended_after}");
            }
            assert!(!root.join("live/state.db-wal").exists(), "no old log beside a new database");
            assert!(!root.join("staging").exists());
        }
    }

    #[test]
    fn a_file_that_nobody_knows_of_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        lay_out(root);
        fs::write(root.join("live/new.only"), "whose?").unwrap();
        fs::create_dir(root.join("live/replaced")).unwrap();
        fs::write(root.join("live/replaced/new.only"), "and this?").unwrap();
        let made = journal(root);
        made.begin(&root.join("live")).unwrap();
        let refused = made.finish(&root.join("live")).unwrap_err();
        assert!(refused.detail().contains("stands where"), "{}", refused.detail());
        assert_eq!(read(root, "live/new.only").as_deref(), Some("whose?"));
        assert_eq!(read(root, "live/replaced/new.only").as_deref(), Some("and this?"));
        assert!(Journal::load(&root.join("live")).unwrap().is_some());
    }
}
