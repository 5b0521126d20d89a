//! Coverage-guided fuzzing of every parser of outside bytes, on the stable toolchain: the coverage that libFuzzer
//! needs comes from plain code generation options.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{process, root, scenario};

/// Inline 8-bit counters, comparison tracing and the table of program counters: what libFuzzer is guided by.
/// Cargo does not know that the short form depends on them: after a change it needs `cargo clean`.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Longest input: the largest limit of a parser under test that is still quick to mutate.
const INPUT_BYTES_MAX: u32 = 16 * 1024;

/// Seconds per target of the short form in CI.
const SHORT_SECONDS: u32 = 5;

/// How to build.
#[derive(Clone, Copy)]
enum Form {
    /// Everything is guided by coverage, dependencies too, and optimised.
    Long,
    /// The workspace's own crates alone: their dependencies are those that the tests have compiled.
    Short,
}

/// Every target for a few seconds.
pub fn short() -> Result<()> {
    fuzz(Form::Short, SHORT_SECONDS, &[])
}

/// Runs the targets whose names are given, or all, for so many seconds each.
pub fn run(options: &[&str]) -> Result<()> {
    let (mut seconds, mut wanted) = (60, Vec::new());
    let mut rest = options;
    loop {
        rest = match rest {
            [] => break,
            ["--short"] if wanted.is_empty() => return short(),
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
    fuzz(Form::Long, seconds, &wanted)
}

fn fuzz(form: Form, seconds: u32, wanted: &[&str]) -> Result<()> {
    let mut chosen = targets()?;
    if let Some(unknown) = wanted.iter().find(|wanted| !chosen.iter().any(|name| name == *wanted)) {
        bail!("there is no fuzz target {unknown}: {}", chosen.join(" "));
    }
    chosen.retain(|name| wanted.is_empty() || wanted.contains(&name.as_str()));
    let programs = build(form, &chosen)?;
    let waiting = Mutex::new(chosen);
    // one at a time on each core; each is a process of one thread
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let next = waiting.lock().expect("nobody panics while holding the list").pop();
                let Some(target) = next else { return Ok(()) };
                run_one(&target, &programs.join(&target), seconds)?;
            }
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker returns its error"))
    })
}

/// Compiles the targets; the folder that they are in.
fn build(form: Form, targets: &[String]) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root()).args(["build", "--quiet", "--features", "keyholder-fuzz/targets"]);
    cargo.args(targets.iter().flat_map(|target| ["--bin", target]));
    let folder = match form {
        Form::Long => {
            let triple = host_triple()?;
            let folder = root().join("target/fuzz");
            // the triple is named so that build scripts and macros are built without the coverage options
            cargo.args(["--package", "keyholder-fuzz", "--profile", "fuzz", "--target", &triple]);
            cargo.env("RUSTFLAGS", COVERAGE).env("CARGO_TARGET_DIR", &folder);
            folder.join(triple).join("fuzz")
        }
        Form::Short => {
            cargo.args(scenario::SHARED).env("KEYHOLDER_FUZZ_FLAGS", COVERAGE);
            cargo.env("RUSTC_WORKSPACE_WRAPPER", root().join("fuzz/instrument"));
            scenario::target_directory()?.join("debug")
        }
    };
    process::run(&mut cargo)?;
    Ok(folder)
}

/// Fuzzes one target; tells the counts, and everything that it said when it found something.
fn run_one(target: &str, program: &Path, seconds: u32) -> Result<()> {
    let corpus = root().join("fuzz/corpus").join(target);
    let artifacts = root().join("fuzz/artifacts").join(target);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    println!("fuzzing {target} for {seconds} s");
    let mut fuzzer = Command::new(program);
    fuzzer.arg(&corpus).arg(format!("-artifact_prefix={}/", artifacts.display()));
    fuzzer.args([format!("-max_total_time={seconds}"), format!("-max_len={INPUT_BYTES_MAX}"), "-verbosity=0".into()]);
    fuzzer.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=1024"]);
    let done = fuzzer.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&done.stderr);
    let counts = said.lines().filter_map(|line| line.strip_prefix("stat::")).map(str::trim);
    println!("{target}: {}", counts.map(|line| line.replace(' ', "")).collect::<Vec<_>>().join(", "));
    ensure!(done.status.success(), "the fuzzer {target} ended with {}:\n{said}", done.status);
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
