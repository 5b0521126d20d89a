//! A log in a temporary directory.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use kh_audit::{Entry, FileAuditLog, Filter, Report, read, verify};
use kh_core::{
    ManualClock, SecretBytes, SeededEntropy, UnixMillis,
    audit::AuditEvent,
    port::{AuditError, AuditLog},
};
use tempfile::TempDir;

pub(crate) const START: UnixMillis = UnixMillis(1_790_000_000_000);

/// Both files' paths; the directory lives as long.
pub(crate) struct Place {
    directory: Option<TempDir>,
    pub(crate) log: PathBuf,
    pub(crate) checkpoints: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut place = Self::at(directory.path());
        place.directory = Some(directory);
        place
    }

    pub(crate) fn at(directory: &Path) -> Self {
        Self {
            directory: None,
            log: directory.join("audit.jsonl"),
            checkpoints: directory.join("kept-elsewhere/audit.checkpoints"),
        }
    }

    pub(crate) fn open(&self) -> FileAuditLog {
        self.try_open(7).unwrap()
    }

    pub(crate) fn try_open(&self, seed: u8) -> Result<FileAuditLog, AuditError> {
        let seed = SecretBytes::new(vec![seed; 32]);
        FileAuditLog::open(&self.log, &self.checkpoints, &seed, Arc::new(ManualClock::at(START)))
    }

    pub(crate) fn verify(&self) -> Report {
        let key = key(7);
        verify(&self.log, &self.checkpoints, Some(&key)).unwrap()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        read(&self.log, Filter::default()).unwrap().collect::<Result<_, _>>().unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.log).unwrap().lines().map(str::to_owned).collect()
    }

    pub(crate) fn write_lines(&self, lines: &[String]) {
        fs::write(&self.log, joined(lines)).unwrap();
    }
}

/// Lines as a file has them.
pub(crate) fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// The public half of a seed, as a log of its own tells it.
pub(crate) fn key(seed: u8) -> kh_audit::PublicKey {
    static KEYS: LazyLock<Mutex<HashMap<u8, kh_audit::PublicKey>>> = LazyLock::new(Mutex::default);
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    *keys.entry(seed).or_insert_with(|| Place::new().try_open(seed).unwrap().public_key())
}

/// The event of a number; the same number is the same event.
pub(crate) fn event(number: u64) -> AuditEvent {
    let noun = if number.is_multiple_of(2) { "secret.set" } else { "client.add" };
    AuditEvent::new(
        &SeededEntropy::new(number),
        UnixMillis(START.0 + number),
        "cli:ops",
        noun,
        &format!("subject-{}", number % 3),
    )
    .with("quoted", &"a \"b\" ,\"sig\":\\ \u{1F511}\n")
    .with("number", &number)
}

/// Both files' content, by count and batch size: made once, since each append waits for the disk.
type Made = HashMap<(u64, u64), (Vec<u8>, Vec<u8>)>;

/// `count` entries in batches of the given size, so that a checkpoint follows each batch.
pub(crate) fn filled(count: u64, batch: u64) -> Place {
    static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let (log, checkpoints) = made.entry((count, batch)).or_insert_with(|| make(count, batch));
    let place = Place::new();
    fs::create_dir(place.checkpoints.parent().unwrap()).unwrap();
    for (path, content) in [(&place.log, log), (&place.checkpoints, checkpoints)] {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    place
}

fn make(count: u64, batch: u64) -> (Vec<u8>, Vec<u8>) {
    let place = Place::new();
    let log = place.open();
    let events: Vec<AuditEvent> = (1..=count).map(event).collect();
    for batch in events.chunks(usize::try_from(batch).unwrap()) {
        log.append(batch).unwrap();
    }
    assert!(place.verify().verified());
    (fs::read(&place.log).unwrap(), fs::read(&place.checkpoints).unwrap())
}
