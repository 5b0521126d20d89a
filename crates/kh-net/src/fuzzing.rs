//! What fuzz targets and seeded tests check of any input: this module exists for them only.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::ControlFlow,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use kh_core::port::security::{AddressSource, ClientAddress};

use crate::{
    PeerCertificate,
    client_address::{ClientAddressing, ForwardingHeader, ToldOrigin, TrustedProxies},
    proxy_protocol,
};

/// The trusted proxy that all requests come from here.
pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// The headers that tell a client's address: what `Forwarded`, `X-Forwarded-For` and `X-Real-IP` with these lines give. An
/// address is never told of a proxy that is not trusted, and never out of a header that was not named.
pub fn client_address<'a>(lines: &(impl Iterator<Item = &'a [u8]> + Clone)) -> [ClientAddress; 3] {
    let trusted = TrustedProxies::parse(&["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"]).expect("three networks");
    let peer = ClientAddress { ip: PEER, source: AddressSource::Peer };
    let stranger = ClientAddress { ip: Ipv4Addr::new(203, 0, 113, 77).into(), source: AddressSource::Peer };
    let kinds = [
        ("forwarded", ForwardingHeader::Forwarded, AddressSource::Forwarded),
        ("x-forwarded-for", ForwardingHeader::XForwardedFor, AddressSource::XForwardedFor),
        ("x-real-ip", ForwardingHeader::XRealIp, AddressSource::XRealIp),
    ];
    kinds.map(|(name, header, source)| {
        let mut headers = HeaderMap::new();
        for line in lines.clone() {
            let Ok(value) = HeaderValue::from_bytes(line) else { continue };
            headers.append(HeaderName::from_static(name), value);
        }
        let addressing = ClientAddressing::new(trusted.clone(), header);
        assert_eq!(addressing.find(stranger, &headers), stranger);
        assert_eq!(ClientAddressing::default().find(peer, &headers), peer);
        for (_, other, _) in kinds.iter().filter(|(_, other, _)| *other != header) {
            assert_eq!(ClientAddressing::new(trusted.clone(), *other).find(peer, &headers), peer);
        }
        let found = addressing.find(peer, &headers);
        assert!(found == peer || found.source == source, "{found:?}");
        assert_eq!(found.ip, found.ip.to_canonical());
        found
    })
}

/// A PROXY protocol header at the start of a connection's bytes: whether it was read, or refused; `None` when it goes on
/// beyond these bytes. Read piece by piece it is the same, and nothing behind it is touched.
pub fn proxy_header(bytes: &[u8]) -> Option<bool> {
    let mut taken = 0;
    let outcome = loop {
        match proxy_protocol::parse(bytes.get(..taken).unwrap_or_default()) {
            Ok(ControlFlow::Continue(more)) => {
                assert!(more > 0 && taken + more <= proxy_protocol::HEADER_MAX, "{taken} and {more}");
                taken += more;
                if taken > bytes.len() {
                    break None;
                }
            }
            Ok(ControlFlow::Break(header)) => break Some(Ok(header)),
            Err(error) => break Some(Err(error)),
        }
    };
    let whole = proxy_protocol::parse(bytes);
    match &outcome {
        Some(Ok(header)) => {
            assert_eq!((whole, header.length), (Ok(ControlFlow::Break(*header)), taken));
            assert_eq!(proxy_protocol::parse(bytes.get(..taken).unwrap_or_default()), whole);
        }
        Some(Err(_)) => assert!(whole.is_err(), "{whole:?}"),
        // a mistake may be seen earlier with more bytes at hand
        None => assert!(!matches!(whole, Ok(ControlFlow::Break(_))), "{whole:?}"),
    }
    outcome.map(|outcome| outcome.is_ok())
}

/// A peer's certificate: whatever it says, what is told of it is printable and bounded, and its digest is its own.
pub fn peer_certificate(der: &[u8]) -> bool {
    let Some(told) = PeerCertificate::parse(der) else { return false };
    assert!(told.subject.bytes().all(|byte| matches!(byte, b' '..=b'~')) && told.subject.len() <= 512);
    assert!(told.names.len() <= 64);
    assert_eq!(told.sha256, kh_core::Sha256::of(der));
    true
}

/// What proxies say of the address that a client used: `Forwarded`, and `X-Forwarded-Proto` with `X-Forwarded-Host`. It
/// is told of trusted proxies alone, and a host is made of a host's characters.
pub fn told_origin(line: &[u8]) -> usize {
    let trusted = TrustedProxies::parse(&["10.0.0.0/8"]).expect("one network");
    let peer = ClientAddress { ip: PEER, source: AddressSource::Peer };
    let stranger = ClientAddress { ip: Ipv4Addr::new(203, 0, 113, 77).into(), source: AddressSource::Peer };
    let Ok(value) = HeaderValue::from_bytes(line) else { return 0 };
    let mut headers = HeaderMap::new();
    for name in ["forwarded", "x-forwarded-proto", "x-forwarded-host"] {
        headers.append(HeaderName::from_static(name), value.clone());
    }
    let mut told = 0;
    for header in [ForwardingHeader::Forwarded, ForwardingHeader::XForwardedFor, ForwardingHeader::XRealIp] {
        let addressing = ClientAddressing::new(trusted.clone(), header);
        assert_eq!(addressing.told_origin(stranger, &headers), ToldOrigin::default());
        let origin = addressing.told_origin(peer, &headers);
        if let Some(host) = &origin.host {
            assert!(host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)), "{host:?}");
        }
        told += usize::from(origin.host.is_some()) + usize::from(origin.secure.is_some());
    }
    assert_eq!(ClientAddressing::default().told_origin(peer, &headers), ToldOrigin::default());
    told
}
