//! CPU per proxied request, latency per hop, idle memory: keyholder beside nginx, interleaved.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{cpu, rig::Rig};
use crate::{process, stats::Spread};

/// Load connections of the throughput rows.
const CONNECTIONS: u32 = 64;
/// The path that is called; the client's allow-list names it.
pub(super) const PATH: &str = "/api/v2/users/me";

/// How long to measure.
pub struct Plan {
    /// Interleaved pairs of nginx and keyholder runs.
    pub pairs: u32,
    /// Seconds of each run.
    pub seconds: u32,
}

impl Plan {
    /// From `--pairs N --seconds S --short`.
    pub fn parse(options: &[&str]) -> Result<Self> {
        let mut plan = Self { pairs: 11, seconds: 4 };
        let mut rest = options;
        loop {
            rest = match rest {
                [] => return Ok(plan),
                ["--short", tail @ ..] => {
                    plan = Self { pairs: 1, seconds: 1 };
                    tail
                }
                ["--pairs", number, tail @ ..] => {
                    plan.pairs = number.parse()?;
                    tail
                }
                ["--seconds", number, tail @ ..] => {
                    plan.seconds = number.parse()?;
                    tail
                }
                [other, ..] => bail!("unknown option {other}"),
            }
        }
    }
}

/// One load run.
pub(super) struct Load {
    /// Answers that came.
    pub(super) requests: f64,
    p50_us: f64,
    /// Whether one of them was none, or not a 2xx.
    pub(super) errors: bool,
}

/// Loads one address with `wrk`.
pub(super) fn wrk(url: &str, header: &str, connections: u32, seconds: u32) -> Result<Load> {
    let out = process::output(Command::new("taskset").args(["-c", "1", "wrk", "-t1", "--latency"]).args([
        format!("-c{connections}"),
        format!("-d{seconds}s"),
        "-H".into(),
        header.into(),
        url.into(),
    ]))?;
    let requests =
        out.lines().find(|line| line.contains(" requests in ")).and_then(|line| line.split_whitespace().next());
    let p50 =
        out.lines().find(|line| line.trim_start().starts_with("50%")).and_then(|line| line.split_whitespace().nth(1));
    Ok(Load {
        requests: requests.context("no request count")?.parse()?,
        p50_us: microseconds(p50.context("no p50")?)?,
        errors: out.contains("Non-2xx") || out.contains("Socket errors"),
    })
}

fn microseconds(text: &str) -> Result<f64> {
    for (unit, factor) in [("us", 1.0), ("ms", 1e3), ("s", 1e6)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    bail!("{text} is no time")
}

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
