//! Instructions per proxied request, counted by callgrind: the same number on a busy machine as on a quiet one.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::rig::Rig;

/// Requests of the short and the long run; the difference leaves out start-up.
const REQUESTS: [u32; 2] = [2_000, 12_000];

/// Counts nginx and keyholder.
pub fn run(keyholder: &Path) -> Result<()> {
    let mut counts = Vec::new();
    for requests in REQUESTS {
        counts.push(count(keyholder, requests)?);
    }
    let [short, long] = counts.as_slice() else { anyhow::bail!("two runs were made") };
    let requests = f64::from(REQUESTS[1] - REQUESTS[0]);
    let (theirs, ours) = ((long.0 - short.0) / requests, (long.1 - short.1) / requests);
    println!("instructions per request: nginx {theirs:.0}, keyholder {ours:.0}, ratio {:.3}", ours / theirs);
    Ok(())
}

/// Total instructions of nginx and of keyholder over a run of `requests` calls each.
fn count(keyholder: &Path, requests: u32) -> Result<(f64, f64)> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out.%p");
    let out = format!("--callgrind-out-file={}", out.display());
    let rig = Rig::start(keyholder, &["valgrind", "--tool=callgrind", "--quiet", &out])?;
    for url in [&rig.nginx.url, &rig.keyholder.url] {
        load(url, &rig.token, requests)?;
    }
    let (nginx, ours) = (rig.nginx.worker_pid, rig.keyholder.worker_pid);
    drop(rig);
    Ok((total(folder.path(), nginx)?, total(folder.path(), ours)?))
}

fn load(url: &str, token: &str, requests: u32) -> Result<()> {
    let agent = ureq::Agent::new_with_defaults();
    for _ in 0..requests {
        let mut answer =
            agent.get(format!("{url}/api/v2/users/me")).header("Authorization", format!("Bearer {token}")).call()?;
        answer.body_mut().read_to_string()?;
    }
    Ok(())
}

fn total(folder: &Path, pid: u32) -> Result<f64> {
    let text = fs::read_to_string(folder.join(format!("out.{pid}"))).context("callgrind wrote no counts")?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    Ok(line.context("no total")?.trim().parse()?)
}
