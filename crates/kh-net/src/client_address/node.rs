//! One hop's address as proxies write it.

use std::net::{IpAddr, Ipv6Addr};

/// Longest address with brackets and port that can be written, in bytes: an IPv6 address with an IPv4 tail has 45.
const TEXT_MAX: usize = 64;

/// An address as `X-Forwarded-For` has it: bare, or with a port, an IPv6 address then in brackets.
pub(super) fn loose(text: &[u8]) -> Option<IpAddr> {
    let text = readable(text)?;
    text.parse::<IpAddr>().map_or_else(|_| strict(text.as_bytes()), |ip| Some(ip.to_canonical()))
}

/// RFC 7239 section 6: an IPv4 address or an IPv6 address in brackets, and perhaps a port. `None` for `unknown` and for
/// names that hide an address.
pub(super) fn strict(text: &[u8]) -> Option<IpAddr> {
    let text = readable(text)?;
    let (ip, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        (IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), port)
    } else {
        let (address, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        (IpAddr::V4(address.parse().ok()?), port)
    };
    is_port(port).then(|| ip.to_canonical())
}

fn readable(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok().filter(|text| text.len() <= TEXT_MAX)
}

/// Nothing, or `:` and a port (1 to 5 digits) or a name for one (`_` and letters).
fn is_port(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else { return text.is_empty() };
    match port.strip_prefix('_') {
        Some(name) => {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}
