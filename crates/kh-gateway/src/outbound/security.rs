//! What the security log is told of requests towards the platforms and of keyholder's own endpoints: every failure, and a
//! success that is news.
//!
//! Invariants: each request is told of once at most, but for a call that was let through and whose session ended with it,
//! which is told as well; of a client id that is nobody's, nothing is told: it may be a secret that stands in the wrong
//! place; of a path its route is told, and nothing that the caller chose.

use http::{header, request::Parts};
use kh_core::{
    Code, Confirmation, Sha256,
    port::security::{Attempt, AuthenticationEvent, ClientAddress, Outcome, Presented, Site, TokenDigest, Told},
};
use kh_issuer::{Client, Session};

use super::{Outbound, route::Route};
use crate::{answer::Refusal, bearer, oauth_error::OauthError, request::Asked, sender::Scheme};

/// The issuer of keyholder's own tokens, where they have no other name.
const OWN: &str = "keyholder";

/// One request, for the log.
#[derive(Clone, Copy)]
pub(crate) struct Telling<'a> {
    pub(crate) site: &'a Outbound,
    pub(crate) asked: Asked<'a>,
    /// Whose request it is; none over a unix socket.
    pub(crate) client: Option<ClientAddress>,
    /// Where it goes.
    pub(crate) route: Route,
}

impl<'a> Telling<'a> {
    /// The same request, whose path towards the platform is this.
    pub(super) fn at(self, path: kh_policy::CanonicalPath<'a>) -> Self {
        Self { asked: Asked { path, ..self.asked }, ..self }
    }

    /// Nobody was authenticated.
    pub(super) fn failed(self, parts: &Parts, reason: &'static str, refusal: &Refusal) {
        self.record(Site::Gateway, parts, Outcome::Failure { reason }, |event| {
            event.status = Some(refusal.status.as_u16());
        });
    }

    /// The token is a client's, and who sent it is not that client, or did not prove to be.
    pub(super) fn unproven(self, parts: &Parts, reason: &'static str, session: &Session, refusal: &Refusal) {
        self.record(Site::Gateway, parts, Outcome::Failure { reason }, |event| {
            event.status = Some(refusal.status.as_u16());
            event.client = Some(Told::new(session.client.record.id.as_str()));
        });
    }

    /// A delivery of a platform's events was refused at the endpoint that the configuration calls `endpoint`, because its
    /// sender is not known or may not send.
    pub(super) fn sender_refused(
        self,
        parts: &Parts,
        endpoint: &str,
        (reason, shown): (&'static str, Presented),
        refusal: &Refusal,
    ) {
        self.record(Site::Events, parts, Outcome::Failure { reason }, |event| {
            event.route = Some(Told::new(endpoint));
            event.status = Some(refusal.status.as_u16());
            if event.presented == Presented::Nothing {
                event.presented = shown;
            }
        });
    }

    /// A client was authenticated and may not do this.
    pub(super) fn not_allowed(self, parts: &Parts, session: &Session, refusal: &Refusal) {
        let reason = match refusal.code {
            Code::CALL_GUARDED => "call_guarded",
            Code::ENVIRONMENT_REFUSED => "environment_refused",
            _ => "call_not_allowed",
        };
        self.record(Site::Gateway, parts, Outcome::Failure { reason }, |event| {
            event.status = Some(refusal.status.as_u16());
            known(event, &session.client);
        });
    }

    /// A client's token is good, and the session that it speaks for has ended.
    pub(super) fn session_ended(self, parts: &Parts, session: &Session, refusal: &Refusal) {
        self.record(Site::Gateway, parts, Outcome::Failure { reason: "session_ended" }, |event| {
            event.status = Some(refusal.status.as_u16());
            // once a call is under way, the platform's token stands in the head
            event.token = Some(TokenDigest::of(session.digest));
            event.presented = match session.confirmation() {
                Some(Confirmation::Jkt(_)) => Presented::DPoP,
                Some(Confirmation::X5tS256(_)) | None => Presented::Bearer,
            };
            known(event, &session.client);
        });
    }

    /// A client was authenticated and may do this. Most requests are: nothing is made unless it is news.
    pub(super) fn passed(self, parts: &Parts, session: &Session) {
        if self.wants_success(&session.client) {
            self.record(Site::Gateway, parts, Outcome::Success, |event| known(event, &session.client));
        }
    }

    /// A client authenticated itself at one of keyholder's own endpoints.
    pub(super) fn logged_in(self, parts: &Parts, shown: Presented, client: &Client) {
        if self.wants_success(client) {
            self.record(Site::TokenEndpoint, parts, Outcome::Success, |event| {
                event.presented = shown;
                known(event, client);
            });
        }
    }

    /// A login, or another request of a client at one of keyholder's own endpoints, was refused.
    pub(super) fn not_logged_in(self, parts: &Parts, tried: &Tried, error: OauthError, refusal: &Refusal) {
        let Some(reason) = reason(self.route, error, refusal.code) else { return };
        self.record(Site::TokenEndpoint, parts, Outcome::Failure { reason }, |event| {
            event.status = Some(refusal.status.as_u16());
            if tried.shown != Presented::Nothing {
                event.presented = tried.shown;
            }
            event.client.clone_from(&tried.client);
            event.verified = tried.verified;
        });
    }

    /// Whose try it is; without a client it counts for the address alone.
    pub(super) fn attempt(self, client: Option<&str>) -> Attempt<'_> {
        Attempt { address: self.client.map(|client| client.ip), realm: None, client }
    }

    fn wants_success(self, client: &Client) -> bool {
        let Some(log) = &self.site.security.log else { return false };
        let address = self.client.map(|client| client.ip);
        log.wants_success(OWN, client.record.id.as_str(), address, self.asked.began.now)
    }

    fn record(self, site: Site, parts: &Parts, outcome: Outcome, more: impl FnOnce(&mut AuthenticationEvent)) {
        if let Outcome::Failure { reason } = outcome {
            // for whoever counts the answer; a request is refused once, so that there is nothing to lose
            self.asked.reason.set(reason).ok();
        }
        self.site.security.record(|| {
            let (asked, caller) = (self.asked, self.asked.caller);
            let mut event = AuthenticationEvent::new(asked.began.now.wall, site, outcome);
            let value = parts.headers.get(header::AUTHORIZATION);
            event.issuer = Some(Told::new(OWN));
            event.presented = match value {
                None => Presented::Nothing,
                Some(value) => match bearer::shown(value.as_bytes()) {
                    Some((Scheme::Bearer, _)) => Presented::Bearer,
                    Some((Scheme::DPoP, _)) => Presented::DPoP,
                    None => Presented::Other,
                },
            };
            let shown = value
                .and_then(|value| bearer::shown(value.as_bytes()))
                .filter(|_| matches!(site, Site::Gateway | Site::Events));
            event.token = shown.map(|(_, token)| TokenDigest::of(Sha256::of(token)));
            let template = Told::new(self.route.template());
            event.route = Some(template.clone());
            event.path_template = Some(template);
            event.method = Some(Told::new(parts.method.as_str()));
            event.user_agent = parts.headers.get(header::USER_AGENT).map(|value| Told::of_bytes(value.as_bytes()));
            event.tls = caller.tls;
            event.peer = caller.peer;
            event.client_address = self.client;
            event.trace = asked.trail.and_then(|trail| trail.context());
            more(&mut event);
            event
        });
    }
}

fn known(event: &mut AuthenticationEvent, client: &Client) {
    event.verified = true;
    event.client = Some(Told::new(client.record.id.as_str()));
}

/// Who tried to log in, as far as that may be told.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    pub(super) shown: Presented,
    /// A client that exists.
    pub(super) client: Option<Told>,
    /// Whether it showed its secret.
    pub(super) verified: bool,
}

impl Default for Tried {
    fn default() -> Self {
        Self { shown: Presented::Nothing, client: None, verified: false }
    }
}

/// The reason code of a refusal with this error at this endpoint; none where nobody tried to authenticate, or where it
/// was not looked at.
fn reason(route: Route, error: OauthError, code: Code) -> Option<&'static str> {
    Some(match code {
        Code::LOGIN_THROTTLED => "throttled",
        Code::CLIENT_DISABLED => "client_disabled",
        Code::ENVIRONMENT_REFUSED => "environment_refused",
        Code::CALLER_UNAUTHENTICATED => "invalid_client",
        Code::CALL_NOT_ALLOWED if route == Route::OauthRevoke => "token_of_another_client",
        Code::CALL_NOT_ALLOWED if route == Route::OauthIntrospect => "introspection_not_allowed",
        // the client may not use this grant (RFC 6749 section 5.2)
        Code::CALL_NOT_ALLOWED => "unauthorized_client",
        Code::CALLER_PROOF_INVALID => "binding_unproven",
        _ if error == OauthError::InvalidScope => "invalid_scope",
        _ => return None,
    })
}
