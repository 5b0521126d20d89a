//! `keyholder store check`: whether everything that keyholder keeps is sound.

use std::sync::Arc;

use clap::Args;
use kh_core::{Code, Entropy, SystemEntropy};
use serde_json::json;

use crate::{
    care::inspect::{Seen, inspect},
    cli::{Context, Loaded},
    compose::{InstallationLock, refuse_unfinished, unlock},
    output::{Exit, Failure},
};

/// Read and verify everything: each secret, the databases, the audit log
#[derive(Debug, Args)]
#[command(after_help = "Decrypts every version of every secret (no value is shown), checks both databases and their
references, and verifies the audit log. Changes nothing; may run while keyholder serves.
Exit 0: everything is sound. Exit 1: findings, each with its code.

Examples:
  keyholder store check
  keyholder store check --output json")]
pub(crate) struct CheckArgs {}

pub(super) fn run(_: &CheckArgs, context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    let paths = &loaded.paths;
    refuse_unfinished(paths)?;
    if !paths.store.exists() && !paths.database.exists() && !paths.audit_log.exists() {
        let told = format!("there is nothing to check in {}", paths.state.display());
        return Err(Failure::new(Code::NOT_FOUND, told).hint("see --state and [state] dir"));
    }
    let _lock = InstallationLock::shared(&paths.state)?;
    refuse_unfinished(paths)?;
    let seen = inspect(paths, opened(&loaded, context));
    report(&seen, context)
}

/// Never makes a store or a key.
fn opened(loaded: &Loaded, context: &Context) -> Result<kh_store::Unlocked, Failure> {
    if !loaded.paths.store.exists() {
        return Err(Failure::new(Code::STORE_TRUNCATED, "the secret store is gone"));
    }
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    unlock(loaded, &context.environment, &entropy)
}

fn report(seen: &Seen, context: &Context) -> Result<Exit, Failure> {
    let Some(first) = seen.findings.first() else {
        context.terminal.answer(&json!({ "sound": true, "seen": seen }), || {
            format!(
                "everything is sound: {} secrets ({} versions), {} clients, {} tokens, {} audit entries\n",
                seen.secrets, seen.versions, seen.clients, seen.tokens, seen.audit_entries
            )
        });
        return Ok(Exit::Done);
    };
    let count = seen.findings.len();
    let told = format!("{count} finding{}", if count == 1 { "" } else { "s" });
    let mut failure = Failure::of_public_facts(first.code, told)
        .exiting(Exit::No)
        .with("seen", serde_json::to_value(seen).unwrap_or_default());
    for finding in &seen.findings {
        failure = failure.hint(format!("{} ({}): {}", finding.subject, finding.code, finding.problem));
    }
    Err(failure.hint("nothing was changed; restore a backup with `keyholder store restore`"))
}
