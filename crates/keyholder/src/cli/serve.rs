//! `keyholder serve`: the gateway, the broker and the admin listener, until a signal.

mod ready;
mod short;

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use kh_core::{Code, audit::AuditEvent, port::StateStore};
use kh_telemetry::logging::LogHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Context, Loaded};
use crate::{
    compose::{
        Addresses, Base, Claim, OTLP_HEADERS, Prepared, Reloader, Running, Seen, Senders, Serving, Sockets, Watches,
        forget_variable, harden, host, raise_open_files, remove_ready_file, running_on, tell_ready, tell_stopping,
        watchdog,
    },
    config::{self, KeySource},
    output::{Exit, Failure},
};
use ready::ReadyFile;

/// Threads of the control runtime: token fetches and local calls, a few per second at most.
const CONTROL_THREADS: usize = 1;

/// Run the gateway, the broker and the admin listener
#[derive(Debug, Args)]
#[command(after_help = "SIGTERM and SIGINT let requests in flight finish; a second signal ends at once. A changed
configuration, or a certificate that it names, is taken over within two seconds, with SIGHUP at once; a bad one is
refused and the old one stays. Clients and secrets that other commands change are picked up without a restart.

Examples:
  keyholder serve
  keyholder serve --config /etc/keyholder/keyholder.toml --log-format json
  keyholder serve --ready-file /run/keyholder/ready.json
  keyholder serve --listen 127.0.0.1:8080 --upstream http://127.0.0.1:3000 --jwks keys.json \\
    --issuer https://issuer.example --audience my-api --require 'GET /reports/{id}=reports:read'")]
pub(crate) struct ServeArgs {
    /// Write the addresses as JSON into this file once everything listens
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    short: short::ShortArgs,
}

pub(super) fn run(arguments: &ServeArgs, context: &Context) -> Result<Exit, Failure> {
    if let Some(served) = short::run(&arguments.short, arguments.ready_file.as_deref(), context) {
        return served;
    }
    // First, while there is one thread: it changes the environment.
    let sockets = Sockets::of_supervisor(&context.environment)?;
    let mut seen = Seen::before(context.config_file().as_deref());
    let loaded = context.load_file()?;
    seen.and_named(&loaded);
    let log = context.start_server_log(&loaded)?;
    // Both are read already, when this program started.
    if let KeySource::KeyEnv(variable) | KeySource::PassphraseEnv(variable) = &loaded.config.store.key {
        forget_variable(variable);
    }
    if context.environment.secret(OTLP_HEADERS).is_some() {
        forget_variable(OTLP_HEADERS);
    }
    harden();
    raise_open_files();
    if !loaded.warnings.all.is_empty() {
        let report = config::render(&loaded.file_name(), &loaded.warnings, context.terminal.colors_errors());
        context.terminal.note(report.trim_end());
    }
    let runtime = control_runtime()?;
    let base = Base::open(&loaded, &context.environment)?;
    let exit = runtime.block_on(serve(arguments, loaded, seen, sockets, &base, (context, log.handle())));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit
}

/// The runtime of everything but the data plane.
pub(crate) fn control_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("kh-control")
        .enable_all()
        .build()
        .map_err(|error| Failure::bug("cannot start the control runtime").caused_by(&error))
}

/// Where the state remembers which configuration was served last.
const CONFIG_DIGEST: &str = "config.sha256";

/// A configuration that is not the one served last is a change by a person: it is audited before it takes effect.
pub(crate) async fn audit_config(loaded: &Loaded, base: &Base, context: &Context) -> Result<(), Failure> {
    let digest = loaded.digest.to_hex();
    let before = base.state.setting(CONFIG_DIGEST).await?;
    if before.as_ref() == Some(&digest) {
        return Ok(());
    }
    let now = base.clock.now().wall;
    let event =
        AuditEvent::new(&*base.entropy, now, &context.environment.actor(), "config.change", &loaded.file_name())
            .with("sha256", &digest)
            .with("sha256_before", &before.unwrap_or_default());
    Ok(base.state.set_setting(CONFIG_DIGEST, &digest, event).await?)
}

async fn serve(
    arguments: &ServeArgs,
    loaded: Loaded,
    seen: Seen,
    sockets: Sockets,
    base: &Base,
    (context, log): (&Context, &LogHandle),
) -> Result<Exit, Failure> {
    // Before anything listens, so that no signal is lost, and SIGHUP does not end the process.
    let mut stop = StopSignal::new()?;
    let hangups = signal_stream(SignalKind::hangup())?;
    let prepared = Prepared::of(&loaded, &base.clock, &base.reads)?;
    let watches = Watches::of(&loaded, &context.environment, base, log)?;
    audit_config(&loaded, base, context).await?;
    let senders = Senders::of(&loaded, &context.environment, Arc::clone(&base.clock));
    let deliveries = senders.all(&host())?;
    drop(senders);
    // one that serves already may have written it; this start ends at a taken address then
    if running_on(&loaded.paths.state).is_empty() {
        remove_ready_file(arguments.ready_file.as_deref())?;
    }
    let running = Running::start(&loaded, base, prepared, sockets, (watches, Some(deliveries))).await?;
    announce(&running.addresses, &loaded, context);
    let claim = claim(&running, &loaded, base)?;
    let ready_file = arguments.ready_file.as_deref();
    let ready_file = ready_file.map(|path| ReadyFile::write(path, &running.addresses)).transpose()?;
    tracing::info!(
        credentials = loaded.config.credentials.len(),
        clients = running.issuer.clients().len(),
        "keyholder is ready"
    );
    tell_ready(&running.live.line());
    let reloader = Reloader::new((context.clone(), log.clone()), base.clone(), &running, loaded, seen);
    drop(running.tasks.spawn(reloader.run(hangups, running.draining.clone())));
    drop(running.tasks.spawn(watchdog(Arc::clone(&running.pulses), running.cancel.clone())));
    stop.wait().await;
    tracing::info!("stopping: requests in flight may finish");
    tell_stopping("requests in flight may finish");
    let finished = tokio::select! {
        finished = running.stop() => finished,
        () = stop.wait() => false,
    };
    drop(claim);
    if let Some(file) = ready_file {
        file.remove();
    }
    if finished {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped with requests unfinished");
    }
    Ok(Exit::Done)
}

/// Lets `status` find this process. Another one on the same state is no mistake: they share it.
fn claim(running: &Running, loaded: &Loaded, base: &Base) -> Result<Claim, Failure> {
    for other in running_on(&loaded.paths.state) {
        tracing::warn!(
            process.pid = other.pid,
            "another keyholder serves the same state; both go on, and share clients, tokens and secrets"
        );
    }
    let serving = Serving {
        pid: std::process::id(),
        started_at: base.clock.now().wall,
        config: loaded.file.clone(),
        addresses: running.addresses.clone(),
    };
    Claim::write(&loaded.paths.state, &serving, &*base.entropy).map_err(|error| {
        let state = loaded.paths.state.display();
        Failure::new(Code::STATE_UNAVAILABLE, format!("cannot write into the state folder {state}")).caused_by(&error)
    })
}

fn announce(addresses: &Addresses, loaded: &Loaded, context: &Context) {
    let style = context.terminal.error_style;
    let row = |name: &str, url: &Option<String>, note: String| {
        let url = url.as_ref().map_or_else(|| "off".to_owned(), |url| style.cyan(url));
        context.terminal.note(&format!("  {name:<9}{url}  {}", style.dim(&note)));
    };
    context.terminal.note(&format!("{} serves {}", style.bold("keyholder"), loaded.file_name()));
    row("gateway", &addresses.gateway_url, "point your SDK here".to_owned());
    if addresses.gateway_tls_url != addresses.gateway_url && addresses.gateway_tls_url.is_some() {
        row("", &addresses.gateway_tls_url, "the same over https".to_owned());
    }
    for (name, url) in &addresses.inbound_urls {
        row(&format!("inbound {name} "), &Some(url.clone()), "your API behind verified tokens".to_owned());
    }
    row("broker", &addresses.broker_url, format!("guard token in {}", addresses.broker_token_file.display()));
    if addresses.broker_socket_url.is_some() {
        row("", &addresses.broker_socket_url, "the same over a socket".to_owned());
    }
    row("admin", &addresses.admin_url, format!("guard token in {}", addresses.admin_token_file.display()));
}

fn signal_stream(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::bug("cannot listen for signals").caused_by(&error))
}

/// SIGTERM or SIGINT.
pub(crate) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
    came: bool,
}

impl StopSignal {
    /// From here on the signals do not end the process by themselves.
    pub(crate) fn new() -> Result<Self, Failure> {
        let (terminate, interrupt) = (signal_stream(SignalKind::terminate())?, signal_stream(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, came: false })
    }

    /// Whether one came that somebody waited for.
    pub(crate) fn came(&self) -> bool {
        self.came
    }

    /// Until the next one.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
        self.came = true;
    }
}
