//! Protected APIs: their verifier, their routes and the way to them. Here the one of the short form and what all share.
//!
//! Invariant: nothing listens before the keys were read and every route was understood.

mod apis;
mod issuers;
mod metrics;
mod online;
mod protection;

use std::{path::PathBuf, sync::Arc};

use kh_core::{
    Clock, Code, Hashed, Identity, Now, UnixMillis,
    audit::AuditEvent,
    port::{BoxFuture, KeySource, RevocationStore, StateError, inbound::PlacedRevocation},
    revocation::RevocationRecord,
};
use kh_gateway::inbound::{Api, ApiSpec, Authorization, Denied, IdentityHeader, IssuerNames, SentHost, TokenVerifier};
use kh_inbound::{Bounds, DeniedKind, FileKeys, IssuerSpec, LIFE_MAX, Trust, Verifier, VerifierConfig};
use kh_net::{Egress, Settings, SystemRoots};
use kh_platform::{
    HttpClient, PlainHttp, Timeouts,
    inbound::{KeysAt, RemoteKeys},
};
use kh_policy::{Requirement, RouteRule, RouteTable, genesys};
use kh_verify::{Accepted, Policy};

pub(crate) use self::{
    apis::proxies,
    issuers::Sides,
    metrics::VerifierMetrics,
    online::{SeenIssuer, issuers as look_at_issuers},
    protection::{InboundCheck, Next as NextInbound, PreparedInbound, Protection},
};
use crate::output::Failure;

/// The name of the only issuer of the short form.
const ISSUER: &str = "issuer";

/// The verifier as the gateway asks it.
pub(crate) struct Verifying(pub(crate) Arc<Verifier>);

impl TokenVerifier for Verifying {
    fn known(&self, token: Hashed<'_>, now: Now) -> Option<Arc<Identity>> {
        self.0.known_hashed(token, now)
    }

    fn verify<'a>(
        &'a self,
        token: Hashed<'a>,
        taken: &'a [Arc<str>],
        now: Now,
    ) -> BoxFuture<'a, Result<Arc<Identity>, Denied>> {
        Box::pin(async move {
            self.0.verify_for(taken, token, now).await.map_err(|denied| Denied {
                reason: denied.reason.as_str(),
                retry_after: match denied.kind {
                    DeniedKind::Invalid => None,
                    DeniedKind::Unavailable { retry_after } => Some(retry_after),
                },
                issuer: denied.issuer,
                client: denied.client,
            })
        })
    }

    fn taken_until(&self, identity: &Identity) -> Option<UnixMillis> {
        self.0.taken_until(identity)
    }
}

/// Nobody revokes anything where there is no state.
struct NoRevocations;

impl RevocationStore for NoRevocations {
    fn add_revocations(
        &self,
        _records: Vec<RevocationRecord>,
        _event: Option<AuditEvent>,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        // nothing offers it without a state, so a caller of this is a bug, and it must not believe that it revoked
        Box::pin(async {
            Err(StateError::Unavailable { reason: "there is no state to keep revocations in".to_owned(), source: None })
        })
    }

    fn revocations_after(
        &self,
        _position: u64,
        _limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PlacedRevocation>, StateError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn forget_revocations(&self, _cutoff: UnixMillis, _limit: u32) -> BoxFuture<'_, Result<usize, StateError>> {
        Box::pin(async { Ok(0) })
    }
}

/// One API and one issuer, as the command line names them.
#[derive(Clone, Debug)]
pub(crate) struct OneApi {
    /// Base address of the API.
    pub(crate) upstream: String,
    /// The issuer's keys: a file, or an address.
    pub(crate) keys: String,
    /// The tokens' `iss`.
    pub(crate) issuer: String,
    /// Audiences of which a token must name one; none is any.
    pub(crate) audiences: Vec<String>,
    /// Lines of `METHOD /path=SCOPE SCOPE`; without them and `operations`, every request with a verified token.
    pub(crate) require: Vec<String>,
    /// By what the built-in table of Genesys Cloud's operations decides, if it is taken.
    pub(crate) operations: Option<genesys::Basis>,
}

impl OneApi {
    /// Who verifies its tokens. The keys are read here, so that a bad file stops the start.
    pub(crate) fn verifier(
        &self,
        clock: &Arc<dyn Clock>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Arc<Verifier>, Failure> {
        let (source, bounds) = self.source(clock)?;
        let issuers: Vec<Arc<str>> = vec![self.issuer.as_str().into()];
        let audiences = self.audiences.iter().map(|audience| audience.as_str().into()).collect::<Vec<_>>();
        let audiences = if audiences.is_empty() { Accepted::Any } else { Accepted::OneOf(audiences) };
        let spec = IssuerSpec {
            name: ISSUER.into(),
            issuers: issuers.clone(),
            life_max: Some(LIFE_MAX),
            trust: Trust::Keys { source, bounds, policy: Policy::new(Accepted::OneOf(issuers), audiences) },
        };
        let config = VerifierConfig::new(vec![spec]);
        let verifier = Verifier::new(config, Arc::new(NoRevocations), Arc::clone(clock), runtime)
            .map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))?;
        Ok(Arc::new(verifier))
    }

    /// Where the keys come from. An address was written by whoever runs this, so it may be in a network of theirs.
    fn source(&self, clock: &Arc<dyn Clock>) -> Result<(Arc<dyn KeySource>, Bounds), Failure> {
        if !self.keys.contains("://") {
            let path = PathBuf::from(&self.keys);
            issuers::check_keys(&path, "--jwks names a file with a JWK Set (RFC 7517), or its address")?;
            return Ok((Arc::new(FileKeys::new(path)), Bounds::FILE));
        }
        let at = KeysAt::url(&self.keys, PlainHttp::LoopbackOnly)
            .map_err(|error| Failure::usage(format!("--jwks: {error}")).hint("write it like https://issuer/keys"))?;
        let http = HttpClient::new(egress_to(&self.keys)?, Timeouts::default(), Arc::clone(clock));
        Ok((Arc::new(RemoteKeys::new(http, at)), Bounds::REMOTE))
    }

    /// The API behind its routes.
    pub(crate) fn api(&self, verifier: &Arc<Verifier>) -> Result<Api, Failure> {
        let spec = ApiSpec {
            routes: self.routes()?,
            verifier: Arc::new(Verifying(Arc::clone(verifier))),
            issuers: vec![IssuerNames { name: ISSUER.into(), issuers: vec![self.issuer.as_str().into()] }],
            upstream: self.upstream.clone(),
            egress: egress_to(&self.upstream)?,
            identity_headers: Vec::<IdentityHeader>::new(),
            authorization: Authorization::Remove,
            host: SentHost::Upstream,
        };
        Api::new(spec).map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))
    }

    fn routes(&self) -> Result<RouteTable, Failure> {
        let bad = |line: &str, error: &dyn std::error::Error| {
            Failure::new(Code::USAGE, format!("--require '{line}' cannot be used: {error}"))
                .hint("write it like 'GET /reports/{id}=reports:read', with all required scopes behind the =")
        };
        let mut rules = Vec::with_capacity(self.require.len());
        for line in &self.require {
            rules.push(RouteRule::parse_line(line).map_err(|error| bad(line, &error))?);
        }
        let built_in = self.operations.map(genesys::routes).unwrap_or_default();
        if rules.is_empty() && built_in.is_empty() {
            let every = RouteRule::new("* /**", Requirement::any_token());
            rules.push(every.map_err(|_| Failure::bug("the rule for every request does not parse"))?);
        }
        RouteTable::beside(rules, built_in).map_err(|error| Failure::of(Code::USAGE, &error))
    }
}

/// The way to an address. The system's certificates are read for one behind TLS alone: that takes longer than all the
/// rest of a start.
fn egress_to(url: &str) -> Result<Arc<Egress>, Failure> {
    let egress = if url.starts_with("https://") {
        Egress::new(Settings::default(), &SystemRoots::load())
    } else {
        Egress::trusting(&[])
    };
    egress.map(Arc::new).map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))
}
