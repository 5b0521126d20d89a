//! Version 2: bytes (section 2.2).
//!
//! Invariant: the lengths fit to the byte, of the addresses and of every extension; a checksum that is there is right.

use std::{
    net::{IpAddr, SocketAddr},
    ops::ControlFlow,
};

use super::{HEADER_MAX, Header, HeaderError, Told, crc32c::crc32c};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// The extension whose value is the header's checksum.
const TYPE_CRC32C: u8 = 0x03;

pub(super) fn parse(bytes: &[u8]) -> Result<ControlFlow<Header, usize>, HeaderError> {
    if !bytes.iter().zip(&SIGNATURE).all(|(is, wanted)| is == wanted) {
        return Err(HeaderError::Missing);
    }
    let Some(([.., command, family, high, low], rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(ControlFlow::Continue(FIXED - bytes.len()));
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if FIXED + length > HEADER_MAX {
        return Err(HeaderError::TooLong);
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Unsupported),
    };
    let Some(body) = rest.get(..length) else { return Ok(ControlFlow::Continue(length - rest.len())) };
    let done = |told| Ok(ControlFlow::Break(Header { length: FIXED + length, told }));
    if local {
        // section 2.2: the receiver must discard the rest, the family included
        return done(Told::Local);
    }
    let (told, extensions) = addresses(*family, body)?;
    check(extensions, bytes.get(..FIXED + length).unwrap_or_default())?;
    done(told)
}

fn addresses(family: u8, body: &[u8]) -> Result<(Told, &[u8]), HeaderError> {
    let short = HeaderError::Malformed("the addresses are cut short");
    match family {
        // what follows is not said to be anything
        0x00 => Ok((Told::Unknown, &[])),
        0x11 => {
            let ([s0, s1, s2, s3, d0, d1, d2, d3, ports @ ..], rest) = body.split_first_chunk::<12>().ok_or(short)?;
            Ok((tcp([*s0, *s1, *s2, *s3].into(), [*d0, *d1, *d2, *d3].into(), *ports), rest))
        }
        0x21 => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(short)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
            let (ports, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
            Ok((tcp((*source).into(), (*destination).into(), *ports), rest))
        }
        0x31 => Ok((Told::Unknown, body.get(216..).ok_or(short)?)),
        // datagrams, and numbers that are not assigned
        _ => Err(HeaderError::Unsupported),
    }
}

fn tcp(source: IpAddr, destination: IpAddr, [s0, s1, d0, d1]: [u8; 4]) -> Told {
    let source = SocketAddr::new(source, u16::from_be_bytes([s0, s1]));
    Told::Tcp { source, destination: SocketAddr::new(destination, u16::from_be_bytes([d0, d1])) }
}

/// Looks at every extension; `whole` is the header, for its checksum.
fn check(extensions: &[u8], whole: &[u8]) -> Result<(), HeaderError> {
    let mut rest = extensions;
    let mut checked = false;
    while !rest.is_empty() {
        let cut = HeaderError::Malformed("an extension is cut short");
        let ([kind, high, low], after) = rest.split_first_chunk::<3>().ok_or(cut)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = after.split_at_checked(length).ok_or(cut)?;
        if *kind == TYPE_CRC32C {
            let told = value.try_into().map_err(|_| HeaderError::Malformed("the checksum has not four bytes"))?;
            if checked {
                return Err(HeaderError::Malformed("there are two checksums"));
            }
            checked = true;
            // section 2.2.3: computed with zeros in its place
            let (before, _) = whole.split_at_checked(whole.len() - after.len()).ok_or(cut)?;
            if crc32c([before, &[0; 4], next]) != u32::from_be_bytes(told) {
                return Err(HeaderError::Checksum);
            }
        }
        rest = next;
    }
    Ok(())
}
