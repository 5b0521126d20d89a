//! The gateway in front of an API beside nginx (plain proxy, no authentication), haproxy (`jwt_verify`) and Envoy
//! (`jwt_authn` with its token cache): CPU and instructions per request, memory with many cached tokens, start to first
//! answer.
//!
//! Invariant: each run has a process of its own, and every proxy gets the same requests; tokens "from cache" were all
//! shown before; a run in which an answer is not a 2xx, or in which "every token new" ran out of tokens, is an error and
//! no figure.

mod options;
mod peers;

use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};

pub use self::options::Options;
pub(super) use self::peers::{AUDIENCE, Algorithm, ISSUER, sign_tokens};
use self::{
    options::Part,
    peers::{Peer, Stage},
};
use super::{
    cpu, instructions,
    load::{CONNECTIONS, Load, Slice, wrk_tokens},
    rig::Proxy,
};
use crate::stats::Spread;

/// The path that is called: one of the routes, which wants two of the token's three scopes.
pub(super) const PATH: &str = "/api/v2/users/me";
/// Tokens that the warm-up of a row "every token new" uses; the measured part does not use them.
const WARM_UP: usize = 1;
/// Each proxy runs on this core alone.
const PINNED: [&str; 3] = ["taskset", "-c", "0"];

/// One row of the table.
struct Row {
    title: &'static str,
    algorithm: Algorithm,
    /// Whether no token comes twice.
    fresh: bool,
}

const ROWS: [Row; 4] = [
    Row { title: "RS256, verified tokens from cache", algorithm: Algorithm::Rs256, fresh: false },
    Row { title: "RS256, every token new", algorithm: Algorithm::Rs256, fresh: true },
    Row { title: "ES256, verified tokens from cache", algorithm: Algorithm::Es256, fresh: false },
    Row { title: "ES256, every token new", algorithm: Algorithm::Es256, fresh: true },
];

/// Measures what the options ask for.
pub fn run(keyholder: &Path, options: &Options) -> Result<()> {
    let stage = Stage::set(keyholder, options.tokens(), options.peers())?;
    for part in &options.parts {
        match part {
            Part::Cpu => throughput(&stage, options)?,
            Part::Instructions => count(&stage, options)?,
            Part::Memory => memory(&stage, options)?,
            Part::Start => start(&stage, options)?,
        }
    }
    Ok(())
}

/// CPU per request of all peers, row by row.
fn throughput(stage: &Stage, options: &Options) -> Result<()> {
    let peers = options.peers();
    for row in &ROWS {
        let mut samples = vec![Vec::new(); peers.len()];
        for pair in 0..options.plan.pairs {
            // the order turns, so that a drift of the machine favours nobody
            for turn in 0..peers.len() {
                let index = (turn + usize::try_from(pair)?) % peers.len();
                let (Some(peer), Some(sample)) = (peers.get(index), samples.get_mut(index)) else { continue };
                sample.push(cost(stage, *peer, row, options)?);
            }
        }
        println!("{}: CPU us per request, {CONNECTIONS} connections, 1 KB answers", row.title);
        println!("  median (min to max) of {} interleaved rounds of {} s", options.plan.pairs, options.plan.seconds);
        report(peers, &samples);
    }
    Ok(())
}

/// CPU microseconds per request of one fresh process.
fn cost(stage: &Stage, peer: Peer, row: &Row, options: &Options) -> Result<f64> {
    let proxy = stage.start(peer, row.algorithm, &PINNED)?;
    let file = stage.tokens(row.algorithm);
    if row.fresh {
        load(peer, &proxy, &Slice { file: &file, skip: 0, count: WARM_UP }, 1)?;
    } else {
        pass(peer, &proxy, &file, options.cached)?;
    }
    let (skip, count) = if row.fresh { (WARM_UP, usize::MAX) } else { (0, options.cached) };
    let before = cpu::seconds(proxy.worker_pid)?;
    let load = load(peer, &proxy, &Slice { file: &file, skip, count }, options.plan.seconds)?;
    let used = cpu::seconds(proxy.worker_pid)? - before;
    let enough = !row.fresh || !peer.remembers() || load.requests <= float(stage.count - WARM_UP);
    ensure!(enough, "{} took {} requests, more than there are tokens", peer.name(), load.requests);
    Ok(used / load.requests * 1e6)
}

/// Loads a proxy; an answer that is not a 2xx is an error.
fn load(peer: Peer, proxy: &Proxy, tokens: &Slice<'_>, seconds: u32) -> Result<Load> {
    let load = wrk_tokens(&proxy.url, PATH, tokens, seconds)?;
    ensure!(!load.errors, "{} answered with errors under load", peer.name());
    Ok(load)
}

/// Shows a proxy each of the first `count` tokens at least once, however slow the machine is. Answers how many requests
/// that took.
fn pass(peer: Peer, proxy: &Proxy, file: &Path, count: usize) -> Result<f64> {
    let mut sent = 0;
    while sent < count {
        // in turn: a second of load goes on with the token after the last one
        let next = Slice { file, skip: sent, count: count - sent };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests")]
        let requests = load(peer, proxy, &next, 1)?.requests as usize;
        // each connection may have one token in hand whose answer was not waited for
        sent += requests.saturating_sub(CONNECTIONS as usize).max(1);
    }
    Ok(float(sent))
}

#[allow(clippy::cast_precision_loss, reason = "counts of tokens and requests")]
fn float(count: usize) -> f64 {
    count as f64
}

/// The peers' medians, and each one's ratio to nginx in the same round, if nginx takes part.
fn report(peers: &[Peer], samples: &[Vec<f64>]) {
    let nginx = peers.iter().position(|peer| *peer == Peer::Nginx).and_then(|index| samples.get(index));
    for (peer, sample) in peers.iter().zip(samples) {
        let ratio = nginx.map_or(String::new(), |nginx| {
            let ratios: Vec<f64> = sample.iter().zip(nginx).map(|(own, plain)| own / plain).collect();
            format!("   x nginx {}", Spread::of(&ratios))
        });
        println!("  {:28} {}{ratio}", peer.name(), Spread::of(sample));
    }
}

/// Instructions per request in user space.
fn count(stage: &Stage, options: &Options) -> Result<()> {
    /// Fewer than in the rows of CPU time, because callgrind runs some fifty times slower than the machine.
    const CACHED: usize = 200;
    println!("instructions per request in user space, counted by callgrind on a CPU without SHA and ADX instructions");
    for row in &ROWS {
        println!("{}", row.title);
        for peer in options.peers() {
            let folder = tempfile::tempdir()?;
            let out = format!("--callgrind-out-file={}", folder.path().join("out.%p").display());
            // on one core, so that all of them have one worker, as in the rows of CPU time
            let wrapper = [&PINNED[..], &["valgrind", "--tool=callgrind", "--quiet", &out]].concat();
            let proxy = match stage.start(*peer, row.algorithm, &wrapper) {
                Ok(proxy) => proxy,
                Err(error) => {
                    println!("  {:28} not counted: {error}", peer.name());
                    continue;
                }
            };
            let file = stage.tokens(row.algorithm);
            let (skip, count) = if row.fresh { (WARM_UP, usize::MAX) } else { (0, CACHED) };
            if row.fresh {
                load(*peer, &proxy, &Slice { file: &file, skip: 0, count: WARM_UP }, 2)?;
            } else {
                pass(*peer, &proxy, &file, CACHED)?;
            }
            let seconds = options.plan.seconds * 2;
            let counted = instructions::under_load(proxy.worker_pid, folder.path(), || {
                Ok(load(*peer, &proxy, &Slice { file: &file, skip, count }, seconds)?.requests)
            })?;
            println!("  {:28} {counted:.0}", peer.name());
        }
    }
    Ok(())
}

/// Resident memory after as many different tokens as fit the caches; and that they are there, by what a second look at
/// each of them costs.
fn memory(stage: &Stage, options: &Options) -> Result<()> {
    println!("resident memory in MiB with {} verified tokens", options.memory);
    for peer in options.peers().iter().filter(|peer| peer.remembers()) {
        let proxy = stage.start(*peer, Algorithm::Rs256, &PINNED)?;
        let file = stage.tokens(Algorithm::Rs256);
        let idle = cpu::resident_mib(proxy.worker_pid)?;
        let measured = || -> Result<f64> {
            let before = cpu::seconds(proxy.worker_pid)?;
            let requests = pass(*peer, &proxy, &file, options.memory)?;
            Ok((cpu::seconds(proxy.worker_pid)? - before) / requests * 1e6)
        };
        let first = measured()?;
        let full = cpu::resident_mib(proxy.worker_pid)?;
        let second = measured()?;
        println!(
            "  {:28} {idle:.1} idle, {full:.1} full; CPU us per request {first:.1} at first, {second:.1} when all are known",
            peer.name()
        );
    }
    Ok(())
}

/// Milliseconds from the start of a process to its first 200 to a valid token.
fn start(stage: &Stage, options: &Options) -> Result<()> {
    println!("ms from start to the first answer, median (min to max) of {}", options.plan.pairs);
    for peer in options.peers() {
        let mut samples = Vec::new();
        for _ in 0..options.plan.pairs {
            #[allow(clippy::disallowed_methods, reason = "this is what is measured")]
            let began = Instant::now();
            let proxy = stage.start(*peer, Algorithm::Rs256, &[])?;
            samples.push(began.elapsed().as_secs_f64() * 1e3);
            drop(proxy);
        }
        println!("  {:28} {}", peer.name(), Spread::of(&samples));
    }
    Ok(())
}
