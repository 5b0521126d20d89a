//! A caller whose TLS handshake failed: who is told of it.
//!
//! Invariants: it costs one event and one count at most, neither of which waits; a failure that has nothing to do with the
//! caller's certificate is none of the security log's business, so who speaks no TLS fills no log.

use std::io;

use kh_core::port::security::{self, Attempt, AuthenticationEvent};
use kh_net::CertificateFailure;

use crate::{request::Ends, site::Site, worker::Worker};

/// Tells the security log of a certificate that was at fault. With TLS 1.3 the client may have taken the handshake for
/// done: its own part of it is.
pub(super) fn tell(site: &Site, worker: &Worker, ends: Ends, error: &io::Error) {
    tracing::debug!(%error, "a TLS handshake failed");
    let Some(failure) = CertificateFailure::of(error) else { return };
    let now = worker.ports.clock.now();
    // who shows nothing guesses nothing, and calls to platforms are not counted either
    if let (Site::Inbound(_), CertificateFailure::Refused) = (site, failure) {
        let address = ends.client.map(|client| client.ip);
        site.security().failed(Attempt { address, ..Attempt::default() }, now);
    }
    site.security().record(|| AuthenticationEvent {
        client_address: ends.client,
        peer: ends.peer,
        ..failure.event(now.wall, security::Site::Gateway)
    });
}
