//! `keyholder store restore`: an installation out of a backup.
//!
//! Invariants: everything is unpacked, opened and verified beside the installation before any file of it is touched;
//! what was there is kept aside in full; once replacing has begun it can always be finished.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use kh_core::{Code, Entropy, SystemEntropy, audit::AuditEvent, port::AuditLog};
use kh_store::StoreKey;
use serde_json::json;

use super::{OpeningArgs, cannot, new_id};
use crate::{
    care::{
        archive::{self, Manifest, Staging},
        inspect::{Seen, inspect},
        switch::{self, Journal, Replacement},
    },
    cli::{Context, Loaded},
    compose::{Base, InstallationLock, Paths, refuse_unfinished, store_key},
    config::KeySource,
    output::{Exit, Failure},
};

/// Put a backup back, into an empty state folder or in the place of what is there
#[derive(Debug, Args)]
#[command(
    after_help = "The backup is unpacked and verified in full before anything is touched. With --replace the files
that are there are moved into a folder replaced-ID beside them; nothing is deleted. Refused while
keyholder serves. If it is interrupted while it replaces files, `--resume` finishes it.

Examples:
  keyholder store restore /backup/keyholder.age --identity key.txt
  keyholder store restore /backup/keyholder.age --passphrase-file - --replace < passphrase
  keyholder store restore --resume"
)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(required_unless_present = "resume")]
    file: Option<PathBuf>,
    #[command(flatten)]
    opening: OpeningArgs,
    /// Take the place of the installation that is there; it is kept aside
    #[arg(long)]
    replace: bool,
    /// Finish a restore that was interrupted
    #[arg(long, conflicts_with_all = ["file", "replace", "identity", "passphrase_file"])]
    resume: bool,
}

pub(super) fn run(arguments: &RestoreArgs, context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    let paths = &loaded.paths;
    paths.prepare()?;
    let Some(file) = &arguments.file else { return resume(paths, context) };
    let opening = arguments.opening.read(context)?;
    let input = File::open(file).map_err(|error| cannot("open", file, &error))?;
    let _lock = InstallationLock::alone(&paths.state)?;
    refuse_unfinished(paths)?;
    if let Some(there) = installed(paths).into_iter().find(|_| !arguments.replace) {
        return Err(Failure::usage(format!("there is an installation already: {}", there.display()))
            .hint("--replace puts the backup in its place and keeps what is there aside"));
    }
    let id = new_id(&SystemEntropy);
    let staging = Staging::new(&paths.state, "restore-", &id)
        .map_err(|error| cannot("make a folder in", &paths.state, &error))?;
    let manifest = archive::unpack(opening.open(input)?, staging.path())?;
    let staged = paths.staged(staging.path());
    let seen = verify(&manifest, &staged, &loaded, file, context)?;
    let replaced = format!("replaced-{id}");
    let journal = lay_out(&manifest, paths, staging, &replaced, &id)?;
    journal.begin(&paths.state)?;
    journal.finish(&paths.state)?;
    let kept = kept_folders(&journal);
    let answer = json!({ "backup": manifest, "seen": seen, "replaced": kept });
    context.terminal.answer(&answer, || {
        let kept: Vec<String> =
            kept.iter().map(|folder| format!("what was there is kept in {}\n", folder.display())).collect();
        format!(
            "restored the backup of {}: {} secrets, {} clients, {} audit entries\n{}",
            manifest.made_at,
            seen.secrets,
            seen.clients,
            seen.audit_entries,
            kept.concat()
        )
    });
    context.terminal.note("What was changed after the backup was made is not in it; the earlier audit log has a list.");
    Ok(Exit::Done)
}

fn resume(paths: &Paths, context: &Context) -> Result<Exit, Failure> {
    let _lock = InstallationLock::alone(&paths.state)?;
    let Some(journal) = Journal::load(&paths.state)? else {
        return Err(Failure::usage("no restore was interrupted here").hint("see --state and [state] dir"));
    };
    journal.finish(&paths.state)?;
    let kept = kept_folders(&journal);
    context.terminal.answer(&json!({ "resumed": true, "backup_id": journal.backup, "replaced": kept }), || {
        "finished the interrupted restore; `keyholder store check` looks at the result\n".to_owned()
    });
    Ok(Exit::Done)
}

/// Files of an installation that are there.
fn installed(paths: &Paths) -> Vec<PathBuf> {
    let all = [&paths.store, &paths.database, &paths.audit_log, &paths.checkpoints, &paths.store_key];
    all.into_iter().filter(|path| path.exists()).cloned().collect()
}

/// Opens the staged installation as a start would: the key fits, older schemas are brought up to date, waiting audit
/// events are delivered and the restore itself is audited. Then looks at everything.
fn verify(
    manifest: &Manifest,
    staged: &Paths,
    loaded: &Loaded,
    file: &Path,
    context: &Context,
) -> Result<Seen, Failure> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let open = || {
        kh_store::unlock(&staged.store, &key_of(manifest, staged, loaded, context)?, Arc::clone(&entropy))
            .map_err(Failure::from)
    };
    let unlocked = open().map_err(|failure| {
        let failure = failure.hint("nothing was changed");
        if failure.code() != Code::STORE_WRONG_KEY {
            return failure;
        }
        failure
            .hint("the store in the backup has the key that was configured when it was made: name that key in [store]")
    })?;
    let base = Base::over(staged, unlocked, None)?;
    let event = AuditEvent::new(
        &*base.entropy,
        base.clock.now().wall,
        &context.environment.actor(),
        "store.restore",
        &file.display().to_string(),
    );
    base.audit.append(&[event.with("backup_id", &manifest.id).with("backup_made_at", &manifest.made_at)])?;
    if base.audit.public_key().to_string() != manifest.audit_public_key {
        return Err(Failure::new(
            Code::BACKUP_INVALID,
            "the backup's audit log and secret store do not belong together",
        ));
    }
    drop(base);
    let seen = inspect(staged, open());
    if let Some(first) = seen.findings.first() {
        let told = format!("the backup is not sound: {}: {}", first.subject, first.problem);
        return Err(Failure::new(Code::BACKUP_INVALID, told)
            .with("seen", serde_json::to_value(&seen).unwrap_or_default())
            .hint("nothing was changed; take another backup"));
    }
    Ok(seen)
}

/// The key of the restored store: the backup's own, unless the configuration names one.
fn key_of(manifest: &Manifest, staged: &Paths, loaded: &Loaded, context: &Context) -> Result<StoreKey, Failure> {
    let source = &loaded.config.store.key;
    if *source != KeySource::Generated {
        return store_key(source, &loaded.paths, &context.environment, &SystemEntropy);
    }
    let place = if manifest.has_store_key() { &staged.store_key } else { &loaded.paths.store_key };
    if !place.exists() {
        return Err(Failure::new(Code::STORE_WRONG_KEY, "the backup does not hold the store's key")
            .hint("name the key in [store] of keyholder.toml, as it was when the backup was made"));
    }
    Ok(StoreKey::from_key_file(place)?)
}

/// Brings every staged file onto its target's file system, makes it durable, and writes down what goes where.
fn lay_out(manifest: &Manifest, paths: &Paths, staging: Staging, replaced: &str, id: &str) -> Result<Journal, Failure> {
    let targets = [
        (archive::STORE, &paths.store, &["", "-journal"][..]),
        (archive::STATE, &paths.database, &["", "-wal", "-shm"]),
        (archive::AUDIT_LOG, &paths.audit_log, &[""]),
        (archive::CHECKPOINTS, &paths.checkpoints, &[""]),
        (archive::STORE_KEY, &paths.store_key, &[""]),
    ];
    let mut files = Vec::new();
    for (name, target, companions) in targets {
        if name == archive::STORE_KEY && !manifest.has_store_key() {
            continue;
        }
        let mut staged = staging.path().join(name);
        // closed databases leave no log with content; an empty one says nothing and goes with the folder
        let logs = ["-wal", "-journal"].map(|suffix| beside(&staged, suffix));
        if let Some(left) = logs.iter().find(|log| fs::metadata(log).is_ok_and(|about| about.len() > 0)) {
            return Err(Failure::bug(format!("{} is still there after the staged files were closed", left.display())));
        }
        let folder = switch::folder(target);
        if folder != paths.state {
            staged = carry(&staged, target, id)?;
        }
        File::open(&staged)
            .and_then(|file| file.sync_all())
            .map_err(|error| cannot("make durable", &staged, &error))?;
        let aside = companions.iter().map(|suffix| {
            let old = beside(target, suffix);
            let kept = folder.join(replaced).join(old.file_name().unwrap_or_default());
            (old, kept)
        });
        files.push(Replacement { staged, target: target.clone(), aside: aside.collect() });
    }
    switch::sync(staging.path()).map_err(|error| cannot("make durable", staging.path(), &error))?;
    Ok(Journal::new(manifest.id.clone(), files, vec![staging.keep()]))
}

/// An audit log may lie on another file system, where a rename does not reach. It is carried under the target's name:
/// other installations may keep theirs in the same folder, and be in the middle of a restore.
fn carry(staged: &Path, target: &Path, id: &str) -> Result<PathBuf, Failure> {
    let folder = switch::folder(target);
    let failed = |error: io::Error| cannot("write into", folder, &error);
    fs::create_dir_all(folder).map_err(failed)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!(".{name}.restore-");
    // of restores that were killed before they began to replace files
    archive::remove_drafts(folder, &prefix).map_err(failed)?;
    let carried = folder.join(format!("{prefix}{id}"));
    let length = fs::metadata(staged).map_err(failed)?.len();
    archive::copy_start(staged, length, &carried).map_err(failed)?;
    Ok(carried)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The folders with what was there.
fn kept_folders(journal: &Journal) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = journal
        .files
        .iter()
        .flat_map(|file| file.aside.iter())
        .filter(|(_, kept)| kept.exists())
        .map(|(_, kept)| switch::folder(kept).to_owned())
        .collect();
    all.sort();
    all.dedup();
    all
}
