//! `keyholder completions`, `keyholder man` and `keyholder version`.

use std::path::{Path, PathBuf};

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
#[command(
    after_help = "Examples:\n  keyholder man | man -l -\n  keyholder man client add > keyholder-client-add.1\n  keyholder man --all /usr/local/share/man/man1"
)]
pub(crate) struct ManArgs {
    /// Of this command, such as `client add`; without it, of keyholder
    command: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    all: Option<PathBuf>,
}

/// The day of the pages' last change in substance, for their foot line; not the day of a build, which would make two
/// builds of one source differ.
const PAGES_OF: &str = "2026-11-21";

pub(super) fn man(arguments: &ManArgs, context: &Context) -> Result<Exit, Failure> {
    let mut command = super::command();
    command.build();
    if let Some(folder) = &arguments.all {
        write_pages(&command, folder)?;
        return Ok(Exit::Done);
    }
    for word in &arguments.command {
        let Some(found) = command.find_subcommand(word) else {
            return Err(Failure::usage(format!("there is no command {word:?}")));
        };
        command = found.clone();
    }
    context.terminal.out(&page(&command)?);
    Ok(Exit::Done)
}

/// Writes the page of `command` and of all below it, as `keyholder-client-add.1`.
fn write_pages(command: &clap::Command, folder: &Path) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or("keyholder");
    let file = folder.join(format!("{name}.1"));
    std::fs::write(&file, page(command)?).map_err(|error| {
        Failure::usage(format!("the man page {} cannot be written", file.display())).caused_by(&error)
    })?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
    for command in below {
        write_pages(command, folder)?;
    }
    Ok(())
}

/// One page in roff.
fn page(command: &clap::Command) -> Result<String, Failure> {
    let mut roff = Vec::new();
    clap_mangen::Man::new(command.clone())
        .date(PAGES_OF)
        .source(concat!("keyholder ", env!("CARGO_PKG_VERSION")))
        .manual("keyholder manual")
        .render(&mut roff)
        .map_err(|error| Failure::bug("the man page cannot be made").caused_by(&error))?;
    // An empty line between two breaks is one space; mandoc(1) warns of the breaks.
    Ok(String::from_utf8_lossy(&roff).replace(".br\n\n.br\n", ".sp\n"))
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
