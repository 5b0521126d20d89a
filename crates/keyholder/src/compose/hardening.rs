//! Keeps the process's memory out of core files, its secrets out of its environment, and both away from other processes
//! of the same user.
//!
//! Invariant: best effort and never a reason not to start; what could not be done is logged once.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroizing;

/// Where `env_start` and `env_end` stand in `/proc/PID/stat`, counted from the third field, the state (proc_pid_stat(5):
/// fields 50 and 51).
const ENV_FIELDS: (usize, usize) = (47, 48);

/// Largest environment looked through: the kernel's own limit for arguments and environment is 6 MiB (execve(2)).
const ENVIRONMENT_MAX: u64 = 8 * 1024 * 1024;

/// No core files, and no reading of this process's memory or environment by others of the same user.
pub(crate) fn harden() {
    let core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = core {
        tracing::warn!(%error, "core files cannot be turned off");
    }
    if let Err(error) = dumpable {
        tracing::warn!(%error, "memory stays readable for debuggers");
    }
}

/// As [`harden`] without the limit, which a child would inherit: a process that is not dumpable leaves no core either.
pub(crate) fn hide_memory() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "memory stays readable for debuggers");
    }
}

/// Wipes the value of `variable` from what `/proc/PID/environ` shows of this process. Call it before [`harden`], after
/// which the kernel refuses, and before there are threads that read the environment. The parent that set the
/// variable still has it.
pub(crate) fn forget_variable(variable: &str) {
    if let Err(error) = wipe(variable) {
        tracing::warn!(%error, variable, "the secret stays readable in this process's environment; a file is safer");
    }
}

/// Through `/proc/self/mem`: the kernel keeps the initial environment in the process's own memory, and nothing else
/// overwrites it there.
fn wipe(variable: &str) -> io::Result<()> {
    let unexpected = || io::Error::from(ErrorKind::InvalidData);
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')').ok_or_else(unexpected)?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let address = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).ok_or_else(unexpected);
    let (start, end) = (address(ENV_FIELDS.0)?, address(ENV_FIELDS.1)?);
    let size = end.checked_sub(start).filter(|size| *size <= ENVIRONMENT_MAX).ok_or_else(unexpected)?;
    let memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    let mut block = Zeroizing::new(vec![0; usize::try_from(size).map_err(|_| unexpected())?]);
    memory.read_exact_at(&mut block, start)?;
    for (offset, length) in places(&block, variable) {
        memory.write_all_at(&vec![0; length], start + u64::try_from(offset).map_err(|_| unexpected())?)?;
    }
    Ok(())
}

/// Offset and length of every value of `variable` in a block of `NAME=value` texts that end with zero bytes.
fn places(block: &[u8], variable: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut offset = 0;
    for entry in block.split(|byte| *byte == 0) {
        if let Some(value) = entry.strip_prefix(variable.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            found.push((offset + variable.len() + 1, value.len()));
        }
        offset += entry.len() + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let block = b"A=1\0KEY=secret\0XKEY=other\0KEYS=x\0KEY=\0KEY=two\0";
        assert_eq!(places(block, "KEY"), [(8, 6), (37, 0), (42, 3)]);
        assert_eq!(places(block, "NONE"), []);
        assert_eq!(places(b"", "KEY"), []);
    }
}
