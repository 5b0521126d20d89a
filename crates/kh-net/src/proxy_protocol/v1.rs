//! Version 1: one line of text (section 2.1).
//!
//! Invariant: the line is the one that the specification prints, to the byte: single spaces, addresses and ports as they
//! are written shortest.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::ControlFlow,
};

use super::{Header, HeaderError, Told};

/// Longest line with its end, in bytes (section 2.1).
const LINE_MAX: usize = 107;
const PREFIX: &[u8] = b"PROXY ";
/// `PROXY UNKNOWN` and the line's end: no line is shorter.
const SHORTEST: usize = 15;

pub(super) fn parse(bytes: &[u8]) -> Result<ControlFlow<Header, usize>, HeaderError> {
    if !bytes.iter().zip(PREFIX).all(|(is, wanted)| is == wanted) {
        return Err(HeaderError::Missing);
    }
    if bytes.len() < SHORTEST {
        return Ok(ControlFlow::Continue(SHORTEST - bytes.len()));
    }
    let line = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        if bytes.len() >= LINE_MAX {
            return Err(HeaderError::Malformed("the line has no end"));
        }
        // at least the line's end, and never more than the longest line
        let more = if line.last() == Some(&b'\r') { 1 } else { 2 };
        return Ok(ControlFlow::Continue(more.min(LINE_MAX - bytes.len())));
    };
    let text = line.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let text = text.and_then(|line| std::str::from_utf8(line).ok());
    let text =
        text.filter(|text| !text.contains('\r')).ok_or(HeaderError::Malformed("the line does not end in CRLF"))?;
    Ok(ControlFlow::Break(Header { length: end + 1, told: told(text)? }))
}

fn told(line: &str) -> Result<Told, HeaderError> {
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // what follows is to be ignored
        return Ok(Told::Unknown);
    }
    let address: fn(&str) -> Option<IpAddr> = match family {
        Some("TCP4") => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(HeaderError::Unsupported),
    };
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(HeaderError::Malformed("the line has not six words"));
    };
    let socket = |ip: &str, port: &str| Some(SocketAddr::new(address(ip)?, number(port)?));
    match (socket(source, source_port), socket(destination, destination_port)) {
        (Some(source), Some(destination)) => Ok(Told::Tcp { source, destination }),
        _ => Err(HeaderError::Malformed("an address or a port cannot be read")),
    }
}

/// A port without sign and leading zero.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}
