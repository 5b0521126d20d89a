//! What a configuration is made into, and the parts of a running keyholder that can be exchanged.
//!
//! Invariants: [`Prepared::of`] does everything that can fail, [`Live::apply`] nothing that can; at the start and at a
//! reload the same code makes the same things.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use kh_admin::admin::{ConfigStatus, TlsStatus};
use kh_broker::{Applied, Broker, CredentialSpec, Sightings};
use kh_core::{Clock, Sha256};
use kh_gateway::GatewayHandle;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use super::{
    admin_access::{self, AdminAccess},
    egresses, endpoints,
    inbound::{NextInbound, PreparedInbound, Protection},
    outside,
    record::Record,
    sightings::{self, rotated},
    stores::{Logins, Targets, targets_after},
    tls::{Certificate, Clients, ListenerTls, OtherClients, certificate},
};
use crate::{
    cli::Loaded,
    config::{Config, duration},
    output::Failure,
    sources::{Outside, Reads, Sources},
};

/// How long requests in flight may take after a stop signal, unless [gateway.limits] says otherwise. Of the
/// 30 s after which container platforms kill, unless they are told otherwise, it leaves a third to the last notices and lines.
pub(crate) const DRAIN: Duration = Duration::from_secs(20);

/// Everything that is made from a configuration and its files.
pub(crate) struct Prepared {
    pub(super) specs: Vec<CredentialSpec>,
    pub(super) outside: Outside,
    pub(super) certificate: Option<Certificate>,
    /// Whose client certificates the gateway takes.
    pub(super) clients: Option<Clients>,
    /// The admin listener's.
    pub(super) admin_certificate: Option<Certificate>,
    /// The stores outside, as rotation writes them.
    pub(super) targets: Targets,
    /// The protected APIs.
    pub(super) inbound: PreparedInbound,
}

impl Prepared {
    /// Reads and builds everything that `loaded` names. Blocks on the file system.
    pub(crate) fn of(loaded: &Loaded, clock: &Arc<dyn Clock>, reads: &Reads) -> Result<Self, Failure> {
        Self::after(&Targets::default(), loaded, clock, reads)
    }

    /// The same while the stores of an earlier configuration are in use.
    pub(super) fn after(
        before: &Targets,
        loaded: &Loaded,
        clock: &Arc<dyn Clock>,
        reads: &Reads,
    ) -> Result<Self, Failure> {
        let ways = egresses(loaded)?;
        let targets = targets_after(before, loaded, clock)?;
        let pem = |(cert, key): (&PathBuf, &PathBuf)| certificate(cert, key, &loaded.paths);
        let tls = loaded.config.gateway.tls.as_ref().map(|tls| (&tls.cert, &tls.key));
        let clients = loaded.config.gateway.tls.as_ref().map(|tls| Clients::of(&tls.clients, &loaded.paths));
        let admin = loaded.config.admin.tls.as_ref().map(|tls| (&tls.cert, &tls.key));
        Ok(Self {
            specs: endpoints::specs(&loaded.config, &ways, clock),
            outside: outside(loaded, &targets, clock, reads),
            certificate: tls.map(pem).transpose()?,
            clients: clients.transpose()?.flatten(),
            admin_certificate: admin.map(pem).transpose()?,
            targets,
            inbound: PreparedInbound::of(loaded)?,
        })
    }

    pub(super) fn certificate_digest(&self) -> Option<Sha256> {
        let leaf = self.certificate.as_ref().and_then(|certificate| certificate.key.cert.first());
        leaf.map(|leaf| Sha256::of(leaf))
    }
}

/// What is wrong with the authorities of client certificates of the gateway and of the admin listener, by section.
pub(crate) fn broken_authorities(loaded: &Loaded) -> Vec<(String, Failure)> {
    let gateway = loaded.config.gateway.tls.as_ref();
    let gateway = gateway.and_then(|tls| Clients::of(&tls.clients, &loaded.paths).err());
    let all = [("[gateway.tls]", gateway), ("[admin.tls]", admin_access::trust(loaded).err())];
    all.into_iter().filter_map(|(section, failure)| Some((section.to_owned(), failure?))).collect()
}

/// How the end goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// How long new calls are still taken after a stop signal.
    pub(super) delay: Duration,
    /// How long requests in flight may take after that.
    pub(super) drain: Duration,
}

impl Ending {
    pub(super) fn of(config: &Config) -> Self {
        let limits = &config.gateway.limits;
        Self { delay: limits.drain_delay.unwrap_or_default(), drain: limits.drain.unwrap_or(DRAIN) }
    }
}

/// What can be exchanged while it runs.
pub(crate) struct Live {
    broker: Arc<Broker>,
    sightings: Arc<Sightings>,
    sources: Arc<Sources>,
    targets: Mutex<Targets>,
    logins: Logins,
    tls: Option<ListenerTls>,
    admin: AdminAccess,
    ending: Mutex<Ending>,
    limits: Mutex<BTreeMap<&'static str, String>>,
    record: Record,
    protection: Arc<Protection>,
    clock: Arc<dyn Clock>,
}

impl Live {
    pub(super) fn new(
        loaded: &Loaded,
        (tls, digest, admin): (Option<ListenerTls>, Option<Sha256>, AdminAccess),
        (broker, record, sources): (&Arc<Broker>, &sightings::Record, Arc<Sources>),
        (targets, logins): (Targets, Logins),
        protection: &Arc<Protection>,
        clock: &Arc<dyn Clock>,
        registry: &mut Registry,
    ) -> Arc<Self> {
        logins.keep(&targets);
        Arc::new(Self {
            broker: Arc::clone(broker),
            sightings: Arc::clone(record.sightings()),
            sources,
            targets: Mutex::new(targets),
            logins,
            tls,
            admin,
            ending: Mutex::new(Ending::of(&loaded.config)),
            limits: Mutex::new(limits(&loaded.config)),
            record: Record::new(loaded, digest, clock.now().wall, registry),
            protection: Arc::clone(protection),
            clock: Arc::clone(clock),
        })
    }

    /// These gateways listen.
    pub(super) fn listens<'a>(&self, gateways: impl Iterator<Item = &'a GatewayHandle>) {
        if let Some(tls) = &self.tls {
            tls.listens(gateways);
        }
    }

    /// What becomes of the gateway's listeners if they take other client certificates from now on. Changes nothing.
    pub(super) fn other_clients(&self, prepared: &Prepared) -> Result<Option<OtherClients>, Failure> {
        self.tls.as_ref().map_or(Ok(None), |tls| tls.other(prepared.clients.as_ref()))
    }

    /// Puts `loaded` into force, of which `prepared` was made. Answers what became of the credentials.
    pub(super) fn apply(
        &self,
        loaded: &Loaded,
        prepared: Prepared,
        (inbound, clients): (NextInbound, Option<OtherClients>),
    ) -> Applied {
        let digest = prepared.certificate_digest();
        // first, so that a new credential finds its store
        self.sources.replace(prepared.outside);
        self.logins.keep(&prepared.targets);
        *self.targets.lock() = prepared.targets;
        self.sightings.write_of(rotated(&loaded.config));
        let applied = self.broker.apply(prepared.specs);
        // last of the three, because issuers are asked with secrets and tokens of the others
        self.protection.replace(inbound);
        if let Some(tls) = &self.tls {
            tls.replace(prepared.certificate, clients);
        }
        self.admin.replace(loaded, prepared.admin_certificate);
        *self.ending.lock() = Ending::of(&loaded.config);
        *self.limits.lock() = limits(&loaded.config);
        self.record.in_force(loaded, digest, self.clock.now().wall);
        applied
    }

    /// The protected APIs.
    pub(super) fn protection(&self) -> &Arc<Protection> {
        &self.protection
    }

    /// Who may use the admin listener.
    pub(super) fn admin(&self) -> &AdminAccess {
        &self.admin
    }

    /// The stores in use.
    pub(super) fn targets(&self) -> Targets {
        self.targets.lock().clone()
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn ending(&self) -> Ending {
        *self.ending.lock()
    }

    /// The configuration and the certificate in force.
    pub(super) fn told(&self) -> (ConfigStatus, Option<TlsStatus>) {
        self.record.told()
    }

    pub(super) fn limits(&self) -> BTreeMap<&'static str, String> {
        self.limits.lock().clone()
    }

    /// One line for `systemctl status`.
    pub(crate) fn line(&self) -> String {
        let credentials = self.broker.credentials().count();
        let (config, _) = self.told();
        let last = config.last_reload.map(|last| format!(", the last reload was {}", last.result));
        format!("serving {credentials} credentials{}", last.unwrap_or_default())
    }
}

/// The limits of a configuration that somebody set, and the time that a stop takes.
fn limits(config: &Config) -> BTreeMap<&'static str, String> {
    let set = &config.gateway.limits;
    let ending = Ending::of(config);
    let durations = [
        ("header_timeout", set.header_timeout),
        ("body_timeout", set.body_timeout),
        ("upstream_timeout", set.upstream_timeout),
        ("drain_delay", Some(ending.delay)),
        ("drain", Some(ending.drain)),
    ];
    let durations = durations.into_iter().filter_map(|(name, value)| Some((name, duration::format(value?))));
    let connections = set.connections_per_worker.map(|count| ("connections_per_worker", count.to_string()));
    durations.chain(connections).collect()
}
