//! An Authentication event (class 3002).
//!
//! Every request that shows a credential is a logon over the network for as long as it lasts: OCSF has no activity for
//! "a token was checked", and what watches for failed logons finds these.
//!
//! Invariant: what was not verified says so.

use kh_core::port::security::{AuthenticationEvent, Outcome, Presented, Site, Told};
use serde::Serialize;

use super::{
    EventId, append,
    shared::{Actor, Endpoint, Metadata, User},
};
use crate::geo::Place;

#[derive(Serialize)]
struct Line<'a> {
    activity_id: u8,
    activity_name: &'static str,
    category_uid: u8,
    category_name: &'static str,
    class_uid: u16,
    class_name: &'static str,
    type_uid: u32,
    type_name: &'static str,
    time: u64,
    severity_id: u8,
    severity: &'static str,
    status_id: u8,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<&'static str>,
    message: &'static str,
    metadata: Metadata,
    user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Actor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Session<'a>>,
    service: Service<'a>,
    auth_protocol_id: u8,
    auth_protocol: &'static str,
    logon_type_id: u8,
    logon_type: &'static str,
    is_remote: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_endpoint: Option<Endpoint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_request: Option<HttpRequest<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_response: Option<HttpResponse>,
    unmapped: Unmapped,
}

/// The token, by its digest, and who issued it.
#[derive(Serialize)]
struct Session<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
}

/// The part of keyholder, and the route.
#[derive(Serialize)]
struct Service<'a> {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
}

#[derive(Serialize)]
struct HttpRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    http_method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Url<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
}

#[derive(Serialize)]
struct Url<'a> {
    path: &'a str,
}

#[derive(Serialize)]
struct HttpResponse {
    code: u16,
}

#[derive(Serialize)]
struct Unmapped {
    presented: &'static str,
    identity_verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_address_source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cipher: Option<&'static str>,
}

/// Appends the event's line.
pub(crate) fn write(event: &AuthenticationEvent, place: &Place, id: EventId, lines: &mut Vec<u8>) {
    append(&line(event, place, id), lines);
}

fn line<'a>(event: &'a AuthenticationEvent, place: &'a Place, id: EventId) -> Line<'a> {
    let (severity_id, severity, status_id, status, status_code, message) = match event.outcome {
        Outcome::Success => (1, "Informational", 1, "Success", None, "a caller was authenticated"),
        Outcome::Failure { reason } => (2, "Low", 2, "Failure", Some(reason), "a caller was refused"),
    };
    let (auth_protocol_id, auth_protocol) = protocol(event);
    let told = |text: &'a Option<Told>| text.as_ref().map(Told::as_str);
    let session = (event.token.is_some() || event.issuer.is_some())
        .then(|| Session { uid: event.token.map(|token| token.to_string()), issuer: told(&event.issuer) });
    let known = event.method.is_some() || event.path_template.is_some() || event.user_agent.is_some();
    Line {
        activity_id: 1,
        activity_name: "Logon",
        category_uid: 3,
        category_name: "Identity & Access Management",
        class_uid: 3002,
        class_name: "Authentication",
        type_uid: 300_201,
        type_name: "Authentication: Logon",
        time: event.at.0,
        severity_id,
        severity,
        status_id,
        status,
        status_code,
        message,
        metadata: Metadata::new(id, event.trace.map(|trace| trace.trace.to_string())),
        user: User::of(event.subject.as_ref(), event.client.as_ref()),
        actor: Actor::of(event.client.as_ref()),
        session,
        service: Service { name: event.site.as_str(), uid: told(&event.route) },
        auth_protocol_id,
        auth_protocol,
        logon_type_id: 3,
        logon_type: "Network",
        // no address: a unix socket
        is_remote: event.client_address.map(|client| client.ip).or(event.peer).is_some_and(|ip| !ip.is_loopback()),
        src_endpoint: Endpoint::of(event, place),
        http_request: known.then(|| HttpRequest {
            http_method: told(&event.method),
            url: told(&event.path_template).map(|path| Url { path }),
            user_agent: told(&event.user_agent),
        }),
        http_response: event.status.map(|code| HttpResponse { code }),
        unmapped: Unmapped {
            presented: event.presented.as_str(),
            identity_verified: event.verified,
            client_address_source: event.client_address.map(|client| client.source.as_str()),
            tls_version: event.tls.map(|tls| tls.version),
            tls_cipher: event.tls.map(|tls| tls.cipher),
        },
    }
}

/// How the caller tried. A client's id and secret at the token endpoint are OAuth's, also where they came as Basic.
fn protocol(event: &AuthenticationEvent) -> (u8, &'static str) {
    match (event.presented, event.site) {
        (Presented::Bearer | Presented::DPoP | Presented::ClientSecretPost, _)
        | (Presented::Basic, Site::TokenEndpoint) => (6, "OAUTH 2.0"),
        (Presented::Basic, Site::Gateway | Site::Admin | Site::Broker | Site::Events) => (11, "Basic Authentication"),
        (Presented::Certificate, _) => (99, "TLS client certificate"),
        (Presented::Signature, _) => (99, "HMAC signature"),
        (Presented::Nothing | Presented::Other, _) => (0, "Unknown"),
    }
}
