//! A broker for one child process: its own socket or port, its own guard token, and only the credentials that were
//! named.
//!
//! Invariant: socket, port and token file are gone with it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use kh_admin::{BrokerPorts, Callers, Guard, Production, SocketGuard, SocketListener, broker_api};
use kh_broker::Broker;
use kh_core::{
    Code, CredentialName,
    port::{SecretSource, SightingLog, security::Security},
};
use kh_gateway::{Limits, Metrics, Ports};
use prometheus_client::registry::Registry;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Base, GatewayProxy, PrivateFolder, egresses, endpoints, outside, sightings::Record, targets};
use crate::{cli::Loaded, output::Failure, sources::Sources};

/// The socket's name in the private folder.
const SOCKET: &str = "broker.sock";

/// The guard token's name there.
const TOKEN: &str = "token";

/// How the child reaches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// A unix socket.
    Socket,
    /// A free loopback port, for programs that cannot use sockets.
    Tcp,
}

/// A running private broker.
pub(crate) struct PrivateBroker {
    /// What the child gets as KEYHOLDER_URL.
    pub(crate) url: String,
    /// What the child gets as KEYHOLDER_TOKEN_FILE.
    pub(crate) token_file: PathBuf,
    /// Its credentials.
    pub(crate) broker: Arc<Broker>,
    record: Record,
    cancel: CancellationToken,
    tasks: TaskTracker,
    _folder: PrivateFolder,
}

impl PrivateBroker {
    /// Starts one below `place` for `profiles`, which a person has agreed to. Must run on the control runtime.
    pub(crate) async fn start(
        loaded: &Loaded,
        base: &Base,
        profiles: &[CredentialName],
        reach: Reach,
        place: &Path,
    ) -> Result<Self, Failure> {
        let mut config = loaded.config.clone();
        config.credentials.retain(|name, _| profiles.contains(name));
        let ways = egresses(loaded)?;
        let outside = outside(loaded, &targets(loaded, &base.clock)?, &base.clock, &base.reads);
        let sources: Arc<dyn SecretSource> = Sources::new(base.secrets(), outside);
        let specs = endpoints::specs(&config, &ways, &base.clock);
        let (broker, record) = Record::start("exec", (base, &config), specs, sources);
        let folder = PrivateFolder::new(place, "keyholder-exec", &*base.entropy).map_err(|error| {
            Failure::new(Code::STATE_UNAVAILABLE, format!("no private folder can be made in {}", place.display()))
                .caused_by(&error)
        })?;
        let token_file = folder.path().join(TOKEN);
        let guard = Guard::load_or_create(&token_file, &*base.entropy)
            .map_err(|error| Failure::of(Code::STATE_UNAVAILABLE, &error))?;
        let proxy = GatewayProxy::new(
            Ports {
                issuer: base.issuer().await?,
                broker: Arc::clone(&broker),
                // a child's token is no user's
                sessions: None,
                clock: Arc::clone(&base.clock),
                entropy: Arc::clone(&base.entropy),
                metrics: Metrics::register(&mut Registry::default()),
                public_url: None,
                binding: kh_gateway::OwnBinding::default(),
                events: None,
                observer: None,
                security: Security::default(),
                proxies: Arc::default(),
            },
            Limits::default(),
        );
        // The child is told the token anyway, and a request that somebody tricks it into does not carry it.
        let ports = BrokerPorts {
            socket_guard: SocketGuard::UserAndToken,
            production: Production::Agreed,
            ..BrokerPorts::new(Arc::clone(&broker), guard, Arc::clone(&base.clock))
                .with_proxy(proxy)
                .with_journal(Arc::clone(&base.state) as Arc<dyn SightingLog>)
        };
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let router = broker_api::router(ports);
        let url = match reach {
            Reach::Socket => {
                let path = folder.path().join(SOCKET);
                let listener = SocketListener::bind(&path, Callers::own())
                    .map_err(|error| Failure::of(Code::STATE_UNAVAILABLE, &error))?;
                drop(tasks.spawn(kh_admin::serve(listener, router, cancel.clone())));
                format!("unix:{}", path.display())
            }
            Reach::Tcp => {
                let cannot = |error: std::io::Error| {
                    Failure::new(Code::STATE_UNAVAILABLE, "no loopback port can be had").caused_by(&error)
                };
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let listener = kh_admin::bind_loopback(any).await.map_err(cannot)?;
                let address = listener.local_addr().map_err(cannot)?;
                drop(tasks.spawn(kh_admin::serve(listener, router, cancel.clone())));
                format!("http://{address}")
            }
        };
        Ok(Self { url, token_file, broker, record, cancel, tasks, _folder: folder })
    }

    /// Ends it with everything that it made.
    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.broker.shutdown().await;
        self.record.end().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}
