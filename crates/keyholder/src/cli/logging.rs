//! The process's log as flags, environment and configuration want it.

use std::{path::Path, time::Duration};

use kh_telemetry::logging::{self, Form, LogError, LogHandle};

use crate::{
    config::LogFormat,
    output::{Exit, Failure},
};

/// How long the end of a process waits for the last lines: whoever reads them may have stalled.
const LOG_END: Duration = Duration::from_secs(2);

/// The log of a server. Dropped, it writes what waits: at the end of the process, however it comes.
pub(crate) struct ServerLog(LogHandle);

impl ServerLog {
    /// By which it is changed while it runs.
    pub(crate) fn handle(&self) -> &LogHandle {
        &self.0
    }
}

impl Drop for ServerLog {
    fn drop(&mut self) {
        self.0.stop(LOG_END);
    }
}

/// The form of lines; colours are for people.
pub(super) fn form(format: LogFormat, color: bool) -> Form {
    match format {
        LogFormat::Human => Form::Human { color },
        LogFormat::Json => Form::Json,
    }
}

/// Installs the log of a command. A second call in one process keeps the first.
pub(super) fn start(filter: &str, form: Form) -> Result<(), Failure> {
    logging::start(filter, form).map_err(|error| failure(&error))
}

/// Installs the log of a server, likewise.
pub(super) fn start_server(filter: &str, form: Form, file: Option<&Path>) -> Result<ServerLog, Failure> {
    logging::start_server(filter, form, file).map(ServerLog).map_err(|error| failure(&error))
}

/// The failure of a log that cannot be set up or changed.
pub(super) fn failure(error: &LogError) -> Failure {
    let hint = match error {
        LogError::Filter(_) => "write info, debug, or a filter such as info,kh_broker=debug",
        LogError::File { .. } => "see [log] file in keyholder.toml; its folder must be there and writable",
        LogError::Thread(_) => "see how many threads this process may have, such as TasksMax of systemd",
        LogError::Foreign => "restart keyholder to change it",
    };
    let failure = Failure::usage(error.to_string()).caused_by(error).hint(hint);
    // there may be room for a thread the next time
    if matches!(error, LogError::Thread(_)) { failure.exiting(Exit::Unfinished) } else { failure }
}
