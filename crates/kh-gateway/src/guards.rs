//! What is refused before anything else is looked at: requests that two servers could read in two ways.
//!
//! hyper 1.12 leaves these to its user (measured): several `Host` or `Authorization` lines and a `Transfer-Encoding`
//! that merely ends in `chunked`. `Content-Length` beside `Transfer-Encoding` is dropped by hyper before a handler
//! sees it; `server::sniff` finds it in the raw head. Where that is not possible (a pipelined head) the message is
//! re-framed as chunked and the connection closed, as RFC 9112 section 6.1 allows.

use http::{HeaderMap, Method, Uri, Version, header};

use crate::exchange::headers::OF_PROXY;

/// What is worth knowing of a request head, found in one pass over the headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "seven independent facts, not a state")]
pub(crate) struct Head {
    /// There is a `Connection` header, so that named headers must go.
    pub(crate) connection: bool,
    /// There is an `Upgrade` header.
    pub(crate) upgrade: bool,
    /// There is a `Transfer-Encoding`, which is exactly `chunked`.
    pub(crate) chunked: bool,
    /// It came over HTTP/2.
    pub(crate) http2: bool,
    /// There is one of the rarer headers that are not forwarded.
    pub(crate) rare: bool,
    /// There is a header between a caller and the user's own API, which is no platform's business: every browser sends
    /// one.
    pub(crate) own: bool,
    /// There is a `traceparent` or a `tracestate`.
    pub(crate) trace: bool,
}

/// Headers that make some frameworks act on another method or path than the request line names.
pub(crate) const OVERRIDES: [&str; 5] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];

/// Reads the head, or says why it is ambiguous. The text is for the caller and names no value.
pub(crate) fn check(method: &Method, uri: &Uri, version: Version, headers: &HeaderMap) -> Result<Head, &'static str> {
    let mut head = Head::default();
    let (mut hosts, mut authorizations, mut encodings, mut types) = (0_u32, 0_u32, 0_u32, 0_u32);
    for (name, value) in headers {
        match name.as_str() {
            "host" => hosts += 1,
            "authorization" => authorizations += 1,
            "content-type" => types += 1,
            "transfer-encoding" => {
                encodings += 1;
                head.chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            "connection" => head.connection = true,
            "upgrade" => head.upgrade = true,
            "traceparent" | "tracestate" => head.trace = true,
            "te"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "expect"
            | "http2-settings"
            | "forwarded"
            | "x-real-ip"
            | "x-client-ip"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "client-cert"
            | "client-cert-chain" => head.rare = true,
            "cookie" | "dpop" => head.own = true,
            name if name.starts_with(OF_PROXY) => head.rare = true,
            name if name.starts_with("x-") && OVERRIDES.contains(&name) => {
                return Err("the request asks for another method or path than its request line");
            }
            _ => {}
        }
    }
    if version == Version::HTTP_2 {
        check_http2(uri, headers, hosts)?;
        head.http2 = true;
    }
    if hosts > 1 {
        return Err("the request has more than one Host header");
    }
    if hosts == 0 && version == Version::HTTP_11 {
        return Err("the request has no Host header");
    }
    if authorizations > 1 {
        return Err("the request has more than one Authorization header");
    }
    if encodings > 1 || (encodings == 1 && !head.chunked) {
        return Err("the request has a Transfer-Encoding other than chunked");
    }
    if *method == Method::CONNECT {
        return Err("CONNECT is not supported: name keyholder as the host of requests, not as their proxy");
    }
    // RFC 9110 section 9.3.8: the answer repeats the request as it arrived: with the platform's token, or with what the API
    // is told of its caller
    let name = method.as_str();
    if name.len() == 5 && (name.eq_ignore_ascii_case("TRACE") || name.eq_ignore_ascii_case("TRACK")) {
        return Err("TRACE is not supported: its answer would tell what keyholder adds to the request");
    }
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err("the request target has an unknown scheme");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("the request target has user information");
    }
    // RFC 3986 section 3.4; anything else is re-encoded by some servers and not by others
    if let Some(query) = uri.query() {
        if !query.is_ascii() {
            return Err("the query has characters that must be percent-encoded");
        }
        // RFC 6750 section 2.3: a second place for a token; forwarded, it would stand in the platform's logs
        if query.split(['&', ';']).any(is_token_parameter) {
            return Err("the query has an access token; it belongs into the Authorization header");
        }
    }
    if types > 1 {
        return Err("the request has more than one Content-Type header");
    }
    Ok(head)
}

/// What HTTP/2 adds. The h2 library refuses most of it before a request exists; it is said here once more, because what
/// is forwarded depends on it.
fn check_http2(uri: &Uri, headers: &HeaderMap, hosts: u32) -> Result<(), &'static str> {
    // RFC 9113 section 8.2.2: in HTTP/1.1 these would frame the message
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        if headers.contains_key(name) {
            return Err("the request has a header that HTTP/2 does not have");
        }
    }
    for name in ["keep-alive", "proxy-connection"] {
        if headers.contains_key(name) {
            return Err("the request has a header that HTTP/2 does not have");
        }
    }
    if headers.get_all(header::TE).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err("the request has a TE other than trailers");
    }
    // RFC 9113 section 8.3.1: both name the same host, or the request is malformed
    let host = headers.get(header::HOST);
    match (uri.authority(), host) {
        (None, None) => Err("the request has neither :authority nor Host"),
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            Err("the request's :authority and Host differ")
        }
        _ if hosts > 1 => Err("the request has more than one Host header"),
        _ => Ok(()),
    }
}

/// Whether a query parameter is named `access_token`, however it is spelled.
fn is_token_parameter(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or(parameter);
    name.len() >= "access_token".len()
        && percent_encoding::percent_decode_str(name)
            .map(|byte| byte.to_ascii_lowercase())
            .eq(b"access_token".iter().copied())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn read(target: &str, lines: &[&str]) -> Result<Head, &'static str> {
        read_as(Version::HTTP_11, target, lines)
    }

    fn read_as(version: Version, target: &str, lines: &[&str]) -> Result<Head, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        check(&Method::GET, &target.parse().unwrap(), version, &headers)
    }

    #[test]
    fn heads_with_two_readings() {
        for (target, lines, word) in [
            ("/", &[][..], "no Host"),
            ("/", &["host: a", "host: a"], "Host"),
            ("/", &["host: a", "authorization: x", "authorization: x"], "Authorization"),
            ("/", &["host: a", "transfer-encoding: identity, chunked"], "Transfer-Encoding"),
            ("/", &["host: a", "transfer-encoding: chunked", "transfer-encoding: chunked"], "Transfer-Encoding"),
            ("/", &["host: a", "x-http-method-override: DELETE"], "another method"),
            ("/", &["host: a", "x-original-url: /b"], "another method"),
            ("/", &["host: a", "content-type: a/b", "content-type: a/c"], "Content-Type"),
            ("/a?b=c&access_token=d", &["host: a"], "access token"),
            ("/a?Access%5Ftoken", &["host: a"], "access token"),
            ("ftp://a/b", &["host: a"], "scheme"),
            ("http://u:p@a/b", &["host: a"], "user information"),
        ] {
            let refused = read(target, lines).unwrap_err();
            assert!(refused.contains(word), "{target} {lines:?}: {refused}");
        }
    }

    /// The library refuses these before; this is the second door.
    #[test]
    fn heads_that_http2_does_not_have() {
        for (target, line, word) in [
            ("https://a/", "host: b", ":authority"),
            ("/", "x: y", "neither"),
            ("https://a/", "connection: close", "does not have"),
            ("https://a/", "transfer-encoding: chunked", "does not have"),
            ("https://a/", "upgrade: websocket", "does not have"),
            ("https://a/", "keep-alive: timeout=5", "does not have"),
            ("https://a/", "proxy-connection: close", "does not have"),
            ("https://a/", "te: gzip", "trailers"),
        ] {
            let refused = read_as(Version::HTTP_2, target, &[line]).unwrap_err();
            assert!(refused.contains(word), "{target} {line}: {refused}");
        }
        for line in ["host: A", "te: trailers", "accept: */*"] {
            assert!(read_as(Version::HTTP_2, "https://a/", &[line]).is_ok_and(|head| head.http2), "{line}");
        }
        assert!(read_as(Version::HTTP_2, "/", &["host: a"]).is_ok());
    }

    #[test]
    fn ordinary_heads() {
        let head =
            read("/a?b=c&no_access_token=d&c=access_token", &["host: a", "authorization: Bearer x", "accept: */*"])
                .unwrap();
        assert_eq!(head, Head::default());
        let head = read("http://h/a", &["host: a", "transfer-encoding: Chunked", "connection: close", "te: trailers"]);
        assert_eq!(head, Ok(Head { connection: true, chunked: true, rare: true, ..Head::default() }));
        let none = HeaderMap::new();
        assert!(check(&Method::GET, &Uri::from_static("/"), Version::HTTP_10, &none).is_ok());
        for line in ["cookie: a=b", "dpop: x"] {
            assert_eq!(read("/", &["host: a", line]), Ok(Head { own: true, ..Head::default() }), "{line}");
        }
        for line in
            ["x-forwarded-user: root", "X-Forwarded-Client-Cert: x", "client-cert: :AAAA:", "Client-Cert-Chain: x"]
        {
            assert_eq!(read("/", &["host: a", line]), Ok(Head { rare: true, ..Head::default() }), "{line}");
        }
        for (method, target) in [("TRACE", "/"), ("trace", "/"), ("Track", "/"), ("CONNECT", "a:1")] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let refused = check(&method, &Uri::from_static(target), Version::HTTP_10, &none).unwrap_err();
            // callers of a protected API know of neither
            assert!(!refused.contains("platform") && !refused.contains("SDK"), "{method}: {refused}");
        }
    }

    proptest::proptest! {
        /// Whatever is written into both: over HTTP/2 they are let through only if they are one host.
        #[test]
        fn authority_and_host_are_one(authority in "[a-zA-Z0-9.:@\\[\\]-]{1,20}", host in "[ -~]{0,20}", same: bool) {
            let host = if same { authority.to_ascii_uppercase() } else { host };
            if let Ok(uri) = format!("https://{authority}/api/v2/users").parse::<Uri>()
                && let Ok(value) = host.parse::<http::HeaderValue>()
            {
                let headers = HeaderMap::from_iter([(header::HOST, value)]);
                let accepted = check(&Method::GET, &uri, Version::HTTP_2, &headers).is_ok();
                let one = host.eq_ignore_ascii_case(&authority) && !authority.contains('@');
                proptest::prop_assert_eq!(accepted, one, "{} and {:?}", authority, host);
            }
        }
    }
}
