//! Benchmarks beside a real peer on the same machine in the same run.
//!
//! Invariant: nothing here asserts on time. It prints medians, spreads and ratios; people judge.

mod cpu;
mod gateway;
mod instructions;
mod rig;
mod rotation;

use std::path::Path;

use anyhow::{Result, bail};

use crate::{process, root, scenario, tools};

/// Runs one benchmark by name.
pub fn run(which: &str, options: &[&str]) -> Result<()> {
    tools::install()?;
    let keyholder = build_release()?;
    match which {
        "gateway" => gateway::throughput(&keyholder, &gateway::Plan::parse(options)?),
        "latency" => gateway::latency(&keyholder),
        "instructions" => instructions::run(&keyholder),
        "memory" => gateway::memory(&keyholder),
        "rotation" => rotation::plan(&keyholder, &rotation::Form::parse(options)?),
        other => bail!("there is no benchmark {other}"),
    }
}

/// The short form for CI: it proves that the rig works and prints what it saw.
pub fn short(keyholder: &Path) -> Result<()> {
    gateway::throughput(keyholder, &gateway::Plan { pairs: 1, seconds: 1 })?;
    gateway::memory(keyholder)?;
    rotation::plan(keyholder, &rotation::Form::short())
}

fn build_release() -> Result<std::path::PathBuf> {
    let mut cargo = std::process::Command::new("cargo");
    process::run(cargo.current_dir(root()).args(["build", "--release", "--package", "keyholder"]))?;
    scenario::binary("release")
}
