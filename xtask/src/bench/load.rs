//! Load from `wrk` on core 1, and how much of it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{process, root};

/// Load connections of the throughput rows.
pub(super) const CONNECTIONS: u32 = 64;

/// How long an answer may take before it is an error: a proxy under callgrind on a busy machine needs seconds.
const PATIENCE_SECONDS: u32 = 30;

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
    /// Half of the answers came within this.
    pub(super) p50_us: f64,
    /// Whether one of them was none, or not a 2xx.
    pub(super) errors: bool,
}

/// Loads one address with `wrk`.
pub(super) fn wrk(url: &str, header: &str, connections: u32, seconds: u32) -> Result<Load> {
    wrk_headers(url, &[header], connections, seconds)
}

/// Loads one address with `wrk`, each request with these headers.
pub(super) fn wrk_headers(url: &str, headers: &[&str], connections: u32, seconds: u32) -> Result<Load> {
    let headers = headers.iter().flat_map(|header| ["-H", header]);
    load(pinned(connections, seconds).args(headers).arg(url))
}

/// Loads a path of `origin` with the tokens of a file in turn: `count` of them after the first `skip`.
pub(super) fn wrk_tokens(origin: &str, path: &str, tokens: &Slice<'_>, seconds: u32) -> Result<Load> {
    let script = root().join("tests/bench/load.lua");
    let mut command = pinned(CONNECTIONS, seconds);
    command.arg("-s").arg(script).arg(origin).arg("--").arg(tokens.file);
    load(command.args([tokens.skip.to_string(), tokens.count.to_string(), path.to_owned()]))
}

/// A part of a file of tokens.
pub(super) struct Slice<'a> {
    /// One token per line.
    pub(super) file: &'a Path,
    /// Lines before the first one that is used.
    pub(super) skip: usize,
    /// How many are used.
    pub(super) count: usize,
}

fn pinned(connections: u32, seconds: u32) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "wrk", "-t1", "--latency"]);
    command.args([format!("-c{connections}"), format!("-d{seconds}s"), format!("--timeout={PATIENCE_SECONDS}s")]);
    command
}

fn load(command: &mut Command) -> Result<Load> {
    let out = process::output(command)?;
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
