//! `keyholder serve --listen ADDR --upstream URL --jwks FILE --issuer I`: one protected API and nothing else. No
//! configuration, no state, no secret store and no key.
//!
//! Invariant: what the flags say is all that is in force; a configuration that lies about is not read.

mod watching;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};
use kh_core::{
    Clock, Code, Entropy, SystemClock, SystemEntropy,
    port::security::{Security, SecurityLog},
};
use kh_gateway::{
    Gateway, GatewayConfig, GatewayHandle, InboundPorts, Limits, Listen, Metrics, SOCKET_MODE, StartError,
    inbound::{Inbound, InboundMetrics},
};
use kh_inbound::Verifier;
use kh_policy::genesys;
use kh_security::Counters;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::signal::unix::SignalKind;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Context, StopSignal, control_runtime, ready::ReadyFile, signal_stream};
use crate::{
    compose::{
        DRAIN, OneApi, cannot_listen, harden, plain_log, raise_open_files, remove_ready_file, tell_ready, tell_stopping,
    },
    output::{Exit, Failure},
};

/// Its realm and its name in metrics.
const SITE: &str = "api";

/// How long the last lines of the security log may take at the end.
const LOG_END: std::time::Duration = std::time::Duration::from_secs(3);

/// One protected API, without a configuration
#[derive(Debug, Args)]
#[command(next_help_heading = "One protected API, without a configuration")]
pub(super) struct ShortArgs {
    /// Listen on this address, or on unix:PATH, and serve one API
    #[arg(long, value_name = "ADDR", requires_all = ["upstream", "jwks", "issuer"])]
    listen: Option<String>,
    /// The API's base address
    #[arg(long, value_name = "URL", requires = "listen")]
    upstream: Option<String>,
    /// The issuer's public keys, a JWK Set: a file, which is taken over within two seconds when it changes, or an address
    #[arg(long, value_name = "FILE|URL", requires = "listen")]
    jwks: Option<String>,
    /// The `iss` of the tokens that are taken
    #[arg(long, value_name = "ISSUER", requires = "listen")]
    issuer: Option<String>,
    /// A token must name this in `aud`; given more than once, one of these
    #[arg(long, value_name = "AUDIENCE", requires = "listen")]
    audience: Vec<String>,
    /// Take requests of this kind with all these scopes; without it and --operations, every request with a valid token
    #[arg(long, value_name = "METHOD /PATH=SCOPES", requires = "listen")]
    require: Vec<String>,
    /// Take the requests of this built-in table as well; a --require for the same requests stands in its place
    #[arg(long, value_name = "TABLE", requires = "listen")]
    operations: Option<Operations>,
    /// Answer /livez, /readyz and /metrics on this loopback address
    #[arg(long, value_name = "ADDR", requires = "listen")]
    metrics: Option<SocketAddr>,
    /// Write who was refused into this file, one OCSF line each; SIGHUP opens it again
    #[arg(long, value_name = "FILE", requires = "listen")]
    security_log: Option<PathBuf>,
}

/// A built-in table of routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Operations {
    /// The 3,180 operations of Genesys Cloud, each with one of the scopes that its document names
    GenesysScopes,
}

/// Where it listens, as the ready file has it.
#[derive(Debug, Serialize)]
struct Addresses {
    inbound_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_url: Option<String>,
}

impl ShortArgs {
    /// The API that the flags name; none when they are not used.
    fn api(&self) -> Option<(&str, OneApi)> {
        let (listen, upstream) = (self.listen.as_deref()?, self.upstream.clone()?);
        let (keys, issuer) = (self.jwks.clone()?, self.issuer.clone()?);
        let (audiences, require) = (self.audience.clone(), self.require.clone());
        let operations = self.operations.map(|Operations::GenesysScopes| genesys::Basis::Scopes);
        Some((listen, OneApi { upstream, keys, issuer, audiences, require, operations }))
    }
}

/// Serves the API that the flags name until a signal; `None` when there are no such flags.
pub(super) fn run(
    arguments: &ShortArgs,
    ready_file: Option<&Path>,
    context: &Context,
) -> Option<Result<Exit, Failure>> {
    let (listen, api) = arguments.api()?;
    if context.globals.config.is_some() {
        let problem = "--listen serves one API by the flags alone, and --config names a configuration";
        return Some(Err(Failure::usage(problem).hint("leave one of them out")));
    }
    let told = (arguments.security_log.as_deref(), ready_file);
    Some(serve((listen, arguments.metrics), &api, told, context))
}

fn serve(
    (listen, watched): (&str, Option<SocketAddr>),
    api: &OneApi,
    (security_log, ready_file): (Option<&Path>, Option<&Path>),
    context: &Context,
) -> Result<Exit, Failure> {
    let listen: Listen = listen
        .parse()
        .map_err(|error| Failure::usage(format!("--listen {listen}: {error}")).hint("write it like 127.0.0.1:8080"))?;
    if let Listen::Tcp(address) = &listen
        && !address.ip().is_loopback()
    {
        let told =
            "callers send their tokens to this address in the clear: put TLS before it, or use [inbound.NAME.tls]";
        context.terminal.warn(told);
    }
    // until the end of this function, which is that of the process
    let _process_log = context.start_plain_server_log()?;
    harden();
    raise_open_files();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sides = (Arc::clone(&clock), Arc::new(SystemEntropy) as Arc<dyn Entropy>);
    let mut registry = Registry::default();
    let counters = Counters::register(&mut registry);
    let log = security_log.map(|file| plain_log(file.to_owned(), sides, &counters)).transpose()?;
    let runtime = control_runtime()?;
    let verifier = api.verifier(&clock, runtime.handle().clone())?;
    let exit = runtime.block_on(async {
        // before anything listens, so that no signal is lost, and SIGHUP does not end the process
        let stop = StopSignal::new()?;
        let mut hangups = signal_stream(SignalKind::hangup())?;
        verifier.load().await?;
        verifier.renew_keys().await;
        let reopened = log.clone();
        // ends with the runtime
        drop(tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                if let Some(log) = &reopened {
                    log.reopen();
                }
            }
        }));
        let security = log.clone().map(|log| log as Arc<dyn SecurityLog>);
        remove_ready_file(ready_file)?;
        let gateway = start(listen, api, &verifier, (clock, security.into()), &mut registry)?;
        let (tasks, draining, ended) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let watched = match watched {
            None => None,
            Some(address) => {
                let over = (&tasks, &draining, &ended);
                Some(watching::serve(address, registry, (&gateway, &verifier), over).await?)
            }
        };
        let (work, worker) = (ended.clone(), Arc::clone(&verifier));
        drop(tasks.spawn(async move { worker.run(work).await }));
        until_stopped((gateway, watched), api, stop, (ready_file, context), &draining).await.inspect(|()| {
            ended.cancel();
            tasks.close();
        })?;
        tasks.wait().await;
        Ok(Exit::Done)
    });
    if let Some(log) = log {
        log.stop(LOG_END);
    }
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit
}

fn start(
    listen: Listen,
    api: &OneApi,
    verifier: &Arc<Verifier>,
    (clock, security): (Arc<dyn Clock>, Security),
    registry: &mut Registry,
) -> Result<GatewayHandle, Failure> {
    let metrics = Metrics::register(registry);
    let counts = InboundMetrics::register(registry, Arc::clone(&clock));
    let site = Inbound::new(SITE, api.api(verifier)?, &counts, security);
    let ports = InboundPorts { site, clock, entropy: Arc::new(SystemEntropy), metrics, observer: None };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let (socket_mode, limits) = (SOCKET_MODE, Limits::default());
    let config = GatewayConfig { listen: vec![listen], socket_mode, workers, tls: None, limits };
    Gateway::start_inbound(config, ports).map_err(|error| match &error {
        StartError::Listen { address, source } => cannot_listen("gateway", address, source),
        StartError::NothingToDo | StartError::Worker(_) => Failure::of(Code::INTERNAL, &error),
    })
}

async fn until_stopped(
    (gateway, watched): (GatewayHandle, Option<SocketAddr>),
    api: &OneApi,
    mut stop: StopSignal,
    (ready_file, context): (Option<&Path>, &Context),
    draining: &CancellationToken,
) -> Result<(), Failure> {
    let url = match (gateway.addresses().first(), gateway.paths().next()) {
        (Some(address), _) => format!("http://{address}"),
        (None, Some(path)) => format!("unix:{}", path.display()),
        (None, None) => String::new(),
    };
    announce(&url, api, context);
    let metrics_url = watched.map(|address| format!("http://{address}"));
    let addresses = Addresses { inbound_url: url, metrics_url };
    let ready_file = ready_file.map(|path| ReadyFile::write(path, &addresses)).transpose()?;
    tracing::info!("keyholder is ready");
    tell_ready("one API is served");
    stop.wait().await;
    draining.cancel();
    tracing::info!("stopping: requests in flight may finish");
    tell_stopping("requests in flight may finish");
    let finished = tokio::select! {
        finished = gateway.shutdown(DRAIN) => finished,
        () = stop.wait() => false,
    };
    if let Some(file) = ready_file {
        file.remove();
    }
    if finished {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped with requests unfinished");
    }
    Ok(())
}

fn announce(url: &str, api: &OneApi, context: &Context) {
    let style = context.terminal.error_style;
    let named = match api.require.len() {
        0 => None,
        1 => Some("1 kind of request".to_owned()),
        count => Some(format!("{count} kinds of requests")),
    };
    let rules = match (api.operations, named) {
        (None, None) => "every request with a valid token".to_owned(),
        (None, Some(named)) => named,
        (Some(_), None) => "the operations of Genesys Cloud".to_owned(),
        (Some(_), Some(named)) => format!("{named}, and the operations of Genesys Cloud"),
    };
    context.terminal.note(&format!("{} protects {}", style.bold("keyholder"), api.upstream));
    context.terminal.note(&format!("  at {}  {}", style.cyan(url), style.dim(&rules)));
    if api.audiences.is_empty() {
        context.terminal.note("  no --audience: tokens that this issuer made for other APIs are taken as well");
    }
}
