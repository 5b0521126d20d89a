//! `keyholder config`: the example, the JSON schema and the effective configuration.

use clap::Subcommand;

use super::Context;
use crate::{
    config,
    output::{Exit, Failure},
};

/// Look at the configuration
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  keyholder config example > keyholder.toml\n  keyholder config schema > keyholder.schema.json\n  keyholder config show --output json"
)]
pub(crate) enum ConfigCommand {
    /// Print a commented configuration to start from
    Example,
    /// Print the JSON schema (draft 2020-12) of the configuration, for editors
    Schema,
    /// Print the effective configuration with all defaults; it never holds a secret
    Show,
}

pub(super) fn run(command: &ConfigCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Example => context.terminal.out(config::EXAMPLE),
        ConfigCommand::Schema => context.terminal.out(&config::schema::text()),
        ConfigCommand::Show => {
            let loaded = context.load()?;
            let shown = serde_json::json!({
                "file": loaded.file,
                "config": loaded.config,
                "paths": loaded.paths,
            });
            context.terminal.answer(&shown, || {
                let text = config::to_toml(&loaded.config).unwrap_or_else(|error| format!("# {error}\n"));
                format!("# {}\n# state: {}\n\n{text}", loaded.file_name(), loaded.paths.state.display())
            });
        }
    }
    Ok(Exit::Done)
}
