//! The official Python clients of secret stores against our strict fakes.
//!
//! Invariant: a fake is believed only as far as a client that is not ours gets along with it; each script asks what the
//! real service is known to answer and ends with a failure if the fake answers otherwise.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    process::{self, Server},
    root, scenario,
    tools::{self, Tools},
};

/// One fake with the script that asks it.
struct Check {
    /// As `kh-fakes` names it.
    kind: &'static str,
    /// Whether its clients insist on TLS.
    tls: bool,
    /// Below `tests/stores`; it gets the ready file as its argument.
    script: &'static str,
}

/// All checks. A store's script stands here when it exists.
const CHECKS: &[Check] = &[
    Check { kind: "aws", tls: false, script: "aws.py" },
    Check { kind: "azure", tls: true, script: "key_vault.py" },
    Check { kind: "google", tls: false, script: "secret_manager.py" },
    Check { kind: "vault", tls: false, script: "vault.py" },
];

/// The `stores` command: installs, builds, runs.
pub fn run() -> Result<()> {
    run_with(&tools::install()?)
}

/// Runs every script against a fake of its own.
pub fn run_with(tools: &Tools) -> Result<()> {
    let fakes = build()?;
    let folder = tempfile::tempdir()?;
    for check in CHECKS {
        println!("{}: {}", check.kind, check.script);
        run_one(tools, &fakes, check, folder.path())?;
    }
    Ok(())
}

fn run_one(tools: &Tools, fakes: &Path, check: &Check, folder: &Path) -> Result<()> {
    let ready = folder.join(format!("{}.json", check.script));
    let mut command = Command::new(fakes);
    command.arg(check.kind).arg("--ready-file").arg(&ready);
    if check.tls {
        command.arg("--tls");
    }
    let mut server = Server::start(check.kind, &mut command, &folder.join(format!("{}.log", check.script)))?;
    server.wait_for_json(&ready)?;
    process::run(Command::new(tools.python()).arg(root().join("tests/stores").join(check.script)).arg(&ready))
}

/// Builds the fakes and returns their binary, which is the one that the tests have built already.
pub fn build() -> Result<PathBuf> {
    let words = ["build", "--quiet", "--bin", "kh-fakes"];
    process::run(Command::new("cargo").current_dir(root()).args(words).args(scenario::SHARED))?;
    Ok(scenario::binary("debug")?.with_file_name("kh-fakes"))
}
