//! `keyholder store backup`: one encrypted file with everything that a new machine needs, while others go on working.
//!
//! Invariants: all parts are of one moment; the file appears whole or not at all and replaces nothing unasked; no backup
//! is made that is not in the audit log.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use kh_core::{Code, audit::AuditEvent, port::AuditLog};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::{ask, cannot, new_id};
use crate::{
    care::{
        archive::{self, Manifest, Schemas, Staging},
        envelope::{self, Sealing},
    },
    cli::{Context, Loaded, secret::time},
    compose::{Base, Paths, refuse_unfinished},
    config::KeySource,
    output::{Exit, Failure},
};

/// What is written at once.
const BUFFER: usize = 256 * 1024;

/// Write everything into one encrypted file, while keyholder serves
#[derive(Debug, Args)]
#[command(after_help = "The file is an age file (https://age-encryption.org) with a tar archive inside: secrets.db,
state.db, audit.log, audit.checkpoints, and store.key if keyholder made it. With a recipient, only the
holder of the secret key can open it; keep that key away from this machine.

Examples:
  keyholder store backup /backup/keyholder.age --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
  keyholder store backup keyholder.age                       prompts for a passphrase
  keyholder store backup keyholder.age --passphrase-file /run/credentials/backup --force")]
pub(crate) struct BackupArgs {
    /// The file to write
    file: PathBuf,
    /// Whom to seal it for: age1...; may be given more than once
    #[arg(long = "recipient", value_name = "AGE1", value_parser = envelope::parse_recipient, conflicts_with = "passphrase_file")]
    recipients: Vec<age::x25519::Recipient>,
    /// The file with the passphrase, or - for standard input [default: a prompt]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &BackupArgs, context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    if arguments.file.exists() && !arguments.force {
        return Err(exists(&arguments.file));
    }
    refuse_unfinished(&loaded.paths)?;
    if !loaded.paths.store.exists() {
        let told = format!("there is nothing to back up: {} does not exist", loaded.paths.store.display());
        return Err(Failure::new(Code::NOT_FOUND, told).hint("see --state and [state] dir"));
    }
    let sealing = sealing(arguments, context)?;
    let base = Base::open(&loaded, &context.environment)?;
    let _alone = only_backup(&loaded.paths)?;
    let id = new_id(&*base.entropy);
    let event = AuditEvent::new(
        &*base.entropy,
        base.clock.now().wall,
        &context.environment.actor(),
        "store.backup",
        &arguments.file.display().to_string(),
    );
    base.audit.append(&[event.with("backup_id", &id).with("sealed_for", &sealing.described())])?;
    let staging = Staging::new(&loaded.paths.state, "backup-", &id)
        .map_err(|error| cannot("make a folder in", &loaded.paths.state, &error))?;
    let manifest = take_parts(&loaded, &base, &id, staging.path())?;
    let size = write(arguments, &sealing, &manifest, &base, &id, staging.path())?;
    let answer = json!({ "file": arguments.file, "bytes": size, "backup": manifest });
    context.terminal.answer(&answer, || {
        format!(
            "{} holds everything of {} ({size} bytes)\n{}",
            arguments.file.display(),
            manifest.made_at,
            if manifest.has_store_key() { "" } else { "the store's key is not in it: keep that apart\n" }
        )
    });
    Ok(Exit::Done)
}

fn exists(file: &Path) -> Failure {
    Failure::usage(format!("{} exists already", file.display())).hint("choose another name, or replace it with --force")
}

fn sealing(arguments: &BackupArgs, context: &Context) -> Result<Sealing, Failure> {
    if !arguments.recipients.is_empty() {
        return Ok(Sealing::Recipients(arguments.recipients.clone()));
    }
    let passphrase = if let Some(file) = &arguments.passphrase_file {
        envelope::read_passphrase(file)?
    } else {
        let first = ask("Passphrase for the backup (hidden): ", context)?;
        if ask("The same again: ", context)?.expose() != first.expose() {
            return Err(Failure::usage("the two passphrases differ"));
        }
        first
    };
    envelope::check_strength(&passphrase)?;
    Ok(Sealing::Passphrase(passphrase))
}

/// Two backups at once would take each other's temporary files away.
fn only_backup(paths: &Paths) -> Result<File, Failure> {
    let path = paths.state.join("backup.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|error| cannot("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Failure::new(Code::STATE_IN_USE, "another backup is being made").hint("wait until it has ended"))
        }
        Err(fs::TryLockError::Error(error)) => Err(cannot("lock", &path, &error)),
    }
}

/// Copies every part as it stands at one moment. Both databases are kept from being written while the audit log's
/// length is read, so that the log names exactly the changes that they hold: a change that is not in the copies cannot
/// be in the log, and one that is in them is in the log or waits beside it.
fn take_parts(loaded: &Loaded, base: &Base, id: &str, folder: &Path) -> Result<Manifest, Failure> {
    let paths = &loaded.paths;
    let mut state = kh_state::Snapshot::begin(&paths.database)?;
    let store = kh_store::Snapshot::begin(&paths.store)?;
    let extent = kh_audit::extent(&paths.audit_log, &paths.checkpoints)?;
    let made_at = base.clock.now().wall;
    state.pin()?;
    store.copy_to(&folder.join(archive::STORE))?;
    drop(store);
    state.copy_to(&folder.join(archive::STATE))?;
    let mut names = vec![archive::STORE, archive::STATE, archive::AUDIT_LOG, archive::CHECKPOINTS];
    let copy = |from: &Path, length, name: &str| {
        archive::copy_start(from, length, &folder.join(name)).map_err(|error| cannot("copy", from, &error))
    };
    copy(&paths.audit_log, extent.log, archive::AUDIT_LOG)?;
    copy(&paths.checkpoints, extent.checkpoints, archive::CHECKPOINTS)?;
    if loaded.config.store.key == KeySource::Generated {
        let length = fs::metadata(&paths.store_key).map_err(|error| cannot("read", &paths.store_key, &error))?.len();
        copy(&paths.store_key, length, archive::STORE_KEY)?;
        names.push(archive::STORE_KEY);
    }
    let parts = names.iter().map(|name| archive::measure(folder, name)).collect::<io::Result<Vec<_>>>();
    Ok(Manifest {
        format: archive::FORMAT,
        keyholder: env!("CARGO_PKG_VERSION").to_owned(),
        id: id.to_owned(),
        made_at: time(made_at),
        schemas: Schemas { store: kh_store::SCHEMA, state: state.schema() },
        audit_public_key: base.audit.public_key().to_string(),
        parts: parts.map_err(|error| cannot("read", folder, &error))?,
    })
}

/// Seals the parts into a file beside the place and moves it there. Answers its size.
fn write(
    arguments: &BackupArgs,
    sealing: &Sealing,
    manifest: &Manifest,
    base: &Base,
    id: &str,
    folder: &Path,
) -> Result<u64, Failure> {
    let target = &arguments.file;
    let name = target.file_name().ok_or_else(|| Failure::usage(format!("{} names no file", target.display())))?;
    let beside = crate::care::switch::folder(target);
    let prefix = format!(".{}.part-", name.to_string_lossy());
    // of backups to the same name that were killed
    if let Err(error) = archive::remove_drafts(beside, &prefix) {
        tracing::warn!(path = %beside.display(), %error, "a leftover of an earlier backup could not be removed");
    }
    let draft = beside.join(format!("{prefix}{id}"));
    let written = seal(&draft, sealing, manifest, base, folder).and_then(|size| {
        publish(&draft, target, arguments.force)?;
        crate::care::switch::sync(beside).map_err(|error| cannot("make durable", beside, &error))?;
        Ok(size)
    });
    if written.is_err() {
        // The first error is the one to tell.
        fs::remove_file(&draft).ok();
    }
    written
}

fn seal(draft: &Path, sealing: &Sealing, manifest: &Manifest, base: &Base, folder: &Path) -> Result<u64, Failure> {
    let failed = |error: io::Error| cannot("write", draft, &error);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft).map_err(failed)?;
    let sealed = sealing.wrap(BufWriter::with_capacity(BUFFER, file))?;
    let seconds = base.clock.now().wall.0 / 1000;
    let sealed = archive::pack(manifest, folder, seconds, sealed).map_err(failed)?;
    let mut output = sealed.finish().map_err(failed)?;
    output.flush().map_err(failed)?;
    let file = output.get_ref();
    file.sync_all().map_err(failed)?;
    Ok(file.metadata().map_err(failed)?.len())
}

/// A file that somebody made in the meantime is not replaced either.
fn publish(draft: &Path, target: &Path, force: bool) -> Result<(), Failure> {
    if force {
        return fs::rename(draft, target).map_err(|error| cannot("write", target, &error));
    }
    match renameat_with(CWD, draft, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(exists(target)),
        // a file system without that flag
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) if !target.exists() => {
            fs::rename(draft, target).map_err(|error| cannot("write", target, &error))
        }
        Err(error) => Err(cannot("write", target, &error.into())),
    }
}
