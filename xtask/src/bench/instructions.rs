//! Instructions per proxied request, counted by callgrind: nearly the same number on a busy machine as on a quiet one.
//!
//! Invariant: only the time under load is counted, start-up and warm-up are not. System calls count as nothing; both
//! proxies make the same four per request.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{
    load::wrk,
    outbound::PATH,
    rig::{Proxy, Rig},
};
use crate::process;

/// Load connections, as in the throughput rows.
const CONNECTIONS: u32 = 64;
/// Seconds until every connection and cache is warm; callgrind runs some fifty times slower than the machine.
const WARM_UP_SECONDS: u32 = 2;
/// Seconds that are counted.
const SECONDS: u32 = 6;

/// Counts nginx and keyholder.
pub fn run(keyholder: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = format!("--callgrind-out-file={}", folder.path().join("out.%p").display());
    let rig = Rig::start(keyholder, &["valgrind", "--tool=callgrind", "--quiet", &out])?;
    let header = format!("Authorization: Bearer {}", rig.token);
    let theirs = count(&rig.nginx, &header, folder.path())?;
    let ours = count(&rig.keyholder, &header, folder.path())?;
    println!("instructions per request: nginx {theirs:.0}, keyholder {ours:.0}, ratio {:.3}", ours / theirs);
    Ok(())
}

fn count(proxy: &Proxy, header: &str, folder: &Path) -> Result<f64> {
    let url = format!("{}{PATH}", proxy.url);
    wrk(&url, header, CONNECTIONS, WARM_UP_SECONDS)?;
    under_load(proxy.worker_pid, folder, || {
        let load = wrk(&url, header, CONNECTIONS, SECONDS)?;
        if load.errors {
            bail!("{url} answered with errors under load");
        }
        Ok(load.requests)
    })
}

/// Instructions per request of a process that was started under callgrind with its counts in `folder`, while `load`
/// runs, which says how many requests it made.
pub(super) fn under_load(pid: u32, folder: &Path, load: impl FnOnce() -> Result<f64>) -> Result<f64> {
    let pid = pid.to_string();
    control(&["--zero", &pid])?;
    let requests = load()?;
    control(&["--dump", &pid])?;
    Ok(total(&folder.join(format!("out.{pid}.1")))? / requests)
}

fn control(words: &[&str]) -> Result<()> {
    process::output(Command::new("callgrind_control").args(words)).map(drop)
}

fn total(file: &Path) -> Result<f64> {
    let text = fs::read_to_string(file).context("callgrind wrote no counts")?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    Ok(line.context("no total")?.trim().parse()?)
}
