//! Which headers cross the gateway: everything end-to-end, nothing hop-by-hop (RFC 9110 section 7.6.1). Header maps
//! are changed in place.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{guards::Head, sender};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// RFC 9110 section 7.6.3.
const VIA: HeaderValue = HeaderValue::from_static("1.1 keyholder");
const VIA_HTTP2: HeaderValue = HeaderValue::from_static("2.0 keyholder");

/// What proxies say about a caller. The platform is told nothing of the sort: keyholder is its caller, and an address
/// that anybody may write here must not count for an allow-list of addresses.
pub(crate) static OF_CALLER: [HeaderName; 13] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("cf-connecting-ip"),
];

/// Names that begin so are for proxies to write: beside those of [`OF_CALLER`] who the caller is and what it may, such as
/// `x-forwarded-user`, `x-forwarded-groups` and `x-forwarded-client-cert`.
pub(crate) const OF_PROXY: &str = "x-forwarded-";

/// The certificate that a proxy says the caller has shown (RFC 9440).
pub(crate) static CERTIFICATES: [HeaderName; 2] =
    [HeaderName::from_static("client-cert"), HeaderName::from_static("client-cert-chain")];

/// What a platform says about its own origin, which the caller would take for keyholder's: cookies may hold a session
/// of the platform, the others redirect a caller or make it refuse plain http.
static OF_PLATFORM: [HeaderName; 4] = [
    header::SET_COOKIE,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("clear-site-data"),
];

/// The same of the user's own API, whose cookies and policies are meant for its callers. An alternative address is not:
/// it leads around the gateway.
static OF_API: [HeaderName; 1] = [header::ALT_SVC];

/// Whose server stands behind the gateway. It decides what of a caller is that server's business, and what of an answer
/// is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// A platform, which knows keyholder alone: no cookie crosses in either direction, and nothing about its origin.
    Platform,
    /// The user's own API, whose callers are known to it: its cookies are theirs.
    OwnApi,
}

impl Behind {
    /// What is said of an upstream that switches protocols unasked.
    pub(crate) fn unasked_switch(self) -> &'static str {
        match self {
            Self::Platform => "the platform switched protocols without being asked",
            Self::OwnApi => "the API behind the gateway switched protocols without being asked",
        }
    }

    /// What is not told to callers of what the server says about its own origin.
    fn about_origin(self) -> &'static [HeaderName] {
        match self {
            Self::Platform => &OF_PLATFORM,
            Self::OwnApi => &OF_API,
        }
    }
}

/// Headers that a `Connection` header cannot take away: they are ours to set, or they frame the message.
const KEPT: [HeaderName; 4] = [header::HOST, header::AUTHORIZATION, header::CONTENT_LENGTH, header::VIA];

fn remove_named(headers: &mut HeaderMap) {
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            if let Ok(name) = HeaderName::from_bytes(token.trim_ascii())
                && !KEPT.contains(&name)
            {
                named.push(name);
            }
        }
    }
    for name in named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

/// Takes off what only a proxy in front of the API may say of its caller. The API's proxy is keyholder, which says its own
/// afterwards.
fn remove_of_proxies(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(OF_PROXY)).cloned().collect();
    for name in named.iter().chain(&CERTIFICATES) {
        headers.remove(name);
    }
}

/// One field of the cookies that HTTP/2 may split over several, as browsers do: many servers read the first one of
/// HTTP/1.1 only (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    if let Ok(joined) = joined {
        headers.insert(header::COOKIE, joined);
    }
}

/// Makes a caller's headers fit to be sent upstream. Towards a platform its cookies are dropped: what speaks for the
/// caller is the platform's token alone. `Host` and `Authorization` are left to be replaced later: that way their places
/// in the map are used again.
pub(crate) fn to_upstream(headers: &mut HeaderMap, head: Head, behind: Behind) {
    if head.connection {
        remove_named(headers);
    }
    if head.chunked {
        headers.remove(header::TRANSFER_ENCODING);
    }
    if head.upgrade {
        headers.remove(header::UPGRADE);
    }
    if head.rare {
        for name in [
            header::TE,
            KEEP_ALIVE,
            PROXY_CONNECTION,
            header::PROXY_AUTHORIZATION,
            header::PROXY_AUTHENTICATE,
            header::EXPECT,
            HTTP2_SETTINGS,
        ] {
            headers.remove(name);
        }
        for name in &OF_CALLER {
            headers.remove(name);
        }
        if behind == Behind::OwnApi {
            remove_of_proxies(headers);
        }
    }
    if head.own && behind == Behind::Platform {
        headers.remove(header::COOKIE);
        // it proves who holds a token of keyholder's, which the platform never sees
        headers.remove(sender::PROOF);
    }
    if head.own && head.http2 && behind == Behind::OwnApi {
        join_cookies(headers);
    }
    headers.append(header::VIA, if head.http2 { VIA_HTTP2 } else { VIA });
}

/// What nearly every `Connection` header says. Neither word takes away a header that is not removed anyway.
fn is_ordinary(connection: &HeaderValue) -> bool {
    let value = connection.as_bytes();
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

/// Makes an upstream's headers fit to be sent to a caller.
pub(crate) fn to_caller(headers: &mut HeaderMap, behind: Behind) {
    let (mut connection, mut named, mut hop, mut origin) = (false, false, false, false);
    for (name, value) in &*headers {
        match name.as_str() {
            "connection" => {
                connection = true;
                named |= !is_ordinary(value);
            }
            "keep-alive" | "proxy-connection" | "proxy-authenticate" | "transfer-encoding" | "te" | "upgrade" => {
                hop = true;
            }
            "set-cookie" | "alt-svc" | "strict-transport-security" | "clear-site-data" => origin = true,
            _ => {}
        }
    }
    if origin {
        for name in behind.about_origin() {
            headers.remove(name);
        }
    }
    if named {
        remove_named(headers);
    } else if connection {
        headers.remove(header::CONNECTION);
    }
    if hop {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, header::PROXY_AUTHENTICATE, header::TRANSFER_ENCODING, header::TE] {
            headers.remove(name);
        }
        headers.remove(header::UPGRADE);
    }
}

/// The same of an answer that begins a tunnel: what belongs to the connection says which protocol the tunnel has, and
/// stays.
pub(crate) fn to_tunnel(headers: &mut HeaderMap, behind: Behind) {
    for name in behind.about_origin() {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_callers_headers() {
        let mut headers = map(&[
            ("host", "keyholder"),
            ("authorization", "Bearer kht_x"),
            ("connection", "close, X-Hop , authorization, content-length"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic eA=="),
            ("cookie", "a=b"),
            ("content-length", "3"),
            ("inin-correlation-id", "c1"),
            ("accept", "*/*"),
        ]);
        let head = Head { connection: true, upgrade: true, chunked: true, rare: true, own: true, ..Head::default() };
        to_upstream(&mut headers, head, Behind::Platform);
        let expected = map(&[
            ("host", "keyholder"),
            ("authorization", "Bearer kht_x"),
            ("content-length", "3"),
            ("inin-correlation-id", "c1"),
            ("accept", "*/*"),
            ("via", "1.1 keyholder"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_platforms_headers() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-internal"),
            ("x-internal", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-type", "application/json"),
            ("retry-after", "3"),
            ("www-authenticate", "Bearer"),
        ]);
        to_caller(&mut headers, Behind::Platform);
        let expected =
            map(&[("content-type", "application/json"), ("retry-after", "3"), ("www-authenticate", "Bearer")]);
        assert_eq!(headers, expected);
        for connection in ["close", "Keep-Alive"] {
            let mut headers = map(&[("connection", connection), ("keep-alive", "timeout=5"), ("etag", "1")]);
            to_caller(&mut headers, Behind::Platform);
            assert_eq!(headers, map(&[("etag", "1")]));
        }
    }

    #[test]
    fn what_is_about_an_origin_does_not_cross() {
        let mut answer = map(&[
            ("set-cookie", "session=of-the-platform"),
            ("set-cookie", "a=b"),
            ("alt-svc", "h2=\"elsewhere:443\""),
            ("strict-transport-security", "max-age=1"),
            ("clear-site-data", "\"*\""),
            ("etag", "1"),
        ]);
        to_caller(&mut answer, Behind::Platform);
        assert_eq!(answer, map(&[("etag", "1")]));
        let mut request = map(&[("forwarded", "for=192.0.2.1"), ("x-real-ip", "192.0.2.1"), ("etag", "1")]);
        for name in &OF_CALLER {
            request.insert(name, HeaderValue::from_static("192.0.2.1"));
        }
        to_upstream(&mut request, Head { rare: true, ..Head::default() }, Behind::Platform);
        assert_eq!(request, map(&[("etag", "1"), ("via", "1.1 keyholder")]));
    }

    #[test]
    fn an_answer_that_begins_a_tunnel_says_what_the_tunnel_is_and_nothing_about_its_origin() {
        let about = [
            ("set-cookie", "session=1"),
            ("set-cookie", "a=b"),
            ("alt-svc", "h2=\"elsewhere:443\""),
            ("strict-transport-security", "max-age=1"),
            ("clear-site-data", "\"*\""),
        ];
        let protocol = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "x")];
        let kept: [(Behind, &[&str]); 2] = [
            (Behind::Platform, &[]),
            (Behind::OwnApi, &["set-cookie", "strict-transport-security", "clear-site-data"]),
        ];
        for (behind, names) in kept {
            let all: Vec<_> = about.iter().chain(&protocol).copied().collect();
            let kept = about.iter().filter(|(name, _)| names.contains(name));
            let kept: Vec<_> = kept.chain(&protocol).copied().collect();
            let mut answer = map(&all);
            to_tunnel(&mut answer, behind);
            assert_eq!(answer, map(&kept), "{behind:?}");
        }
    }

    #[test]
    fn cookies_of_http2_are_one_field_for_the_users_own_api() {
        for (http2, behind, sent, expected) in [
            (true, Behind::OwnApi, &["a=b", "c=d; e=f", "g=\"h\""][..], &["a=b; c=d; e=f; g=\"h\""][..]),
            (true, Behind::OwnApi, &["a=b"], &["a=b"]),
            (true, Behind::Platform, &["a=b", "c=d"], &[]),
            // whoever does this in HTTP/1.1 means two fields
            (false, Behind::OwnApi, &["a=b", "c=d"], &["a=b", "c=d"]),
        ] {
            let mut request = HeaderMap::new();
            for cookie in sent {
                request.append(header::COOKIE, HeaderValue::from_static(cookie));
            }
            to_upstream(&mut request, Head { own: true, http2, ..Head::default() }, behind);
            let cookies: Vec<&[u8]> = request.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
            let expected: Vec<&[u8]> = expected.iter().map(|cookie| cookie.as_bytes()).collect();
            assert_eq!(cookies, expected, "{sent:?} {behind:?}");
        }
    }

    /// The user's own API and its callers are party to the same conversation; only the way around is not told.
    #[test]
    fn what_is_about_the_users_own_api_crosses() {
        let kept = [
            ("set-cookie", "session=1"),
            ("strict-transport-security", "max-age=1"),
            ("clear-site-data", "\"*\""),
            ("www-authenticate", "Bearer"),
        ];
        let mut answer = map(&kept);
        answer.insert(header::ALT_SVC, HeaderValue::from_static("h3=\":443\""));
        answer.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        to_caller(&mut answer, Behind::OwnApi);
        assert_eq!(answer, map(&kept));
        let mut request = map(&[("cookie", "a=b"), ("x-forwarded-for", "192.0.2.1"), ("te", "trailers")]);
        to_upstream(&mut request, Head { rare: true, own: true, ..Head::default() }, Behind::OwnApi);
        assert_eq!(request, map(&[("cookie", "a=b"), ("via", "1.1 keyholder")]));
        let mut request = map(&[
            ("x-forwarded-user", "root"),
            ("x-forwarded-user", "admin"),
            ("x-forwarded-client-cert", "Subject=root"),
            ("x-forwarded-anything", "1"),
            ("client-cert", ":AAAA:"),
            ("client-cert-chain", ":AAAA:"),
            ("x-forwarder", "kept"),
        ]);
        to_upstream(&mut request, Head { rare: true, ..Head::default() }, Behind::OwnApi);
        assert_eq!(request, map(&[("x-forwarder", "kept"), ("via", "1.1 keyholder")]));
        for (behind, kept) in [(Behind::OwnApi, true), (Behind::Platform, false)] {
            let mut request = map(&[("cookie", "a=b"), ("dpop", "x")]);
            to_upstream(&mut request, Head { own: true, ..Head::default() }, behind);
            assert_eq!(["cookie", "dpop"].map(|name| request.contains_key(name)), [kept; 2], "{behind:?}");
        }
    }
}
