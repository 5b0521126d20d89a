//! Callers that take their time on purpose: what they hold, and for how long.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// How long a head, or an answer while the body does not move on, may take here.
const SHORT: Duration = Duration::from_millis(400);
/// Between two pieces of a slow caller.
const PAUSE: Duration = Duration::from_millis(40);
/// Pieces that a slow caller would send: some hundred times as long as it may take.
const PIECES: usize = 1_000;

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
    assert!(sent < PIECES && answer.starts_with("HTTP/1.1 504 "), "{sent}: {answer}");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let (answer, sent) = slowly(&site, &chunked, "1\r\ny\r\n", PIECES).await;
    assert!(sent < PIECES && answer.starts_with("HTTP/1.1 504 "), "{sent}: {answer}");
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
