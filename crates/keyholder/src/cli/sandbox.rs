//! `keyholder sandbox`: a local Genesys Cloud and NICE CXone for a user's own tests.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use kh_core::Code;
use kh_sandbox::{Sandbox, SandboxConfig, SandboxError, SandboxHandle};
use serde_json::{Value, json};

use super::{
    Context,
    serve::{StopSignal, control_runtime},
};
use crate::{
    compose::{raise_open_files, remove_ready_file, write_private_file},
    output::{Exit, Failure},
};

/// Largest sandbox configuration read, in bytes.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Run a local Genesys Cloud and NICE CXone to test against
#[derive(Debug, Args)]
#[command(
    after_help = "--config names the sandbox's own configuration (TOML): limits, clients, roles, faults, behaviours.
Faults, limits, clock and revocations can be changed while it runs, and every request can be read:
  curl CONTROL_URL/_sandbox/requests
  curl -X PUT CONTROL_URL/_sandbox/faults \\
    -d '{\"rules\":[{\"match\":{\"path\":\"/api/v2/users\"},\"effect\":{\"kind\":\"bad_json\"}}]}'
  curl -X POST CONTROL_URL/_sandbox/tokens/revoke -d '{\"all\":true}'

Examples:
  keyholder sandbox
  keyholder sandbox --listen 127.0.0.1:9000 --seed 7
  keyholder sandbox --config sandbox.toml --ready-file sandbox.json"
)]
pub(crate) struct SandboxArgs {
    /// Where Genesys Cloud listens; CXone and the control API take the next two ports [default: free ports]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Write the addresses and the first client's id and secret as JSON into this file
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Make ids, secrets and fault draws reproducible
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) fn run(arguments: &SandboxArgs, context: &Context) -> Result<Exit, Failure> {
    context.start_logging_at("info")?;
    raise_open_files();
    let config = sandbox_config(arguments, context)?;
    control_runtime()?.block_on(async {
        let mut stop = StopSignal::new()?;
        remove_ready_file(arguments.ready_file.as_deref())?;
        let sandbox = Sandbox::start(config).await.map_err(|error| failure_of(&error))?;
        let ready = ready(&sandbox);
        if let Some(file) = &arguments.ready_file {
            write_private_file(file, ready.to_string().as_bytes()).map_err(|error| {
                Failure::usage(format!("the ready file {} cannot be written", file.display())).caused_by(&error)
            })?;
        }
        announce(&sandbox, &ready, context);
        if arguments.listen.is_some_and(|address| !address.ip().is_loopback()) {
            context.terminal.warn("other machines can reach the sandbox, and its control API asks nobody for a token");
        }
        stop.wait().await;
        sandbox.shutdown().await;
        Ok(Exit::Done)
    })
}

fn sandbox_config(arguments: &SandboxArgs, context: &Context) -> Result<SandboxConfig, Failure> {
    let mut config = match &context.globals.config {
        None => SandboxConfig::default(),
        Some(file) => {
            let cannot = |error: std::io::Error| {
                Failure::usage(format!("cannot read the sandbox's configuration {}", file.display())).caused_by(&error)
            };
            if std::fs::metadata(file).map_err(cannot)?.len() > FILE_MAX {
                return Err(Failure::usage(format!("{} is too large", file.display())));
            }
            let text = std::fs::read_to_string(file).map_err(cannot)?;
            toml::from_str(&text).map_err(|error| {
                let place = error
                    .span()
                    .map(|span| text.get(..span.start).map_or(0, |before| before.matches('\n').count()) + 1);
                let place = place.map_or_else(String::new, |line| format!(":{line}"));
                Failure::new(
                    Code::CONFIG_INVALID,
                    format!("{}{place}: {}", file.display(), error.message().replace('\n', " ")),
                )
            })?
        }
    };
    if let Some(address) = arguments.listen {
        let next = |steps: u16| {
            SocketAddr::new(address.ip(), if address.port() == 0 { 0 } else { address.port().saturating_add(steps) })
        };
        config.listen.genesys = address;
        config.listen.cxone = next(1);
        config.listen.control = next(2);
    }
    if let Some(seed) = arguments.seed {
        config.seed = seed;
    }
    Ok(config)
}

pub(crate) fn failure_of(error: &SandboxError) -> Failure {
    Failure::of(Code::CONFIG_INVALID, error).hint("see `keyholder sandbox --help`")
}

/// What a test needs to know to begin.
fn ready(sandbox: &SandboxHandle) -> Value {
    let admin = sandbox.admin();
    let key = sandbox.access_keys.first();
    let application = sandbox.applications.first();
    json!({
        "sandbox_url": sandbox.genesys_url,
        "genesys_url": sandbox.genesys_url,
        "cxone_url": sandbox.cxone_url,
        "sandbox_control_url": sandbox.control_url,
        "client_id": admin.id,
        "client_secret": admin.secret.expose(),
        "clients": sandbox.clients.iter().map(|client| json!({
            "name": client.name, "client_id": client.id, "client_secret": client.secret.expose(),
        })).collect::<Vec<_>>(),
        "cxone": {
            "client_id": application.map(|application| application.id.clone()),
            "client_secret": application.map(|application| application.secret.expose().to_owned()),
            "access_key_id": key.map(|key| key.id.clone()),
            "access_key_secret": key.map(|key| key.secret.expose().to_owned()),
            "tenant_id": key.map(|key| key.tenant_id.clone()),
        },
    })
}

fn announce(sandbox: &SandboxHandle, ready: &Value, context: &Context) {
    let admin = sandbox.admin();
    context.terminal.answer(ready, || {
        format!(
            "Genesys Cloud  {}\nNICE CXone     {}\ncontrol        {}/_sandbox/requests\n\nclient_id      {}\nclient_secret  {}\n\nCtrl-C ends it.\n",
            sandbox.genesys_url,
            sandbox.cxone_url,
            sandbox.control_url,
            admin.id,
            admin.secret.expose()
        )
    });
}
