//! The gateway to a platform: CPU per proxied request, latency per hop, idle memory; keyholder beside nginx, interleaved.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use super::{
    cpu,
    load::{CONNECTIONS, Plan, wrk},
    rig::Rig,
};
use crate::stats::Spread;

/// The path that is called; the client's allow-list names it.
pub(super) const PATH: &str = "/api/v2/users/me";

/// CPU microseconds per request of `pid` under load.
fn cost(url: &str, header: &str, pid: u32, seconds: u32) -> Result<f64> {
    let before = cpu::seconds(pid)?;
    let load = wrk(&format!("{url}{PATH}"), header, CONNECTIONS, seconds)?;
    let used = cpu::seconds(pid)? - before;
    if load.errors {
        bail!("{url} answered with errors under load");
    }
    Ok(used / load.requests * 1e6)
}

/// The headline: CPU per proxied request beside nginx.
pub fn throughput(keyholder: &Path, plan: &Plan) -> Result<()> {
    let rig = Rig::start(keyholder, &["taskset", "-c", "0"])?;
    let header = format!("Authorization: Bearer {}", rig.token);
    cost(&rig.nginx.url, &header, rig.nginx.worker_pid, 1)?;
    cost(&rig.keyholder.url, &header, rig.keyholder.worker_pid, 1)?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..plan.pairs {
        let measure_ours = || cost(&rig.keyholder.url, &header, rig.keyholder.worker_pid, plan.seconds);
        let measure_theirs = || cost(&rig.nginx.url, &header, rig.nginx.worker_pid, plan.seconds);
        // the order alternates, so that a drift of the machine favours neither
        let (mine, peer) = if pair % 2 == 0 {
            let mine = measure_ours()?;
            (mine, measure_theirs()?)
        } else {
            let peer = measure_theirs()?;
            (measure_ours()?, peer)
        };
        println!("pair {:2}: nginx {peer:.2} us, keyholder {mine:.2} us, ratio {:.3}", pair + 1, mine / peer);
        ours.push(mine);
        theirs.push(peer);
        ratios.push(mine / peer);
    }
    println!(
        "CPU us per request, {CONNECTIONS} connections, 1 KB answers, median (min to max) of {} pairs",
        plan.pairs
    );
    println!("  nginx plain proxy                   {}", Spread::of(&theirs));
    println!("  keyholder, token + allow-list       {}", Spread::of(&ours));
    println!("  ratio of each pair                  {}", Spread::of(&ratios));
    Ok(())
}

/// p50 on one connection: the platform itself, through nginx, through keyholder; and a local token call.
pub fn latency(keyholder: &Path) -> Result<()> {
    let rig = Rig::start(keyholder, &["taskset", "-c", "0"])?;
    let header = format!("Authorization: Bearer {}", rig.token);
    let guard = format!("X-Keyholder-Token: {}", fs::read_to_string(&rig.broker.1)?.trim());
    let rows = [
        ("platform itself", format!("{}{PATH}", rig.direct), &header),
        ("nginx", format!("{}{PATH}", rig.nginx.url), &header),
        ("keyholder", format!("{}{PATH}", rig.keyholder.url), &header),
        ("local token call", format!("{}/v1/token/bench", rig.broker.0), &guard),
    ];
    let mut samples = vec![Vec::new(); rows.len()];
    for _ in 0..9 {
        for ((_, url, header), sample) in rows.iter().zip(&mut samples) {
            let load = wrk(url, header, 1, 1)?;
            if load.errors {
                bail!("{url} answered with errors");
            }
            sample.push(load.p50_us);
        }
    }
    println!("p50 in us on one connection, median (min to max) of 9 interleaved runs of 1 s");
    for ((name, ..), sample) in rows.iter().zip(&samples) {
        println!("  {name:18} {}", Spread::of(sample));
    }
    Ok(())
}

/// Resident memory of an idle keyholder with one credential and one client.
pub fn memory(keyholder: &Path) -> Result<()> {
    let rig = Rig::start(keyholder, &[])?;
    println!(
        "idle RSS: keyholder {:.1} MiB, nginx {:.1} MiB",
        cpu::resident_mib(rig.keyholder.worker_pid)?,
        cpu::resident_mib(rig.nginx.worker_pid)?
    );
    Ok(())
}
