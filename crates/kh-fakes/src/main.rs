//! `kh-fakes KIND --ready-file F`: a fake secret store as a program, for clients in other languages.

use std::{
    fs::OpenOptions,
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use kh_fakes::{KINDS, Options, start};

/// Runs a strict fake of a secret store until it is stopped.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Which one: vault, aws, azure or google.
    kind: String,
    /// Where it listens; port 0 for any free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Speak TLS with a CA made at the start; the ready file has it.
    #[arg(long)]
    tls: bool,
    /// Written once it listens: JSON with its address and what a client needs to log in.
    #[arg(long)]
    ready_file: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let Some((_, make)) = KINDS.iter().find(|(name, _)| *name == arguments.kind) else {
        let known: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        bail!("there is no fake named {:?}, only {}", arguments.kind, known.join(", "));
    };
    let options = Options { listen: arguments.listen, tls: arguments.tls, ..Options::default() };
    let mut running = start(make(), options).await?;
    write_ready(&arguments.ready_file, &running.ready().to_string())?;
    running.wait().await;
    Ok(())
}

/// Appears whole or not at all, for its owner alone.
fn write_ready(path: &Path, content: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).context("the ready file")?;
    file.write_all(content.as_bytes())?;
    std::fs::rename(&draft, path).context("the ready file")
}
