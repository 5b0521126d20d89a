//! The readers against others that are written from the grammar, by expressions.

use std::sync::LazyLock;

use kh_core::{Entropy, SeededEntropy};
use regex::bytes::Regex;

use super::*;
use crate::fuzzing;

const TOKEN: &str = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+";
const QUOTED: &str = r#""(?:[\t \x21\x23-\x5B\x5D-\x7E\x80-\xFF]|\\[\t \x21-\x7E\x80-\xFF])*""#;

static LINE: LazyLock<Regex> = LazyLock::new(|| {
    let pair = format!("{TOKEN}=(?:{TOKEN}|{QUOTED})");
    let element = format!("(?:{pair}[\t ]*)?(?:;[\t ]*(?:{pair}[\t ]*)?)*");
    Regex::new(&format!(r"(?s-u)^[\t ]*{element}[\t ]*(?:,[\t ]*{element}[\t ]*)*$")).unwrap()
});
static PIECE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!(r"(?s-u)({TOKEN})=(?:({TOKEN})|({QUOTED}))|([,;])")).unwrap());
static NODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?-u)^(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\])(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?$").unwrap()
});

/// The hops of one line, from the left.
fn forwarded(line: &[u8]) -> Vec<Option<IpAddr>> {
    if !LINE.is_match(line) {
        return vec![None];
    }
    let mut elements: Vec<Vec<(Vec<u8>, Vec<u8>)>> = vec![Vec::new()];
    let mut empty = vec![true];
    for piece in PIECE.captures_iter(line) {
        match piece.get(4).map(|divider| divider.as_bytes()) {
            Some(b",") => {
                elements.push(Vec::new());
                empty.push(true);
            }
            Some(_) => *empty.last_mut().unwrap() = false,
            None => {
                let value = piece.get(2).map_or_else(|| unquoted(&piece[3]), |token| token.as_bytes().to_vec());
                elements.last_mut().unwrap().push((piece[1].to_ascii_lowercase(), value));
                *empty.last_mut().unwrap() = false;
            }
        }
    }
    let mut hops = Vec::new();
    for (pairs, empty) in elements.iter().zip(empty) {
        let mut names: Vec<_> = pairs.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != pairs.len() {
            return vec![None];
        }
        if !empty {
            hops.push(pairs.iter().find(|(name, _)| name == b"for").and_then(|(_, value)| node(value)));
        }
    }
    hops
}

fn unquoted(text: &[u8]) -> Vec<u8> {
    let inner = &text[1..text.len() - 1];
    Regex::new(r"(?s-u)\\(.)").unwrap().replace_all(inner, &b"$1"[..]).into_owned()
}

fn node(text: &[u8]) -> Option<IpAddr> {
    let parts = NODE.captures(text)?;
    let text = |at| parts.get(at).map(|part| std::str::from_utf8(part.as_bytes()).unwrap());
    let ip: Option<IpAddr> = match (text(1), text(2)) {
        (Some(v4), _) => v4.parse::<std::net::Ipv4Addr>().ok().map(Into::into),
        (_, Some(v6)) => v6.parse::<std::net::Ipv6Addr>().ok().map(Into::into),
        _ => None,
    };
    ip.map(|ip| ip.to_canonical())
}

/// What the walk finds, by taking all hops apart first.
fn naive(hops: &[Option<IpAddr>], trusted: &TrustedProxies, peer: IpAddr) -> IpAddr {
    let mut chain: Vec<IpAddr> = vec![peer];
    chain.extend(hops.iter().rev().take_while(|hop| hop.is_some()).flatten());
    let stranger = chain.iter().position(|ip| !trusted.trust(*ip));
    chain[stranger.unwrap_or(chain.len() - 1)]
}

const PIECES: [&str; 40] = [
    "for=",
    "For=",
    "by=",
    "proto=https",
    "host=a",
    "for=unknown",
    "for=_x",
    ",",
    ", ",
    ";",
    " ; ",
    "\"",
    "\\",
    "=",
    " ",
    "\t",
    "10.0.0.2",
    "203.0.113.9",
    "[2001:db8::9]",
    "\"[2001:db8::9]:80\"",
    "\"203.0.113.9:80\"",
    ":80",
    "for=10.0.0.2",
    "for=203.0.113.9",
    "for=\"10.0.0.3\"",
    "2001:db8:1::7",
    "unknown",
    "é",
    "[",
    "]",
    "10.0.0.3, 203.0.113.9",
    "for=10.0.0.4,",
    "for=198.51.100.1;",
    "x",
    "%",
    "::ffff:10.0.0.5",
    ",,",
    "for",
    "\"\"",
    "1",
];

fn line(entropy: &SeededEntropy, pieces: &[&'static str]) -> String {
    let below = |bound: usize| usize::try_from(entropy.below(bound as u64)).unwrap();
    (0..=below(7)).map(|_| pieces[below(pieces.len())]).collect()
}

/// Hops one after the other, as proxies write them.
fn chain(entropy: &SeededEntropy) -> String {
    const HOPS: [&str; 10] = [
        "for=10.0.0.2",
        "for=203.0.113.9;proto=https",
        "proto=http; for=\"[2001:db8:1::7]:80\"",
        "by=10.0.0.1;for=10.0.0.3",
        "for=\"[2001:db8::9]\"",
        "for=unknown",
        "10.0.0.4",
        "203.0.113.10:4711",
        "2001:db8:1::8",
        "for=198.51.100.1 ; host=\"a,b\"",
    ];
    let hop = || HOPS[usize::try_from(entropy.below(HOPS.len() as u64)).unwrap()];
    (0..=entropy.below(4)).map(|_| hop()).collect::<Vec<_>>().join(", ")
}

#[test]
fn any_headers() {
    let entropy = SeededEntropy::new(7_239);
    let trusted = balancers();
    let (mut from_header, mut deeper) = (0, 0);
    let forwarded_like: Vec<&str> =
        PIECES.into_iter().filter(|piece| piece.contains("for=") || piece.len() < 3).collect();
    for round in 0..100_000 {
        let one = || match round % 3 {
            0 => line(&entropy, &PIECES),
            // these follow the grammar more often than not
            1 => line(&entropy, &forwarded_like),
            _ => chain(&entropy),
        };
        let lines: Vec<String> =
            std::iter::repeat_with(one).take(1 + usize::try_from(entropy.below(3)).unwrap()).collect();
        let found = fuzzing::client_address(&lines.iter().map(String::as_bytes));
        let peer = fuzzing::PEER;
        let expected =
            naive(&lines.iter().flat_map(|line| forwarded(line.as_bytes())).collect::<Vec<_>>(), &trusted, peer);
        assert_eq!(found[0].ip, expected, "{lines:?}");
        let list = lines.join(",");
        let loose =
            |text: &str| text.parse().ok().map(|ip: IpAddr| ip.to_canonical()).or_else(|| node(text.as_bytes()));
        let ows = |letter: char| letter.is_ascii_whitespace();
        let hops: Vec<_> =
            list.split(',').map(|text| text.trim_matches(ows)).filter(|text| !text.is_empty()).map(loose).collect();
        assert_eq!(found[1].ip, naive(&hops, &trusted, peer), "{lines:?}");
        from_header += usize::from(found[0].source == AddressSource::Forwarded);
        deeper += usize::from(found[0].ip != peer && !trusted.trust(found[0].ip));
    }
    assert!(from_header > 10_000 && deeper > 5_000, "{from_header} {deeper}");
}
