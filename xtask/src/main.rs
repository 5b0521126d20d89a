//! Developer commands. `cargo xtask help` lists them. Nothing here is part of the product.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks on the terminal")]
#![allow(unreachable_pub, reason = "modules of a binary; what is public here is public to its siblings")]

mod authorization;
mod bench;
mod delivery;
mod dist;
mod fuzz;
mod logs;
mod process;
mod rotation;
mod scenario;
mod stats;
mod stores;
mod test;
mod tidy;
mod tools;

use std::{path::PathBuf, process::ExitCode};

const HELP: &str = "\
cargo xtask COMMAND

  test                 install what the tests need, then run all of them
  tidy [BINARY]        check floors, file headers and the docs' drift
  sdk                  the official SDKs and an OAuth library through keyholder (part of test)
  authorization [BINARY]
                       OAuth libraries against keyholder's own token endpoint, and tokens of oidc-provider
                       in front of an API (part of test)
  rotation [--long] [CASE]...
                       every strategy under load, beside a naive script (short form in test)
  stores               the official clients of secret stores against our fakes (part of test)
  fuzz [TARGET]... [--seconds N] | --short
                       coverage-guided fuzzing of the parsers (short form in test)
  bench gateway [cpu|instructions|memory|start]...
        [--pairs N] [--seconds S] [--without-envoy] [--binary FILE] [--short]
                       verified requests to an API, the shipped binary beside nginx, haproxy and Envoy, interleaved
  bench outbound       CPU per request to a platform beside nginx, interleaved
        [--pairs N] [--seconds S] [--short]
  bench latency        added latency per hop on one connection, and a local token call
  bench instructions   instructions per proxied request, counted by callgrind
  bench memory         resident memory of an idle keyholder
  bench rotation       a dry run of 1,000 credentials: time and requests
  delivery             install the package, run the units and the image, check the manifests (part of test)
  dist                 the static release binary, its SBOM, a .deb and checksums, in target/dist-out
  dist deb|image|sbom  one of them
  dist profile         measure under load what the binary is optimised for, after new dependencies or a new compiler
  dist --verify        build the last commit twice, in different folders, and compare
  tools                install what the tests and benches need into .test-tools
  docs [BINARY]        write the generated reference pages again
";

fn main() -> ExitCode {
    if let Some(file) = std::env::var_os(dist::binary::LINK_ARGUMENTS) {
        let error = dist::binary::as_rustc(std::env::args_os().skip(1), &file);
        eprintln!("xtask: rustc cannot be started: {error}");
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test", ..] => test::run(),
        ["tidy"] => tidy::run(None),
        ["tidy", binary] => tidy::run(Some(binary)),
        ["docs"] => tidy::write_docs(None),
        ["docs", binary] => tidy::write_docs(Some(binary)),
        ["sdk"] => scenario::run(),
        ["authorization"] => authorization::run(None),
        ["authorization", binary] => authorization::run(Some(binary)),
        ["rotation", options @ ..] => rotation::run(options),
        ["stores"] => stores::run(),
        ["delivery"] => delivery::run(),
        ["dist", words @ ..] => dist::run(words),
        ["tools"] => tools::install().map(|_| ()),
        ["fuzz", options @ ..] => fuzz::run(options),
        ["bench", which, options @ ..] => bench::run(which, options),
        _ => {
            eprint!("{HELP}");
            let asked = matches!(words.as_slice(), ["help" | "--help" | "-h"]);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}
