//! The process's log as flags, environment and configuration want it.

use std::path::Path;

use kh_telemetry::logging::{self, DEFAULT_FILTER, Form, LogError, LogHandle};

use crate::{config::LogFormat, output::Failure};

/// Installs the process's log. A second call in one process keeps the first.
pub(super) fn start(
    filter: Option<&str>,
    format: LogFormat,
    color: bool,
    file: Option<&Path>,
) -> Result<LogHandle, Failure> {
    let form = match format {
        LogFormat::Human => Form::Human { color },
        LogFormat::Json => Form::Json,
    };
    logging::start(filter.unwrap_or(DEFAULT_FILTER), form, file).map_err(|error| failure(&error))
}

/// The failure of a log that cannot be set up or changed.
pub(super) fn failure(error: &LogError) -> Failure {
    let hint = match error {
        LogError::Filter(_) => "write info, debug, or a filter such as info,kh_broker=debug",
        LogError::File { .. } => "see [log] file in keyholder.toml; its folder must be there and writable",
        LogError::Foreign => "restart keyholder to change it",
    };
    Failure::usage(error.to_string()).caused_by(error).hint(hint)
}
