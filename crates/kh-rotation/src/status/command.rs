//! The command lines that a run tells people to type.
//!
//! Invariant: each is a command that exists, with its arguments filled in as far as they are known.

use kh_core::{port::rotation_journal::ApprovalOf, rotation::ManagedId};

use crate::run::Run;

fn on_run(verb: &str, run: &Run, rest: &str) -> String {
    format!("keyholder rotate {verb} {}{rest}", run.began().run)
}

/// Shows the run.
pub fn status(run: &Run) -> String {
    on_run("status", run, "")
}

/// Looks again and goes on.
pub fn resume(run: &Run) -> String {
    on_run("resume", run, "")
}

/// Goes on from the version that a store holds.
pub fn adopt(run: &Run, store: &str, version: &str) -> String {
    on_run("resume", run, &format!(" --adopt {store}={version}"))
}

/// Goes on and deletes a secret that the run made. `--foreign` leaves it instead.
pub fn own(run: &Run, id: &ManagedId) -> String {
    on_run("resume", run, &format!(" --own {id}"))
}

/// Gives up before anything was promoted.
pub fn abort(run: &Run) -> String {
    on_run("abort", run, "")
}

/// Ends the run as it stands.
pub fn abandon(run: &Run) -> String {
    on_run("abort", run, " --leave")
}

/// Makes the old secret live again.
pub fn rollback(run: &Run) -> String {
    on_run("rollback", run, "")
}

/// Agrees.
pub fn approve(run: &Run, of: ApprovalOf) -> String {
    let what = match of {
        ApprovalOf::Start => "start",
        ApprovalOf::Prune => "prune",
        ApprovalOf::Revoke => "revoke",
    };
    on_run("approve", run, &format!(" --{what} --reason TEXT"))
}

/// Begins an urgent rotation of the same credential.
pub fn now(run: &Run) -> String {
    format!("keyholder rotate now {} --reason TEXT", run.began().credential)
}
