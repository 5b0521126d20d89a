//! The end under load: nothing that began is cut off.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    support::{PATIENCE, Setup, World, read},
    tls::{authority, trusting},
    upstream::{Upstream, reply, whole},
};

type AnyBody = BoxBody<Bytes, io::Error>;

/// Pieces of a slow body, and the pause before each: half a second in all.
const PIECES: usize = 50;
const PAUSE: Duration = Duration::from_millis(10);
const PIECE: &[u8] = &[b'x'; 1_000];

fn slow_body() -> AnyBody {
    let pieces = stream::unfold(0, |sent| async move {
        if sent == PIECES {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
        Some((Ok(Frame::data(Bytes::from_static(PIECE))), sent + 1))
    });
    BodyExt::boxed(StreamBody::new(Box::pin(pieces) as std::pin::Pin<Box<dyn stream::Stream<Item = _> + Send + Sync>>))
}

/// A platform that streams slowly what is asked for under `/download`, and tells the length of every body.
async fn platform() -> Upstream {
    Upstream::start(|request| {
        Box::pin(async {
            if request.uri().path().ends_with("/download") {
                return Response::new(slow_body());
            }
            let body = whole(request.into_body()).await;
            reply(200, &[], body.len().to_string())
        })
    })
    .await
}

/// How long an idle connection stays open after the end was announced, at least: a caller that is slower than this (on
/// a busy machine) may find it closed, as RFC 9112 section 9.5 expects, and sends its request elsewhere.
const LINGER: Duration = Duration::from_secs(1);

/// What all callers saw.
#[derive(Default)]
struct Tally {
    /// The end was announced to the gateway.
    ending: AtomicBool,
    /// When, at the earliest.
    since: Mutex<Option<Instant>>,
    whole: AtomicUsize,
    /// Answers that came whole after that.
    late: AtomicUsize,
    /// Calls on a connection from before the end that got no whole answer.
    cut: AtomicUsize,
    why: Mutex<Vec<String>>,
}

impl Tally {
    fn saw(&self, answer: Result<Bytes, String>, expected: usize) {
        match answer {
            Ok(body) if body.len() == expected || body == expected.to_string() => {
                self.whole.fetch_add(1, Ordering::SeqCst);
                self.late.fetch_add(usize::from(self.ending.load(Ordering::SeqCst)), Ordering::SeqCst);
            }
            Ok(body) => self.cut_off(&format!("{} bytes", body.len())),
            Err(error) => self.cut_off(&error),
        }
    }

    /// Idle connections may be closed by now.
    fn is_late(&self) -> bool {
        self.since.lock().is_some_and(|since| since.elapsed() >= LINGER)
    }

    fn cut_off(&self, why: &str) {
        self.why.lock().push(why.to_owned());
        self.cut.fetch_add(1, Ordering::SeqCst);
    }
}

/// The calls of the mix: target, body, length of the answer or of what the platform read.
fn mix(world: &Target, index: usize) -> (Request<AnyBody>, usize) {
    let (method, path, body, expected) = match index % 8 {
        0 => ("GET", "/api/v2/download", None, PIECES * PIECE.len()),
        1 => ("POST", "/api/v2/upload", Some(slow_body()), PIECES * PIECE.len()),
        2 => {
            ("POST", "/api/v2/users", Some(Full::from(vec![0; 10_000]).map_err(|never| match never {}).boxed()), 10_000)
        }
        _ => ("GET", "/api/v2/users", None, 0),
    };
    let body = body.unwrap_or_else(|| Full::default().map_err(|never| match never {}).boxed());
    let uri = if world.http2 { format!("https://{}{path}", world.address) } else { path.to_owned() };
    let request = Request::builder().method(method).uri(uri).header("authorization", &world.authorization);
    let request = if world.http2 { request } else { request.header("host", "keyholder") };
    (request.body(body).unwrap(), expected)
}

/// Where calls go.
#[derive(Clone)]
struct Target {
    address: std::net::SocketAddr,
    authorization: String,
    http2: bool,
    tls: TlsConnector,
}

impl Target {
    fn new(world: &World, root: &rustls_pki_types::CertificateDer<'static>, http2: bool) -> Self {
        let mut client = rustls::ClientConfig::clone(&trusting(std::slice::from_ref(root)));
        client.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Self {
            address: world.address,
            authorization: format!("Bearer {}", world.token),
            http2,
            tls: TlsConnector::from(Arc::new(client)),
        }
    }

    /// None when nobody listens any more.
    async fn connect(&self, tally: &Tally) -> Option<TlsStream<TcpStream>> {
        let late = tally.ending.load(Ordering::SeqCst);
        let connected = async {
            let stream = TcpStream::connect(self.address).await?;
            self.tls.connect(rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap(), stream).await
        };
        match connected.await {
            Ok(stream) => Some(stream),
            // may have begun just before
            Err(_) if late || tally.ending.load(Ordering::SeqCst) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Calls one after the other over connections that are kept, until nobody listens any more.
async fn over_http1(target: Target, tally: Arc<Tally>, mut index: usize) {
    while let Some(stream) = target.connect(&tally).await {
        let fresh = tally.ending.load(Ordering::SeqCst);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver: JoinHandle<_> = tokio::spawn(connection);
        loop {
            index += 1;
            let (request, expected) = mix(&target, index);
            // the last answer is whole before the connection's task has seen that it may send again
            let ready = sender.ready().await;
            let answer = match async { ready.map(|()| sender.send_request(request))?.await }.await {
                Ok(answer) => answer,
                // a connection that was opened after the end, and that nobody served
                Err(_) if fresh => return,
                // it was closed while it was idle, and below it is proven that nobody saw the request
                Err(_) if tally.is_late() => break,
                Err(error) => break tally.cut_off(&format!("HTTP/1.1: {error:?}")),
            };
            let last = answer.headers().get("connection").is_some_and(|value| value == "close");
            let body = answer.into_body().collect().await;
            tally.saw(body.map(http_body_util::Collected::to_bytes).map_err(|error| format!("{error:?}")), expected);
            if last {
                break;
            }
        }
        driver.abort();
    }
}

/// RFC 9113 section 6.8: a GOAWAY without an error is what streams above its last one end with, and no others.
fn is_beyond_the_last(error: &hyper::Error) -> bool {
    format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)")
}

/// Eight calls at once over a connection that is kept, until nobody listens any more.
async fn over_http2(target: Target, tally: Arc<Tally>, mut index: usize) {
    while let Some(stream) = target.connect(&tally).await {
        let fresh = tally.ending.load(Ordering::SeqCst);
        let Ok((sender, connection)) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await else {
            return;
        };
        tokio::spawn(connection);
        let mut calls = JoinSet::new();
        loop {
            let mut sender = sender.clone();
            // the connection says by GOAWAY that it takes no more
            if sender.ready().await.is_err() {
                break;
            }
            index += 1;
            let (request, expected) = mix(&target, index);
            let tally = Arc::clone(&tally);
            calls.spawn(async move {
                match sender.send_request(request).await {
                    Ok(answer) => {
                        let body = answer.into_body().collect().await;
                        let body = body.map(http_body_util::Collected::to_bytes);
                        tally.saw(body.map_err(|error| format!("{error:?}")), expected);
                    }
                    // it never left, or was on its way when the last stream was named: it may be sent again, and below
                    // it is proven that nobody saw it
                    Err(error) if error.is_canceled() || fresh || is_beyond_the_last(&error) => {}
                    Err(error) => tally.cut_off(&format!("HTTP/2: {error:?}")),
                }
            });
            if calls.len() >= 8 {
                calls.join_next().await.unwrap().unwrap();
            }
        }
        calls.join_all().await;
    }
}

/// Keeps a connection's sender for as long as the test lasts: without it the connection would end by itself.
fn kept_open<T: Send + 'static>(sender: T) {
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(sender);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_under_load_cuts_no_answer() {
    let rounds = if std::env::var_os("KEYHOLDER_LONG").is_some() { 50 } else { 3 };
    for _ in 0..rounds {
        let upstream = platform().await;
        let (root, config) = authority(false);
        let mut setup = Setup::new(upstream.address);
        setup.config.tls = Some(config);
        setup.config.workers = 2;
        let world = setup.start().await;
        let tally: Arc<Tally> = Arc::default();
        let mut callers = JoinSet::new();
        for index in 0..12 {
            callers.spawn(over_http1(Target::new(&world, &root, false), Arc::clone(&tally), index));
        }
        for index in 0..4 {
            callers.spawn(over_http2(Target::new(&world, &root, true), Arc::clone(&tally), index));
        }
        while tally.whole.load(Ordering::SeqCst) < 200 {
            tokio::task::yield_now().await;
        }
        *tally.since.lock() = Some(Instant::now());
        tally.ending.store(true, Ordering::SeqCst);
        assert!(world.gateway.shutdown(PATIENCE).await, "everything was finished in time");
        tokio::time::timeout(PATIENCE, callers.join_all()).await.expect("the callers come to their end");
        assert_eq!(tally.cut.load(Ordering::SeqCst), 0, "{:?}", tally.why.lock());
        let (seen, whole) = (upstream.seen().len(), tally.whole.load(Ordering::SeqCst));
        assert_eq!(seen, whole, "every call that reached the platform was answered whole");
        assert!(tally.late.load(Ordering::SeqCst) >= 12, "answers were still on their way");
    }
}

/// A caller with an idle connection that calls once more gets its answer, which says that it was the last.
#[tokio::test]
async fn an_idle_connection_is_told_with_its_next_answer() {
    let upstream = platform().await;
    let world = Setup::new(upstream.address).start().await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let first = read(sender.send_request(world.request("GET /api/v2/users", "")).await.unwrap()).await;
    assert_eq!((first.status, first.header("connection")), (200, ""));
    let (address, next) = (world.address, world.request("GET /api/v2/users", ""));
    let ending = tokio::spawn(world.gateway.shutdown(PATIENCE));
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let last = read(sender.send_request(next).await.unwrap()).await;
    assert_eq!((last.status, last.header("connection")), (200, "close"));
    assert!(ending.await.unwrap());
}

/// With a short deadline idle connections still are not what it is missed for, even if their callers never close them.
#[tokio::test]
async fn idle_connections_do_not_cost_the_deadline() {
    let upstream = platform().await;
    let (root, config) = authority(false);
    for http2 in [false, true] {
        let mut setup = Setup::new(upstream.address);
        setup.config.tls = Some(Arc::clone(&config));
        let world = setup.start().await;
        let target = Target::new(&world, &root, http2);
        let tally = Tally::default();
        let mut idle = Vec::new();
        for _ in 0..5 {
            idle.push(target.connect(&tally).await.unwrap());
        }
        // and one that has served
        let stream = TokioIo::new(idle.pop().unwrap());
        let (request, expected) = mix(&target, 7);
        let answer = if http2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            let answer = sender.send_request(request).await.unwrap();
            kept_open(sender);
            answer
        } else {
            let (mut sender, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let answer = sender.send_request(request).await.unwrap();
            kept_open(sender);
            answer
        };
        tally.saw(Ok(answer.into_body().collect().await.unwrap().to_bytes()), expected);
        assert!(world.gateway.shutdown(Duration::from_secs(3)).await, "http2: {http2}");
        assert_eq!(tally.cut.load(Ordering::SeqCst), 0);
        drop(idle);
    }
}
