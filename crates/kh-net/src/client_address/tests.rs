//! Whose word is taken for an address, and whose is not.

mod model;

use http::HeaderValue;

use super::*;

/// Headers as `name: value` lines.
fn headers(lines: &[&str]) -> HeaderMap {
    let line = |line: &&str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.iter().map(line) {
        headers.append(name, value);
    }
    headers
}

fn peer(ip: &str) -> ClientAddress {
    ClientAddress { ip: ip.parse().unwrap(), source: AddressSource::Peer }
}

/// The load balancers of these tests.
fn balancers() -> TrustedProxies {
    TrustedProxies::parse(&["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"]).unwrap()
}

#[track_caller]
fn check(header: ForwardingHeader, from: &str, lines: &[&str], expected: &str) {
    let found = ClientAddressing::new(balancers(), header).find(peer(from), &headers(lines));
    let source = match (found.source, header) {
        (AddressSource::Peer, _) => "peer",
        (AddressSource::Forwarded, ForwardingHeader::Forwarded)
        | (AddressSource::XForwardedFor, ForwardingHeader::XForwardedFor)
        | (AddressSource::XRealIp, ForwardingHeader::XRealIp) => "header",
        other => panic!("{other:?}"),
    };
    assert_eq!(format!("{} {source}", found.ip), expected, "{header:?} from {from}: {lines:?}");
}

#[test]
fn nobody_is_trusted_by_default() {
    // a gateway that takes the address of X-Forwarded-For from anyone logs, limits and locks out whom the caller names
    let lines = ["x-forwarded-for: 198.51.100.1", "forwarded: for=198.51.100.1", "x-real-ip: 198.51.100.1"];
    for from in ["203.0.113.9", "127.0.0.1", "10.0.0.1", "::1"] {
        let found = ClientAddressing::default().find(peer(from), &headers(&lines));
        assert_eq!(found, peer(from));
        for header in [ForwardingHeader::XForwardedFor, ForwardingHeader::Forwarded, ForwardingHeader::XRealIp] {
            let nobody = ClientAddressing::new(TrustedProxies::default(), header);
            assert_eq!(nobody.find(peer(from), &headers(&lines)), peer(from), "{header:?}");
        }
    }
    assert!(TrustedProxies::default().is_nobody() && !balancers().is_nobody());
}

#[test]
fn everybody_cannot_be_trusted() {
    // oauth2-proxy up to 7.15.3 trusts 0.0.0.0/0 and ::/0 when no proxy is named (its issue 3506)
    for everybody in ["0.0.0.0/0", "::/0", "::ffff:0:0/96", "10.0.0.0/0", "0.0.0.0/00"] {
        let (at, error) = TrustedProxies::parse(&["10.0.0.1", everybody]).unwrap_err();
        assert_eq!(at, 1);
        assert!(matches!(error, NetworkError::Everybody(_) | NetworkError::Syntax(_)), "{everybody}: {error}");
    }
}

#[test]
fn the_walk_begins_at_the_right_and_ends_at_the_first_stranger() {
    use ForwardingHeader::XForwardedFor as X;
    for (from, lines, expected) in [
        // a stranger's header is not looked at
        ("203.0.113.9", &["x-forwarded-for: 10.0.0.1"][..], "203.0.113.9 peer"),
        ("10.0.0.1", &[], "10.0.0.1 peer"),
        ("10.0.0.1", &["x-forwarded-for: 203.0.113.9"], "203.0.113.9 header"),
        // what the client wrote itself is on the left
        ("10.0.0.1", &["x-forwarded-for: 198.51.100.1, 203.0.113.9"], "203.0.113.9 header"),
        ("10.0.0.1", &["x-forwarded-for: 10.9.9.9, 203.0.113.9"], "203.0.113.9 header"),
        ("10.0.0.1", &["x-forwarded-for: 198.51.100.1, 203.0.113.9, 10.0.0.2,192.0.2.7"], "203.0.113.9 header"),
        // several lines are one list
        (
            "10.0.0.1",
            &["x-forwarded-for: 198.51.100.1", "x-forwarded-for: 203.0.113.9, 10.0.0.2"],
            "203.0.113.9 header",
        ),
        ("10.0.0.1", &["x-forwarded-for: 203.0.113.9", "x-forwarded-for: 10.0.0.2"], "203.0.113.9 header"),
        // all of them trusted: the client is one of them
        ("10.0.0.1", &["x-forwarded-for: 10.0.0.3, 10.0.0.2"], "10.0.0.3 header"),
        // the chain breaks
        ("10.0.0.1", &["x-forwarded-for: 203.0.113.9, unknown"], "10.0.0.1 peer"),
        ("10.0.0.1", &["x-forwarded-for: 203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2 header"),
        ("10.0.0.1", &["x-forwarded-for: 203.0.113.9, 1.2.3.4.5, 10.0.0.2"], "10.0.0.2 header"),
        ("10.0.0.1", &["x-forwarded-for: 203.0.113.9 10.0.0.2"], "10.0.0.1 peer"),
        ("10.0.0.1", &["x-forwarded-for: 010.0.0.1"], "10.0.0.1 peer"),
        ("10.0.0.1", &["x-forwarded-for: 0x0a.0.0.1"], "10.0.0.1 peer"),
        // empty elements count for nothing
        ("10.0.0.1", &["x-forwarded-for: , 203.0.113.9,, 10.0.0.2, "], "203.0.113.9 header"),
        // ports, brackets, IPv6, IPv4 in IPv6
        ("10.0.0.1", &["x-forwarded-for: 203.0.113.9:4711"], "203.0.113.9 header"),
        ("10.0.0.1", &["x-forwarded-for: [2001:db8::9]:4711, 2001:db8:1::2"], "2001:db8::9 header"),
        ("2001:db8:1::1", &["x-forwarded-for: 2001:db8::9"], "2001:db8::9 header"),
        ("::ffff:10.0.0.1", &["x-forwarded-for: ::ffff:203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9 header"),
        ("10.0.0.1", &["x-forwarded-for: fe80::1%eth0"], "10.0.0.1 peer"),
        // the other headers are not believed
        ("10.0.0.1", &["forwarded: for=203.0.113.9", "x-real-ip: 203.0.113.9"], "10.0.0.1 peer"),
    ] {
        check(X, from, lines, expected);
    }
}

#[test]
fn forwarded_by_its_grammar() {
    for (lines, expected) in [
        (&["forwarded: for=203.0.113.9"][..], "203.0.113.9 header"),
        (&["forwarded: For=203.0.113.9;proto=https;by=10.0.0.1"], "203.0.113.9 header"),
        (&["forwarded: proto=https ; for=\"203.0.113.9:80\" ; host=\"a,b\""], "203.0.113.9 header"),
        (&["forwarded: for=\"[2001:db8::9]\""], "2001:db8::9 header"),
        (&["forwarded: for=\"[2001:db8::9]:4711\""], "2001:db8::9 header"),
        (&["forwarded: for=\"[2001:db8::9]:_port\""], "2001:db8::9 header"),
        (&["forwarded: for=\"2\\03.0.113.9\""], "203.0.113.9 header"),
        (&["forwarded: for=198.51.100.1, for=203.0.113.9, for=10.0.0.2"], "203.0.113.9 header"),
        (&["forwarded: for=198.51.100.1", "forwarded: for=203.0.113.9,for=10.0.0.2"], "203.0.113.9 header"),
        (&["forwarded: for=203.0.113.9, , for=10.0.0.2,"], "203.0.113.9 header"),
        // who cannot be known ends the chain
        (&["forwarded: for=203.0.113.9, for=unknown"], "10.0.0.1 peer"),
        (&["forwarded: for=203.0.113.9, for=_hidden, for=10.0.0.2"], "10.0.0.2 header"),
        (&["forwarded: for=203.0.113.9, proto=https, for=10.0.0.2"], "10.0.0.2 header"),
        (&["forwarded: for=\"_SEVKISEK\""], "10.0.0.1 peer"),
        // an IPv6 address stands in brackets, and what has a colon in quotes
        (&["forwarded: for=\"2001:db8::9\""], "10.0.0.1 peer"),
        (&["forwarded: for=[2001:db8::9]"], "10.0.0.1 peer"),
        (&["forwarded: for=203.0.113.9:80"], "10.0.0.1 peer"),
        (&["forwarded: for=\"[203.0.113.9]\""], "10.0.0.1 peer"),
        (&["forwarded: for=\"203.0.113.9:123456\""], "10.0.0.1 peer"),
        // a line with a mistake tells nothing, and others before it are not reached
        (&["forwarded: for=\", for=203.0.113.9"], "10.0.0.1 peer"),
        (&["forwarded: for=203.0.113.9;for=198.51.100.1"], "10.0.0.1 peer"),
        (&["forwarded: for = 203.0.113.9"], "10.0.0.1 peer"),
        (&["forwarded: for"], "10.0.0.1 peer"),
        (&["forwarded: for=203.0.113.9 for=198.51.100.1"], "10.0.0.1 peer"),
        (&["forwarded: for=198.51.100.1", "forwarded: for=\"", "forwarded: for=10.0.0.2"], "10.0.0.2 header"),
        // the other headers are not believed
        (&["x-forwarded-for: 203.0.113.9", "x-real-ip: 203.0.113.9"], "10.0.0.1 peer"),
    ] {
        check(ForwardingHeader::Forwarded, "10.0.0.1", lines, expected);
        check(ForwardingHeader::Forwarded, "203.0.113.77", lines, "203.0.113.77 peer");
    }
}

#[test]
fn the_address_that_a_client_used_is_told_by_trusted_proxies_alone() {
    use ForwardingHeader::{Forwarded as F, XForwardedFor as X, XRealIp as R};
    for (header, from, lines, expected) in [
        (
            X,
            "10.0.0.1",
            &["x-forwarded-proto: https", "x-forwarded-host: api.example:8443"][..],
            "true api.example:8443",
        ),
        (R, "10.0.0.1", &["x-forwarded-proto: HTTP", "x-forwarded-host:  api.example "], "false api.example"),
        (X, "10.0.0.1", &["x-forwarded-proto: https"], "true -"),
        (X, "10.0.0.1", &["x-forwarded-host: [2001:db8::1]:1"], "- [2001:db8::1]:1"),
        // a stranger's are not looked at
        (X, "203.0.113.9", &["x-forwarded-proto: https", "x-forwarded-host: api.example"], "- -"),
        (F, "203.0.113.9", &["forwarded: proto=https;host=api.example"], "- -"),
        // two values are somebody else's and the proxy's: which is which cannot be told
        (X, "10.0.0.1", &["x-forwarded-proto: https, http", "x-forwarded-host: a.example, b.example"], "- -"),
        (X, "10.0.0.1", &["x-forwarded-proto: https", "x-forwarded-proto: https"], "- -"),
        (X, "10.0.0.1", &["x-forwarded-host: a.example", "x-forwarded-host: a.example"], "- -"),
        (X, "10.0.0.1", &["x-forwarded-proto: wss", "x-forwarded-host: a/b"], "- -"),
        (X, "10.0.0.1", &["x-forwarded-host: user@a.example"], "- -"),
        // one header is believed
        (X, "10.0.0.1", &["forwarded: proto=https;host=api.example"], "- -"),
        (F, "10.0.0.1", &["x-forwarded-proto: https", "x-forwarded-host: api.example"], "- -"),
        (F, "10.0.0.1", &["forwarded: for=203.0.113.9;proto=https;host=\"api.example:8443\""], "true api.example:8443"),
        // the nearest hop's, also where it says less
        (F, "10.0.0.1", &["forwarded: proto=http;host=evil.example, proto=https;host=api.example"], "true api.example"),
        (F, "10.0.0.1", &["forwarded: proto=https;host=evil.example, for=10.0.0.2"], "- -"),
        (F, "10.0.0.1", &["forwarded: proto=http;host=evil.example", "forwarded: proto=https"], "true -"),
        (F, "10.0.0.1", &["forwarded: proto=https;proto=http"], "- -"),
        (F, "10.0.0.1", &["forwarded: proto=https;host=\"api.example"], "- -"),
    ] {
        let told = ClientAddressing::new(balancers(), header).told_origin(peer(from), &headers(lines));
        let secure = told.secure.map_or("-".to_owned(), |secure| secure.to_string());
        assert_eq!(
            format!("{secure} {}", told.host.as_deref().unwrap_or("-")),
            expected,
            "{header:?} {from} {lines:?}"
        );
    }
}

#[test]
fn told_origins_for_any_line() {
    let parts = [
        "proto",
        "host",
        "for",
        "=",
        ";",
        ",",
        "https",
        "http",
        "api.example",
        "\"",
        "\\",
        " ",
        ":",
        "[",
        "]",
        "@",
        "/",
    ];
    let (mut seed, mut told) = (0x9e37_79b9_7f4a_7c15_u64, 0);
    for _ in 0..100_000 {
        let mut line = String::new();
        for _ in 0..12 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            line.push_str(parts[usize::try_from(seed >> 8).unwrap() % parts.len()]);
        }
        told += crate::fuzzing::told_origin(line.as_bytes());
    }
    assert!(told > 100, "something was told: {told}");
}

#[test]
fn x_real_ip_is_one_address() {
    for (lines, expected) in [
        (&["x-real-ip: 203.0.113.9"][..], "203.0.113.9 header"),
        (&["x-real-ip: [2001:db8::9]:80"], "2001:db8::9 header"),
        (&["x-real-ip: 10.0.0.9"], "10.0.0.9 header"),
        (&["x-real-ip: 203.0.113.9, 198.51.100.1"], "10.0.0.1 peer"),
        (&["x-real-ip: 203.0.113.9", "x-real-ip: 198.51.100.1"], "10.0.0.1 peer"),
        (&["x-real-ip: unknown"], "10.0.0.1 peer"),
        (&["x-forwarded-for: 203.0.113.9", "forwarded: for=203.0.113.9"], "10.0.0.1 peer"),
    ] {
        check(ForwardingHeader::XRealIp, "10.0.0.1", lines, expected);
        check(ForwardingHeader::XRealIp, "203.0.113.77", lines, "203.0.113.77 peer");
    }
}

#[test]
fn what_the_proxy_protocol_told_is_a_peer_like_any_other() {
    let addressing = ClientAddressing::new(balancers(), ForwardingHeader::XForwardedFor);
    let told = |ip: &str| ClientAddress { ip: ip.parse().unwrap(), source: AddressSource::ProxyProtocol };
    let lines = headers(&["x-forwarded-for: 203.0.113.9"]);
    assert_eq!(addressing.find(told("198.51.100.1"), &lines), told("198.51.100.1"));
    assert_eq!(addressing.find(told("10.0.0.4"), &lines).ip.to_string(), "203.0.113.9");
}

#[test]
fn chains_and_lines_have_an_end() {
    let trusted = vec!["10.0.0.2"; HOPS_MAX - 1].join(", ");
    let walked = format!("x-forwarded-for: 203.0.113.9, {trusted}");
    check(ForwardingHeader::XForwardedFor, "10.0.0.1", &[&walked], "203.0.113.9 header");
    let longer = format!("x-forwarded-for: 203.0.113.9, 10.0.0.3, {trusted}");
    check(ForwardingHeader::XForwardedFor, "10.0.0.1", &[&longer], "10.0.0.3 header");
    let commas = format!("x-forwarded-for: 203.0.113.9{}", ",".repeat(HOPS_MAX));
    check(ForwardingHeader::XForwardedFor, "10.0.0.1", &[&commas], "10.0.0.1 peer");
    let trusted = vec!["for=10.0.0.2"; HOPS_MAX - 1].join(", ");
    let walked = format!("forwarded: for=203.0.113.9, {trusted}");
    check(ForwardingHeader::Forwarded, "10.0.0.1", &[&walked], "203.0.113.9 header");
    let longer = format!("forwarded: for=203.0.113.9, for=10.0.0.3, {trusted}");
    check(ForwardingHeader::Forwarded, "10.0.0.1", &[&longer], "10.0.0.3 header");
    let padded = |length: usize| format!("forwarded: for=203.0.113.9;host={}", "a".repeat(length));
    let room = FORWARDED_LINE_MAX - "for=203.0.113.9;host=".len();
    check(ForwardingHeader::Forwarded, "10.0.0.1", &[&padded(room)], "203.0.113.9 header");
    check(ForwardingHeader::Forwarded, "10.0.0.1", &[&padded(room + 1)], "10.0.0.1 peer");
    let pairs = (0..17).map(|at| format!(";p{at}=x")).collect::<Vec<_>>().concat();
    check(ForwardingHeader::Forwarded, "10.0.0.1", &[&format!("forwarded: for=203.0.113.9{pairs}")], "10.0.0.1 peer");
}

#[test]
fn networks() {
    let trusted =
        TrustedProxies::parse(&["10.1.0.0/16", "2001:db8::/32", "192.0.2.7", "::ffff:198.51.100.0/120"]).unwrap();
    for (ip, expected) in [
        ("10.1.255.255", true),
        ("10.2.0.0", false),
        ("::ffff:10.1.2.3", true),
        ("2001:db8:ffff::1", true),
        ("2001:db9::1", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("198.51.100.200", true),
        ("198.51.101.1", false),
        ("::10.1.2.3", false),
    ] {
        assert_eq!(trusted.trust(ip.parse().unwrap()), expected, "{ip}");
    }
    for (text, told) in [
        ("10.0.0.1/8", "bits beyond its prefix; the network is 10.0.0.0/8"),
        ("2001:db8::1/32", "the network is 2001:db8::/32"),
        ("10.0.0.0/33", "neither"),
        ("010.0.0.0/8", "neither"),
        ("10.0.0", "neither"),
        ("localhost", "neither"),
        ("", "neither"),
        ("10.0.0.0/", "neither"),
        (" 10.0.0.0/8", "neither"),
    ] {
        let (_, error) = TrustedProxies::parse(&[text]).unwrap_err();
        assert!(error.to_string().contains(told), "{text}: {error}");
    }
    assert_eq!(TrustedProxies::parse(&vec!["10.0.0.1"; NETWORKS_MAX + 1]).unwrap_err().1, NetworkError::TooMany);
}
