//! The Python of `cargo xtask tools`, with moto and the official boto3.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Python with a script of `tests/stores`.
pub(crate) fn script(name: &str) -> Command {
    let python = workspace().join(".test-tools/python/bin/python");
    assert!(python.exists(), "{} is missing: run `cargo xtask tools` first", python.display());
    let mut command = Command::new(python);
    command.arg(workspace().join("tests/stores").join(name));
    command
}
