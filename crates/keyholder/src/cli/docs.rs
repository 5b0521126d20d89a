//! `keyholder docs`: reference pages made from the code, for `docs/reference/`. Hidden: people read the pages.

use clap::Subcommand;
use kh_core::Code;

use super::Context;
use crate::output::{Exit, Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum DocsCommand {
    /// Every command with its options
    Cli,
    /// Every error code
    ErrorCodes,
    /// Every metric
    Metrics,
}

pub(super) fn run(command: &DocsCommand, context: &Context) -> Result<Exit, Failure> {
    let page = match command {
        DocsCommand::Cli => cli_page(),
        DocsCommand::ErrorCodes => error_codes(),
        DocsCommand::Metrics => metrics(),
    };
    context.terminal.out(&page);
    Ok(Exit::Done)
}

fn cli_page() -> String {
    let mut command = super::command();
    command.build();
    let mut page = "# Commands\n\nMade by `keyholder docs cli`.\n".to_owned();
    describe(&command, &mut page);
    page
}

fn describe(command: &clap::Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or("keyholder").to_owned();
    let help = command.clone().term_width(100).render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        describe(below, page);
    }
}

fn error_codes() -> String {
    let mut page = "# Error codes\n\nMade by `keyholder docs error-codes`. The status is the usual one; in a platform's own error shape the code stands in `code`.\n\n| code | status | title |\n|---|---|---|\n".to_owned();
    for (code, status, title) in Code::ALL {
        page.push_str(&format!("| `{code}` | {status} | {title} |\n"));
    }
    page
}

fn metrics() -> String {
    let mut page = "# Metrics\n\nMade by `keyholder docs metrics`. Counters appear with the suffix `_total`.\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for (name, kind, labels, meaning) in kh_gateway::METRICS {
        page.push_str(&format!("| `{name}` | {kind} | {labels} | {meaning} |\n"));
    }
    page
}
