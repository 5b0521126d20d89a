//! Start, limits and end.

use std::{sync::Arc, time::Duration};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kh_core::port::security::Security;
use kh_gateway::{Gateway, GatewayConfig, Metrics, Ports, StartError};
use prometheus_client::registry::Registry;
use tokio::{io::AsyncReadExt, net::TcpStream, sync::Notify};

use crate::{
    support::{PATIENCE, Setup, read},
    upstream::{Upstream, reply},
};

#[tokio::test]
async fn several_addresses_and_workers() {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "ok") })).await;
    let mut setup = Setup::new(upstream.address);
    setup.config.listen = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
    setup.config.workers = 3;
    let mut world = setup.start().await;
    let addresses = world.gateway.addresses().to_vec();
    assert!(addresses.len() == 2 && addresses[0] != addresses[1]);
    for address in addresses {
        world.address = address;
        for _ in 0..10 {
            assert_eq!(world.call("GET /api/v2/users").await.status, 200);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_an_error() {
    let world = Setup::new("127.0.0.1:1".parse().unwrap()).start().await;
    let ports = || Ports {
        sessions: None,
        issuer: world.issuer.clone(),
        broker: world.broker.clone(),
        clock: Arc::new(kh_core::SystemClock::new()),
        entropy: Arc::new(kh_core::SystemEntropy),
        metrics: Metrics::register(&mut Registry::default()),
        public_url: None,
        binding: kh_gateway::OwnBinding::default(),
        events: None,
        observer: None,
        security: Security::default(),
        proxies: Arc::default(),
    };
    // the test network: no machine has this address
    let config = GatewayConfig::plain("192.0.2.1:0".parse().unwrap());
    assert!(matches!(Gateway::start(config, ports()), Err(StartError::Listen { .. })));
    // another gateway listens there: sharing its port would split its callers between the two
    let config = GatewayConfig::plain(world.address);
    assert!(matches!(Gateway::start(config, ports()), Err(StartError::Listen { .. })));
    let config = GatewayConfig { workers: 0, ..GatewayConfig::plain("127.0.0.1:0".parse().unwrap()) };
    assert!(matches!(Gateway::start(config, ports()), Err(StartError::NothingToDo)));
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight_and_closes_the_rest() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (of_upstream, gate) = (Arc::clone(&arrived), Arc::clone(&go));
    let upstream = Upstream::start(move |request| {
        let (arrived, go) = (Arc::clone(&of_upstream), Arc::clone(&gate));
        Box::pin(async move {
            if request.uri().path().ends_with("slow") {
                arrived.notify_one();
                go.notified().await;
            }
            reply(200, &[], "done")
        })
    })
    .await;
    let world = Setup::new(upstream.address).start().await;
    let mut idle = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(world.call("GET /api/v2/quick").await.status, 200);
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let call = tokio::spawn(sender.send_request(world.request("GET /api/v2/slow", "")));
    arrived.notified().await;
    let address = world.address;
    let ending = tokio::spawn(world.gateway.shutdown(PATIENCE));
    // the idle connection is closed at once, while the slow call is still going on
    let mut nothing = Vec::new();
    tokio::time::timeout(PATIENCE, idle.read_to_end(&mut nothing)).await.expect("it is closed").unwrap();
    go.notify_one();
    let got = read(call.await.unwrap().unwrap()).await;
    assert_eq!((got.status, got.header("connection")), (200, "close"));
    assert!(ending.await.unwrap(), "everything was finished");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn shutdown_does_not_wait_beyond_its_deadline() {
    let upstream = Upstream::start(|_| Box::pin(std::future::pending())).await;
    let world = Setup::new(upstream.address).start().await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let call = tokio::spawn(sender.send_request(world.request("GET /api/v2/never", "")));
    while upstream.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let finished = tokio::time::timeout(PATIENCE, world.gateway.shutdown(Duration::from_millis(50))).await;
    assert_eq!(finished, Ok(false));
    assert!(call.await.unwrap().is_err());
}
