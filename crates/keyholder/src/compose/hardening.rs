//! Keeps the process's memory out of core files and away from other processes of the same user.
//!
//! Invariant: best effort and never a reason not to start; what could not be done is logged once.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core files, and no reading of this process's memory or environment by others of the same user.
pub(crate) fn harden() {
    let core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    for (what, result) in [("core files cannot be turned off", core), ("memory stays readable for debuggers", dumpable)]
    {
        if let Err(error) = result {
            tracing::warn!(%error, "{what}");
        }
    }
}
