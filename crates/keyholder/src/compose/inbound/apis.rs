//! The protected APIs of the configuration, as the gateway serves them.
//!
//! Invariant: every route, header, network and file was understood before anything listens or is exchanged.

use std::{path::PathBuf, sync::Arc};

use axum::http::HeaderName;
use kh_core::{Code, Hashed, Identity, Now, UnixMillis, port::BoxFuture};
use kh_gateway::{
    Listen, ProofRules,
    inbound::{
        Api, ApiSpec, Authorization, Denied, IdentityField, IdentityHeader, IssuerNames, Proxies, SenderRules,
        SentHost, TokenVerifier,
    },
};
use kh_net::{
    Egress, SystemRoots,
    client_address::{ClientAddressing, ForwardingHeader, TrustedProxies},
};
use kh_policy::{RouteTable, genesys};

use super::{
    super::{
        egress::api_egress,
        listeners::listener,
        tls::{Certificate, Clients, certificate},
    },
    issuers::{PreparedIssuer, Wanted},
};
use crate::{
    cli::Loaded,
    config::{AddressHeader, InboundConfig, Need},
    output::Failure,
};

/// One section, ready to be served by a verifier.
pub(crate) struct PreparedApi {
    pub(super) name: String,
    pub(super) listen: Vec<Listen>,
    pub(super) api: Api,
    pub(super) certificate: Option<Certificate>,
    /// Whose certificates callers may show.
    pub(super) clients: Option<Clients>,
    /// Its issuers by name.
    pub(super) issuers: Vec<String>,
}

/// The routes of one section.
pub(super) struct Routes {
    name: String,
    table: RouteTable,
}

/// The routes of every section, and what they want to know of callers.
pub(super) fn routes(loaded: &Loaded) -> Result<(Vec<Routes>, Wanted), Failure> {
    let mut wanted = Wanted::default();
    let mut all = Vec::new();
    for (name, config) in &loaded.config.inbound {
        let table = table(config).map_err(|problem| {
            Failure::new(Code::CONFIG_INVALID, problem).hint(format!("see [inbound.{name}] in keyholder.toml"))
        })?;
        for rule in table.rules() {
            let requirement = rule.requirement();
            wanted.claims.extend(requirement.claims().map(str::to_owned));
            let permissions = requirement.sets().flatten().filter(|word| !word.is_scope());
            wanted.permissions.extend(permissions.map(|word| word.as_str().to_owned()));
        }
        let told = config.identity_headers.iter().filter_map(|header| match &header.tells {
            IdentityField::Claim(name) => Some(name.to_string()),
            _ => None,
        });
        wanted.claims.extend(told);
        all.push(Routes { name: name.clone(), table });
    }
    for list in [&mut wanted.claims, &mut wanted.permissions] {
        list.sort_unstable();
        list.dedup();
    }
    Ok((all, wanted))
}

fn table(config: &InboundConfig) -> Result<RouteTable, String> {
    let own = config.routes.iter().map(crate::config::RouteConfig::rules).collect::<Result<Vec<_>, _>>()?;
    let built_in = config.operations.map(genesys::routes).unwrap_or_default();
    RouteTable::beside(own.into_iter().flatten().collect(), built_in).map_err(|error| error.to_string())
}

/// Reads everything else that the sections name.
pub(super) fn prepare(
    routes: Vec<Routes>,
    loaded: &Loaded,
    system: &SystemRoots,
    issuers: &[PreparedIssuer],
) -> Result<Vec<PreparedApi>, Failure> {
    let one = |routes: Routes| {
        let name = routes.name.clone();
        let config = loaded.config.inbound.get(&name).ok_or_else(|| Failure::bug("a section went while it was read"));
        of_section(routes, config?, loaded, system, issuers)
            .map_err(|failure| failure.hint(format!("see [inbound.{name}] in keyholder.toml")))
    };
    routes.into_iter().map(one).collect()
}

/// What is wrong with the sections, by section; those whose issuers cannot be read are left out.
pub(super) fn broken(
    routes: Vec<Routes>,
    loaded: &Loaded,
    system: &SystemRoots,
    issuers: &[PreparedIssuer],
) -> Vec<(String, Failure)> {
    let there = |name: &String| issuers.iter().any(|issuer| issuer.name == *name);
    let one = |routes: Routes| {
        let name = routes.name.clone();
        let config = loaded.config.inbound.get(&name).filter(|config| config.issuers.iter().all(there))?;
        let failure = of_section(routes, config, loaded, system, issuers).err()?;
        Some((format!("[inbound.{name}]"), failure))
    };
    routes.into_iter().filter_map(one).collect()
}

fn of_section(
    routes: Routes,
    config: &InboundConfig,
    loaded: &Loaded,
    system: &SystemRoots,
    issuers: &[PreparedIssuer],
) -> Result<PreparedApi, Failure> {
    let Routes { name, table } = routes;
    let invalid = |problem: String| Failure::new(Code::CONFIG_INVALID, problem);
    let taken = issuers.iter().filter(|issuer| config.issuers.contains(&issuer.name));
    let taken = taken.map(|issuer| IssuerNames { name: issuer.name.as_str().into(), issuers: issuer.iss() }).collect();
    let headers = config.identity_headers.iter().map(|header| {
        let name: HeaderName = header.name.parse().map_err(|_| invalid(format!("{} is no header", header.name)))?;
        Ok::<_, Failure>(IdentityHeader { name, tells: header.tells.clone() })
    });
    let spec = ApiSpec {
        routes: table,
        verifier: Arc::new(Nobody),
        issuers: taken,
        upstream: config.upstream.text().to_owned(),
        egress: egress(config, loaded, system)?,
        identity_headers: headers.collect::<Result<_, _>>()?,
        authorization: if config.pass_authorization { Authorization::Pass } else { Authorization::Remove },
        host: if config.preserve_host { SentHost::Caller } else { SentHost::Upstream },
    };
    let audiences = config.audiences.iter().map(|audience| audience.as_str().into()).collect();
    let api = Api::new(spec).map_err(|error| invalid(error.to_string()))?;
    let api = api.with_senders(senders(config)?).map_err(|error| invalid(error.to_string()))?;
    let pem = |(cert, key): (&PathBuf, &PathBuf)| certificate(cert, key, &loaded.paths);
    Ok(PreparedApi {
        name,
        listen: config.listen.iter().map(|address| listener(address, &loaded.paths)).collect(),
        api: api
            .behind(proxies(&config.trusted_proxies, config.client_address, &config.proxy_protocol)?)
            .for_audiences(audiences),
        certificate: config.tls.as_ref().map(|tls| pem((&tls.cert, &tls.key))).transpose()?,
        clients: config.tls.as_ref().map(|tls| Clients::of(&tls.clients, &loaded.paths)).transpose()?.flatten(),
        issuers: config.issuers.clone(),
    })
}

/// What is asked of the senders of tokens.
fn senders(config: &InboundConfig) -> Result<SenderRules, Failure> {
    let bound = config.routes.iter().filter(|route| route.binding == Need::Required);
    let rules = bound.map(crate::config::RouteConfig::rules).collect::<Result<Vec<_>, _>>();
    let rules = rules.map_err(|problem| Failure::new(Code::CONFIG_INVALID, problem))?;
    Ok(SenderRules {
        everywhere: config.binding == Need::Required,
        routes: rules.iter().flatten().map(|rule| rule.name().into()).collect(),
        proofs: ProofRules { nonce: config.dpop_nonce, ..ProofRules::default() },
        addresses: config.addresses.clone(),
    })
}

/// The system's certificates are read for an API behind TLS alone.
fn egress(config: &InboundConfig, loaded: &Loaded, system: &SystemRoots) -> Result<Arc<Egress>, Failure> {
    if !config.upstream.is_https() {
        let plain = Egress::trusting(&[]).map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))?;
        return Ok(Arc::new(plain));
    }
    api_egress(config.extra_ca.as_deref(), config.client.as_ref(), &loaded.paths, system).map(Arc::new)
}

/// The proxies between callers and a listener.
pub(crate) fn proxies(
    trusted: &[String],
    header: Option<AddressHeader>,
    proxy_protocol: &[String],
) -> Result<Proxies, Failure> {
    let parse = |networks: &[String]| {
        TrustedProxies::parse(networks).map_err(|(_, error)| Failure::of(Code::CONFIG_INVALID, &error))
    };
    let header = header.map(|header| match header {
        AddressHeader::Forwarded => ForwardingHeader::Forwarded,
        AddressHeader::XForwardedFor => ForwardingHeader::XForwardedFor,
        AddressHeader::XRealIp => ForwardingHeader::XRealIp,
    });
    let trusted = parse(trusted)?;
    Ok(Proxies {
        proxy_protocol: parse(proxy_protocol)?,
        addressing: header.map_or_else(ClientAddressing::default, |header| ClientAddressing::new(trusted, header)),
    })
}

/// Stands for a verifier until there is one; takes no token.
struct Nobody;

impl TokenVerifier for Nobody {
    fn known(&self, _token: Hashed<'_>, _now: Now) -> Option<Arc<Identity>> {
        None
    }

    fn verify<'a>(
        &'a self,
        _token: Hashed<'a>,
        _taken: &'a [Arc<str>],
        _now: Now,
    ) -> BoxFuture<'a, Result<Arc<Identity>, Denied>> {
        let denied = Denied { reason: "unrecognised", retry_after: None, issuer: None, client: None };
        Box::pin(async { Err(denied) })
    }

    fn taken_until(&self, _identity: &Identity) -> Option<UnixMillis> {
        None
    }
}
