//! Towards the user's own API: a request is taken when its route does, with a verified token that says what the route
//! requires.
//!
//! Invariants: default deny: what no route names goes nowhere; what a route decides on is what is sent: the same method,
//! host and path; a decision is made anew for each request, on what the token says and never on an earlier decision; the
//! caller's token reaches the API only where the configuration says so, and no issuer whose tokens its route does not take;
//! why a token was not taken is told to the log and not to the caller.

mod api;
mod challenge;
mod forward;
mod identity_headers;
mod latency;
mod metrics;
mod security;
mod token;
mod tunnel;
mod verifier;

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, Uri, header, request::Parts};
use hyper::body::Incoming;
use kh_core::{
    Code, Hashed, Identity, Now,
    port::security::{Attempt, ClientAddress},
};
use kh_net::client_address::ToldOrigin;
use kh_policy::{Decision, Found, RouteRule, route::is_host};
use kh_verify::Reason;

#[cfg(any(fuzzing, test))]
pub(crate) use self::identity_headers::kept_names_that_pass;
use self::{
    api::Live,
    challenge::{Challenge, Denial},
    identity_headers::IdentityValues,
    token::Shown,
};
pub use self::{
    api::{
        Api, ApiError, ApiSpec, Authorization, IDENTITY_HEADERS_MAX, Inbound, IssuerNames, Proxies, SenderRules,
        SentHost,
    },
    identity_headers::{IdentityField, IdentityHeader, may_tell},
    metrics::InboundMetrics,
    verifier::{Denied, TokenVerifier},
};
use crate::{
    answer::{self, Answer, Refusal},
    request::{Asked, Refused},
    sender::{NextNonce, Scheme, Sent},
};

/// The route that a request took, for its counters.
pub(crate) struct Took {
    live: Arc<Live>,
    route: usize,
}

impl Took {
    /// Counts the answer.
    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        self.live.answered(self.route, status, took);
    }
}

/// Answers a request that has one reading, and says which route it took.
pub(crate) async fn serve(
    site: &Arc<Inbound>,
    asked: Asked<'_>,
    parts: &mut Parts,
    uri: &Uri,
    body: Incoming,
) -> (Result<Answer, Refused>, Option<Took>) {
    let live = site.live();
    let mut took = None;
    // a copy of the handle, not of the bytes
    let sent = parts.headers.get(header::HOST).cloned();
    let answer = match host(uri, sent.as_ref()) {
        Ok(host) => match live.api.routes.find(host, parts.method.as_str(), &asked.path) {
            Found::Route(index, rule) => {
                took = Some(index);
                // before the headers that proxies write are taken off
                let addressing = &live.api.proxies.addressing;
                let client = asked.caller.client.map(|client| addressing.find(client, &parts.headers));
                let call = Call {
                    site,
                    live: &live,
                    index,
                    rule,
                    asked,
                    host,
                    sent: sent.as_ref(),
                    client,
                    scheme: Scheme::Bearer,
                };
                call.answer(parts, body).await
            }
            Found::MethodNotAllowed(methods) => Err(Denial::no_method(methods.iter())),
            Found::None => Err(Denial::no_route()),
        },
        Err(refusal) => Err(Denial { reason: "ambiguous", refusal }),
    };
    let answer = answer.map_err(|Denial { reason, refusal }| {
        site.counts().refused(reason);
        Refused::from(refusal)
    });
    (answer, took.map(|route| Took { live, route }))
}

/// The answer to a request that was refused. `id` names this occurrence in the log.
pub(crate) fn refuse(refused: Refused, id: &str) -> Answer {
    refused.refusal.into_problem(id)
}

/// The host that a request is for. An absolute request target and `Host` must not differ (RFC 9112 section 3.2.2 would
/// have the first one win, and not every server does so).
fn host<'a>(uri: &'a Uri, header: Option<&'a HeaderValue>) -> Result<&'a str, Refusal> {
    let header = match header {
        None => None,
        Some(value) => {
            let text = value.to_str().map_err(|_| Refusal::ambiguous("the Host header is not a host"))?;
            Some(text)
        }
    };
    let host = match (uri.authority(), header) {
        (Some(authority), Some(host)) if !authority.as_str().eq_ignore_ascii_case(host) => {
            return Err(Refusal::ambiguous("the request target and the Host header name different hosts"));
        }
        (Some(authority), _) => authority.as_str(),
        (None, host) => host.unwrap_or_default(),
    };
    // one with a path or a query in it would be another address than the route's in what a proof is for
    if is_host(host) { Ok(host) } else { Err(Refusal::ambiguous("the Host header is not a host")) }
}

/// Why nobody was authenticated.
enum NotTaken {
    /// There is no token: the reason, and what is told.
    Missing(&'static str, &'static str),
    /// It has not the form of one.
    Malformed,
    /// It was verified and not taken.
    Denied(Denied),
    /// Too many failures came before: how long to wait.
    Throttled(Duration),
}

/// One request on its route.
struct Call<'a> {
    site: &'a Arc<Inbound>,
    live: &'a Live,
    index: usize,
    rule: &'a RouteRule,
    asked: Asked<'a>,
    /// The host that the route was found for.
    host: &'a str,
    /// The caller's `Host`.
    sent: Option<&'a HeaderValue>,
    /// The client's address; none over a unix socket.
    client: Option<ClientAddress>,
    /// By which scheme it shows its token.
    scheme: Scheme,
}

impl Call<'_> {
    async fn answer(mut self, parts: &mut Parts, body: Incoming) -> Result<Answer, Denial> {
        if let Some(trail) = self.asked.trail {
            trail.route(self.rule.name());
            trail.client_address(self.client.map(|client| client.ip));
        }
        if self.rule.requirement().is_public() || self.is_for_api(parts) {
            return forward::forward(&self, parts, body, None).await;
        }
        let (identity, values, nonce) = self.admit(parts).await?;
        let caller_is = Some((&*identity, values));
        let (mut response, outcome) = forward::forward(&self, parts, body, caller_is).await?;
        answer::tell_nonce(response.headers_mut(), &nonce);
        Ok((response, outcome))
    }

    /// Whether it carries credentials that the API authenticates by itself, because its route says so.
    fn is_for_api(&self, parts: &Parts) -> bool {
        let unbound = !self.live.wants_bound(self.index);
        unbound && self.rule.allows_basic() && matches!(Shown::of(&parts.headers), Shown::Basic)
    }

    /// What the API is told of who calls, if that suffices. Whatever comes of it, the security log is told.
    async fn admit(&mut self, parts: &Parts) -> Result<(Arc<Identity>, IdentityValues, NextNonce), Denial> {
        let shown = Shown::of(&parts.headers);
        self.scheme = shown.scheme();
        let identity = match self.authenticate(shown).await {
            Ok(identity) => identity,
            Err(not_taken) => {
                let denial = self.denial(&not_taken);
                let denied = if let NotTaken::Denied(denied) = &not_taken { Some(denied) } else { None };
                security::failed(self, parts, shown, &denial, denied);
                return Err(denial);
            }
        };
        if let Some(trail) = self.asked.trail {
            trail.identity(&identity);
        }
        let authorized = self.authorize(&identity, parts, shown);
        // before the log hears of a success: a request whose caller cannot be told of goes nowhere
        match authorized.and_then(|nonce| self.values(&identity).map(|values| (values, nonce))) {
            Ok((values, nonce)) => {
                security::passed(self, parts, shown, &identity);
                Ok((identity, values, nonce))
            }
            Err(denial) => {
                security::not_allowed(self, parts, shown, &denial, &identity);
                Err(denial)
            }
        }
    }

    /// Whom the token speaks for. Who holds a token that is known never meets the guard.
    async fn authenticate(&mut self, shown: Shown<'_>) -> Result<Arc<Identity>, NotTaken> {
        let verifier = &self.live.api.verifier;
        let hashed = shown.token().map(Hashed::of);
        if let Some(token) = hashed
            && let Some(identity) = verifier.known(token, self.asked.began.now)
        {
            return Ok(identity);
        }
        if let Some(wait) = self.site.security.wait(self.attempt(None), self.now()) {
            return Err(NotTaken::Throttled(wait));
        }
        let Some(token) = hashed else {
            return Err(match shown {
                Shown::Nothing => NotTaken::Missing("token_missing", "the request has no access token"),
                Shown::Basic => NotTaken::Missing("basic_refused", "Basic authentication is not taken here"),
                Shown::Other | Shown::Bearer(_) | Shown::DPoP(_) => {
                    NotTaken::Missing("scheme_refused", "the request has no bearer token")
                }
            });
        };
        // a token that is known is well formed, so only the others are looked at letter by letter
        if !token::is_token(token.bytes()) {
            self.site.security.failed(self.attempt(None), self.now());
            return Err(NotTaken::Malformed);
        }
        let verified = verifier.verify(token, self.live.taken(self.index), self.asked.began.now).await;
        // it may have been a long way to the issuer and back
        self.asked.began = self.asked.caller.worker.began();
        match verified {
            Ok(identity) => {
                let attempt = self.attempt(identity.client());
                self.site.security.succeeded(attempt, self.now());
                Ok(identity)
            }
            Err(denied) => Err(self.count(denied)),
        }
    }

    /// Counts a token that is not valid. A client that goes on with one (its signature was good, so it is that client)
    /// has a count of its own, and beyond that its failures are not held against its address, which others may share.
    fn count(&self, denied: Denied) -> NotTaken {
        // nobody knows whether the token is bad, or nobody looked
        if denied.retry_after.is_some() || denied.reason == NOT_OF_ROUTE {
            return NotTaken::Denied(denied);
        }
        let attempt = self.attempt(denied.client.as_deref());
        if attempt.client.is_some()
            && let Some(wait) = self.site.security.wait(attempt, self.now())
        {
            return NotTaken::Throttled(wait);
        }
        self.site.security.failed(attempt, self.now());
        NotTaken::Denied(denied)
    }

    /// Whose try it is.
    fn attempt<'a>(&'a self, client: Option<&'a str>) -> Attempt<'a> {
        Attempt { address: self.client.map(|client| client.ip), realm: Some(self.site.realm()), client }
    }

    fn denial(&self, not_taken: &NotTaken) -> Denial {
        let challenge = self.challenge();
        match not_taken {
            NotTaken::Missing(reason, detail) => {
                Denial::missing(challenge, self.live.wants_bound(self.index), reason, detail)
            }
            NotTaken::Malformed => Denial::malformed(challenge),
            NotTaken::Throttled(wait) => Denial::throttled(*wait),
            NotTaken::Denied(denied) => match denied.retry_after {
                None => Denial::invalid(challenge, denied.reason),
                Some(wait) => {
                    self.tell_unavailable(denied);
                    Denial::unknown(denied.reason, wait)
                }
            },
        }
    }

    /// An issuer that gives no answer needs somebody; a bad token is its sender's business.
    fn tell_unavailable(&self, denied: &Denied) {
        if self.asked.caller.worker.may_warn() {
            tracing::warn!(
                inbound.name = self.site.realm(),
                issuer.name = denied.issuer.as_deref(),
                reason = denied.reason,
                "a caller's token cannot be verified at the moment"
            );
        }
    }

    /// Whether that is enough for this route, and for this request alone.
    fn authorize(&self, identity: &Identity, parts: &Parts, shown: Shown<'_>) -> Result<NextNonce, Denial> {
        let challenge = self.challenge();
        if !self.live.takes(self.index, identity.issuer()) {
            return Err(Denial::invalid(challenge, NOT_OF_ROUTE));
        }
        if !self.live.api.is_meant(identity) {
            return Err(Denial::invalid(challenge, "audience_not_of_api"));
        }
        let nonce = self.check_sender(identity, parts, shown)?;
        match self.rule.requirement().decide(identity) {
            Decision::Allowed => Ok(nonce),
            Decision::InsufficientScope { scope } => {
                Err(Denial::insufficient(challenge, "insufficient_scope", scope.as_deref()))
            }
            Decision::ConditionNotMet { claim } => {
                tracing::debug!(claim, "a token's claim does not meet its route's condition");
                Err(Denial::insufficient(challenge, "condition_not_met", None))
            }
        }
    }

    /// What the API is told of who calls, if all of it can stand in a header.
    fn values(&self, identity: &Identity) -> Result<IdentityValues, Denial> {
        let values = self.live.api.identity.values(identity);
        values.map_err(|_unfit| Denial::invalid(self.challenge(), "claim_unfit"))
    }

    /// Whether the token comes from whom it was issued to (RFC 8705 section 3, RFC 9449 section 7).
    fn check_sender(&self, identity: &Identity, parts: &Parts, shown: Shown<'_>) -> Result<NextNonce, Denial> {
        let bound = identity.confirmation();
        if bound.is_none() && self.live.wants_bound(self.index) {
            return Err(Denial::invalid(self.challenge(), "binding_missing"));
        }
        let (senders, rules) = (&self.site.senders, &self.live.api.binding.proofs);
        let caller = self.asked.caller;
        let (entropy, now) = (&*caller.worker.ports.entropy, self.now().wall);
        let checked = senders.check(bound, self.scheme, caller.certificate.as_ref(), rules, entropy, || Sent {
            method: parts.method.as_str(),
            address: self.address(parts),
            headers: &parts.headers,
            token: shown.token(),
            now,
        });
        checked.map_err(|reason| {
            let nonce = if reason == Reason::ProofNonce { senders.nonce(rules, now, entropy) } else { None };
            Denial::sender(self.challenge(), reason, nonce)
        })
    }

    /// Scheme, host and path by which the client asked, without the query (RFC 9449 section 4.2, `htu`).
    fn address(&self, parts: &Parts) -> Option<String> {
        let told = self.client_told(parts);
        let secure = told.secure.unwrap_or_else(|| self.asked.caller.is_secure());
        let scheme = if secure { "https" } else { "http" };
        let host = told.host.as_deref().unwrap_or(self.host);
        let address = format!("{scheme}://{host}{}", parts.uri.path());
        let allowed = &self.live.api.binding.addresses;
        let fine = allowed.is_empty() || kh_verify::dpop::origin(&address).is_some_and(|own| allowed.contains(&own));
        fine.then_some(address)
    }

    /// What proxies that are trusted say of the address that the client used.
    fn client_told(&self, parts: &Parts) -> ToldOrigin {
        let addressing = &self.live.api.proxies.addressing;
        self.asked.caller.client.map(|client| addressing.told_origin(client, &parts.headers)).unwrap_or_default()
    }

    /// How a caller of this request is challenged.
    fn challenge(&self) -> Challenge<'_> {
        Challenge { realm: self.site.realm(), scheme: self.scheme, proofs: &self.live.api.binding.proofs }
    }

    /// The clocks when the request came in, or when its token had been verified.
    fn now(&self) -> Now {
        self.asked.began.now
    }
}

/// The token is, or would be, of an issuer whose tokens the route does not take: no guess, and elsewhere it may be good.
const NOT_OF_ROUTE: &str = "issuer_not_of_route";

/// Reasons of denials that are the gateway's own, for the reference; those of tokens are the verifier's.
pub const REASONS: [(&str, Code); 18] = [
    ("no_route", Code::NOT_FOUND),
    ("method_not_allowed", Code::METHOD_NOT_ALLOWED),
    ("ambiguous", Code::REQUEST_AMBIGUOUS),
    ("too_large", Code::REQUEST_TOO_LARGE),
    ("body_incomplete", Code::REQUEST_MALFORMED),
    ("token_missing", Code::INBOUND_TOKEN_MISSING),
    ("basic_refused", Code::INBOUND_TOKEN_MISSING),
    ("scheme_refused", Code::INBOUND_TOKEN_MISSING),
    ("authorization_malformed", Code::INBOUND_AUTHORIZATION_MALFORMED),
    ("throttled", Code::INBOUND_THROTTLED),
    (NOT_OF_ROUTE, Code::INBOUND_TOKEN_INVALID),
    ("audience_not_of_api", Code::INBOUND_TOKEN_INVALID),
    ("binding_missing", Code::INBOUND_TOKEN_INVALID),
    ("proof_missing", Code::INBOUND_TOKEN_INVALID),
    ("claim_unfit", Code::INBOUND_TOKEN_INVALID),
    ("insufficient_scope", Code::INBOUND_NOT_ALLOWED),
    ("condition_not_met", Code::INBOUND_NOT_ALLOWED),
    ("upstream_failed", Code::INBOUND_UPSTREAM_FAILED),
];
