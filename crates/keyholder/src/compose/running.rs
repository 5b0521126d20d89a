//! A running keyholder: gateway, broker and admin listeners over one installation, and their orderly end.
//!
//! Invariants: everything listens before anything is told to be ready; the control runtime (token fetches, state,
//! local listeners) never runs on a data-plane thread; the admin listener answers until everything else has ended;
//! after [`Running::stop`] no task and no socket is left.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use kh_admin::{
    AdminPorts, ApiPorts, AuditDesk, BrokerPorts, Callers, Guard, LocalMetrics, Pulse, ReadyCheck, RevocationDesk,
    SessionDesk,
    admin::{self, ListenerStatus, StateCheck, StoreCheck},
    broker_api,
};
use kh_broker::{Broker, UserSessions};
use kh_core::{
    Code,
    port::{AuditLog, RevocationStore, SecretSource, SecretStore, SessionStore, SightingLog, StateStore},
};
use kh_gateway::{
    Events, GatewayHandle, InboundPorts, Metrics, OwnBinding, Ports, ProofRules, Senders, inbound::InboundMetrics,
};
use kh_inbound::Revocations;
use kh_issuer::Issuer;
use kh_security::Counters;
use kh_state::LockedInstance;
use kh_telemetry::{
    Telemetry,
    collect::{BrokerMetrics, IssuerMetrics, ProcessMetrics, SessionMetrics, register_build},
};
use prometheus_client::registry::Registry;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Addresses, Base, Deliveries, GatewayProxy, Live, Prepared, Schedule, Sockets,
    admin_access::AdminAccess,
    bind_environments,
    events::PlatformEvents,
    inbound::{InboundCheck, Protection, Sides, VerifierMetrics, proxies},
    listeners::{Local, limits, reachable, start_gateways},
    pulses,
    schedule::RotationMetrics,
    security::{self, Watchers},
    sightings::Record,
    standing::Standing,
    stores::Logins,
    tls::{ListenerTls, Served, Telling},
    watches::Watches,
};
use crate::{cli::Loaded, config::Config, output::Failure, sources::Sources};

/// How long the last lines and spans may take at the end: a collector that is gone must not hold the process up until
/// its supervisor kills it.
const TELEMETRY_END: Duration = Duration::from_secs(3);

/// How long everything else may take when it was told to end: longer than the five seconds that the admin listener gives
/// its last calls. A file system that hangs may need for ever.
const TASKS_END: Duration = Duration::from_secs(8);

/// A running keyholder.
pub(crate) struct Running {
    /// Where it listens.
    pub(crate) addresses: Addresses,
    /// Its clients.
    pub(crate) issuer: Arc<Issuer>,
    /// What is revoked.
    revocations: Arc<Revocations>,
    /// The sessions of users at platforms.
    sessions: Arc<UserSessions>,
    /// What a reload exchanges.
    pub(crate) live: Arc<Live>,
    /// What has to move.
    pub(crate) pulses: Arc<[Arc<dyn Pulse>]>,
    /// Cancelled by the stop signal.
    pub(crate) draining: CancellationToken,
    /// Owns every task.
    pub(crate) tasks: TaskTracker,
    /// Whatever watches.
    pub(crate) telemetry: Arc<Telemetry>,
    local_metrics: LocalMetrics,
    gateways: Vec<(&'static str, GatewayHandle)>,
    /// Where the gateways listen.
    listeners: Vec<ListenerStatus>,
    broker: Arc<Broker>,
    /// Which secrets it logs in with.
    record: Record,
    /// Replaces secrets by itself; none in a keyholder that must not.
    pub(crate) schedule: Option<Arc<Schedule>>,
    /// The security log, with what goes with it.
    pub(crate) watchers: Arc<Watchers>,
    /// The broker's listener, which is drained beside the gateways.
    broker_listeners: Vec<JoinHandle<()>>,
    broker_cancel: CancellationToken,
    /// Ends what is left when everything has been finished.
    pub(crate) cancel: CancellationToken,
}

impl Running {
    /// Starts everything that `loaded` names and `prepared` was made of; with `deliveries` it rotates by its schedule.
    /// Must run on the control runtime.
    pub(crate) async fn start(
        loaded: &Loaded,
        base: &Base,
        mut prepared: Prepared,
        mut sockets: Sockets,
        (watches, deliveries): (Watches, Option<Deliveries>),
    ) -> Result<Self, Failure> {
        let started = base.clock.now();
        let authority = base.authority(&loaded.config.token_endpoint).await?;
        let signing_keys = authority.as_ref().map(|authority| Arc::clone(&authority.keys));
        if let Some(keys) = &signing_keys {
            // the first key, so that no login comes before it; what fails is told by the task that tends them
            keys.tend().await.ok();
        }
        let revocations = base.revocations().await?;
        let issuer = base.issuer_as(authority, Arc::clone(&revocations) as Arc<dyn RevocationStore>).await?;
        bind_environments(&loaded.config, &issuer, "keyholder").await?;
        let sources = Sources::new(base.secrets(), std::mem::take(&mut prepared.outside));
        let source = Arc::clone(&sources) as Arc<dyn SecretSource>;
        let secrets = Arc::clone(&source);
        let specs = std::mem::take(&mut prepared.specs);
        let (broker, record) = Record::start("gateway", (base, &loaded.config), specs, source);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let counts = InboundMetrics::register(&mut registry, Arc::clone(&base.clock));
        let telemetry = watches.start(base, &mut registry)?;
        collect(&mut registry, base, &broker, &issuer);
        let schedule = |deliveries| Schedule::new(loaded, base, (&broker, &issuer), &prepared.targets, deliveries);
        let schedule = deliveries.map(schedule).transpose()?;
        if let Some(schedule) = &schedule {
            registry.register_collector(Box::new(RotationMetrics::new(schedule, &base.clock)));
        }
        let digest = prepared.certificate_digest();
        let telling = Telling { metrics: Arc::clone(&metrics), clock: Arc::clone(&base.clock) };
        let served = |name: &str, first| Served::new(name.to_owned(), first, &telling);
        let admin_certificate = prepared.admin_certificate.take().map(|first| served("admin", first));
        let clients = prepared.clients.take();
        let tls = prepared.certificate.map(|first| ListenerTls::new(served("gateway", first), clients.as_ref()));
        let certificates = tls.as_ref().map(|tls| Arc::clone(tls.asked())).unwrap_or_default();
        let slot = tls.as_ref().map(|tls| Arc::clone(tls.slot()));
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let kept = (prepared.targets, Logins::new(&tasks, &cancel));
        let access = AdminAccess::new(&loaded.config, admin_certificate);
        let counters = Counters::register(&mut registry);
        let sides = security::Sides {
            base,
            secrets: Arc::clone(&secrets),
            notifier: schedule.as_ref().map(|schedule| schedule.notifier()),
            counters: &counters,
        };
        let watchers = Arc::new(Watchers::start(loaded, sides, (&tasks, &cancel))?);
        let inbound = std::mem::take(&mut prepared.inbound);
        let sides = Sides {
            clock: Arc::clone(&base.clock),
            broker: Arc::clone(&broker),
            issuer: Arc::clone(&issuer),
            signing_keys: signing_keys.clone(),
            secrets,
        };
        let of_events = Arc::clone(&sides.secrets);
        let shared = Arc::clone(&revocations);
        let protection = Protection::start(&inbound, (sides, shared), (&tasks, &cancel)).await?;
        registry.register_collector(Box::new(VerifierMetrics(Arc::clone(&protection))));
        let events = (&issuer, of_events);
        let events = PlatformEvents::of(&loaded.config, base, (&protection, &revocations), events, &mut registry);
        let live = Live::new(
            loaded,
            (tls, digest, access),
            (&broker, &record, sources),
            kept,
            &protection,
            &base.clock,
            &mut registry,
        );
        let gateway = &loaded.config.gateway;
        let proxies = proxies(&gateway.trusted_proxies, gateway.client_address, &gateway.proxy_protocol)?;
        let sessions = user_sessions(loaded, base, &broker)?;
        registry.register_collector(SessionMetrics::new(Arc::clone(&sessions)));
        let ports = Ports {
            issuer: Arc::clone(&issuer),
            broker: Arc::clone(&broker),
            sessions: Some(Arc::clone(&sessions)),
            clock: Arc::clone(&base.clock),
            entropy: Arc::clone(&base.entropy),
            metrics: Arc::clone(&metrics),
            binding: own_binding(&loaded.config, &certificates),
            public_url: loaded.config.gateway.public_url.as_ref().map(|url| Arc::from(url.text())),
            events: events.map(|events| Events::new(events)),
            observer: telemetry.observer(),
            security: watchers.security(),
            proxies: Arc::new(proxies),
        };
        let mut gateways =
            start_gateways(gateway, &loaded.paths, (slot.as_ref(), clients.as_ref()), &mut sockets, &ports)?;
        live.listens(gateways.iter().map(|(_, gateway)| gateway));
        let mut addresses = addresses(loaded, &gateways);
        let mut listeners: Vec<_> = gateways.iter().flat_map(|(name, gateway)| told(name, None, gateway)).collect();
        let inbound_ports = |site| InboundPorts {
            site,
            clock: Arc::clone(&base.clock),
            entropy: Arc::clone(&base.entropy),
            metrics: Arc::clone(&metrics),
            observer: telemetry.observer(),
        };
        for (name, encrypted, gateway) in
            protection.serve(inbound, loaded, (&counts, &telling), inbound_ports, &watchers.security())?
        {
            let listener = if encrypted { "inbound-tls" } else { "inbound" };
            let there = told(listener, Some(&name), &gateway);
            if let Some(first) = there.first() {
                addresses.inbound_urls.insert(name, first.address.clone());
            }
            listeners.extend(there);
            gateways.push((listener, gateway));
        }
        let mut running = Self {
            addresses,
            issuer: Arc::clone(&issuer),
            revocations: Arc::clone(&revocations),
            sessions: Arc::clone(&sessions),
            live,
            pulses: pulses::of(&gateways, base),
            draining: CancellationToken::new(),
            tasks,
            telemetry,
            local_metrics: LocalMetrics::register(&mut registry),
            gateways,
            listeners,
            broker,
            record,
            schedule,
            watchers,
            broker_listeners: Vec::new(),
            broker_cancel: CancellationToken::new(),
            cancel,
        };
        running.listen_for_tokens(loaded, base, &ports, &mut sockets).await?;
        let standing = running.standing(loaded, base, metrics, started);
        let registry = Arc::new(registry);
        running.listen_for_admin(loaded, base, standing, Arc::clone(&registry), &mut sockets).await?;
        running.telemetry.export(registry, &tokio::runtime::Handle::current());
        let cancel = running.cancel.clone();
        drop(running.tasks.spawn(async move { issuer.run(cancel).await }));
        let (cancel, clock) = (running.cancel.clone(), Arc::clone(&base.clock));
        drop(running.tasks.spawn(async move { cancel.run_until_cancelled(revocations.watch(clock)).await }));
        let cancel = running.cancel.clone();
        drop(running.tasks.spawn(async move { sessions.run(cancel).await }));
        if let Some(keys) = signing_keys {
            let cancel = running.cancel.clone();
            drop(running.tasks.spawn(async move { keys.run(cancel).await }));
        }
        if let Some(schedule) = &running.schedule {
            schedule.begin(&running.draining);
        }
        Ok(running)
    }

    async fn listen_for_tokens(
        &mut self,
        loaded: &Loaded,
        base: &Base,
        calls: &Ports,
        sockets: &mut Sockets,
    ) -> Result<(), Failure> {
        let section = &loaded.config.broker;
        let callers = Callers::own_and(&section.allow_uids);
        let mut bound = Vec::new();
        match section.listen {
            Some(address) => {
                let local = Local::bind("broker", address, sockets.broker.take(), callers.clone()).await?;
                self.addresses.broker_url = Some(local.url());
                bound.push(local);
            }
            None => refuse_unused("broker", sockets.broker.is_some())?,
        }
        if let Some(socket) = &section.socket {
            let local = Local::bind_socket(&loaded.paths.resolve(socket), callers)?;
            self.addresses.broker_socket_url = Some(local.url());
            bound.push(local);
        }
        if bound.is_empty() {
            return Ok(());
        }
        let guard = guard(&loaded.paths.broker_token, base)?;
        let of_gateway = limits(&loaded.config.gateway.limits);
        let unread = of_gateway.body_idle;
        let proxy = GatewayProxy::new(calls.clone(), of_gateway);
        let journal = Arc::clone(&base.state) as Arc<dyn SightingLog>;
        let ports = BrokerPorts::new(Arc::clone(&self.broker), guard, Arc::clone(&base.clock))
            .with_proxy(proxy)
            .with_journal(journal)
            .watched_by(self.watchers.security());
        let router = self.local_metrics.count(broker_api::router(ports), "broker");
        // Its callers get the same time to read and to finish as the gateway's.
        let limits = kh_admin::Limits { drain: self.live.ending().drain, unread, ..kh_admin::Limits::default() };
        for local in bound {
            let serving = local.serve(router.clone(), limits, self.broker_cancel.clone());
            self.broker_listeners.push(self.tasks.spawn(serving));
        }
        Ok(())
    }

    async fn listen_for_admin(
        &mut self,
        loaded: &Loaded,
        base: &Base,
        mut standing: Standing,
        registry: Arc<Registry>,
        sockets: &mut Sockets,
    ) -> Result<(), Failure> {
        let mut bound = Vec::new();
        match loaded.config.admin.listen {
            None => refuse_unused("admin", sockets.admin.is_some())?,
            Some(address) => {
                let local = Local::bind("admin", address, sockets.admin.take(), Callers::own()).await?;
                self.addresses.admin_url = Some(local.url());
                bound.push(local);
            }
        }
        let telling = (self.watchers.security(), &base.clock);
        if let Some(encrypted) = self.live.admin().bind(loaded, telling).await? {
            self.addresses.admin_tls_url = Some(encrypted.url());
            bound.push(encrypted);
        }
        let told = bound.iter().map(|local| ListenerStatus { name: "admin", api: None, address: local.url() });
        standing.listeners.extend(told);
        if bound.is_empty() {
            return Ok(());
        }
        let ports = self.admin_ports(loaded, base, standing, registry)?;
        let router = self.local_metrics.count(admin::router(ports), "admin");
        for local in bound {
            let serving = local.serve(router.clone(), kh_admin::Limits::default(), self.cancel.clone());
            drop(self.tasks.spawn(serving));
        }
        Ok(())
    }

    fn admin_ports(
        &self,
        loaded: &Loaded,
        base: &Base,
        standing: Standing,
        registry: Arc<Registry>,
    ) -> Result<AdminPorts, Failure> {
        let mut checks: Vec<Arc<dyn ReadyCheck>> = vec![
            Arc::new(StoreCheck(Arc::clone(&base.store) as Arc<dyn SecretStore>)),
            Arc::new(StateCheck(Arc::clone(&base.state) as Arc<dyn StateStore>)),
        ];
        if !loaded.config.inbound.is_empty() {
            checks.push(Arc::new(InboundCheck(Arc::clone(self.live.protection()))));
        }
        checks.extend(self.watchers.check());
        let guard = guard(&loaded.paths.admin_token, base)?;
        let audit = AuditDesk {
            log: Arc::clone(&base.audit) as Arc<dyn AuditLog>,
            path: loaded.paths.audit_log.clone(),
            checkpoints: loaded.paths.checkpoints.clone(),
            key: base.audit.public_key(),
        };
        let revocations = RevocationDesk {
            revocations: Arc::clone(&self.revocations),
            fingerprints: Arc::clone(&base.fingerprinter),
        };
        let sessions = SessionDesk {
            store: Arc::clone(&base.state) as Arc<dyn SessionStore>,
            sessions: Arc::clone(&self.sessions),
        };
        let api = ApiPorts {
            issuer: Arc::clone(&self.issuer),
            audit,
            revocations,
            sessions,
            clock: Arc::clone(&base.clock),
            entropy: Arc::clone(&base.entropy),
        };
        Ok(AdminPorts {
            broker: Arc::clone(&self.broker),
            operators: self.live.admin().operators(&loaded.config, &guard),
            registry,
            checks: checks.into(),
            pulses: Arc::clone(&self.pulses),
            draining: self.draining.clone(),
            status: Arc::new(standing),
            api,
            security: self.watchers.security(),
        })
    }

    fn standing(&self, loaded: &Loaded, base: &Base, metrics: Arc<Metrics>, started: kh_core::Now) -> Standing {
        let mut listeners = self.listeners.clone();
        let brokers = [self.addresses.broker_url.clone(), self.addresses.broker_socket_url.clone()];
        let told = brokers.into_iter().flatten().map(|address| ListenerStatus { name: "broker", api: None, address });
        listeners.extend(told);
        Standing {
            base: base.clone(),
            paths: loaded.paths.clone(),
            live: Arc::clone(&self.live),
            broker: Arc::clone(&self.broker),
            issuer: Arc::clone(&self.issuer),
            metrics,
            listeners,
            draining: self.draining.clone(),
            started,
            audit_turn: Arc::default(),
        }
    }

    /// Ends everything in order: tells load balancers, goes on for the configured delay, finishes what is in flight,
    /// and only then stops the broker and the admin listener. Answers whether everything was finished in time.
    pub(crate) async fn stop(self) -> bool {
        self.draining.cancel();
        let ending = self.live.ending();
        tokio::time::sleep(ending.delay).await;
        self.broker_cancel.cancel();
        let mut draining = JoinSet::new();
        if let Some(schedule) = self.schedule {
            draining.spawn(async move { schedule.end(ending.drain).await });
        }
        for (_, gateway) in self.gateways {
            draining.spawn(gateway.shutdown(ending.drain));
        }
        for listener in self.broker_listeners {
            // It ends by itself within its own limit; a panic is told by the runtime.
            draining.spawn(async move { listener.await.is_ok() });
        }
        let finished = draining.join_all().await.into_iter().all(|finished| finished);
        self.cancel.cancel();
        self.broker.shutdown().await;
        self.record.end().await;
        self.tasks.close();
        let ended = tokio::time::timeout(TASKS_END, self.tasks.wait()).await.is_ok();
        if !ended {
            tracing::warn!("some of the work in the background did not end");
        }
        // when nobody can be refused any more
        let written = self.watchers.stop().await;
        // last: what the end itself had to tell is told as well
        finished & ended & written & self.telemetry.stop(TELEMETRY_END).await
    }
}

/// How keyholder's own tokens are bound: one memory of proofs for all listeners.
fn own_binding(config: &Config, certificates: &Arc<AtomicBool>) -> OwnBinding {
    let proofs = ProofRules { nonce: config.token_endpoint.dpop_nonce, ..ProofRules::default() };
    OwnBinding { senders: Arc::new(Senders::default()), proofs, certificates: Arc::clone(certificates) }
}

/// The sessions of users, over this state.
fn user_sessions(loaded: &Loaded, base: &Base, broker: &Arc<Broker>) -> Result<Arc<UserSessions>, Failure> {
    let instance = LockedInstance::claim(&loaded.paths.database, &*base.entropy)?;
    let store = Arc::clone(&base.state) as Arc<dyn SessionStore>;
    UserSessions::new(broker, store, Arc::new(instance), &base.session_key)
        .ok_or_else(|| Failure::bug("the key of users' sessions does not have 32 bytes"))
}

/// Metrics that are read from other parts at each scrape.
fn collect(registry: &mut Registry, base: &Base, broker: &Arc<Broker>, issuer: &Arc<Issuer>) {
    base.meter.register(registry);
    base.reads.register(registry);
    register_build(registry, env!("CARGO_PKG_VERSION"));
    registry.register_collector(BrokerMetrics::new(Arc::clone(broker), Arc::clone(&base.clock)));
    registry.register_collector(IssuerMetrics::new(Arc::clone(issuer)));
    registry.register_collector(ProcessMetrics::new(&*base.clock));
}

fn guard(path: &std::path::Path, base: &Base) -> Result<Guard, Failure> {
    Guard::load_or_create(path, &*base.entropy).map_err(|error| Failure::of(Code::STATE_UNAVAILABLE, &error))
}

fn refuse_unused(name: &str, passed: bool) -> Result<(), Failure> {
    if !passed {
        return Ok(());
    }
    let problem = format!("the supervisor passes a socket named {name} and the configuration turns that listener off");
    Err(Failure::new(Code::CONFIG_INVALID, problem).hint(format!("set [{name}] listen, or remove the .socket unit")))
}

fn addresses(loaded: &Loaded, gateways: &[(&'static str, GatewayHandle)]) -> Addresses {
    let url = |wanted: &str, scheme: &str| {
        let gateway = gateways.iter().find(|(name, _)| *name == wanted).map(|(_, gateway)| gateway)?;
        let first = gateway.addresses().first().copied();
        first.map(|address| format!("{scheme}://{}", reachable(address)))
    };
    let (plain, secure) = (url("gateway", "http"), url("gateway-tls", "https"));
    Addresses {
        gateway_url: plain.or_else(|| secure.clone()),
        gateway_tls_url: secure,
        broker_token_file: loaded.paths.broker_token.clone(),
        admin_token_file: loaded.paths.admin_token.clone(),
        ..Addresses::default()
    }
}

fn told(name: &'static str, api: Option<&str>, gateway: &GatewayHandle) -> Vec<ListenerStatus> {
    let scheme = if name.ends_with("-tls") { "https" } else { "http" };
    let tcp = gateway.addresses().iter().map(|address| format!("{scheme}://{address}"));
    let unix = gateway.paths().map(|path| format!("unix:{}", path.display()));
    let api = api.map(str::to_owned);
    tcp.chain(unix).map(|address| ListenerStatus { name, api: api.clone(), address }).collect()
}
