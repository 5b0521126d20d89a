//! `keyholder store rekey`: another key for the secret store.
//!
//! Invariant: killed at any moment, the store opens with the old key or with the new one, and the next command finds
//! the one that does.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use kh_core::{Clock, Code, Entropy, SystemClock, SystemEntropy, audit::AuditEvent};
use kh_store::{KdfParams, StoreKey};
use serde_json::json;

use super::cannot;
use crate::{
    care::rekeyed,
    cli::{Context, Loaded},
    compose::{Base, InstallationLock, Paths, refuse_unfinished, store_key, unlock},
    config::KeySource,
    output::{Exit, Failure},
};

/// Give the secret store another key; the old one opens it no more
#[derive(Debug, Args)]
#[command(
    after_help = "Without an option a new random key takes the place of the configured key file. With one, the named
key counts from now on, and [store] of the configuration has to name it. The old key is the one that
the configuration names now. Refused while keyholder serves.

The key wraps the store's data key, which stays: values are not encrypted anew, and the audit log's key
does not change. Copies of the store that were made before still open with the old key.

Examples:
  keyholder store rekey
  keyholder store rekey --key-file /etc/keyholder/store.key
  keyholder store rekey --passphrase-file /run/credentials/keyholder/passphrase"
)]
pub(crate) struct RekeyArgs {
    /// The new key: a file with 32 bytes, raw, base64 or hex
    #[arg(long, value_name = "FILE", group = "new")]
    key_file: Option<PathBuf>,
    /// The new key: a variable with 32 bytes in base64 or hex
    #[arg(long, value_name = "VARIABLE", group = "new")]
    key_env: Option<String>,
    /// The new key: a file with a passphrase
    #[arg(long, value_name = "FILE", group = "new")]
    passphrase_file: Option<PathBuf>,
    /// The new key: a variable with a passphrase
    #[arg(long, value_name = "VARIABLE", group = "new")]
    passphrase_env: Option<String>,
}

impl RekeyArgs {
    /// The new source, with the line of the configuration that names it.
    fn named(&self, context: &Context) -> Option<(KeySource, String)> {
        let at = |path: &PathBuf| context.environment.folder.join(path);
        if let Some(path) = &self.key_file {
            return Some((KeySource::KeyFile(at(path)), format!("key_file = \"{}\"", at(path).display())));
        }
        if let Some(path) = &self.passphrase_file {
            return Some((
                KeySource::PassphraseFile(at(path)),
                format!("passphrase_file = \"{}\"", at(path).display()),
            ));
        }
        if let Some(name) = &self.key_env {
            return Some((KeySource::KeyEnv(name.clone()), format!("key_env = \"{name}\"")));
        }
        let name = self.passphrase_env.as_ref()?;
        Some((KeySource::PassphraseEnv(name.clone()), format!("passphrase_env = \"{name}\"")))
    }
}

pub(super) fn run(arguments: &RekeyArgs, context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    let paths = &loaded.paths;
    refuse_unfinished(paths)?;
    if !paths.store.exists() {
        let told = format!("there is no secret store at {}", paths.store.display());
        return Err(Failure::new(Code::NOT_FOUND, told).hint("see --state and [state] dir"));
    }
    let lock = InstallationLock::alone(&paths.state)?;
    refuse_unfinished(paths)?;
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let mut unlocked = unlock(&loaded, &context.environment, &entropy)?;
    let event = AuditEvent::new(
        &*entropy,
        SystemClock::new().now().wall,
        &context.environment.actor(),
        "store.rekey",
        &paths.store.display().to_string(),
    );
    let line = if let Some((source, line)) = arguments.named(context) {
        let key = store_key(&source, paths, &context.environment, &*entropy)?;
        unlocked.rekey(&key, KdfParams::DEFAULT, &event.with("key", &line))?;
        Some(line)
    } else {
        replace_key_file(&loaded, &mut unlocked, event, &*entropy)?;
        None
    };
    drop(unlocked);
    finish(&loaded, line.as_deref(), lock, context)
}

/// A new random key at the place of the configured one.
fn replace_key_file(
    loaded: &Loaded,
    unlocked: &mut kh_store::Unlocked,
    event: AuditEvent,
    entropy: &dyn Entropy,
) -> Result<(), Failure> {
    let (paths, source): (&Paths, _) = (&loaded.paths, &loaded.config.store.key);
    let place = rekeyed::replaceable(paths, source).ok_or_else(|| {
        Failure::usage("the configured key is no key file, so there is no place for a new one")
            .hint("name the new key: --key-file, --key-env, --passphrase-file or --passphrase-env")
    })?;
    let next = rekeyed::pending(&place);
    // Of a rekey that was killed before it counted: the store was opened with the configured key just now.
    remove(&next)?;
    kh_store::generate_key_file(&next, entropy)?;
    let key = StoreKey::from_key_file(&next)?;
    unlocked.rekey(&key, KdfParams::DEFAULT, &event.with("key", &place.display()))?;
    rekeyed::put_in_place(&next, &place).map_err(|error| cannot("put the new key at", &place, &error))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Delivers the audit entry, if the configuration opens the store already, and tells what is left to do.
fn finish(loaded: &Loaded, line: Option<&str>, lock: InstallationLock, context: &Context) -> Result<Exit, Failure> {
    drop(lock);
    if line.is_none() {
        drop(Base::open(loaded, &context.environment)?);
    }
    let answer = json!({ "rekeyed": true, "store": loaded.paths.store, "configuration": line });
    context.terminal.answer(&answer, || match line {
        Some(line) => format!(
            "the secret store has its new key; the old one opens it no more\nwrite into {} before the next start:\n\n[store]\n{line}\n",
            loaded.file_name()
        ),
        None => "the secret store has its new key; the old one opens it no more\n".to_owned(),
    });
    context.terminal.note("Backups and copies that were made before open with the key that they were made under.");
    Ok(Exit::Done)
}
