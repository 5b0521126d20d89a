//! What the security log is told of a request: every failure, and a success that is news.

use http::{header, request::Parts};
use kh_core::{
    Identity, Sha256,
    port::security::{AuthenticationEvent, Outcome, Site, TokenDigest, Told},
};

use super::{Call, Denied, challenge::Denial, token::Shown};

/// Nobody was authenticated.
pub(super) fn failed(call: &Call<'_>, parts: &Parts, shown: Shown<'_>, denial: &Denial, denied: Option<&Denied>) {
    let outcome = Outcome::Failure { reason: denial.reason };
    record(call, parts, shown, outcome, |event| {
        event.status = Some(denial.refusal.status.as_u16());
        if let Some(denied) = denied {
            event.issuer = denied.issuer.as_deref().map(Told::new);
            event.client = denied.client.as_deref().map(Told::new);
        }
    });
}

/// Somebody was authenticated and may not do this.
pub(super) fn not_allowed(call: &Call<'_>, parts: &Parts, shown: Shown<'_>, denial: &Denial, identity: &Identity) {
    let outcome = Outcome::Failure { reason: denial.reason };
    record(call, parts, shown, outcome, |event| {
        event.status = Some(denial.refusal.status.as_u16());
        tell(event, identity);
    });
}

/// Somebody was authenticated and may do this. Most requests are: nothing is made unless it is news.
pub(super) fn passed(call: &Call<'_>, parts: &Parts, shown: Shown<'_>, identity: &Identity) {
    let Some(log) = &call.site.security.log else { return };
    let subject = identity.subject().or(identity.client()).unwrap_or_default();
    if log.wants_success(identity.issuer(), subject, call.client.map(|client| client.ip), call.now()) {
        record(call, parts, shown, Outcome::Success, |event| tell(event, identity));
    }
}

fn tell(event: &mut AuthenticationEvent, identity: &Identity) {
    event.verified = true;
    event.issuer = Some(Told::new(identity.issuer()));
    event.client = identity.client().map(Told::new);
    event.subject = identity.subject().map(Told::new);
}

fn record(
    call: &Call<'_>,
    parts: &Parts,
    shown: Shown<'_>,
    outcome: Outcome,
    more: impl FnOnce(&mut AuthenticationEvent),
) {
    let Some(log) = &call.site.security.log else { return };
    let caller = call.asked.caller;
    let mut event = AuthenticationEvent::new(call.now().wall, Site::Gateway, outcome);
    event.presented = shown.presented();
    event.route = Some(Told::new(call.rule.name()));
    event.token = match shown {
        Shown::Bearer(token) | Shown::DPoP(token) => Some(TokenDigest::of(Sha256::of(token))),
        Shown::Nothing | Shown::Basic | Shown::Other => None,
    };
    event.method = Some(Told::new(parts.method.as_str()));
    event.user_agent = parts.headers.get(header::USER_AGENT).map(|value| Told::of_bytes(value.as_bytes()));
    event.tls = caller.tls;
    event.peer = caller.peer;
    event.client_address = call.client;
    event.trace = call.asked.trail.and_then(|trail| trail.context());
    more(&mut event);
    log.record(event);
}
