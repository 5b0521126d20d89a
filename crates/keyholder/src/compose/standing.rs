//! How the running process is doing, for `/v1/status`.
//!
//! Invariant: an answer takes at most a few seconds, also when a disk stands still; one thread at most waits for it then,
//! however often somebody asks.

use std::{sync::Arc, time::Duration};

use kh_admin::{
    StatusSource,
    admin::{AuditStatus, ListenerStatus, Status, StoreStatus},
};
use kh_broker::Broker;
use kh_core::{
    Code, Now,
    port::{BoxFuture, SecretStore, StateStore},
};
use kh_gateway::Metrics;
use kh_issuer::Issuer;
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Base, Live, Paths};

/// Longest time for one store's answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who is asked.
pub(super) struct Standing {
    pub(super) base: Base,
    pub(super) paths: Paths,
    pub(super) live: Arc<Live>,
    pub(super) broker: Arc<Broker>,
    pub(super) issuer: Arc<Issuer>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) listeners: Vec<ListenerStatus>,
    pub(super) draining: CancellationToken,
    pub(super) started: Now,
    /// Whose turn it is to look at the audit log: nothing limits how long its file and its lock may take.
    pub(super) audit_turn: Arc<Mutex<()>>,
}

impl StatusSource for Standing {
    fn status(&self) -> BoxFuture<'_, Status> {
        Box::pin(self.ask())
    }
}

impl Standing {
    async fn ask(&self) -> Status {
        let now = self.base.clock.now();
        let (config, tls) = self.live.told();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started_at: self.started.wall,
            uptime_seconds: now.mono.saturating_sub(self.started.mono).as_secs(),
            draining: self.draining.is_cancelled(),
            in_flight: self.metrics.in_flight(),
            config,
            listeners: self.listeners.clone(),
            tls,
            credentials: self.broker.status(),
            stores: self.stores().await,
            clients: self.issuer.clients().len(),
            live_tokens: self.issuer.live_sessions(),
            limits: self.live.limits(),
            audit: self.audit().await,
        }
    }

    async fn stores(&self) -> Vec<StoreStatus> {
        let secrets = async { self.base.store.list().await.map(drop).map_err(|error| error.code()) };
        let state = async { self.base.state.change_counter().await.map(drop).map_err(|error| error.code()) };
        let told = |name, path: &std::path::Path, result: Result<Result<(), Code>, _>| {
            let code = result.unwrap_or(Err(Code::UPSTREAM_TIMEOUT)).err();
            StoreStatus { name, path: path.to_owned(), ready: code.is_none(), code }
        };
        let (secrets, state) = tokio::join!(timeout(PATIENCE, secrets), timeout(PATIENCE, state));
        vec![told("secrets", &self.paths.store, secrets), told("state", &self.paths.database, state)]
    }

    async fn audit(&self) -> AuditStatus {
        let log = Arc::clone(&self.base.audit);
        let look = async {
            let turn = Arc::clone(&self.audit_turn).lock_owned().await;
            let looking = tokio::task::spawn_blocking(move || {
                let head = log.head();
                // it ends with the work, also when nobody waits for it
                drop(turn);
                head
            });
            looking.await
        };
        let head = timeout(PATIENCE, look).await;
        let (path, head) = (self.paths.audit_log.clone(), head.ok().and_then(Result::ok));
        match head {
            Some(Ok((entries, head))) => AuditStatus { path, ready: true, entries, head: Some(head.to_hex()) },
            Some(Err(_)) | None => AuditStatus { path, ready: false, entries: 0, head: None },
        }
    }
}
