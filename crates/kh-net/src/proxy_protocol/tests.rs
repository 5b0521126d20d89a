//! Headers as the specification has them, and as it doesn't.

use kh_core::{Entropy, SeededEntropy};

use super::{crc32c::crc32c, *};
use crate::fuzzing;

fn told(bytes: &[u8]) -> String {
    match parse(bytes) {
        Ok(ControlFlow::Break(Header { length, told })) => match told {
            Told::Local => format!("{length} local"),
            Told::Unknown => format!("{length} unknown"),
            Told::Tcp { source, destination } => format!("{length} {source} {destination}"),
        },
        Ok(ControlFlow::Continue(more)) => format!("more {more}"),
        Err(HeaderError::Missing) => "missing".to_owned(),
        Err(HeaderError::Malformed(_)) => "malformed".to_owned(),
        Err(HeaderError::Unsupported) => "unsupported".to_owned(),
        Err(HeaderError::TooLong) => "too long".to_owned(),
        Err(HeaderError::Checksum) => "checksum".to_owned(),
    }
}

#[test]
fn version_1() {
    for (line, expected) in [
        ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n", "42 203.0.113.9:4711 10.0.0.1:443"),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\nGET / HTTP/1.1\r\n", "42 203.0.113.9:4711 10.0.0.1:443"),
        ("PROXY TCP6 2001:db8::9 2001:db8::1 65535 0\r\n", "44 [2001:db8::9]:65535 [2001:db8::1]:0"),
        // the longest line of the specification
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            "104 [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        ),
        ("PROXY UNKNOWN\r\n", "15 unknown"),
        ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", "43 unknown"),
        ("PROXY UNKNOWNX\r\n", "unsupported"),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\n", "malformed"),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\r\n", "malformed"),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 4711\r\n", "malformed"),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 443 \r\n", "malformed"),
        ("PROXY TCP4  203.0.113.9 10.0.0.1 4711 443\r\n", "malformed"),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 04711 443\r\n", "malformed"),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 +4711 443\r\n", "malformed"),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 65536 443\r\n", "malformed"),
        ("PROXY TCP4 203.0.113.009 10.0.0.1 1 443\r\n", "malformed"),
        ("PROXY TCP4 2001:db8::9 2001:db8::1 1 443\r\n", "malformed"),
        ("PROXY TCP6 203.0.113.9 10.0.0.1 1 443\r\n", "malformed"),
        ("PROXY TCP6 [2001:db8::9] 2001:db8::1 1 443\r\n", "malformed"),
        ("PROXY UDP4 203.0.113.9 10.0.0.1 1 443\r\n", "unsupported"),
        ("PROXY tcp4 203.0.113.9 10.0.0.1 1 443\r\n", "unsupported"),
        ("proxy TCP4 203.0.113.9 10.0.0.1 1 443\r\n", "missing"),
        ("PROXYTCP4 203.0.113.9 10.0.0.1 1 443\r\n", "missing"),
        ("GET / HTTP/1.1\r\n\r\n", "missing"),
        ("POST / HTTP/1.1\r\n\r\n", "missing"),
        ("\u{16}\u{3}\u{1}", "missing"),
        ("", "more 12"),
        ("P", "more 14"),
        ("PROXY TCP4 203.0.113.9 1", "more 2"),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r", "more 1"),
    ] {
        assert_eq!(told(line.as_bytes()), expected, "{line:?}");
    }
    for (length, expected) in [(105, "more 2"), (106, "more 1"), (107, "malformed"), (200, "malformed")] {
        assert_eq!(told(format!("{:a<length$}", "PROXY UNKNOWN ").as_bytes()), expected, "{length}");
    }
    let line = |length: usize| format!("{:a<length$}\r\n", "PROXY UNKNOWN ");
    assert_eq!((told(line(105).as_bytes()), told(line(106).as_bytes())), ("107 unknown".into(), "malformed".into()));
}

/// A header of version 2.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&v2::SIGNATURE[..], &[command, family], &length, body].concat()
}

const TCP4: [u8; 12] = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb];
const TOLD4: &str = "203.0.113.9:4711 10.0.0.1:443";

fn tcp6() -> Vec<u8> {
    let ip = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&ip("2001:db8::9")[..], &ip("2001:db8::1"), &TCP4[8..]].concat()
}

/// The header with the checksum of itself as its last extension.
fn with_checksum(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = v2(command, family, &[body, &[3, 0, 4, 0, 0, 0, 0]].concat());
    let sum = crc32c([&header, &[], &[]]);
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn version_2() {
    let extension = |kind: u8, value: &[u8]| [&[kind, 0, u8::try_from(value.len()).unwrap()], value].concat();
    let extended = |more: &[&[u8]]| v2(0x21, 0x11, &[&TCP4[..], &more.concat()].concat());
    for (header, expected) in [
        (v2(0x21, 0x11, &TCP4), format!("28 {TOLD4}")),
        (v2(0x21, 0x21, &tcp6()), "52 [2001:db8::9]:4711 [2001:db8::1]:443".into()),
        (v2(0x21, 0x31, &[0; 216]), "232 unknown".into()),
        (v2(0x21, 0x00, &[]), "16 unknown".into()),
        (v2(0x21, 0x00, b"anything"), "24 unknown".into()),
        (v2(0x20, 0x00, &[]), "16 local".into()),
        (v2(0x20, 0x11, &TCP4), "28 local".into()),
        (v2(0x20, 0xff, b"x"), "17 local".into()),
        // ALPN and an authority before
        (extended(&[&extension(1, b"h2"), &extension(2, b"api.example")]), format!("47 {TOLD4}")),
        (extended(&[&extension(4, &[0; 9])]), format!("40 {TOLD4}")),
        (with_checksum(0x21, 0x11, &TCP4), format!("35 {TOLD4}")),
        (with_checksum(0x21, 0x11, &[&TCP4[..], &extension(1, b"h2")].concat()), format!("40 {TOLD4}")),
        (extended(&[&extension(3, &[0; 4])]), "checksum".into()),
        (extended(&[&extension(3, &[0; 3])]), "malformed".into()),
        (extended(&[b"\x01"]), "malformed".into()),
        (extended(&[b"\x01\x00\x03h2"]), "malformed".into()),
        (v2(0x21, 0x11, &TCP4[..11]), "malformed".into()),
        (v2(0x21, 0x21, &tcp6()[..35]), "malformed".into()),
        (v2(0x21, 0x31, &[0; 215]), "malformed".into()),
        (v2(0x21, 0x12, &TCP4), "unsupported".into()),
        (v2(0x21, 0x22, &tcp6()), "unsupported".into()),
        (v2(0x21, 0x32, &[0; 216]), "unsupported".into()),
        (v2(0x21, 0x41, &TCP4), "unsupported".into()),
        (v2(0x21, 0x10, &TCP4), "unsupported".into()),
        (v2(0x22, 0x11, &TCP4), "unsupported".into()),
        (v2(0x11, 0x11, &TCP4), "unsupported".into()),
        (v2(0x31, 0x11, &TCP4), "unsupported".into()),
        (v2(0x20, 0x00, &[0; HEADER_MAX - 16]), format!("{HEADER_MAX} local")),
        (v2(0x20, 0x00, &[0; HEADER_MAX - 15]), "too long".into()),
        (v2(0x21, 0x11, &TCP4)[..15].to_vec(), "more 1".into()),
        (v2(0x21, 0x11, &TCP4)[..20].to_vec(), "more 8".into()),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), "missing".into()),
        (b"\r\nGET / HTTP/1.1\r\n".to_vec(), "missing".into()),
    ] {
        assert_eq!(told(&header), expected, "{header:?}");
    }
    let two = [&TCP4[..], &extension(3, &[0; 4])].concat();
    assert_ne!(told(&with_checksum(0x21, 0x11, &two)), format!("42 {TOLD4}"), "one of two checksums is wrong");
}

#[test]
fn no_bit_of_a_checked_header_can_be_changed() {
    let header = with_checksum(0x21, 0x11, &[&TCP4[..], &[1, 0, 2, b'h', b'2']].concat());
    assert_eq!(told(&header), format!("40 {TOLD4}"));
    // what the checksum covers and the framing doesn't need: addresses, ports, the other extension's value
    for at in (16..28).chain(31..33).chain(36..40) {
        for bit in 0..8 {
            let mut changed = header.clone();
            changed[at] ^= 1 << bit;
            assert_eq!(told(&changed), "checksum", "bit {bit} of byte {at}");
        }
    }
}

#[tokio::test]
async fn what_follows_a_header_is_left_for_its_reader() {
    for header in [
        b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x20, 0, &[]),
        with_checksum(0x21, 0x11, &TCP4),
    ] {
        let whole = [&header[..], b"\r\nPROXY"].concat();
        let mut connection = &whole[..];
        read(&mut connection).await.unwrap();
        assert_eq!(connection, b"\r\nPROXY");
        for length in 0..header.len() {
            let error = read(&mut &header[..length]).await.unwrap_err();
            assert!(matches!(error, ReadError::Io(_)), "{length}: {error}");
        }
    }
    let error = read(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).await.unwrap_err();
    assert!(matches!(error, ReadError::Header(HeaderError::Missing)), "{error}");
}

const PIECES: [&[u8]; 12] =
    [b"\r\n", b"\n", b" ", b"\0", b"1", b"PROXY ", b"\x21\x11", b"\xff", b"\x03\x00\x04", b".", b":", b"0"];

/// A header of some kind, most of them with a mistake.
fn mutated(entropy: &SeededEntropy) -> Vec<u8> {
    let below = |bound: usize| usize::try_from(entropy.below(bound as u64)).unwrap();
    let mut bytes = match below(8) {
        0 => b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n".to_vec(),
        1 => b"PROXY TCP6 2001:db8::9 2001:db8::1 65535 0\r\n".to_vec(),
        2 => b"PROXY UNKNOWN\r\n".to_vec(),
        3 => v2(0x21, 0x21, &tcp6()),
        4 => with_checksum(0x21, 0x21, &tcp6()),
        5 => v2(0x20, 0x00, &[]),
        6 => v2(0x21, 0x11, &[&TCP4[..], &[1, 0, 2, b'h', b'2', 4, 0, 1, 0]].concat()),
        _ => with_checksum(0x21, 0x31, &[7; 216]),
    };
    bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
    for _ in 0..below(3) {
        let at = below(bytes.len().min(64));
        let end = (at + below(3)).min(bytes.len());
        bytes.splice(at..end, PIECES[below(PIECES.len())].iter().copied());
    }
    bytes
}

#[test]
fn any_first_bytes() {
    let entropy = SeededEntropy::new(2_020);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..100_000 {
        match fuzzing::proxy_header(&mutated(&entropy)) {
            Some(true) => read += 1,
            Some(false) => refused += 1,
            None => {}
        }
    }
    assert!(read > 20_000 && refused > 20_000, "{read} {refused}");
}
