//! What the security log is told of the local listeners: who was not let in, by a request or by a handshake.
//!
//! Invariant: of a token nothing but the begin of its digest is told, and of a path its route's template alone.

use std::{io, net::IpAddr};

use axum::{
    extract::{MatchedPath, Request},
    http::header,
};
use kh_core::{
    Clock, Sha256,
    port::security::{
        AddressSource, AuthenticationEvent, ClientAddress, Outcome, Presented, Security, Site, TlsSession, TokenDigest,
        Told,
    },
};
use kh_net::{CertificateFailure, PeerCertificate};

use crate::{
    proxy,
    serve::{Peer, Tls},
};

/// What was tried in vain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) site: Site,
    pub(crate) reason: &'static str,
    /// The digest of the token that was shown.
    pub(crate) token: Option<Sha256>,
    pub(crate) status: u16,
}

/// Nobody was authenticated.
pub(crate) fn failed(security: &Security, clock: &dyn Clock, request: &Request, tried: Tried) {
    security.record(|| AuthenticationEvent {
        token: tried.token.map(TokenDigest::of),
        status: Some(tried.status),
        ..event(clock, tried.site, tried.reason, request)
    });
}

/// What is to be told if an operator, who was authenticated, may not do this.
pub(crate) fn not_allowed(clock: &dyn Clock, request: &Request, operator: &str) -> AuthenticationEvent {
    AuthenticationEvent {
        verified: true,
        subject: Some(Told::new(operator)),
        status: Some(kh_core::Code::CALL_NOT_ALLOWED.status()),
        ..event(clock, Site::Admin, "role_insufficient", request)
    }
}

/// A handshake failed. Only who was let down by a certificate tried to authenticate; with TLS 1.3 it may have taken the
/// handshake for done, because its own part of it is.
pub(crate) fn no_handshake(tls: &Tls, peer: Peer, error: &io::Error) {
    let Some(failure) = CertificateFailure::of(error) else { return };
    let peer = address(peer);
    tls.security.record(|| AuthenticationEvent {
        client_address: peer.map(itself),
        peer,
        ..failure.event(tls.clock.now().wall, Site::Admin)
    });
}

/// The address of a peer that has one.
fn address(peer: Peer) -> Option<IpAddr> {
    match peer {
        Peer::Tcp(address) => Some(address.ip().to_canonical()),
        Peer::Unix { .. } => None,
    }
}

/// There are no proxies in front of a local listener: the other end is the client.
fn itself(ip: IpAddr) -> ClientAddress {
    ClientAddress { ip, source: AddressSource::Peer }
}

fn event(clock: &dyn Clock, site: Site, reason: &'static str, request: &Request) -> AuthenticationEvent {
    let headers = request.headers();
    let peer = request.extensions().get::<Peer>().copied().and_then(address);
    let certificate = request.extensions().get::<PeerCertificate>().is_some();
    let presented = match crate::guard::presented(headers) {
        crate::guard::Presented::Nothing if certificate => Presented::Certificate,
        crate::guard::Presented::Nothing => Presented::Nothing,
        crate::guard::Presented::Token(_) => Presented::Bearer,
        crate::guard::Presented::Ambiguous => Presented::Other,
    };
    let template = template(site, request).map(Told::new);
    AuthenticationEvent {
        presented,
        route: template.clone(),
        path_template: template,
        method: Some(Told::new(request.method().as_str())),
        user_agent: headers.get(header::USER_AGENT).map(|value| Told::of_bytes(value.as_bytes())),
        tls: request.extensions().get::<TlsSession>().copied(),
        client_address: peer.map(itself),
        peer,
        ..AuthenticationEvent::new(clock.now().wall, site, Outcome::Failure { reason })
    }
}

/// The path's template; none where no route takes the path.
fn template(site: Site, request: &Request) -> Option<&str> {
    if let Some(path) = request.extensions().get::<MatchedPath>() {
        return Some(path.as_str());
    }
    (site == Site::Broker && proxy::is_forwarded(request.uri().path())).then_some("/{profile}/**")
}
