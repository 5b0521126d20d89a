//! Bytes in, a clear refusal out, and nothing of it at the platform.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    support::{PATIENCE, Setup, World, raw_to},
    upstream::{Upstream, hearing, reply},
};

async fn worlds() -> (Upstream, World) {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "reached") })).await;
    let world = Setup::new(upstream.address).start().await;
    (upstream, world)
}

/// What is sent (its name, head and body), and what comes of it: the status and, where we refuse, the code.
type Row = (&'static str, String, &'static [u8], u16, &'static str);

/// Requests that two servers could read in two ways, and broken ones. Each is refused by whatever site it reaches.
#[allow(clippy::too_many_lines, reason = "one row per request")]
pub(crate) fn rows(token: &str) -> Vec<Row> {
    let token = format!("Authorization: Bearer {token}\r\n");
    let long = "a".repeat(1024 * 1024);
    let many = "X-Many: y\r\n".repeat(200);
    vec![
        (
            "two Authorization",
            format!("GET /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}{token}\r\n"),
            b"",
            400,
            "keyholder.request.ambiguous",
        ),
        (
            "two Host",
            format!("GET /api/v2/users HTTP/1.1\r\nHost: a\r\nHost: b\r\n{token}\r\n"),
            b"",
            400,
            "keyholder.request.ambiguous",
        ),
        ("no Host", format!("GET /api/v2/users HTTP/1.1\r\n{token}\r\n"), b"", 400, "keyholder.request.ambiguous"),
        (
            "TE list",
            format!("POST /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}Transfer-Encoding: identity, chunked\r\n\r\n"),
            b"0\r\n\r\n",
            400,
            "keyholder.request.ambiguous",
        ),
        (
            "TE twice",
            format!(
                "POST /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            b"0\r\n\r\n",
            400,
            "keyholder.request.ambiguous",
        ),
        (
            "TE unknown",
            format!("POST /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}Transfer-Encoding: xchunked\r\n\r\n"),
            b"0\r\n\r\n",
            400,
            "",
        ),
        (
            "CL and TE",
            format!(
                "POST /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            b"0\r\n\r\n",
            400,
            "keyholder.request.ambiguous",
        ),
        (
            "TE and CL",
            format!(
                "POST /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}Transfer-Encoding: chunked\r\ncontent-length: 4\r\n\r\n"
            ),
            b"0\r\n\r\nGET /api/v2/users HTTP/1.1\r\n\r\n",
            400,
            "keyholder.request.ambiguous",
        ),
        (
            "two CL",
            format!("POST /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}Content-Length: 4\r\nContent-Length: 5\r\n\r\n"),
            b"null",
            400,
            "",
        ),
        (
            "CL +4",
            format!("POST /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}Content-Length: +4\r\n\r\n"),
            b"null",
            400,
            "",
        ),
        (
            "HTTP/1.0 TE",
            format!("POST /api/v2/users HTTP/1.0\r\nHost: a\r\n{token}Transfer-Encoding: chunked\r\n\r\n"),
            b"0\r\n\r\n",
            400,
            "",
        ),
        ("space before colon", format!("GET /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}X : y\r\n\r\n"), b"", 400, ""),
        ("NUL in value", format!("GET /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}X: a\0b\r\n\r\n"), b"", 400, ""),
        (
            "obsolete folding",
            format!("GET /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}X: a\r\n b\r\n\r\n"),
            b"",
            400,
            "",
        ),
        (
            "dot segments",
            format!("GET /api/v2/public/../oauth/clients HTTP/1.1\r\nHost: a\r\n{token}\r\n"),
            b"",
            400,
            "keyholder.request.ambiguous",
        ),
        ("double slash", format!("GET //api/v2/users HTTP/1.1\r\nHost: a\r\n{token}\r\n"), b"", 400, ""),
        (
            "encoded slash",
            format!("GET /api/v2/users%2F1 HTTP/1.1\r\nHost: a\r\n{token}\r\n"),
            b"",
            400,
            "keyholder.request.ambiguous",
        ),
        ("backslash", format!("GET /api/v2\\users HTTP/1.1\r\nHost: a\r\n{token}\r\n"), b"", 400, ""),
        (
            "overlong UTF-8",
            format!("GET /api/v2/users/%C0%AF HTTP/1.1\r\nHost: a\r\n{token}\r\n"),
            b"",
            400,
            "keyholder.request.ambiguous",
        ),
        (
            "method override",
            format!("GET /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}X-HTTP-Method-Override: DELETE\r\n\r\n"),
            b"",
            400,
            "keyholder.request.ambiguous",
        ),
        (
            "CONNECT",
            "CONNECT api.mypurecloud.com:443 HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            b"",
            400,
            "keyholder.request.ambiguous",
        ),
        ("star", format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{token}\r\n"), b"", 400, ""),
        ("1 MB header", format!("GET /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}X: {long}\r\n\r\n"), b"", 431, ""),
        ("200 headers", format!("GET /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}{many}\r\n"), b"", 431, ""),
        (
            "long path",
            format!("GET /api/v2/users/{} HTTP/1.1\r\nHost: a\r\n{token}\r\n", &long[..9_000]),
            b"",
            414,
            "keyholder.request.too_large",
        ),
        (
            "long query",
            format!("GET /api/v2/users?a={} HTTP/1.1\r\nHost: a\r\n{token}\r\n", &long[..20_000]),
            b"",
            414,
            "keyholder.request.too_large",
        ),
        ("garbage", "\x16\x03\x01\x02garbage\r\n\r\n".into(), b"", 400, ""),
        (
            "TE in capitals twice",
            format!("POST /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}Transfer-Encoding: chunked, chunked\r\n\r\n"),
            b"0\r\n\r\n",
            400,
            "",
        ),
        (
            "tab before the value's end",
            format!("GET /api/v2/users HTTP/1.1\r\nHost: a\r\n{token}X\t: y\r\n\r\n"),
            b"",
            400,
            "",
        ),
        ("encoded dots", format!("GET /api/v2/%2e%2e/users HTTP/1.1\r\nHost: a\r\n{token}\r\n"), b"", 400, ""),
        ("dots behind a parameter", format!("GET /api/v2/..;x/users HTTP/1.1\r\nHost: a\r\n{token}\r\n"), b"", 400, ""),
        ("twice encoded", format!("GET /api/v2/%252e%252e/users HTTP/1.1\r\nHost: a\r\n{token}\r\n"), b"", 400, ""),
        (
            "token in the query",
            format!("GET /api/v2/users?access_token=x HTTP/1.1\r\nHost: a\r\n{token}\r\n"),
            b"",
            400,
            "",
        ),
    ]
}

/// All of them, at one address: each gets one answer that names nothing of the token, and then the connection ends.
pub(crate) async fn refused_all(address: SocketAddr, token: &str) {
    for (name, head, body, status, code) in rows(token) {
        let answer = raw_to(address, &[head.as_bytes(), body].concat()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{name}: {:?}",
            answer.get(..300).unwrap_or(&answer)
        );
        assert!(answer.contains(code), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{name}: one answer, then the end: {answer}");
        assert!(!answer.contains(token), "{name}");
    }
    let head = format!("Authorization: Bearer {token}\r\n");
    let invalid = [b"GET /api/v2/\xff\xfe HTTP/1.1\r\nHost: a\r\n".as_slice(), head.as_bytes(), b"\r\n"].concat();
    let answer = raw_to(address, &invalid).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // HTTP/2 without having agreed on it: the connection just ends
    assert_eq!(raw_to(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "");
}

#[tokio::test]
async fn ambiguous_and_broken_requests_are_refused_and_never_forwarded() {
    let (upstream, world) = worlds().await;
    refused_all(world.address, &world.token).await;
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn a_pipelined_head_with_both_lengths_is_reframed_and_the_connection_closed() {
    let (upstream, world) = worlds().await;
    let head = format!("Host: a\r\nAuthorization: Bearer {}\r\n", world.token);
    let three = format!(
        "GET /api/v2/a HTTP/1.1\r\n{head}\r\nPOST /api/v2/b HTTP/1.1\r\n{head}Content-Length: 4\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v2/smuggled HTTP/1.1\r\n{head}\r\n"
    );
    let answer = world.raw(three.as_bytes()).await;
    assert!(answer.matches("HTTP/1.1").count() <= 2, "{answer}");
    for seen in upstream.seen() {
        assert_ne!(seen.target, "/api/v2/smuggled");
        assert!(!(seen.headers.contains_key("content-length") && seen.headers.contains_key("transfer-encoding")));
    }
}

/// Sends this, and reads until the answer ends with that.
async fn ask(stream: &mut TcpStream, bytes: &str, end: &str) -> String {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("an answer in time").unwrap();
        assert!(read > 0, "{:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// 100 Continue is written while a request is handled, and what comes in after it is no head.
#[tokio::test]
async fn both_lengths_are_found_in_the_head_after_an_upload_that_was_asked_for() {
    let (upstream, bodies) = hearing().await;
    let world = Setup::new(upstream.address).start().await;
    let head = format!("Host: a\r\nAuthorization: Bearer {}\r\n", world.token);
    let expecting = format!("POST /api/v2/users HTTP/1.1\r\n{head}Content-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let both = format!(
        "POST /api/v2/users HTTP/1.1\r\n{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    for _ in 0..2 {
        assert_eq!(ask(&mut stream, &expecting, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        assert!(ask(&mut stream, "null", "heard").await.starts_with("HTTP/1.1 200 "));
    }
    let refused = ask(&mut stream, &both, "}").await;
    assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("keyholder.request.ambiguous"), "{refused}");
    assert_eq!(*bodies.lock(), ["null", "null"]);
}

#[tokio::test]
async fn an_ordinary_request_still_passes_after_all_that() {
    let (upstream, world) = worlds().await;
    assert_eq!(world.call("GET /api/v2/users").await.status, 200);
    let chunked = format!(
        "POST /api/v2/users HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n4\r\nnull\r\n0\r\n\r\n",
        world.token
    );
    assert!(world.raw(chunked.as_bytes()).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(upstream.seen().len(), 2);
}

/// The answer to TRACE is the request as the platform got it, token and all.
#[tokio::test]
async fn trace_is_never_forwarded() {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "echo") })).await;
    let world = Setup::new(upstream.address).start().await;
    for method in ["TRACE", "trace", "TRACK"] {
        let got = world.call(&format!("{method} /api/v2/users")).await;
        assert_eq!((got.status, upstream.seen().len()), (400, 0), "{method}");
    }
}
