//! The address that a request came from, behind proxies or not.
//!
//! Anybody can write `X-Forwarded-For`. What a header says is believed only of a proxy that the operator trusts by its
//! address, only in the one header that the operator names, and only as far as an unbroken chain of such proxies
//! reaches: the list is walked from its right end, where the nearest proxy wrote, and the first address that is not
//! trusted is the client. Where the chain breaks (an address that cannot be read, `unknown`, a name that hides one),
//! the last address that was read stands: that is who vouches for nothing more.
//!
//! Invariant: with nobody trusted, which is the default, no header is looked at.

mod forwarded;
mod network;
mod node;
mod origin;

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header::FORWARDED};
use kh_core::port::security::{AddressSource, ClientAddress};

pub use network::{NETWORKS_MAX, NetworkError, TrustedProxies, read_network};
pub use origin::ToldOrigin;

/// Most hops that are walked. Real chains (a content network, a load balancer, an ingress, a sidecar) have under 10.
pub const HOPS_MAX: usize = 32;
/// Longest line of `Forwarded` that is read, in bytes: [`HOPS_MAX`] hops with every parameter of RFC 7239.
pub const FORWARDED_LINE_MAX: usize = 8 * 1024;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The header that trusted proxies write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardingHeader {
    /// `Forwarded` (RFC 7239), its parameter `for`.
    Forwarded,
    /// `X-Forwarded-For`: addresses, with a port or without.
    XForwardedFor,
    /// `X-Real-IP`: one address, that of the client, which the proxy must set anew and never pass on.
    XRealIp,
}

/// How the address of a client is found.
#[derive(Clone, Debug, Default)]
pub struct ClientAddressing {
    proxies: TrustedProxies,
    header: Option<ForwardingHeader>,
}

impl ClientAddressing {
    /// By this header of these proxies, and no other.
    pub fn new(proxies: TrustedProxies, header: ForwardingHeader) -> Self {
        Self { proxies, header: Some(header) }
    }

    /// The client's address. `peer` is the other end of the connection, or what the PROXY protocol told of it. An IPv4
    /// address that is written as an IPv6 one (RFC 4291 section 2.5.5.2) is told as IPv4.
    pub fn find(&self, peer: ClientAddress, headers: &HeaderMap) -> ClientAddress {
        let peer = ClientAddress { ip: peer.ip.to_canonical(), source: peer.source };
        let Some(header) = self.header.filter(|_| self.proxies.trust(peer.ip)) else { return peer };
        match header {
            ForwardingHeader::Forwarded => {
                let lines = headers.get_all(FORWARDED).iter().rev();
                let hops = lines.flat_map(|line| forwarded::hops(line.as_bytes()).into_iter().rev());
                self.walk(peer, AddressSource::Forwarded, hops.take(HOPS_MAX))
            }
            ForwardingHeader::XForwardedFor => {
                let lines = headers.get_all(&X_FORWARDED_FOR).iter().rev();
                let elements = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).take(HOPS_MAX);
                // RFC 9110 section 5.6.1.2: empty elements of a list count for nothing
                let hops = elements.map(<[u8]>::trim_ascii).filter(|text| !text.is_empty()).map(node::loose);
                self.walk(peer, AddressSource::XForwardedFor, hops)
            }
            ForwardingHeader::XRealIp => {
                let mut lines = headers.get_all(&X_REAL_IP).iter();
                // two lines are a proxy's and somebody else's: which is which cannot be told
                let (Some(line), None) = (lines.next(), lines.next()) else { return peer };
                let ip = node::loose(line.as_bytes().trim_ascii());
                ip.map_or(peer, |ip| ClientAddress { ip, source: AddressSource::XRealIp })
            }
        }
    }

    /// What a trusted proxy tells of the address by which the client reached it: by `proto` and `host` of the nearest hop
    /// of `Forwarded` if that is the header that is believed, else by `X-Forwarded-Proto` and `X-Forwarded-Host`, each of
    /// which has to be there once and with one value. Nothing of anybody else.
    pub fn told_origin(&self, peer: ClientAddress, headers: &HeaderMap) -> ToldOrigin {
        match self.header.filter(|_| self.proxies.trust(peer.ip)) {
            None => ToldOrigin::default(),
            Some(ForwardingHeader::Forwarded) => origin::of_forwarded(headers),
            Some(ForwardingHeader::XForwardedFor | ForwardingHeader::XRealIp) => origin::of_x_forwarded(headers),
        }
    }

    /// Follows `hops`, the nearest first, from the trusted `peer` on.
    fn walk(
        &self,
        peer: ClientAddress,
        source: AddressSource,
        hops: impl Iterator<Item = Option<IpAddr>>,
    ) -> ClientAddress {
        let mut found = peer;
        for hop in hops {
            let Some(ip) = hop else { break };
            found = ClientAddress { ip, source };
            if !self.proxies.trust(ip) {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
