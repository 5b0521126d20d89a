//! The protected APIs of a running keyholder: one verifier for all of them, and their exchange while they serve.
//!
//! Invariants: no request is served before the revocations are known; a verifier whose issuers did not change stays
//! with its keys and what it verified; everything that can fail comes before the first exchange.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kh_admin::admin::ReadyCheck;
use kh_core::{
    Code, Sha256,
    port::{BoxFuture, security::Security},
};
use kh_gateway::{
    Gateway, GatewayConfig, GatewayHandle, InboundPorts, SOCKET_MODE, StartError,
    inbound::{Api, Inbound, InboundMetrics},
};
use kh_inbound::{Revocations, Verifier, VerifierConfig};
use kh_net::SystemRoots;
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Verifying,
    apis::{self, PreparedApi},
    issuers::{self, PreparedIssuer, Sides, digests, section_of},
};
use crate::{
    cli::Loaded,
    compose::{
        listeners::{cannot_listen, limits},
        tls::{Certificate, Clients, ListenerTls, OtherClients, Served, Telling, server_tls},
    },
    output::Failure,
};

/// How long a start waits for issuers' keys that come over a network. An issuer that is slower is asked on, and its
/// tokens get 503 until then.
const KEYS_WAIT: Duration = Duration::from_secs(5);

/// Everything that `[issuer.NAME]` and `[inbound.NAME]` are made into without a running keyholder.
#[derive(Default)]
pub(crate) struct PreparedInbound {
    issuers: Vec<PreparedIssuer>,
    apis: Vec<PreparedApi>,
}

impl PreparedInbound {
    /// Reads every file that the sections name.
    pub(crate) fn of(loaded: &Loaded) -> Result<Self, Failure> {
        if loaded.config.inbound.is_empty() && loaded.config.issuers.is_empty() {
            return Ok(Self::default());
        }
        let system = SystemRoots::load();
        let (routes, wanted) = apis::routes(loaded)?;
        let issuers = issuers::prepare(loaded, &system, &wanted)?;
        let apis = apis::prepare(routes, loaded, &system, &issuers)?;
        Ok(Self { issuers, apis })
    }

    /// What is wrong with what the sections name, by section.
    pub(crate) fn broken(loaded: &Loaded) -> Vec<(String, Failure)> {
        if loaded.config.inbound.is_empty() && loaded.config.issuers.is_empty() {
            return Vec::new();
        }
        let system = SystemRoots::load();
        let (routes, wanted) = match apis::routes(loaded) {
            Ok(read) => read,
            Err(failure) => return vec![("[inbound]".to_owned(), failure)],
        };
        let (issuers, mut broken) = issuers::tried(loaded, &system, &wanted);
        broken.extend(apis::broken(routes, loaded, &system, &issuers));
        broken
    }
}

/// A verifier at work.
struct Working {
    verifier: Arc<Verifier>,
    digests: BTreeMap<String, Sha256>,
    /// Ends its task.
    cancel: CancellationToken,
}

/// One API at work.
struct Site {
    inbound: Arc<Inbound>,
    tls: Option<ListenerTls>,
}

/// One API that was built and is not in force yet.
struct NextApi {
    name: String,
    api: Api,
    certificate: Option<Certificate>,
    /// Whose certificates it takes, if they are others now.
    clients: Option<OtherClients>,
    issuers: Vec<String>,
}

/// The protected APIs.
pub(crate) struct Protection {
    sides: Sides,
    working: Mutex<Working>,
    sites: Mutex<BTreeMap<String, Site>>,
    /// Names of the issuers of each API.
    issuers: Mutex<BTreeMap<String, Vec<String>>>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// Something that was built and is not in force yet.
pub(crate) struct Next {
    /// None keeps the verifier.
    working: Option<Working>,
    apis: Vec<NextApi>,
}

impl Protection {
    /// Reads the revocations and the keys; serves nothing yet. Must run on the control runtime.
    pub(crate) async fn start(
        prepared: &PreparedInbound,
        (sides, revocations): (Sides, Arc<Revocations>),
        (tasks, cancel): (&TaskTracker, &CancellationToken),
    ) -> Result<Arc<Self>, Failure> {
        let working = working(&prepared.issuers, &sides, &revocations, cancel).await?;
        let protection = Self {
            sides,
            working: Mutex::new(working),
            sites: Mutex::default(),
            issuers: Mutex::default(),
            tasks: tasks.clone(),
            cancel: cancel.clone(),
        };
        let verifier = protection.verifier();
        if !prepared.apis.is_empty() && tokio::time::timeout(KEYS_WAIT, verifier.renew_keys()).await.is_err() {
            tracing::warn!(
                issuers.lacking = verifier.lacking().join(", "),
                "some issuers' keys are not there yet; their tokens get 503 until they are"
            );
        }
        protection.run();
        Ok(Arc::new(protection))
    }

    /// Starts a gateway for each API. Answers each with whether it speaks https.
    pub(crate) fn serve(
        &self,
        prepared: PreparedInbound,
        loaded: &Loaded,
        (counts, telling): (&InboundMetrics, &Telling),
        ports: impl Fn(Arc<Inbound>) -> InboundPorts,
        security: &Security,
    ) -> Result<Vec<(String, bool, GatewayHandle)>, Failure> {
        let section = &loaded.config.gateway;
        let workers = section
            .workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
        let mut started = Vec::new();
        for PreparedApi { name, listen, api, certificate, clients, issuers } in prepared.apis {
            let api = api.verified_by(Arc::new(Verifying(self.verifier())));
            let inbound = Inbound::new(&name, api, counts, security.clone());
            let served = certificate.map(|first| Served::new(format!("inbound.{name}"), first, telling));
            let of_site = served.map(|served| ListenerTls::new(served, clients.as_ref()));
            let trust = clients.as_ref().map(|clients| &clients.trust);
            let tls = of_site.as_ref().map(|tls| server_tls(tls.slot(), trust)).transpose()?;
            let encrypted = tls.is_some();
            let config =
                GatewayConfig { listen, socket_mode: SOCKET_MODE, workers, tls, limits: limits(&section.limits) };
            let gateway =
                Gateway::start_inbound(config, ports(Arc::clone(&inbound))).map_err(|error| match &error {
                    StartError::Listen { address, source } => cannot_listen(&format!("API {name}"), address, source),
                    StartError::NothingToDo | StartError::Worker(_) => Failure::of(Code::INTERNAL, &error),
                })?;
            self.issuers.lock().insert(name.clone(), issuers);
            if let Some(tls) = &of_site {
                tls.listens([&gateway]);
            }
            self.sites.lock().insert(name.clone(), Site { inbound, tls: of_site });
            started.push((name, encrypted, gateway));
        }
        Ok(started)
    }

    /// The verifier in force.
    pub(crate) fn verifier(&self) -> Arc<Verifier> {
        Arc::clone(&self.working.lock().verifier)
    }

    /// Builds what another configuration wants. Changes nothing.
    pub(crate) async fn next(&self, prepared: PreparedInbound) -> Result<Next, Failure> {
        let (after, (verifier, before)) = (digests(&prepared.issuers), {
            let working = self.working.lock();
            (Arc::clone(&working.verifier), working.digests.clone())
        });
        let working = if after == before {
            None
        } else {
            let is_same = |name: &str| {
                let name = section_of(name);
                before.get(name).is_some_and(|digest| after.get(name) == Some(digest))
            };
            let config = verifier_config(&prepared.issuers, &self.sides)?;
            let next = verifier.succeeded_by(config, is_same);
            let next = next.map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))?;
            let next = Working { verifier: Arc::new(next), digests: after, cancel: self.cancel.child_token() };
            // as at the start: so that no token of a changed issuer is refused that could have been taken
            tokio::time::timeout(KEYS_WAIT, next.verifier.renew_keys()).await.ok();
            Some(next)
        };
        let verifier = working.as_ref().map_or_else(|| self.verifier(), |next| Arc::clone(&next.verifier));
        let mut apis = Vec::with_capacity(prepared.apis.len());
        for PreparedApi { name, listen: _, api, certificate, clients, issuers } in prepared.apis {
            let api = api.verified_by(Arc::new(Verifying(Arc::clone(&verifier))));
            let clients = self.other_clients(&name, clients.as_ref())?;
            apis.push(NextApi { name, api, certificate, clients, issuers });
        }
        Ok(Next { working, apis })
    }

    /// How an API's listeners will speak TLS if other client certificates are taken from now on; none if nothing changed.
    fn other_clients(&self, name: &str, clients: Option<&Clients>) -> Result<Option<OtherClients>, Failure> {
        let sites = self.sites.lock();
        let tls = sites.get(name).and_then(|site| site.tls.as_ref());
        tls.map_or(Ok(None), |tls| tls.other(clients))
    }

    /// Puts it into force. Requests under way go on with what they have seen.
    pub(crate) fn replace(&self, next: Next) {
        let Next { working, apis } = next;
        let before = working.map(|working| std::mem::replace(&mut *self.working.lock(), working));
        if before.is_some() {
            self.run();
        }
        for NextApi { name, api, certificate, clients, issuers } in apis {
            let sites = self.sites.lock();
            // one that is not served yet needs a restart, which was said before it came to this
            let Some(site) = sites.get(&name) else { continue };
            site.inbound.replace(api);
            if let Some(tls) = &site.tls {
                tls.replace(certificate, clients);
            }
            drop(sites);
            self.issuers.lock().insert(name, issuers);
        }
        if let Some(before) = before {
            before.cancel.cancel();
        }
    }

    /// Keeps the verifier's keys and revocations fresh.
    fn run(&self) {
        let working = self.working.lock();
        let (verifier, cancel) = (Arc::clone(&working.verifier), working.cancel.clone());
        drop(self.tasks.spawn(async move { verifier.run(cancel).await }));
    }

    /// Whether each API has an issuer whose tokens can be verified.
    fn can_verify(&self) -> bool {
        let lacking = self.verifier().lacking();
        // keyholder's own opaque tokens need nothing
        let is_ready = |name: &String| !lacking.iter().any(|issuer| **issuer == **name);
        self.issuers.lock().values().all(|issuers| issuers.is_empty() || issuers.iter().any(is_ready))
    }
}

fn verifier_config(issuers: &[PreparedIssuer], sides: &Sides) -> Result<VerifierConfig, Failure> {
    let specs = issuers.iter().map(|issuer| issuer.specs(sides)).collect::<Result<Vec<_>, _>>()?;
    Ok(VerifierConfig::new(specs.into_iter().flatten().collect()))
}

async fn working(
    issuers: &[PreparedIssuer],
    sides: &Sides,
    revocations: &Arc<Revocations>,
    cancel: &CancellationToken,
) -> Result<Working, Failure> {
    let config = verifier_config(issuers, sides)?;
    let runtime = tokio::runtime::Handle::current();
    let verifier = Verifier::over(config, Arc::clone(revocations), Arc::clone(&sides.clock), runtime)
        .map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))?;
    verifier.load().await?;
    Ok(Working { verifier: Arc::new(verifier), digests: digests(issuers), cancel: cancel.child_token() })
}

/// Whether the protected APIs can verify tokens.
pub(crate) struct InboundCheck(pub(crate) Arc<Protection>);

impl ReadyCheck for InboundCheck {
    fn name(&self) -> &'static str {
        "inbound"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Code>> {
        let ready = self.0.can_verify();
        Box::pin(async move { if ready { Ok(()) } else { Err(Code::INBOUND_ISSUER_UNAVAILABLE) } })
    }
}
