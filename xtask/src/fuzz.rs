//! Coverage-guided fuzzing of every parser of outside bytes, on the stable toolchain: the coverage that libFuzzer
//! needs comes from plain code generation options.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{process, root};

/// Inline 8-bit counters, comparison tracing and the table of program counters: what libFuzzer is guided by.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Longest input: the largest limit of a parser under test that is still quick to mutate.
const INPUT_BYTES_MAX: u32 = 16 * 1024;

/// Seconds per target of the short form in CI.
pub const SHORT_SECONDS: u32 = 5;

/// Runs the targets whose names are given, or all, for so many seconds each.
pub fn run(options: &[&str]) -> Result<()> {
    let (mut seconds, mut wanted) = (60, Vec::new());
    let mut rest = options;
    loop {
        rest = match rest {
            [] => break,
            ["--seconds", number, tail @ ..] => {
                seconds = number.parse()?;
                tail
            }
            [name, tail @ ..] => {
                wanted.push(*name);
                tail
            }
        };
    }
    fuzz(seconds, &wanted)
}

fn fuzz(seconds: u32, wanted: &[&str]) -> Result<()> {
    let triple = host_triple()?;
    // the triple is named so that build scripts and macros are built without the coverage options
    let folder = root().join("target/fuzz");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root().join("fuzz")).env("RUSTFLAGS", COVERAGE).env("CARGO_TARGET_DIR", &folder);
    process::run(cargo.args(["build", "--quiet", "--release", "--target", &triple]))?;
    for target in targets()? {
        if !wanted.is_empty() && !wanted.contains(&target.as_str()) {
            continue;
        }
        let corpus = root().join("fuzz/corpus").join(&target);
        let artifacts = root().join("fuzz/artifacts").join(&target);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        println!("fuzzing {target} for {seconds} s");
        let mut fuzzer = Command::new(folder.join(&triple).join("release").join(&target));
        fuzzer.arg(&corpus).arg(format!("-artifact_prefix={}/", artifacts.display()));
        fuzzer.args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            "-verbosity=0".into(),
        ]);
        fuzzer.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=1024"]);
        process::run(&mut fuzzer)?;
    }
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(root().join("fuzz/src/bin"))?
        .filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name()).file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("there is no fuzz target");
    }
    Ok(names)
}

fn host_triple() -> Result<String> {
    let told = process::output(Command::new("rustc").arg("-vV"))?;
    Ok(told.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc tells no host")?.to_owned())
}
