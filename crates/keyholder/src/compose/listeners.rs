//! Where a running keyholder listens, and what every listener is started with.
//!
//! Invariants: a socket that the supervisor passed takes the place of the configured address of its listener; the
//! broker and the admin listener are on loopback or a unix socket, whoever opened them.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::Router;
use kh_admin::{Callers, SocketListener};
use kh_core::Code;
use kh_gateway::{
    CertificateSlot, Gateway, GatewayConfig, GatewayHandle, Given, Limits, Listen, Ports, SOCKET_MODE, StartError,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    Paths,
    activation::Sockets,
    tls::{Clients, server_tls},
};
use crate::{
    config::{GatewayConfig as GatewaySection, LimitsConfig, ListenAddress},
    output::{Exit, Failure},
};

/// Where everything listens; the JSON of the ready file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// Where applications point their SDK.
    pub(crate) gateway_url: Option<String>,
    /// The same over https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway_tls_url: Option<String>,
    /// The protected APIs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) inbound_urls: BTreeMap<String, String>,
    /// The broker.
    pub(crate) broker_url: Option<String>,
    /// The same over a unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) broker_socket_url: Option<String>,
    /// The file with the broker's guard token.
    pub(crate) broker_token_file: PathBuf,
    /// The admin listener.
    pub(crate) admin_url: Option<String>,
    /// The same over https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) admin_tls_url: Option<String>,
    /// The file with the admin listener's guard token.
    pub(crate) admin_token_file: PathBuf,
}

/// One gateway as it will be started: what it listens on, and whether that is https.
struct Wanted {
    name: &'static str,
    listen: Vec<Listen>,
    encrypted: bool,
}

/// Starts a gateway for http, one for https, or both. Answers each with its name, `gateway` or `gateway-tls`.
pub(super) fn start_gateways(
    section: &GatewaySection,
    paths: &Paths,
    (slot, clients): (Option<&Arc<CertificateSlot>>, Option<&Clients>),
    sockets: &mut Sockets,
    ports: &Ports,
) -> Result<Vec<(&'static str, GatewayHandle)>, Failure> {
    let workers =
        section.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
    let mut started = Vec::new();
    for Wanted { name, listen, encrypted } in wanted(section, paths, sockets)? {
        let tls = slot.filter(|_| encrypted);
        let tls = tls.map(|slot| server_tls(slot, clients.map(|clients| &clients.trust))).transpose()?;
        let socket_mode = section.socket_mode.unwrap_or(SOCKET_MODE);
        let config = GatewayConfig { listen, socket_mode, workers, tls, limits: limits(&section.limits) };
        let gateway = Gateway::start(config, ports.clone()).map_err(|error| match &error {
            StartError::Listen { address, source } => cannot_listen("gateway", address, source),
            StartError::NothingToDo | StartError::Worker(_) => Failure::of(Code::INTERNAL, &error),
        })?;
        started.push((name, gateway));
    }
    Ok(started)
}

fn wanted(section: &GatewaySection, paths: &Paths, sockets: &mut Sockets) -> Result<Vec<Wanted>, Failure> {
    if section.tls.is_none() && !sockets.gateway_tls.is_empty() {
        let problem = "the supervisor passes a socket named gateway-tls and the configuration has no [gateway.tls]";
        return Err(Failure::new(Code::CONFIG_INVALID, problem).hint("give cert and key in [gateway.tls]"));
    }
    let open = |given: Vec<Given>, configured: &[ListenAddress]| -> Vec<Listen> {
        if given.is_empty() {
            return configured.iter().map(|address| listener(address, paths)).collect();
        }
        given.into_iter().map(Listen::Given).collect()
    };
    let given_tls = std::mem::take(&mut sockets.gateway_tls);
    let separate = section.tls.as_ref().map(|tls| tls.listen.as_slice()).unwrap_or_default();
    let has_separate = !separate.is_empty() || !given_tls.is_empty();
    let first = open(std::mem::take(&mut sockets.gateway), &section.listen);
    let encrypted = section.tls.is_some() && !has_separate;
    let name = if encrypted { "gateway-tls" } else { "gateway" };
    let mut all = vec![Wanted { name, listen: first, encrypted }];
    if section.tls.is_some() && has_separate {
        all.push(Wanted { name: "gateway-tls", listen: open(given_tls, separate), encrypted: true });
    }
    all.retain(|wanted| !wanted.listen.is_empty());
    Ok(all)
}

pub(super) fn listener(address: &ListenAddress, paths: &Paths) -> Listen {
    match address {
        ListenAddress::Tcp(address) => Listen::Tcp(*address),
        ListenAddress::Unix(path) => Listen::Unix(paths.resolve(path)),
    }
}

/// A local listener that is bound and not served yet.
pub(super) enum Local {
    Tcp(tokio::net::TcpListener),
    Tls(tokio::net::TcpListener, kh_admin::Tls),
    /// With its address as it is told.
    Unix(SocketListener, String),
}

impl Local {
    /// Binds `address`, or takes the supervisor's socket; if that is a unix socket, it admits `callers`.
    pub(super) async fn bind(
        name: &str,
        address: SocketAddr,
        given: Option<Given>,
        callers: Callers,
    ) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| cannot_listen(name, address, &error);
        let passed = |error: std::io::Error| cannot_listen(name, "the supervisor's socket", &error);
        match given {
            None => Ok(Self::Tcp(kh_admin::bind_loopback(address).await.map_err(cannot)?)),
            Some(Given::Tcp(socket)) => {
                let address = socket.local_addr().map_err(passed)?;
                if !kh_admin::Peer::Tcp(address).is_local() {
                    let error = std::io::Error::other(format!("{address} is not a loopback address"));
                    return Err(passed(error));
                }
                socket.set_nonblocking(true).map_err(passed)?;
                Ok(Self::Tcp(tokio::net::TcpListener::from_std(socket).map_err(passed)?))
            }
            Some(Given::Unix(socket)) => {
                let address = socket.local_addr().map_err(passed)?;
                let told = address.as_pathname().map(|path| format!("unix:{}", path.display()));
                let listener = SocketListener::given(socket, callers).map_err(passed)?;
                Ok(Self::Unix(listener, told.unwrap_or_else(|| "unix:".to_owned())))
            }
        }
    }

    /// Binds any address, behind TLS.
    pub(super) async fn bind_tls(name: &str, address: SocketAddr, tls: kh_admin::Tls) -> Result<Self, Failure> {
        let listener = tokio::net::TcpListener::bind(address).await;
        Ok(Self::Tls(listener.map_err(|error| cannot_listen(name, address, &error))?, tls))
    }

    /// Makes a socket for `callers`.
    pub(super) fn bind_socket(path: &Path, callers: Callers) -> Result<Self, Failure> {
        let listener = SocketListener::bind(path, callers)
            .map_err(|error| Failure::of(Code::CONFIG_INVALID, &error).hint("see `socket` in [broker]"))?;
        Ok(Self::Unix(listener, format!("unix:{}", path.display())))
    }

    /// Where it is, as a URL; `unix:` and the path for a unix socket.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| format!("http://{address}")).unwrap_or_default(),
            Self::Tls(listener, _) => {
                listener.local_addr().map(|address| format!("https://{address}")).unwrap_or_default()
            }
            Self::Unix(_, told) => told.clone(),
        }
    }

    /// Serves until `cancel`, and then what is running for as long as `limits` say.
    pub(super) async fn serve(self, router: Router, limits: kh_admin::Limits, cancel: CancellationToken) {
        match self {
            Self::Tcp(listener) => kh_admin::serve_with(listener, router, limits, cancel).await,
            Self::Tls(listener, tls) => kh_admin::serve_tls(listener, tls, router, limits, cancel).await,
            Self::Unix(listener, _) => kh_admin::serve_with(listener, router, limits, cancel).await,
        }
    }
}

/// An address that a program on this machine can connect to.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    }
}

/// Why a listener does not listen. An address that another program has, or that this machine does not have yet, may be
/// free or there a moment later: a supervisor should start keyholder again.
pub(crate) fn cannot_listen(name: &str, address: impl std::fmt::Display, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Code::CONFIG_INVALID, format!("the {name} cannot listen on {address}")).caused_by(error);
    match error.kind() {
        ErrorKind::AddrInUse => {
            failure.hint("another program listens there, perhaps another keyholder").exiting(Exit::Unfinished)
        }
        ErrorKind::AddrNotAvailable => failure
            .hint("this machine does not have the address: it has to be one of its own")
            .exiting(Exit::Unfinished),
        _ => failure.hint("look at the address, at the folder of a socket, and at what this user may listen on"),
    }
}

/// The gateway's limits of the configuration.
pub(super) fn limits(config: &LimitsConfig) -> Limits {
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
