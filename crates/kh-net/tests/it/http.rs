//! One request at a time over real sockets: what is sent, what comes back, and what an error says about the request.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};
use kh_core::{ManualClock, SecretString, UnixMillis};
use kh_net::http::{Form, HttpClient, HttpError, OutBody, Request, Timeouts};
use kh_net::{Egress, Settings, SystemRoots};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use url::Url;

/// What a server does with a connection after it has read the whole request.
#[derive(Clone, Copy)]
enum Then {
    Answer(&'static str),
    /// The same, and the connection stays open.
    AnswerAndHang(&'static str),
    Close,
    Hang,
}

struct Server {
    url: Url,
    seen: mpsc::UnboundedReceiver<String>,
}

async fn server(then: Then) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/a?b=c", listener.local_addr().unwrap())).unwrap();
    let (tell, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, then, tell.clone()));
        }
    });
    Server { url, seen }
}

async fn serve(mut stream: TcpStream, then: Then, tell: mpsc::UnboundedSender<String>) {
    let mut read = Vec::new();
    while !complete(&read) {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    tell.send(String::from_utf8(read).unwrap()).unwrap();
    match then {
        Then::Answer(text) => stream.write_all(text.as_bytes()).await.unwrap(),
        Then::AnswerAndHang(text) => {
            stream.write_all(text.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        }
        Then::Close => {}
        Then::Hang => std::future::pending().await,
    }
}

fn complete(read: &[u8]) -> bool {
    let text = String::from_utf8_lossy(read).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    body.len() >= length
}

fn client() -> HttpClient {
    let egress = Egress::new(Settings::default(), &SystemRoots::load()).unwrap();
    let timeouts = Timeouts { connect: Duration::from_secs(20), total: Duration::from_secs(30) };
    HttpClient::new(Arc::new(egress), timeouts, Arc::new(ManualClock::at(UnixMillis(0))))
}

#[tokio::test]
async fn what_is_asked_goes_out_once() {
    let answer = "HTTP/1.1 207 X\r\nRetry-After: 9\r\nX-Vault-Index: i\r\nContent-Length: 2\r\n\r\n{}";
    let mut server = server(Then::Answer(answer)).await;
    let namespace = (HeaderName::from_static("x-vault-namespace"), HeaderValue::from_static("ns"));
    let request = Request::new(Method::from_bytes(b"LIST").unwrap(), server.url.clone())
        .header(namespace.0, namespace.1)
        .bearer(&SecretString::copied("tok"))
        .unwrap()
        .body(Form::new(3).field("a", "b=c").finish());
    let answer = client().send(request).await.unwrap();
    assert_eq!((answer.head.status, &answer.body[..]), (207, &b"{}"[..]));
    assert_eq!(answer.head.retry_after(), Some(Duration::from_secs(9)));
    assert_eq!(answer.head.text("x-vault-index").as_deref(), Some("i"));
    let seen = server.seen.recv().await.unwrap();
    assert!(seen.starts_with("LIST /a?b=c HTTP/1.1\r\n"), "{seen}");
    for line in ["x-vault-namespace: ns", "authorization: Bearer tok", "accept: application/json"] {
        assert!(seen.contains(line), "{seen}");
    }
    assert!(seen.ends_with("\r\n\r\na=b%3Dc"), "{seen}");
    assert!(server.seen.try_recv().is_err(), "one request");
}

#[tokio::test]
async fn a_head_request_has_no_body_to_wait_for() {
    let server = server(Then::Answer("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")).await;
    let answer = client().send(Request::new(Method::HEAD, server.url.clone())).await.unwrap();
    assert_eq!((answer.head.status, answer.body.len()), (200, 0));
}

#[tokio::test]
async fn an_answer_larger_than_allowed_is_refused() {
    let server = server(Then::Answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789")).await;
    let get = || Request::new(Method::GET, server.url.clone());
    let error = client().send(get().answer_max(8)).await.unwrap_err();
    assert_eq!(error, HttpError::TooLarge { max: 8 });
    assert_eq!(client().send(get().answer_max(9)).await.unwrap().body.len(), 9);
}

#[tokio::test]
async fn a_body_that_nobody_reads_changes_nothing() {
    let long = "x".repeat(20_000);
    let announced = format!("HTTP/1.1 410 Gone\r\nRetry-After: 9\r\nContent-Length: 20000\r\n\r\n{long}");
    let chunked =
        format!("HTTP/1.1 410 Gone\r\nRetry-After: 9\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n{long}\r\n0\r\n\r\n");
    let short = "HTTP/1.1 410 Gone\r\nRetry-After: 9\r\nContent-Length: 4\r\n\r\ngone";
    let broken_off = "HTTP/1.1 410 Gone\r\nRetry-After: 9\r\nContent-Length: 9\r\n\r\n1234";
    for then in [
        Then::Answer(announced.leak()),
        Then::Answer(chunked.leak()),
        Then::Answer(short),
        Then::Answer(broken_off),
        Then::AnswerAndHang(broken_off),
    ] {
        let mut server = server(then).await;
        let request = Request::new(Method::POST, server.url.clone()).ignore_body();
        let answer = client().send(request).await.unwrap();
        assert_eq!((answer.head.status, answer.body.len()), (410, 0));
        assert_eq!(answer.head.retry_after(), Some(Duration::from_secs(9)));
        assert!(server.seen.recv().await.is_some());
        assert!(server.seen.try_recv().is_err(), "one request");
    }
}

#[tokio::test]
async fn a_refused_connection_was_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let error = client().send(Request::new(Method::POST, url)).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error:?}");
    assert!(!error.was_sent());
}

#[tokio::test]
async fn a_connection_that_closes_after_the_request_leaves_it_open_whether_it_was_done() {
    for then in [
        Then::Close,
        Then::Answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234"),
        Then::Answer("HTTP/1.1 2"),
        Then::Answer("SSH-2.0-OpenSSH\r\n"),
    ] {
        let mut server = server(then).await;
        let request = Request::new(Method::POST, server.url.clone()).body(OutBody::json(&["MARKED"]));
        let error = client().send(request).await.unwrap_err();
        assert_eq!(error, HttpError::Broken);
        assert!(error.was_sent());
        assert!(server.seen.recv().await.is_some());
        assert!(server.seen.try_recv().is_err(), "it was not sent again");
    }
}

#[tokio::test]
async fn silence_after_the_request_leaves_it_open_too() {
    let mut server = server(Then::Hang).await;
    let (client, request) = (client(), Request::new(Method::POST, server.url.clone()));
    let (result, ()) = tokio::join!(client.send(request), async {
        server.seen.recv().await.unwrap();
        // from here on time runs only as fast as everybody waits
        tokio::time::pause();
    });
    let error = result.unwrap_err();
    assert_eq!(error, HttpError::Timeout { sent: true });
    assert!(error.was_sent());
}
