//! Whose connection it is, where proxies forward connections by the PROXY protocol.
//!
//! Invariant: a listed proxy's connection begins with a header or is not served; nobody else's is looked at for one, so
//! that a header of a stranger meets the HTTP or TLS parser and is refused there.

use std::net::IpAddr;

use kh_core::port::security::{AddressSource, ClientAddress};
use kh_net::proxy_protocol::{self, ReadError, Told};
use tokio::time::timeout;

use super::io::Socket;
use crate::{site::Site, worker::Worker};

/// The client behind the connection from `peer`; an error ends the connection, and was told.
pub(super) async fn client(
    site: &Site,
    worker: &Worker,
    socket: &mut Socket,
    peer: Option<IpAddr>,
) -> Result<Option<ClientAddress>, Refused> {
    let Some(peer) = peer else { return Ok(None) };
    let itself = ClientAddress { ip: peer.to_canonical(), source: AddressSource::Peer };
    if !site.speaks_proxy_protocol(peer) {
        return Ok(Some(itself));
    }
    // the header comes with the connection: as much patience as for a TLS handshake is plenty
    match timeout(worker.limits.tls_handshake, proxy_protocol::read(socket)).await {
        Ok(Ok(Told::Tcp { source, .. })) => {
            Ok(Some(ClientAddress { ip: source.ip().to_canonical(), source: AddressSource::ProxyProtocol }))
        }
        // the proxy's own connection, or a client that it has no address of
        Ok(Ok(Told::Local | Told::Unknown)) => Ok(Some(itself)),
        Ok(Err(ReadError::Header(error))) => {
            if worker.may_warn() {
                tracing::warn!(proxy.address = %peer, %error, "a listed proxy's connection has no usable PROXY protocol header");
            }
            Err(Refused)
        }
        Ok(Err(ReadError::Io(error))) => {
            tracing::debug!(%error, "a listed proxy's connection ended before its PROXY protocol header");
            Err(Refused)
        }
        Err(_elapsed) => {
            tracing::debug!("a listed proxy's PROXY protocol header took too long");
            Err(Refused)
        }
    }
}

/// The connection is not served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;
