//! A running keyholder: gateway, broker and admin listeners over one installation, and their orderly end.
//!
//! Invariants: everything listens before anything is told to be ready; the control runtime (token fetches, state,
//! local listeners) never runs on a data-plane thread; after [`Running::stop`] no task and no socket is left.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use kh_admin::{
    AdminPorts, BrokerPorts, Guard, ReadyCheck,
    admin::{self, StateCheck, StoreCheck},
    broker_api,
};
use kh_broker::Broker;
use kh_core::{
    Code,
    port::{SecretStore, StateStore},
};
use kh_gateway::{Gateway, GatewayConfig, GatewayHandle, Limits, Listen, Metrics, Ports, SOCKET_MODE, StartError};
use kh_issuer::Issuer;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Base, Paths, bind_environments, egresses, endpoints, server_tls};
use crate::{
    cli::Loaded,
    config::{LimitsConfig, ListenAddress},
    output::Failure,
};

/// How long requests in flight may take after a stop signal, unless [gateway.limits] says otherwise: below the 30 s
/// after which container platforms kill.
const DRAIN: Duration = Duration::from_secs(20);

/// Where everything listens; the JSON of the ready file.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Addresses {
    /// Where applications point their SDK.
    pub(crate) gateway_url: Option<String>,
    /// The same over https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway_tls_url: Option<String>,
    /// The broker.
    pub(crate) broker_url: Option<String>,
    /// The file with the broker's guard token.
    pub(crate) broker_token_file: PathBuf,
    /// The admin listener.
    pub(crate) admin_url: Option<String>,
    /// The file with the admin listener's guard token.
    pub(crate) admin_token_file: PathBuf,
}

/// A running keyholder.
pub(crate) struct Running {
    /// Where it listens.
    pub(crate) addresses: Addresses,
    /// Its clients.
    pub(crate) issuer: Arc<Issuer>,
    gateways: Vec<GatewayHandle>,
    broker: Arc<Broker>,
    cancel: CancellationToken,
    tasks: TaskTracker,
    drain: Duration,
}

impl Running {
    /// Starts everything that `loaded` names. Must run on the control runtime.
    pub(crate) async fn start(loaded: &Loaded, base: &Base) -> Result<Self, Failure> {
        let (config, paths) = (&loaded.config, &loaded.paths);
        let ways = egresses(config, paths)?;
        let issuer = base.issuer().await?;
        bind_environments(config, &issuer, "keyholder").await?;
        let broker = Broker::new(
            endpoints::specs(config, &ways, &base.clock),
            Arc::clone(&base.store) as Arc<dyn SecretStore>,
            Arc::clone(&base.clock),
            Arc::clone(&base.entropy),
            tokio::runtime::Handle::current(),
        );
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let mut running = Self {
            addresses: Addresses {
                broker_token_file: paths.broker_token.clone(),
                admin_token_file: paths.admin_token.clone(),
                ..Addresses::default()
            },
            issuer: Arc::clone(&issuer),
            gateways: Vec::new(),
            broker: Arc::clone(&broker),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            drain: config.gateway.limits.drain.unwrap_or(DRAIN),
        };
        running.listen_locally(loaded, base, Arc::new(registry)).await?;
        let ports = Ports {
            issuer: Arc::clone(&issuer),
            broker,
            clock: Arc::clone(&base.clock),
            entropy: Arc::clone(&base.entropy),
            metrics,
            observer: None,
        };
        running.start_gateways(loaded, &ports)?;
        let cancel = running.cancel.clone();
        drop(running.tasks.spawn(async move { issuer.run(cancel).await }));
        Ok(running)
    }

    async fn listen_locally(&mut self, loaded: &Loaded, base: &Base, registry: Arc<Registry>) -> Result<(), Failure> {
        let guard = |path| {
            Guard::load_or_create(path, &*base.entropy).map_err(|error| Failure::of(Code::STATE_UNAVAILABLE, &error))
        };
        if let Some(address) = loaded.config.broker.listen {
            let guard = guard(&loaded.paths.broker_token)?;
            let ports = BrokerPorts::new(Arc::clone(&self.broker), guard, Arc::clone(&base.clock));
            self.addresses.broker_url = Some(self.listen("broker", address, broker_api::router(ports)).await?);
        }
        if let Some(address) = loaded.config.admin.listen {
            let checks: [Arc<dyn ReadyCheck>; 2] = [
                Arc::new(StoreCheck(Arc::clone(&base.store) as Arc<dyn SecretStore>)),
                Arc::new(StateCheck(Arc::clone(&base.state) as Arc<dyn StateStore>)),
            ];
            let ports = AdminPorts {
                broker: Arc::clone(&self.broker),
                guard: guard(&loaded.paths.admin_token)?,
                registry,
                checks: Arc::new(checks),
                version: env!("CARGO_PKG_VERSION"),
            };
            self.addresses.admin_url = Some(self.listen("admin", address, admin::router(ports)).await?);
        }
        Ok(())
    }

    /// One local listener; answers its address.
    async fn listen(&self, name: &str, address: SocketAddr, router: axum::Router) -> Result<String, Failure> {
        let cannot = |error: std::io::Error| cannot_listen(name, address, &error);
        let listener = kh_admin::bind_loopback(address).await.map_err(cannot)?;
        let url = format!("http://{}", listener.local_addr().map_err(cannot)?);
        drop(self.tasks.spawn(kh_admin::serve(listener, router, self.cancel.clone())));
        Ok(url)
    }

    fn start_gateways(&mut self, loaded: &Loaded, ports: &Ports) -> Result<(), Failure> {
        let config = &loaded.config.gateway;
        let workers = config
            .workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
        let tls = config.tls.as_ref().map(|tls| server_tls(tls, &loaded.paths)).transpose()?;
        let separate = config.tls.as_ref().map(|tls| tls.listen.clone()).filter(|listen| !listen.is_empty());
        let both = match (tls, separate) {
            (None, _) => vec![(config.listen.clone(), None)],
            (Some(tls), None) => vec![(config.listen.clone(), Some(tls))],
            (Some(tls), Some(listen)) => vec![(config.listen.clone(), None), (listen, Some(tls))],
        };
        for (listen, tls) in both.into_iter().filter(|(listen, _)| !listen.is_empty()) {
            let encrypted = tls.is_some();
            let listen = listen.into_iter().map(|address| listener(address, &loaded.paths)).collect();
            let socket_mode = config.socket_mode.unwrap_or(SOCKET_MODE);
            let gateway_config = GatewayConfig { listen, socket_mode, workers, tls, limits: limits(&config.limits) };
            let gateway = Gateway::start(gateway_config, ports.clone()).map_err(|error| match &error {
                StartError::Listen { address, source } => cannot_listen("gateway", address, source),
                StartError::NothingToDo | StartError::Worker(_) => Failure::of(Code::INTERNAL, &error),
            })?;
            let first = gateway.addresses().first().copied();
            let scheme = if encrypted { "https" } else { "http" };
            let url = first.map(|address| format!("{scheme}://{}", reachable(address)));
            let (plain, secure) = (&mut self.addresses.gateway_url, &mut self.addresses.gateway_tls_url);
            *(if encrypted { secure } else { plain }) = url;
            self.gateways.push(gateway);
        }
        if self.addresses.gateway_url.is_none() {
            self.addresses.gateway_url = self.addresses.gateway_tls_url.clone();
        }
        Ok(())
    }

    /// Finishes what is in flight, then ends everything. Answers whether everything was finished in time.
    pub(crate) async fn stop(self) -> bool {
        let drain = self.drain;
        let mut finished = true;
        for gateway in self.gateways {
            finished &= gateway.shutdown(drain).await;
        }
        self.cancel.cancel();
        self.broker.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
        finished
    }
}

fn listener(address: ListenAddress, paths: &Paths) -> Listen {
    match address {
        ListenAddress::Tcp(address) => Listen::Tcp(address),
        ListenAddress::Unix(path) => Listen::Unix(paths.resolve(&path)),
    }
}

/// An address that a program on this machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    }
}

fn cannot_listen(name: &str, address: impl std::fmt::Display, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Code::CONFIG_INVALID, format!("the {name} cannot listen on {address}")).caused_by(error);
    match error.kind() {
        std::io::ErrorKind::AddrInUse => failure.hint("another program listens there, perhaps another keyholder"),
        _ => failure.hint("see `listen` in keyholder.toml"),
    }
}

fn limits(config: &LimitsConfig) -> Limits {
    let usual = Limits::default();
    let connections = config.connections_per_worker.and_then(|count| usize::try_from(count).ok());
    Limits {
        connections_per_worker: connections.unwrap_or(usual.connections_per_worker),
        header_read: config.header_timeout.unwrap_or(usual.header_read),
        body_idle: config.body_timeout.unwrap_or(usual.body_idle),
        response_header: config.upstream_timeout.unwrap_or(usual.response_header),
        ..usual
    }
}
