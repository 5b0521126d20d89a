//! Callers that take their time on purpose: what they hold, and for how long.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::support::{narrow, narrow_listen};

/// How long a head, or an answer while the body does not move on, may take here.
const SHORT: Duration = Duration::from_millis(400);
/// Between two pieces of a slow caller.
const PAUSE: Duration = Duration::from_millis(40);
/// Pieces that a slow caller would send: some hundred times as long as it may take.
const PIECES: usize = 1_000;

/// How long an answer may lie unread where one is read slowly, and the pause between two reads.
const UNREAD: Duration = Duration::from_secs(2);
const SIP: Duration = Duration::from_millis(20);

async fn impatient() -> (Upstream, Site) {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.workers = 1;
    setup.config.limits.header_read = SHORT;
    setup.config.limits.response_header = SHORT;
    setup.config.limits.body_progress_bytes = 1_000;
    setup.config.limits.connections_per_worker = 4;
    let site = setup.start();
    (upstream, site)
}

/// Sends `head`, then pieces with a pause before each, until the site closes: what it answered, and the pieces it took.
async fn slowly(site: &Site, head: &str, piece: &str, pieces: usize) -> (String, usize) {
    let (mut read, mut write) = TcpStream::connect(site.address).await.unwrap().into_split();
    write.write_all(head.as_bytes()).await.unwrap();
    let answer = tokio::spawn(async move {
        let mut answer = Vec::new();
        let mut buffer = [0; 4_096];
        loop {
            match read.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    break;
                }
            }
        }
        String::from_utf8(answer).unwrap()
    });
    let mut sent = 0;
    while sent < pieces && !answer.is_finished() {
        tokio::time::sleep(PAUSE).await;
        if write.write_all(piece.as_bytes()).await.is_err() {
            break;
        }
        sent += 1;
    }
    (tokio::time::timeout(PATIENCE, answer).await.expect("the site closes").unwrap(), sent)
}

#[tokio::test]
async fn a_head_that_never_ends_holds_a_connection_for_a_bounded_time() {
    let (upstream, site) = impatient().await;
    for head in ["GET /any HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\nX: ", "G", ""] {
        let (answer, sent) = slowly(&site, head, "y", PIECES).await;
        assert!(sent < PIECES && !answer.contains(" 200 "), "{head:?}: {answer}");
    }
    let first = "GET /any HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\n\r\n";
    let (answer, sent) = slowly(&site, first, "G", PIECES).await;
    assert!(sent < PIECES, "the next head on the same connection");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_body_that_trickles_holds_the_api_for_a_bounded_time() {
    let (_upstream, site) = impatient().await;
    let head = "POST /any HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\nConnection: close\r\n";
    let (answer, sent) = slowly(&site, &format!("{head}Content-Length: 100000\r\n\r\n"), "y", PIECES).await;
    assert!(sent < PIECES && answer.starts_with("HTTP/1.1 408 "), "{sent}: {answer}");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let (answer, sent) = slowly(&site, &chunked, "1\r\ny\r\n", PIECES).await;
    assert!(sent < PIECES && answer.starts_with("HTTP/1.1 408 "), "{sent}: {answer}");
    assert_eq!(site.metric(r#"keyholder_inbound_refusals_total{site="api",reason="body_incomplete"}"#), 2);
    assert_eq!(site.metric(r#"keyholder_gateway_upstream_errors_total{kind="timeout"}"#), 0);
    // slow, and moving on: three times as long as a body that does not
    let piece = "y".repeat(2_000);
    let whole = format!("{head}Content-Length: {}\r\n\r\n", 30 * piece.len());
    let (answer, sent) = slowly(&site, &whole, &piece, 30).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{sent}: {answer}");
}

#[tokio::test]
async fn a_body_without_a_token_is_not_waited_for() {
    let (upstream, site) = impatient().await;
    let head = "POST /any HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    let (answer, sent) = slowly(&site, head, "y", PIECES).await;
    assert!(sent < PIECES && answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn connections_without_requests_lock_out_nobody_for_long() {
    let (_upstream, site) = impatient().await;
    let mut idle = Vec::new();
    // more than a worker takes at once
    for _ in 0..12 {
        idle.push(TcpStream::connect(site.address).await.unwrap());
    }
    assert_eq!(site.call("GET /any", "nothing").await.status, 200);
}

#[tokio::test]
async fn answers_that_are_not_read_hold_a_connection_for_a_bounded_time() {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.listen = vec![narrow_listen()];
    setup.config.limits.body_idle = SHORT;
    setup.config.limits.connections_per_worker = 1;
    let site = setup.start();
    let mut caller = narrow(site.address).await;
    // without a token; a refusal leaves the connection open
    let request = "GET /reports HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..2 {
        caller.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let count = caller.read(&mut answer).await.unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 401 "));
    }
    // more than there is room for answers
    let requests = request.repeat(1_000);
    let flood = async { while caller.write_all(requests.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("the site closes");
    let next = tokio::time::timeout(PATIENCE, site.call("GET /any", "nothing")).await.expect("its place is free");
    assert_eq!(next.status, 200);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_large_answer_is_sent_whole_to_a_slow_and_steady_reader() {
    const LARGE: usize = 4 * 1024 * 1024;
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], vec![b'x'; LARGE]) })).await;
    let mut setup = Setup::new(upstream.address);
    setup.config.listen = vec![narrow_listen()];
    setup.config.limits.body_idle = UNREAD;
    let site = setup.start();
    let mut caller = narrow(site.address).await;
    let request = "GET /any HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\nConnection: close\r\n\r\n";
    caller.write_all(request.as_bytes()).await.unwrap();
    let began = tokio::time::Instant::now();
    let (mut taken, mut space) = (0, vec![0; 16 * 1024]);
    loop {
        match caller.read(&mut space).await.expect("it is not cut off") {
            0 => break,
            count => taken += count,
        }
        tokio::time::sleep(SIP).await;
    }
    assert!(taken > LARGE, "{taken} bytes with the head");
    assert!(began.elapsed() > 2 * UNREAD, "long enough to be cut off");
}
