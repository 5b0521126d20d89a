//! Bodies: large, slow, broken; and connections that die.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use crate::{
    support::{PATIENCE, Setup, World, assert_status},
    upstream::{Upstream, raw, reply, whole},
};

const CHUNK: usize = 64 * 1024;
const CHUNKS: usize = 512;

fn chunks(count: usize) -> StreamBody<impl stream::Stream<Item = Result<Frame<Bytes>, std::io::Error>>> {
    let frames = (0..count).map(|index| {
        let byte = u8::try_from(index % 251).unwrap();
        Ok(Frame::data(Bytes::from(vec![byte; CHUNK])))
    });
    StreamBody::new(stream::iter(frames))
}

async fn drain(mut body: Incoming) -> Result<usize, String> {
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(|error| error.to_string())?.into_data().unwrap_or_default();
        for byte in &data {
            let expected = u8::try_from(total / CHUNK % 251).unwrap();
            if *byte != expected {
                return Err(format!("byte {total} is {byte}, not {expected}"));
            }
            total += 1;
        }
    }
    Ok(total)
}

/// Sends a request with a streamed body and gives the answer unread.
async fn stream_to<B>(world: &World, request: Request<B>) -> Response<Incoming>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

#[tokio::test]
async fn large_bodies_pass_both_ways_byte_for_byte() {
    let upstream = Upstream::start(|request| {
        Box::pin(async {
            if request.method() == "GET" {
                return Response::new(chunks(CHUNKS).boxed());
            }
            let read = drain(request.into_body()).await;
            reply(200, &[], format!("{read:?}"))
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    let expected = CHUNK * CHUNKS;
    let answer = stream_to(&world, world.request("GET /api/v2/recording", "")).await;
    assert_eq!(drain(answer.into_body()).await, Ok(expected));
    for announced in [true, false] {
        let (mut parts, _) = world.request("POST /api/v2/uploads", "").into_parts();
        if announced {
            parts.headers.insert("content-length", expected.to_string().parse().unwrap());
        }
        let answer = stream_to(&world, Request::from_parts(parts, chunks(CHUNKS))).await;
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, format!("Ok({expected})"));
    }
}

/// hyper sends a GET or a HEAD as if it had no body, unless it knows the length or is told how the body is framed.
#[tokio::test]
async fn the_chunked_body_of_a_get_or_a_head_arrives_whole_and_again_after_a_401() {
    let bodies: Arc<parking_lot::Mutex<Vec<Bytes>>> = Arc::default();
    let heard = Arc::clone(&bodies);
    let upstream = Upstream::start(move |request| {
        let heard = Arc::clone(&heard);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = whole(body).await;
            heard.lock().push(body);
            let is_refused = crate::upstream::token(&parts) == crate::stores::platform_token(1);
            reply(if is_refused { 401 } else { 200 }, &[], "")
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    for method in ["GET", "HEAD", "POST"] {
        let chunked = format!(
            "{method} /api/v2/users HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n4\r\nthe \r\n4\r\nbody\r\n0\r\n\r\n",
            world.token
        );
        let answer = world.raw(chunked.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{method}: {answer}");
    }
    assert_eq!(*bodies.lock(), ["the body"; 4], "the GET twice: its first token was refused");
    for method in ["GET", "HEAD"] {
        assert_status(&world.call(&format!("{method} /api/v2/users")).await, StatusCode::OK);
        let seen = upstream.seen().pop().unwrap();
        for name in ["transfer-encoding", "content-length"] {
            assert!(!seen.headers.contains_key(name), "{method} without a body: {:?}", seen.headers);
        }
    }
}

#[tokio::test]
async fn a_body_is_only_read_as_fast_as_it_is_taken() {
    let (counter, mut produced) = mpsc::unbounded_channel();
    let counter = Arc::new(counter);
    let upstream = Upstream::start(move |_| {
        let counter = Arc::clone(&counter);
        Box::pin(async move {
            let frames = stream::unfold(0_usize, move |index| {
                let counter = Arc::clone(&counter);
                async move {
                    counter.send(index).ok()?;
                    (index < 4_096).then(|| (Ok(Frame::data(Bytes::from(vec![0; CHUNK]))), index + 1))
                }
            });
            Response::new(BodyExt::boxed(StreamBody::new(frames.boxed_sync())))
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    let answer = stream_to(&world, world.request("GET /api/v2/recording", "")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // nobody reads the body: the upstream comes to rest long before its 256 MiB
    let mut last = 0;
    while let Ok(Some(index)) = tokio::time::timeout(Duration::from_millis(300), produced.recv()).await {
        last = index;
    }
    assert!(last < 2_048, "{last} chunks of 4096 were produced for a caller who read nothing");
    drop(answer);
}

trait BoxedSync: Sized {
    fn boxed_sync(self) -> std::pin::Pin<Box<Self>>;
}

impl<S> BoxedSync for S {
    fn boxed_sync(self) -> std::pin::Pin<Box<Self>> {
        Box::pin(self)
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_the_callers_connection() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let (address, _, _tasks) = raw(vec![answer]).await;
        let world = Setup::new(address).start().await;
        let got = stream_to(&world, world.request("GET /api/v2/users", "")).await;
        assert_eq!(got.status(), StatusCode::OK);
        assert!(got.into_body().collect().await.is_err(), "the caller must see that the body is not complete");
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_502() {
    for answer in [&b""[..], b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
        let (address, _, _tasks) = raw(vec![answer]).await;
        let world = Setup::new(address).start().await;
        let got = world.call("POST /api/v2/users").await;
        assert_eq!((got.status, got.json()["code"].as_str()), (502, Some("keyholder.upstream.protocol")));
    }
}

/// What breaks is the caller, and nobody is to look for it at the platform.
#[tokio::test]
async fn an_upload_that_its_caller_breaks_off_is_no_failure_of_the_platform() {
    let upstream = Upstream::start(|request| {
        Box::pin(async {
            drop(request.into_body().collect().await);
            reply(200, &[], "")
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    let upload = format!(
        "POST /api/v2/uploads HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\nten bytes.",
        world.token
    );
    // one that listens for the answer all the same, and one that is gone
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(upload.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it is answered").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("the request body broke off"), "{answer}");
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(upload.as_bytes()).await.unwrap();
    drop(stream);
    let both = async {
        while !world.scrape().contains("keyholder_gateway_requests_total{outcome=\"refused\",status=\"4xx\"} 2\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("both are counted");
    let text = world.scrape();
    let failures = text.lines().filter(|line| {
        line.starts_with("keyholder_gateway_upstream_errors_total{")
            || line.starts_with("keyholder_gateway_requests_total{outcome=\"failed\"")
    });
    assert_eq!(failures.filter(|line| !line.ends_with(" 0")).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[tokio::test]
async fn an_unreachable_platform_is_a_502() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let world = Setup::new(address).start().await;
    let got = world.call("GET /api/v2/users").await;
    assert_eq!((got.status, got.json()["code"].as_str()), (502, Some("keyholder.upstream.unreachable")));
    assert_eq!(world.metric(r#"keyholder_gateway_upstream_errors_total{kind="connect"}"#), 1);
    assert_eq!(world.metric(r#"keyholder_gateway_requests_total{outcome="failed",status="5xx"}"#), 1);
}

#[tokio::test]
async fn a_silent_platform_is_a_504() {
    let upstream = Upstream::start(|_| Box::pin(std::future::pending())).await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.response_header = Duration::from_millis(50);
    let world = setup.start().await;
    let got = world.call("GET /api/v2/users").await;
    assert_eq!((got.status, got.json()["code"].as_str()), (504, Some("keyholder.upstream.timeout")));
}

#[tokio::test]
async fn an_answer_that_stands_still_is_broken_off() {
    let upstream = Upstream::start(|_| {
        Box::pin(async {
            let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
            let body = StreamBody::new(futures_util::StreamExt::chain(first, stream::pending()));
            Response::new(BodyExt::boxed(body))
        })
    })
    .await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.body_idle = Duration::from_millis(50);
    let world = setup.start().await;
    let got = stream_to(&world, world.request("GET /api/v2/users", "")).await;
    let ended = tokio::time::timeout(PATIENCE, got.into_body().collect()).await.expect("it ends");
    assert!(ended.is_err());
}

#[tokio::test]
async fn a_pooled_connection_that_died_costs_a_get_nothing_and_never_doubles_a_post() {
    // each connection answers once with keep-alive and is then closed by the platform
    let ok = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..];
    let (address, heads, _tasks) = raw(vec![ok]).await;
    let world = Setup::new(address).start().await;
    for index in 0..50 {
        let method = if index % 2 == 0 { "GET" } else { "POST" };
        let got = world.send(world.request(&format!("{method} /api/v2/users"), "{}")).await;
        if method == "GET" {
            assert_status(&got, StatusCode::OK);
        }
    }
    let sent = heads.load(std::sync::atomic::Ordering::SeqCst);
    assert!(sent <= 50, "{sent} requests arrived for 50 calls");
}

#[tokio::test]
async fn a_post_whose_connection_breaks_after_it_was_sent_is_not_sent_again() {
    for (call, expected) in [("POST /api/v2/users", 1), ("PATCH /api/v2/users/1", 1)] {
        let upstream = Upstream::start(|request| {
            Box::pin(async move {
                if request.uri().path().ends_with("warm") {
                    return reply(200, &[], "ok");
                }
                whole(request.into_body()).await;
                // the connection is dropped without an answer
                panic!("the platform dies after it has applied the call");
            })
        })
        .await;
        let world = Setup::new(upstream.address).start().await;
        assert_status(&world.call("GET /api/v2/warm").await, StatusCode::OK);
        let got = world.send(world.request(call, "{}")).await;
        assert_eq!((got.status, got.json()["code"].as_str()), (502, Some("keyholder.upstream.protocol")));
        let sent = upstream.seen().iter().filter(|seen| !seen.target.ends_with("warm")).count();
        assert_eq!(sent, expected, "{call}");
    }
}

#[tokio::test]
async fn a_get_whose_pooled_connection_dies_is_made_again_once() {
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(1));
    let upstream = Upstream::start(move |request| {
        let left = Arc::clone(&left);
        Box::pin(async move {
            if request.uri().path().ends_with("warm") {
                return reply(200, &[], "ok");
            }
            let order = std::sync::atomic::Ordering::SeqCst;
            let used_up = left.fetch_update(order, order, |left| left.checked_sub(1)).is_err();
            assert!(used_up, "the connection dies without an answer");
            reply(200, &[], "second time")
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    assert_status(&world.call("GET /api/v2/warm").await, StatusCode::OK);
    let got = world.call("GET /api/v2/users").await;
    assert_eq!((got.status, &got.body[..]), (200, &b"second time"[..]));
    assert_eq!((upstream.seen().len(), upstream.connections()), (3, 2));
}

#[tokio::test]
async fn a_caller_who_goes_away_ends_the_upstream_call() {
    struct OnDrop(Option<oneshot::Sender<()>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            let told = self.0.take().is_some_and(|sender| sender.send(()).is_ok());
            assert!(told);
        }
    }
    let (dropped, told) = oneshot::channel();
    let dropped = parking_lot::Mutex::new(Some(dropped));
    let (arrived, mut arrival) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |_| {
        let guard = OnDrop(dropped.lock().take());
        let arrived = arrived.clone();
        Box::pin(async move {
            arrived.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(guard);
            reply(200, &[], "")
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let call = tokio::spawn(sender.send_request(world.request("GET /api/v2/users", "")));
    arrival.recv().await.unwrap();
    driver.abort();
    call.abort();
    tokio::time::timeout(PATIENCE, told).await.expect("the upstream call ends").unwrap();
    drop(sender);
}
