//! The child of `exec`: how it is started, and how it ends.
//!
//! Between keyholder and the command stands keyholder once more, for a moment: it asks the kernel for a signal when its
//! parent dies, which only a process can ask for itself, and then becomes the command. Invariant: no unsafe code runs
//! between fork and exec.

use std::{
    ffi::OsString,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::ExitStatus,
};

use clap::Args;
use kh_core::Code;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::Command;

use super::signals::{self, Heard};
use crate::output::{Exit, Failure};

/// This program, whatever became of its file since it started (proc_pid_exe(5)).
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Exit codes of a command that cannot be started, as shells and env(1) have them.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What shells add to a signal's number.
const BY_SIGNAL: i32 = 128;

/// Become the command of `keyholder exec`
#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// The process that started this one
    #[arg(long, value_name = "PID")]
    parent: i32,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The command with this program in front.
pub(super) fn command(words: &[OsString]) -> Result<Command, Failure> {
    if words.is_empty() {
        return Err(Failure::usage("there is no command to run"));
    }
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("keyholder").arg("exec-child").arg("--parent").arg(std::process::id().to_string());
    command.arg("--").args(words);
    Ok(command)
}

/// Runs it to its end and passes signals on meanwhile. Must be polled by the thread that lives longest: the kernel
/// takes the end of the starting thread for the end of the parent.
pub(super) async fn run(mut command: Command, mut heard: Heard) -> Result<u8, Failure> {
    let mut child = command.spawn().map_err(|error| Failure::bug("the child cannot be started").caused_by(&error))?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    loop {
        tokio::select! {
            biased;
            status = child.wait() => {
                let status = status.map_err(|error| Failure::bug("the child cannot be waited for").caused_by(&error))?;
                return Ok(code_of(status));
            }
            signal = heard.next() => pass(signal, pid),
        }
    }
}

/// The child was not waited for yet, so its number is still its own.
fn pass(signal: Signal, pid: Option<Pid>) {
    if signals::comes_from_the_terminal(signal) {
        return;
    }
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, signal)
    {
        tracing::debug!(?signal, %error, "a signal could not be passed on; the child has just ended");
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| BY_SIGNAL + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)
}

/// The exit code of whom `signal` ended.
pub(super) fn code_of_signal(signal: Signal) -> u8 {
    u8::try_from(BY_SIGNAL + signal.as_raw()).unwrap_or(u8::MAX)
}

/// `keyholder exec-child`: becomes the command. Returns only if that fails.
pub(in crate::cli) fn become_child(arguments: &ChildArgs) -> Result<Exit, Failure> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::bug("the kernel does not tell of a parent's end").caused_by(&error))?;
    // The parent may have died before the kernel was asked.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(arguments.parent) {
        return Err(Failure::new(Code::INTERNAL, "keyholder exec was killed before its command started")
            .exiting(Exit::Child(code_of_signal(Signal::TERM))));
    }
    let Some((program, words)) = arguments.command.split_first() else {
        return Err(Failure::usage("there is no command to run"));
    };
    let error = std::process::Command::new(program).args(words).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Err(Failure::new(Code::USAGE, format!("the command {} cannot be started", program.display()))
        .caused_by(&error)
        .exiting(Exit::Child(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_as_shells_have_them() {
        for (raw, code) in [(0, 0), (7 << 8, 7), (255 << 8, 255), (15, 143), (9, 137), (0x80 | 0xb, 139)] {
            assert_eq!(code_of(ExitStatus::from_raw(raw)), code, "{raw:#x}");
        }
    }
}
