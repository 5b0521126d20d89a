//! `keyholder store`: taking care of the files as a whole.
//!
//! Invariant: what replaces files holds the installation's lock alone; what only reads them shares it.

mod backup;
mod check;
mod migrate;
mod rekey;
mod restore;

use std::path::Path;

use clap::{Args, Subcommand};
use kh_core::{Code, Entropy, SecretString};

use super::{Context, QUIET, secret};
use crate::{
    care::envelope::{self, Opening},
    compose::harden,
    output::{Exit, Failure},
};

/// Back up, restore, rekey and check everything that keyholder keeps
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  keyholder store check
  keyholder store backup /backup/keyholder.age --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
  keyholder store restore /backup/keyholder.age --identity key.txt
  keyholder store rekey")]
pub(crate) enum StoreCommand {
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Rekey(rekey::RekeyArgs),
    Check(check::CheckArgs),
    Migrate(migrate::MigrateArgs),
}

pub(super) fn run(command: StoreCommand, context: &Context) -> Result<Exit, Failure> {
    harden();
    context.start_logging_at(QUIET)?;
    match command {
        StoreCommand::Backup(arguments) => backup::run(&arguments, context),
        StoreCommand::Restore(arguments) => restore::run(&arguments, context),
        StoreCommand::Rekey(arguments) => rekey::run(&arguments, context),
        StoreCommand::Check(arguments) => check::run(&arguments, context),
        StoreCommand::Migrate(arguments) => migrate::run(&arguments, context),
    }
}

/// What opens a backup.
#[derive(Debug, Args)]
struct OpeningArgs {
    /// The file with the secret key of a recipient, as `age-keygen` writes it
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    identity: Option<std::path::PathBuf>,
    /// The file with the passphrase, or - for standard input [default: a prompt]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<std::path::PathBuf>,
}

impl OpeningArgs {
    fn read(&self, context: &Context) -> Result<Opening, Failure> {
        match (&self.identity, &self.passphrase_file) {
            (Some(file), _) => Ok(Opening::Identities(envelope::read_identities(file)?)),
            (None, Some(file)) => Ok(Opening::Passphrase(envelope::read_passphrase(file)?)),
            (None, None) => Ok(Opening::Passphrase(ask("Passphrase of the backup (hidden): ", context)?)),
        }
    }
}

/// Asks a person; without a terminal there is nobody to ask.
fn ask(question: &str, context: &Context) -> Result<SecretString, Failure> {
    if !context.environment.stdin_is_terminal {
        return Err(Failure::usage("nobody is there to type a passphrase")
            .hint("use --passphrase-file FILE, or - for standard input; or a recipient's key"));
    }
    secret::input::prompt(question)
}

/// A name for a backup or restore that no other has: 32 hex digits.
fn new_id(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    kh_core::Sha256(bytes).to_hex().chars().take(32).collect()
}

/// A failure of the file system on `path`.
fn cannot(doing: &str, path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Code::STATE_UNAVAILABLE, format!("cannot {doing} {}", path.display())).caused_by(error);
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => failure.hint("the disk is full"),
        _ => failure.hint("check that the folder exists, is yours and can be written"),
    }
}
