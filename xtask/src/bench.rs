//! Benchmarks beside a real peer on the same machine in the same run.
//!
//! Invariant: nothing here asserts on time. It prints medians, spreads and ratios; people judge.

mod cpu;
mod gateway;
mod instructions;
mod load;
mod outbound;
mod rig;
mod rotation;
pub mod training;

use std::path::Path;

use anyhow::{Result, bail};

use self::load::Plan;
use crate::{dist, process, root, scenario, tools};

/// Runs one benchmark by name.
pub fn run(which: &str, options: &[&str]) -> Result<()> {
    tools::install()?;
    match which {
        "gateway" => {
            let options = gateway::Options::parse(options)?;
            let keyholder = options.binary.clone().map_or_else(dist::release, Ok)?;
            gateway::run(&keyholder, &options)
        }
        "outbound" => outbound::throughput(&build_release()?, &Plan::parse(options)?),
        "latency" => outbound::latency(&build_release()?),
        "instructions" => instructions::run(&build_release()?),
        "memory" => outbound::memory(&build_release()?),
        "rotation" => rotation::plan(&build_release()?, &rotation::Form::parse(options)?),
        other => bail!("there is no benchmark {other}"),
    }
}

/// The short form for CI: it proves that the rig works and prints what it saw.
pub fn short(keyholder: &Path) -> Result<()> {
    gateway::run(keyholder, &gateway::Options::short())?;
    outbound::throughput(keyholder, &Plan { pairs: 1, seconds: 1 })?;
    outbound::memory(keyholder)?;
    rotation::plan(keyholder, &rotation::Form::short())
}

fn build_release() -> Result<std::path::PathBuf> {
    let mut cargo = std::process::Command::new("cargo");
    process::run(cargo.current_dir(root()).args(["build", "--release", "--package", "keyholder"]))?;
    scenario::binary("release")
}
