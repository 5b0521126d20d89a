//! `cargo xtask test`: everything that must hold, in the order in which a failure is cheapest to hear of.

use std::{process::Command, time::Instant};

use anyhow::Result;

use crate::{authorization, bench, delivery, fuzz, process, root, rotation, scenario, stores, tidy, tools};

/// What is compiled for the tests: every kind of secret store, also those that the usual build leaves out. The program
/// that the later steps start is the usual one.
const WHOLE: [&str; 3] = ["--workspace", "--features", "keyholder/full"];

/// How many tests of one binary run at a time.
const THREADS: &str = "RUST_TEST_THREADS";

/// Installs the tools and runs all checks; stops at the first that fails.
pub fn run() -> Result<()> {
    let tools = tools::install()?;
    step("formatting", || process::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("tidy", || tidy::run(None))?;
    step("clippy", || {
        process::run(cargo(&["clippy", "--quiet"]).args(WHOLE).args(["--all-targets", "--", "--deny", "warnings"]))
    })?;
    step("tests", || process::run(with_threads(cargo(&["test", "--no-fail-fast"]).args(WHOLE))))?;
    step("documentation", documentation)?;
    let keyholder = scenario::build()?;
    step("official SDKs", || scenario::run_with(&tools, &keyholder))?;
    step("OAuth libraries", || authorization::run_with(&tools, &keyholder))?;
    step("rotation under load, short form", || rotation::short(&tools, &keyholder))?;
    step("clients of secret stores", || stores::run_with(&tools))?;
    step("delivery", || delivery::run_with(&tools))?;
    step("fuzzing, short form", fuzz::short)?;
    step("benchmarks, short form", || bench::short(&keyholder))?;
    println!("xtask test: all checks passed");
    Ok(())
}

/// With the examples, of which there are none, for the reason of [`scenario::SHARED`]: so cargo finds what clippy has
/// checked.
fn documentation() -> Result<()> {
    let words = ["doc", "--quiet", "--no-deps", "--lib", "--bins", "--examples"];
    process::run(cargo(&words).args(WHOLE).env("RUSTDOCFLAGS", "--deny warnings"))
}

/// Two tests for each core, unless the developer chose: the long ones wait for processes most of the time.
fn with_threads(command: &mut Command) -> &mut Command {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match std::env::var_os(THREADS) {
        Some(_) => command,
        None => command.env(THREADS, (2 * cores).to_string()),
    }
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
