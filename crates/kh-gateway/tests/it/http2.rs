//! HTTP/2 from callers: honest clients (hyper, curl, h2load) and frames that none of them sends.

mod clients;
mod frames;
mod hostile;
mod unread;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    support::{Got, PATIENCE, Setup, World, assert_status, read},
    tls::{authority, trusting},
    upstream::{Upstream, hearing, reply, whole},
};

type Tls = TlsStream<TcpStream>;

/// A caller that trusts the gateway's certificate.
pub(crate) struct Caller {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Caller {
    pub(crate) fn new(address: SocketAddr, root: &CertificateDer<'static>) -> Self {
        let mut client = ClientConfig::clone(&trusting(std::slice::from_ref(root)));
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { address, tls: TlsConnector::from(Arc::new(client)) }
    }

    /// A TLS connection on which HTTP/2 was agreed.
    async fn connect(&self) -> Tls {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = self.tls.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream
    }

    /// An HTTP/2 connection of hyper's.
    pub(crate) async fn client(&self) -> SendRequest<Full<Bytes>> {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(self.connect().await)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// A gateway with a certificate, and a caller that trusts it.
pub(crate) async fn secure(mut setup: Setup) -> (World, Caller) {
    let (root, config) = authority(false);
    setup.config.tls = Some(config);
    let world = setup.start().await;
    let caller = Caller::new(world.address, &root);
    (world, caller)
}

/// A request as HTTP/2 has it: an absolute target and no `Host`.
pub(crate) fn request(world: &World, call: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = world.request(call, body);
    request.headers_mut().remove("host");
    let target = format!("https://{}{}", world.address, request.uri());
    *request.uri_mut() = target.parse().unwrap();
    request
}

async fn send(client: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Got {
    client.ready().await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, client.send_request(request)).await.expect("it is answered").unwrap();
    read(answer).await
}

#[tokio::test]
async fn calls_logins_and_refusals_over_one_connection() {
    let upstream = Upstream::start(|request| {
        Box::pin(async {
            let body = whole(request.into_body()).await;
            reply(200, &[("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=9"), ("etag", "1")], body)
        })
    })
    .await;
    let (world, caller) = secure(Setup::new(upstream.address)).await;
    let mut client = caller.client().await;
    let got = send(&mut client, request(&world, "POST /gw/api/v2/users?a=b", "the body")).await;
    assert_eq!((got.status, &got.body[..], got.header("etag")), (200, &b"the body"[..], "1"));
    for name in ["connection", "keep-alive", "x-hop", "transfer-encoding"] {
        assert!(!got.headers.contains_key(name), "{name}");
    }
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(seen.target, "/api/v2/users?a=b", "origin-form, without the prefix");
    assert_eq!(seen.headers["host"], upstream.address.to_string());
    assert_eq!(seen.headers["via"], "2.0 keyholder");
    let form =
        format!("grant_type=client_credentials&client_id={}&client_secret={}", world.client_id, world.client_secret);
    let mut login = request(&world, "POST /oauth/token", &form);
    login.headers_mut().remove("authorization");
    login.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    let got = send(&mut client, login).await;
    assert_eq!((got.status, got.json()["token_type"].as_str()), (200, Some("bearer")));
    let mut unknown = request(&world, "GET /api/v2/users", "");
    unknown.headers_mut().remove("authorization");
    assert_eq!(send(&mut client, unknown).await.status, 401);
    let got = send(&mut client, request(&world, "GET /.well-known/openid-configuration", "")).await;
    assert_eq!(got.json()["issuer"], format!("https://{}", world.address));
    assert_eq!(send(&mut client, request(&world, "POST /api/v2/oauth/clients", "")).await.status, 403);
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(world.metric("keyholder_gateway_connections"), 1, "all of it over one connection");
}

/// DATA frames without a `content-length`, which HTTP/1.1 has to frame.
#[tokio::test]
async fn the_body_of_a_get_or_a_head_that_tells_no_length_arrives_whole() {
    let (upstream, bodies) = hearing().await;
    let (world, caller) = secure(Setup::new(upstream.address)).await;
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(caller.connect().await)).await.unwrap();
    tokio::spawn(connection);
    for method in ["GET", "HEAD", "POST"] {
        let (parts, _) = request(&world, &format!("{method} /api/v2/users"), "").into_parts();
        let pieces = ["the ", "body"].map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))));
        let body = StreamBody::new(stream::iter(pieces));
        let answer = client.send_request(Request::from_parts(parts, body)).await.unwrap();
        assert_status(&read(answer).await, http::StatusCode::OK);
    }
    assert_eq!(*bodies.lock(), ["the body"; 3]);
    let mut client = caller.client().await;
    for method in ["GET", "HEAD"] {
        let got = send(&mut client, request(&world, &format!("{method} /api/v2/users"), "")).await;
        assert_status(&got, http::StatusCode::OK);
        let seen = upstream.seen().pop().unwrap();
        for name in ["transfer-encoding", "content-length"] {
            assert!(!seen.headers.contains_key(name), "{method} without a body: {:?}", seen.headers);
        }
    }
}

#[tokio::test]
async fn streams_run_side_by_side_and_a_slow_one_holds_up_nobody() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let of_upstream = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| {
        let gate = Arc::clone(&of_upstream);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            if path.ends_with("slow") {
                gate.notified().await;
            }
            reply(200, &[], path)
        })
    })
    .await;
    let (world, caller) = secure(Setup::new(upstream.address)).await;
    let client = caller.client().await;
    let mut slow = client.clone();
    let waiting = request(&world, "GET /api/v2/slow", "");
    let slow = tokio::spawn(async move { send(&mut slow, waiting).await });
    let mut calls = JoinSet::new();
    for index in 0..100 {
        let (mut client, target) = (client.clone(), format!("/api/v2/users/{index}"));
        let request = request(&world, &format!("GET {target}"), "");
        calls.spawn(async move {
            let got = send(&mut client, request).await;
            assert_eq!((got.status, got.body == target), (200, true));
        });
    }
    assert_eq!(calls.join_all().await.len(), 100);
    assert!(!slow.is_finished());
    gate.notify_one();
    assert_status(&slow.await.unwrap(), http::StatusCode::OK);
}

#[tokio::test]
async fn a_revoked_token_is_healed_with_the_same_body() {
    let upstream = Upstream::start(|request| {
        Box::pin(async {
            let (parts, body) = request.into_parts();
            let body = whole(body).await;
            let old = crate::upstream::token(&parts) == crate::stores::platform_token(1);
            reply(if old { 401 } else { 200 }, &[], body)
        })
    })
    .await;
    let (world, caller) = secure(Setup::new(upstream.address)).await;
    let mut client = caller.client().await;
    let body = "x".repeat(300_000);
    let got = send(&mut client, request(&world, "POST /api/v2/users", &body)).await;
    assert_eq!((got.status, got.body == body, upstream.seen().len()), (200, true, 2));
}
