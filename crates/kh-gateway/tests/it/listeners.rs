//! What a gateway listens on: unix sockets, IPv6, sockets of somebody else.

use std::{os::unix::fs::PermissionsExt, path::Path};

use http::Request;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kh_gateway::{Gateway, GatewayConfig, Given, Listen, StartError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use crate::{
    support::{Got, PATIENCE, Setup, World, read},
    upstream::{Upstream, reply},
};

async fn echo() -> Upstream {
    Upstream::start(|_| Box::pin(async { reply(200, &[], "ok") })).await
}

async fn call_over<S>(world: &World, stream: S) -> Got
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    read(sender.send_request(world.request("GET /api/v2/users", "")).await.unwrap()).await
}

fn unix(path: &Path) -> Listen {
    Listen::Unix(path.to_owned())
}

#[tokio::test]
async fn a_unix_socket_beside_an_address() {
    let upstream = echo().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let mut setup = Setup::new(upstream.address);
    setup.config.listen.push(unix(&path));
    setup.config.socket_mode = 0o600;
    setup.config.workers = 2;
    let world = setup.start().await;
    assert_eq!(world.gateway.paths().collect::<Vec<_>>(), [path.as_path()]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for _ in 0..20 {
        assert_eq!(call_over(&world, UnixStream::connect(&path).await.unwrap()).await.status, 200);
    }
    assert_eq!(world.call("GET /api/v2/users").await.status, 200);
    // who comes from the machine itself needs a token as well
    let stream = UnixStream::connect(&path).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let nobody = Request::get("/api/v2/users").header("host", "a").body(Full::<bytes::Bytes>::default()).unwrap();
    assert_eq!(read(sender.send_request(nobody).await.unwrap()).await.status, 401);
    drop(sender);
    // a second gateway does not take it, and the first one goes on
    let mut config = GatewayConfig::plain("127.0.0.1:0".parse().unwrap());
    config.listen = vec![unix(&path)];
    match Gateway::start(config, world.ports()) {
        Err(StartError::Listen { address, source }) => {
            assert_eq!(address, format!("unix:{}", path.display()));
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(call_over(&world, UnixStream::connect(&path).await.unwrap()).await.status, 200);
    assert!(world.gateway.shutdown(PATIENCE).await);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn what_a_killed_gateway_left_is_replaced() {
    let upstream = echo().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut setup = Setup::new(upstream.address);
    setup.config.listen = vec![unix(&path)];
    let world = setup.start().await;
    assert_eq!(call_over(&world, UnixStream::connect(&path).await.unwrap()).await.status, 200);
    // dropped without a shutdown, as after an error elsewhere
    drop(world);
    assert!(!path.exists());
}

/// `[::]` is IPv6 alone, on every machine; so both can be written, with the same port.
#[tokio::test]
async fn an_ipv6_address_takes_ipv6_alone() {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.listen = vec!["[::]:0".parse().unwrap()];
    let world = setup.start().await;
    let port = world.gateway.addresses()[0].port();
    let stream = TcpStream::connect(("::1", port)).await.unwrap();
    assert_eq!(call_over(&world, stream).await.status, 200);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "not through a mapped address");
    let config = GatewayConfig::plain(([0, 0, 0, 0], port).into());
    let other = Gateway::start(config, world.ports()).expect("the same port is free for IPv4");
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(call_over(&world, stream).await.status, 200);
    drop(other);
}

/// Sockets that somebody else opened: they are served by every worker, and outlive the gateway.
#[tokio::test]
async fn given_sockets_are_served_and_left_open() {
    let upstream = echo().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("given.sock");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let local = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let address = tcp.local_addr().unwrap();
    let mut setup = Setup::new(upstream.address);
    setup.config.workers = 3;
    setup.config.listen = vec![
        Listen::Given(Given::Tcp(tcp.try_clone().unwrap())),
        Listen::Given(Given::Unix(local.try_clone().unwrap())),
    ];
    let world = setup.start().await;
    assert_eq!(world.gateway.addresses(), [address]);
    for _ in 0..20 {
        assert_eq!(call_over(&world, TcpStream::connect(address).await.unwrap()).await.status, 200);
        assert_eq!(call_over(&world, UnixStream::connect(&path).await.unwrap()).await.status, 200);
    }
    let ports = world.ports();
    let (token, registry) = (world.request("GET /api/v2/users", ""), world.metric("keyholder_gateway_connections"));
    assert!(world.gateway.shutdown(PATIENCE).await, "{registry}");
    assert!(path.exists(), "it is not ours to remove");
    // who connects in between waits, and is served by the next one
    let waiting = TcpStream::connect(address).await.unwrap();
    let mut config = GatewayConfig::plain(address);
    config.listen = vec![Listen::Given(Given::Tcp(tcp))];
    let _next = Gateway::start(config, ports).unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(waiting)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(read(sender.send_request(token).await.unwrap()).await.status, 200);
}
