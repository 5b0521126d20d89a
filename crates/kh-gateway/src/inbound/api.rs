//! What stands behind the listeners of one protected API, and its exchange while serving.
//!
//! Invariant: a request sees one configuration from its begin to its end.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderName, StatusCode};
use kh_core::{Code, Identity, port::security::Security};
use kh_net::{
    Egress,
    client_address::{ClientAddressing, TrustedProxies},
};
use kh_policy::{RouteRule, RouteTable};
use kh_verify::dpop::bare_origin;

use super::{
    IdentityHeader, InboundMetrics, TokenVerifier,
    identity_headers::IdentityHeaders,
    metrics::{RouteCounts, SiteCounts},
};
use crate::{
    sender::{PROOF_MEMORY_BYTES, ProofRules, Senders},
    upstream::Origin,
};

/// Most identity headers of a site: each is looked for in every request.
pub const IDENTITY_HEADERS_MAX: usize = 32;

/// What becomes of the caller's `Authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// It ends here: the API is told who calls and cannot use the caller's token elsewhere.
    Remove,
    /// The API gets it.
    Pass,
}

/// Which `Host` the API is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentHost {
    /// That of the upstream's address.
    Upstream,
    /// That of the caller's request.
    Caller,
}

/// An issuer: its name in the configuration, and the values of `iss` that are its tokens'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerNames {
    /// By which routes name it.
    pub name: Box<str>,
    /// As tokens say it.
    pub issuers: Vec<Arc<str>>,
}

/// A protected API as the configuration describes it.
pub struct ApiSpec {
    /// What requests are taken, and what is required of them.
    pub routes: RouteTable,
    /// Whom tokens speak for.
    pub verifier: Arc<dyn TokenVerifier>,
    /// The issuers whose tokens are taken here.
    pub issuers: Vec<IssuerNames>,
    /// Base address of the API: `http://127.0.0.1:3000` or `https://api.internal/base`.
    pub upstream: String,
    /// The way to it.
    pub egress: Arc<Egress>,
    /// What the API is told of the caller.
    pub identity_headers: Vec<IdentityHeader>,
    /// What becomes of the caller's token.
    pub authorization: Authorization,
    /// Which `Host` the API is asked for.
    pub host: SentHost,
}

/// Why an API cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The address is not one.
    #[error("the upstream's address cannot be used: {0}")]
    Upstream(String),
    /// No issuer: then every token would be refused, which nobody wants to find out by serving.
    #[error("the API names no issuer and has routes that need a token")]
    NoIssuer,
    /// A route names an issuer that the API does not have.
    #[error("the route `{route}` names the issuer {issuer}, which the API does not take")]
    UnknownIssuer {
        /// The route's name.
        route: Box<str>,
        /// What it names.
        issuer: Box<str>,
    },
    /// More than [`IDENTITY_HEADERS_MAX`].
    #[error("there are more than {IDENTITY_HEADERS_MAX} identity headers")]
    TooManyHeaders,
    /// Senders are to be bound on a route that the API does not have.
    #[error("there is no route `{0}` whose tokens could be bound")]
    UnknownRoute(Box<str>),
    /// What callers' proofs are to name is no address.
    #[error("{0} is no address such as https://api.example.com")]
    Address(Box<str>),
    /// A header that HTTP or keyholder needs for something else.
    #[error("{0} cannot be an identity header")]
    Header(HeaderName),
}

/// What is asked of the senders of tokens (RFC 8705, RFC 9449). Whatever it says, a token that is bound is taken from
/// whom it was issued to and from nobody else.
#[derive(Clone, Debug, Default)]
pub struct SenderRules {
    /// Whether every token must be bound, by certificate or by key.
    pub everywhere: bool,
    /// The names of routes whose tokens must be.
    pub routes: Vec<Box<str>>,
    /// How proofs are judged.
    pub proofs: ProofRules,
    /// The addresses by which callers reach the API, scheme and host with a port if need be: a proof for any other is
    /// refused. None: the one that each request names, so that a proof for another server with the same audience is
    /// taken by who copies that server's name.
    pub addresses: Vec<String>,
}

/// The same in the form that requests need.
#[derive(Debug, Default)]
pub(super) struct Binding {
    everywhere: bool,
    /// For each route.
    routes: Box<[bool]>,
    pub(super) proofs: ProofRules,
    /// In one spelling.
    pub(super) addresses: Box<[String]>,
}

/// Values of `iss`.
type Issuers = Box<[Arc<str>]>;

/// A protected API that can be served.
pub struct Api {
    pub(super) routes: RouteTable,
    pub(super) verifier: Arc<dyn TokenVerifier>,
    pub(super) upstream: Box<str>,
    pub(super) egress: Arc<Egress>,
    pub(super) identity: IdentityHeaders,
    pub(super) authorization: Authorization,
    pub(super) host: SentHost,
    /// The values of `iss` that are taken.
    pub(super) issuers: Issuers,
    pub(super) proxies: Proxies,
    /// Audiences of which a token must name one; empty is any.
    audiences: Box<[Box<str>]>,
    pub(super) binding: Binding,
    /// The values of `iss` of each route that takes fewer.
    of_routes: Box<[Option<Issuers>]>,
}

impl Api {
    /// Checks all that can be wrong.
    pub fn new(spec: ApiSpec) -> Result<Self, ApiError> {
        let ApiSpec { routes, verifier, issuers, upstream, egress, identity_headers, authorization, host } = spec;
        Origin::parse(&upstream).map_err(|error| ApiError::Upstream(error.to_string()))?;
        if issuers.is_empty() && routes.rules().iter().any(|rule| !rule.requirement().is_public()) {
            return Err(ApiError::NoIssuer);
        }
        let of_routes = routes.rules().iter().map(|rule| taken(rule, &issuers)).collect::<Result<_, _>>()?;
        let issuers = issuers.into_iter().flat_map(|issuer| issuer.issuers).collect();
        let (identity, upstream) = (IdentityHeaders::new(identity_headers)?, upstream.into());
        Ok(Self {
            routes,
            verifier,
            upstream,
            egress,
            identity,
            authorization,
            host,
            issuers,
            proxies: Proxies::default(),
            audiences: Box::default(),
            binding: Binding::default(),
            of_routes,
        })
    }
}

impl Api {
    /// The same behind these proxies; else there are none.
    pub fn behind(self, proxies: Proxies) -> Self {
        Self { proxies, ..self }
    }

    /// The same for tokens that name one of these in `aud`: an issuer's tokens may be for several APIs. None is any.
    pub fn for_audiences(self, audiences: Vec<Box<str>>) -> Self {
        Self { audiences: audiences.into(), ..self }
    }

    /// The same with another verifier: all that can be wrong with an API is known before there is one.
    pub fn verified_by(self, verifier: Arc<dyn TokenVerifier>) -> Self {
        Self { verifier, ..self }
    }

    /// Its routes.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// Whether a token is meant for this API.
    pub(super) fn is_meant(&self, identity: &Identity) -> bool {
        self.audiences.is_empty() || identity.audience().any(|named| self.audiences.iter().any(|own| **own == *named))
    }

    /// The same with these rules for senders; else a token that is not bound is taken everywhere.
    pub fn with_senders(self, rules: SenderRules) -> Result<Self, ApiError> {
        let SenderRules { everywhere, routes, proofs, addresses } = rules;
        let mut bound = vec![false; self.routes.rules().len()];
        for name in routes {
            let mut found = false;
            for (rule, bound) in self.routes.rules().iter().zip(&mut bound).filter(|(rule, _)| *rule.name() == *name) {
                (*bound, found) = (!rule.requirement().is_public(), true);
            }
            if !found {
                return Err(ApiError::UnknownRoute(name));
            }
        }
        // a path would look as if it counted
        let one_spelling =
            |address: String| bare_origin(&address).ok_or_else(|| ApiError::Address(address.into_boxed_str()));
        let addresses = addresses.into_iter().map(one_spelling).collect::<Result<_, _>>()?;
        let binding = Binding { everywhere, routes: bound.into(), proofs, addresses };
        Ok(Self { binding, ..self })
    }
}

/// The proxies between callers and a site's listeners.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Those whose connections begin with a PROXY protocol header: each of them must.
    pub proxy_protocol: TrustedProxies,
    /// Those whose headers tell a client's address, and which header.
    pub addressing: ClientAddressing,
}

impl Proxies {
    /// Whether connections from `peer` begin with a PROXY protocol header.
    pub(crate) fn speak_proxy_protocol(&self, peer: IpAddr) -> bool {
        !self.proxy_protocol.is_nobody() && self.proxy_protocol.trust(peer)
    }
}

/// The values of `iss` that a route takes, if it does not take all of its API's.
fn taken(rule: &RouteRule, issuers: &[IssuerNames]) -> Result<Option<Issuers>, ApiError> {
    let mut taken: Vec<Arc<str>> = Vec::new();
    for name in rule.issuers() {
        let Some(issuer) = issuers.iter().find(|issuer| *issuer.name == *name) else {
            return Err(ApiError::UnknownIssuer { route: rule.name().into(), issuer: name.into() });
        };
        taken.extend(issuer.issuers.iter().cloned());
    }
    Ok((!taken.is_empty()).then(|| taken.into()))
}

/// An API with the counters of its routes.
pub(crate) struct Live {
    pub(super) api: Api,
    counts: RouteCounts,
}

impl Live {
    fn new(api: Api, counts: &Arc<SiteCounts>) -> Arc<Self> {
        let counts = counts.routes(api.routes.rules().len());
        Arc::new(Self { api, counts })
    }

    /// Whether a token on this route has to be bound.
    pub(super) fn wants_bound(&self, index: usize) -> bool {
        let Binding { everywhere, routes, .. } = &self.api.binding;
        *everywhere || routes.get(index).copied().unwrap_or_default()
    }

    /// Counts an answer of a route.
    pub(super) fn answered(&self, index: usize, status: StatusCode, took: Duration) {
        if let Some(rule) = self.api.routes.rules().get(index) {
            self.counts.answered((index, rule.name()), status, took);
        }
    }

    /// The values of `iss` that a route takes.
    pub(super) fn taken(&self, index: usize) -> &[Arc<str>] {
        self.api.of_routes.get(index).and_then(Option::as_ref).unwrap_or(&self.api.issuers)
    }

    /// Whether a route takes tokens of this issuer.
    pub(super) fn takes(&self, index: usize, issuer: &Arc<str>) -> bool {
        self.taken(index).iter().any(|taken| **taken == **issuer)
    }
}

/// The site in front of one protected API, for as long as its listeners serve.
pub struct Inbound {
    name: Arc<str>,
    live: ArcSwap<Live>,
    counts: Arc<SiteCounts>,
    pub(super) security: Security,
    pub(super) senders: Senders,
}

impl Inbound {
    /// A site called `name` (letters, digits, `-` and `_`), which is its realm as well.
    pub fn new(name: &str, first: Api, metrics: &InboundMetrics, security: impl Into<Security>) -> Arc<Self> {
        Self::with_proof_memory(name, first, metrics, security, PROOF_MEMORY_BYTES)
    }

    /// The same with this many bytes for the proofs that were seen, of all workers together.
    pub fn with_proof_memory(
        name: &str,
        first: Api,
        metrics: &InboundMetrics,
        security: impl Into<Security>,
        bytes: usize,
    ) -> Arc<Self> {
        let name: Arc<str> = name.into();
        let counts = metrics.site(&name);
        Arc::new(Self {
            live: ArcSwap::new(Live::new(first, &counts)),
            name,
            counts,
            security: security.into(),
            senders: Senders::with_memory(bytes),
        })
    }

    /// From now on new requests see `next`; those under way go on with what they have seen.
    pub fn replace(&self, next: Api) {
        self.live.store(Live::new(next, &self.counts));
    }

    /// A request was refused before it had a route.
    pub(crate) fn refused(&self, code: Code) {
        let reason = if code == Code::REQUEST_TOO_LARGE { "too_large" } else { "ambiguous" };
        self.counts.refused(reason);
    }

    /// Whether connections from `peer` begin with a PROXY protocol header.
    pub(crate) fn speaks_proxy_protocol(&self, peer: IpAddr) -> bool {
        self.live.load().api.proxies.speak_proxy_protocol(peer)
    }

    /// What watches over those who authenticate here.
    pub(crate) fn security(&self) -> &Security {
        &self.security
    }

    pub(super) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    pub(super) fn counts(&self) -> &SiteCounts {
        &self.counts
    }

    pub(super) fn realm(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbound").field(&self.name).finish()
    }
}
