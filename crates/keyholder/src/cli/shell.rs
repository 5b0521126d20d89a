//! `keyholder completions`, `keyholder man` and `keyholder version`.

use clap::Args;
use clap_complete::Shell;
use serde::Serialize;

use super::Context;
use crate::output::{Exit, Failure};

/// Print a shell's completion script
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keyholder completions bash > /etc/bash_completion.d/keyholder\n  keyholder completions zsh > ~/.zfunc/_keyholder"
)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(arguments: &CompletionsArgs, context: &Context) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "keyholder", &mut script);
    context.terminal.out(&String::from_utf8_lossy(&script));
    Exit::Done
}

/// Print the man page, in roff
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  keyholder man | man -l -\n  keyholder man client add > keyholder-client-add.1")]
pub(crate) struct ManArgs {
    /// Of this command, such as `client add`; without it, of keyholder
    command: Vec<String>,
}

pub(super) fn man(arguments: &ManArgs, context: &Context) -> Result<Exit, Failure> {
    let mut command = super::command();
    command.build();
    for word in &arguments.command {
        let Some(found) = command.find_subcommand(word) else {
            return Err(Failure::usage(format!("there is no command {word:?}")));
        };
        command = found.clone();
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::bug("the man page cannot be made").caused_by(&error))?;
    context.terminal.out(&String::from_utf8_lossy(&page));
    Ok(Exit::Done)
}

/// Print the version and what this binary reads
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  keyholder version --output json")]
pub(crate) struct VersionArgs {}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    #[serde(rename = "version")]
    number: &'static str,
    store_schema: u32,
    target: String,
}

pub(super) fn version(_: &VersionArgs, context: &Context) -> Exit {
    let version = Version {
        name: "keyholder",
        number: env!("CARGO_PKG_VERSION"),
        store_schema: kh_store::SCHEMA,
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    };
    context.terminal.answer(&version, || {
        format!("keyholder {} ({}, secret store schema {})\n", version.number, version.target, version.store_schema)
    });
    Exit::Done
}
