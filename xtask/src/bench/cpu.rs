//! CPU time and memory of a process, as the kernel counts them.

use std::fs;

use anyhow::{Context, Result};

/// CPU seconds used so far by all live threads of `pid`, from the scheduler's nanosecond counters.
pub fn seconds(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0u64;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let line = fs::read_to_string(task?.path().join("schedstat"))?;
        let running = line.split_whitespace().next().context("empty schedstat")?;
        nanoseconds += running.parse::<u64>()?;
    }
    #[allow(clippy::cast_precision_loss, reason = "seconds with nanosecond digits are more than enough")]
    Ok(nanoseconds as f64 / 1e9)
}

/// Resident memory in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
