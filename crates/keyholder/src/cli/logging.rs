//! Logging: lines for people or JSON, to standard error, never to standard output.

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::{config::LogFormat, output::Failure};

/// What is logged without any setting.
const DEFAULT_FILTER: &str = "info";

/// Installs the process's subscriber. A second call in one process keeps the first.
pub(super) fn start(filter: Option<&str>, format: LogFormat, color: bool) -> Result<(), Failure> {
    let filter = EnvFilter::builder().parse(filter.unwrap_or(DEFAULT_FILTER)).map_err(|error| {
        Failure::usage("the log filter is not valid")
            .caused_by(&error)
            .hint("write info, debug, or a filter such as info,kh_broker=debug")
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match format {
        LogFormat::Human => {
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(color).with_target(false)).try_init()
        }
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).with_current_span(true))
            .try_init(),
    };
    // Only an embedding program has one already, and then its choice stands.
    installed.ok();
    Ok(())
}
