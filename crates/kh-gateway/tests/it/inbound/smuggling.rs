//! What is authorised is what is forwarded: requests that could be read in two ways, in front of an API that would
//! answer anything.

use super::*;

/// A site whose every path is open to every token, so that nothing but the reading of a request can refuse it.
async fn open() -> (Upstream, Site) {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.routes = RouteTable::new(vec![RouteRule::parse_line("* /**=").unwrap()]).unwrap();
    let site = setup.start();
    (upstream, site)
}

#[tokio::test]
async fn ambiguous_and_broken_requests_are_refused_and_never_forwarded() {
    let (upstream, site) = open().await;
    crate::bad_input::refused_all(site.address, "nothing").await;
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    assert_eq!(site.call("GET /api/v2/users", "nothing").await.status, 200, "an ordinary request passes");
}

/// A host with a path in it would make the address that a `DPoP` proof is for another one than the route's.
#[tokio::test]
async fn a_host_that_is_none_is_refused_and_never_forwarded() {
    let (upstream, site) = open().await;
    for (host, taken) in [
        ("a", true),
        ("A.example:8443", true),
        ("a_b.example.", true),
        ("127.0.0.1", true),
        ("[::1]:80", true),
        ("a/reports?", false),
        ("a?", false),
        ("a#", false),
        ("a\\b", false),
        ("user@a", false),
        ("a:80:80", false),
        ("a:x", false),
        ("a b", false),
        ("a,b", false),
        ("%61", false),
        ("a..b", false),
        ("[::1", false),
        ("[x]", false),
    ] {
        let before = upstream.seen().len();
        let head = "Authorization: Bearer nothing\r\nConnection: close\r\n\r\n";
        let answer = site.raw(&format!("GET /any HTTP/1.1\r\nHost: {host}\r\n{head}")).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), taken, "{host}: {answer}");
        let absolute = site.raw(&format!("GET http://{host}/any HTTP/1.1\r\nHost: {host}\r\n{head}")).await;
        assert!(taken || !absolute.starts_with("HTTP/1.1 200 "), "{host}: {absolute}");
        let expected = before + if taken { 2 } else { 0 };
        assert_eq!(upstream.seen().len(), expected, "{host}");
    }
}

/// What stands behind a body with two ends.
pub(super) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\n\r\n";

/// Requests to `/first` whose body ends at two places, each with [`SMUGGLED`] behind one of them.
pub(super) fn with_two_ends() -> impl Iterator<Item = (&'static str, String)> {
    let head = "POST /first HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\nTransfer-Encoding: chunked\r\n\r\n";
    [
        ("bare LF behind a chunk size", "4\nbody\r\n0\r\n\r\n"),
        ("LF inside a chunk extension", "4;x\n=y\r\nbody\r\n0\r\n\r\n"),
        ("CR inside a chunk extension", "4;x\r=y\r\nbody\r\n0\r\n\r\n"),
        ("no CRLF behind a chunk", "4\r\nbodyX\r\n0\r\n\r\n"),
        ("a size with a sign", "+4\r\nbody\r\n0\r\n\r\n"),
        ("a size with 0x", "0x4\r\nbody\r\n0\r\n\r\n"),
        ("a size that overflows", "10000000000000004\r\nbody\r\n0\r\n\r\n"),
        ("an empty size", "\r\nbody\r\n0\r\n\r\n"),
    ]
    .into_iter()
    .map(move |(name, body)| (name, format!("{head}{body}{SMUGGLED}")))
}

/// The request may be under way when two ends show; what stands behind it is never taken for another request.
#[tokio::test]
async fn a_body_with_two_ends_carries_no_second_request() {
    let (upstream, site) = open().await;
    for (name, request) in with_two_ends() {
        let answer = site.raw(&request).await;
        assert!(!answer.contains("HTTP/1.1 200 "), "{name}: {answer}");
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{name}: {answer}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.target == "/first"), "{:?}", upstream.seen());
}

/// CVE-2026-2833: a gateway that becomes a tunnel before its upstream agreed lets further requests pass unseen.
#[tokio::test]
async fn what_follows_an_offer_to_upgrade_is_a_request_like_any_other() {
    let (upstream, site) = open().await;
    let answer = site
        .talk(
            "GET /first HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
    let statuses: Vec<&str> =
        answer.match_indices("HTTP/1.1 ").filter_map(|(at, _)| answer.get(at + 9..at + 12)).collect();
    assert_eq!(statuses, ["200", "401"], "{answer}");
    assert_eq!(upstream.seen().len(), 1);
}

/// Each request on a connection proves itself: none inherits what an earlier one was.
#[tokio::test]
async fn pipelined_requests_are_decided_on_one_by_one() {
    let (upstream, site) = site().await;
    let request = |path: &str, token: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{token}\r\n");
    let with = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let all = [
        request("/reports", &with("reader")),
        request("/reports", ""),
        request("/reports", &with("nothing")),
        request("/reports", &format!("{}Connection: close\r\n", with("reader"))),
    ];
    let answer = site.talk(&all.concat()).await;
    let statuses: Vec<&str> =
        answer.match_indices("HTTP/1.1 ").filter_map(|(at, _)| answer.get(at + 9..at + 12)).collect();
    assert_eq!(statuses, ["200", "401", "403", "200"], "{answer}");
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_pipelined_head_with_both_lengths_is_reframed_and_the_connection_closed() {
    let (upstream, site) = open().await;
    let head = "Host: a\r\nAuthorization: Bearer nothing\r\n";
    let three = format!(
        "GET /a HTTP/1.1\r\n{head}\r\nPOST /b HTTP/1.1\r\n{head}Content-Length: 4\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n{head}\r\n"
    );
    let answer = site.raw(&three).await;
    assert!(answer.matches("HTTP/1.1").count() <= 2, "{answer}");
    for seen in upstream.seen() {
        assert_ne!(seen.target, "/smuggled");
        assert!(!(seen.headers.contains_key("content-length") && seen.headers.contains_key("transfer-encoding")));
    }
}
