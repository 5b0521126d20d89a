//! `keyholder config`: the example and the effective configuration.

use clap::Subcommand;

use super::Context;
use crate::{
    config,
    output::{Exit, Failure},
};

/// Look at the configuration
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  keyholder config example > keyholder.toml\n  keyholder config show --output json")]
pub(crate) enum ConfigCommand {
    /// Print a commented configuration to start from
    Example,
    /// Print the effective configuration with all defaults; it never holds a secret
    Show,
}

pub(super) fn run(command: &ConfigCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Example => context.terminal.out(config::EXAMPLE),
        ConfigCommand::Show => {
            let loaded = context.load()?;
            let shown = serde_json::json!({
                "file": loaded.file,
                "config": loaded.config,
                "paths": loaded.paths,
            });
            context.terminal.answer(&shown, || {
                let text =
                    toml::to_string(&WithoutNulls(&loaded.config)).unwrap_or_else(|error| format!("# {error}\n"));
                format!("# {}\n# state: {}\n\n{text}", loaded.file_name(), loaded.paths.state.display())
            });
        }
    }
    Ok(Exit::Done)
}

/// TOML has no null: absent values are left out.
struct WithoutNulls<'a>(&'a config::Config);

impl serde::Serialize for WithoutNulls<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let value = serde_json::to_value(self.0).map_err(serde::ser::Error::custom)?;
        without_nulls(value).serialize(to)
    }
}

fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
