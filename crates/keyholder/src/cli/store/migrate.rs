//! `keyholder store migrate`: the state in the form of an older keyholder, for a way back after an upgrade.
//!
//! Invariant: the database as it was is kept beside the changed one; what the older form has no place for is lost only
//! if a person says so.

use clap::Args;
use kh_core::{Code, audit::AuditEvent, port::AuditLog};
use kh_state::SCHEMA;
use serde_json::json;

use crate::{
    cli::Context,
    compose::{Base, InstallationLock, refuse_unfinished},
    output::{Exit, Failure},
};

/// Take the state back to an older schema, before an older keyholder is installed
#[derive(Debug, Args)]
#[command(after_help = "Upgrades need no command: each start brings older files up to date and keeps a copy of the
database as state.db.schema-N. This is the way back. Refused while keyholder serves.

Examples:
  keyholder store migrate --to 2
  keyholder store migrate --to 2 --accept-loss")]
pub(crate) struct MigrateArgs {
    /// The schema that the older keyholder knows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SCHEMA)))]
    to: u32,
    /// Give up what the older schema has no place for; the copy has it
    #[arg(long)]
    accept_loss: bool,
}

pub(super) fn run(arguments: &MigrateArgs, context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    let paths = &loaded.paths;
    refuse_unfinished(paths)?;
    if !paths.database.exists() {
        let told = format!("there is no state at {}", paths.database.display());
        return Err(Failure::new(Code::NOT_FOUND, told).hint("see --state and [state] dir"));
    }
    let base = Base::open(&loaded, &context.environment)?;
    let event = AuditEvent::new(
        &*base.entropy,
        base.clock.now().wall,
        &context.environment.actor(),
        "store.migrate",
        &paths.database.display().to_string(),
    );
    let audit = std::sync::Arc::clone(&base.audit);
    // closes both databases and gives the shared lock back
    drop(base);
    let _lock = InstallationLock::alone(&paths.state)?;
    refuse_unfinished(paths)?;
    let (from, losses) = kh_state::losses(&paths.database, arguments.to)?;
    let losses: Vec<String> =
        losses.iter().map(|loss| format!("{} {} have {}", loss.count, loss.whose, loss.what)).collect();
    if !losses.is_empty() && !arguments.accept_loss {
        let told = format!("schema {} has no place for everything", arguments.to);
        let failure = Failure::new(Code::USAGE, told).exiting(Exit::No).with("losses", json!(losses));
        let failure = losses.iter().fold(failure, |failure, loss| failure.hint(loss.clone()));
        return Err(failure.hint("nothing was changed; --accept-loss goes on, and keeps a copy of the database"));
    }
    if arguments.to < from {
        audit.append(&[event.with("schema", &arguments.to).with("schema_before", &from)])?;
    }
    let copy = kh_state::downgrade(&paths.database, arguments.to)?;
    let answer = json!({ "schema": arguments.to.min(from), "from": from, "copy": copy, "losses": losses });
    context.terminal.answer(&answer, || match &copy {
        Some(copy) => format!(
            "the state has schema {} now; as it was, it is kept in {}\nstart only the older keyholder now: this one brings it up to date again\n",
            arguments.to,
            copy.display()
        ),
        None => format!("the state has schema {from} already\n"),
    });
    Ok(Exit::Done)
}
