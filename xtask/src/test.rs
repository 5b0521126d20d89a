//! `cargo xtask test`: everything that must hold, in the order in which a failure is cheapest to hear of.

use std::{process::Command, time::Instant};

use anyhow::Result;

use crate::{bench, delivery, fuzz, process, root, rotation, scenario, stores, tidy, tools};

/// Installs the tools and runs all checks; stops at the first that fails.
pub fn run() -> Result<()> {
    let tools = tools::install()?;
    step("formatting", || process::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("tidy", tidy::run)?;
    step("clippy", || {
        process::run(&mut cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
    })?;
    step("tests", || process::run(&mut cargo(&["test", "--workspace", "--no-fail-fast"])))?;
    step("documentation", || {
        process::run(cargo(&["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings"))
    })?;
    let keyholder = scenario::build()?;
    step("official SDKs", || scenario::run_with(&tools, &keyholder))?;
    step("rotation under load, short form", || rotation::short(&tools, &keyholder))?;
    step("clients of secret stores", || stores::run_with(&tools))?;
    step("delivery", || delivery::run_with(&tools))?;
    step("fuzzing, short form", || fuzz::run(&["--seconds", &fuzz::SHORT_SECONDS.to_string()]))?;
    step("benchmarks, short form", || bench::short(&keyholder))?;
    println!("xtask test: all checks passed");
    Ok(())
}

fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root()).args(words);
    command
}

fn step(name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    #[allow(clippy::disallowed_methods, reason = "tells the developer where the minutes went")]
    let start = Instant::now();
    check()?;
    println!("== {name}: held, {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
