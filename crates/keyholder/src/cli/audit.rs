//! `keyholder audit`: reading and verifying what people changed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kh_audit::{Entry, Filter, PublicKey, READ_LIMIT_MAX, Report};
use kh_core::{Code, UnixMillis};
use serde_json::json;

use super::{Context, revoke::moment, secret::time};
use crate::{
    compose::{audit_key, refuse_missing},
    output::{Exit, Failure, Table},
};

const _: () = assert!(READ_LIMIT_MAX == 10_000, "as --limit of `audit list` has it");

/// Read and verify the audit log
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  keyholder audit verify\n  keyholder audit list --action client. --limit 20")]
pub(crate) enum AuditCommand {
    Verify(VerifyArgs),
    List(ListArgs),
}

/// Check every entry and every signed checkpoint
#[derive(Debug, Args)]
#[command(
    after_help = "Exit 0: it verifies. Exit 1: an entry was edited, removed or added, or the file was rewritten; the
answer says which.

Examples:
  keyholder audit verify
  keyholder audit verify --log-file copy/audit.log --checkpoints copy/audit.checkpoints --key 3f0c..."
)]
pub(crate) struct VerifyArgs {
    /// The log, if not the configured one
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// The checkpoints, if not the configured ones
    #[arg(long, value_name = "FILE")]
    checkpoints: Option<PathBuf>,
    /// The public key it must be signed with, if not the one of the secret store
    #[arg(long, value_name = "HEX")]
    key: Option<PublicKey>,
}

/// List entries, the newest last
#[derive(Debug, Args)]
#[command(
    after_help = "A TIME is RFC 3339, or seconds since 1970. Entries that --limit leaves out are reached with --until.

Examples:
  keyholder audit list
  keyholder audit list --actor cli:root --action secret.set --output json
  keyholder audit list --since 2026-11-21T08:00:00Z --until 2026-11-21T18:00:00Z --limit 10000"
)]
pub(crate) struct ListArgs {
    /// Only this action, such as client.add; with a final dot every action of a noun
    #[arg(long)]
    action: Option<String>,
    /// Only what this actor did
    #[arg(long)]
    actor: Option<String>,
    /// Only what was done to this client, secret or setting
    #[arg(long)]
    subject: Option<String>,
    /// Only what is from this time or later
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<UnixMillis>,
    /// Only what is from before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<UnixMillis>,
    /// At most the newest so many, up to 10,000
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

pub(super) fn run(command: AuditCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify(arguments) => verify(&arguments, context),
        AuditCommand::List(arguments) => list(arguments, context),
    }
}

fn verify(arguments: &VerifyArgs, context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    let log = arguments.log_file.clone().unwrap_or_else(|| loaded.paths.audit_log.clone());
    let checkpoints = arguments.checkpoints.clone().unwrap_or_else(|| loaded.paths.checkpoints.clone());
    let key = match arguments.key {
        Some(key) => Some(key),
        None => audit_key(&loaded, &context.environment)?,
    };
    if arguments.log_file.is_none() {
        refuse_missing(&loaded.paths)?;
    }
    let report = kh_audit::verify(&log, &checkpoints, key.as_ref())?;
    let answer = answer_of(&report);
    if let Some(finding) = &report.finding {
        return Err(Failure::of_public_facts(Code::AUDIT_BROKEN, finding.sentence.clone())
            .with("report", answer)
            .hint(format!("{} entries before it verify", report.entries))
            .hint("compare with a backup, and find out who could write the file"));
    }
    if !report.pinned {
        context.terminal.warn("the key is the log's own: whoever rewrote both files could have made it; use --key");
    }
    context.terminal.answer(&answer, || {
        format!(
            "the audit log verifies: {} entries, {} checkpoints, head {}\n",
            report.entries,
            report.checkpoints,
            report.head.to_hex().get(..16).unwrap_or_default()
        )
    });
    Ok(Exit::Done)
}

fn answer_of(report: &Report) -> serde_json::Value {
    json!({
        "verified": report.verified(),
        "entries": report.entries,
        "checkpoints": report.checkpoints,
        "uncovered": report.uncovered,
        "head": report.head.to_hex(),
        "public_key": report.public_key.map(|key| key.to_string()),
        "pinned": report.pinned,
        "finding": report.finding.as_ref().map(|finding| json!({
            "kind": finding.kind.as_str(), "seq": finding.seq, "sentence": finding.sentence,
        })),
    })
}

fn list(arguments: ListArgs, context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    let (log, checkpoints) = (&loaded.paths.audit_log, &loaded.paths.checkpoints);
    if !log.exists() && checkpoints.exists() {
        let told = format!("the audit log {} is gone while its checkpoints are there", log.display());
        return Err(Failure::new(Code::AUDIT_BROKEN, told).hint("restore it from a backup, or find out who removed it"));
    }
    refuse_missing(&loaded.paths)?;
    let filter = Filter {
        since: arguments.since,
        until: arguments.until,
        actor: arguments.actor,
        action: arguments.action,
        subject: arguments.subject,
        limit: Some(arguments.limit.into()),
    };
    let entries = kh_audit::read(log, filter)?.collect::<Result<Vec<_>, _>>()?;
    let all: Vec<_> = entries.iter().map(entry_json).collect();
    context.terminal.answer(&json!({ "entries": all }), || {
        let mut table = Table::new(&["seq", "time", "actor", "action", "subject", "detail"]);
        for entry in &entries {
            let detail: Vec<_> = entry.detail.iter().map(|(key, value)| format!("{key}={value}")).collect();
            table.row(vec![
                entry.seq.to_string(),
                time(entry.at),
                entry.actor.clone(),
                entry.action.clone(),
                entry.subject.clone(),
                detail.join(" "),
            ]);
        }
        if entries.is_empty() { "there are no entries\n".to_owned() } else { table.text() }
    });
    Ok(Exit::Done)
}

fn entry_json(entry: &Entry) -> serde_json::Value {
    let detail: serde_json::Map<_, _> =
        entry.detail.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    json!({
        "seq": entry.seq,
        "id": entry.id,
        "at": time(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": detail,
    })
}
