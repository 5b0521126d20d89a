//! Web sockets and other upgrades.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    support::{PATIENCE, Setup, World, narrow},
    upstream::{Upstream, reply},
};

async fn echoing() -> Upstream {
    echoing_and_telling(&[]).await
}

/// The same with these headers in the answer that begins a tunnel.
async fn echoing_and_telling(more: &'static [(&'static str, &'static str)]) -> Upstream {
    Upstream::start(move |mut request| {
        Box::pin(async move {
            let Some(protocol) = request.headers().get("upgrade").cloned() else {
                return reply(200, &[], "plain");
            };
            tokio::spawn(async move {
                let mut io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = io.read(&mut buffer).await {
                    // the gateway may have closed it meanwhile
                    if io.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
            let mut answer = reply(101, &[("connection", "upgrade"), ("upgrade", protocol.to_str().unwrap())], "");
            for (name, value) in more {
                answer.headers_mut().append(*name, value.parse().unwrap());
            }
            answer
        })
    })
    .await
}

async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// A web socket of the client's, and the head of the answer in lower case.
async fn open(world: &World) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = format!(
        "GET /api/v2/notifications/socket HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: keep-alive, \
         Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n",
        world.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut stream).await.to_lowercase();
    (stream, answer)
}

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel() {
    let upstream = echoing().await;
    let world = Setup::new(upstream.address).start().await;
    let (mut stream, answer) = open(&world).await;
    assert!(answer.starts_with("http/1.1 101 ") && answer.contains("upgrade: websocket"), "{answer}");
    for message in ["hello", "a second one", "\u{1}\u{2}"] {
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut echoed = vec![0; message.len()];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, message.as_bytes());
    }
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.headers["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(seen.headers["authorization"], "Bearer platform-token-1");
    drop(stream);
}

/// How often sessions are looked at here.
const LOOK: Duration = Duration::from_millis(40);

/// Whether a ping goes through and comes back.
async fn ping(stream: &mut TcpStream) -> bool {
    let mut echoed = [0; 4];
    stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut echoed).await.is_ok() && echoed == *b"ping"
}

#[tokio::test]
async fn a_tunnel_ends_with_the_token_that_opened_it() {
    for is_revoked in [true, false] {
        let upstream = echoing().await;
        let mut setup = Setup::new(upstream.address);
        setup.config.limits.tunnel_look = LOOK;
        let world = setup.start().await;
        let (mut stream, answer) = open(&world).await;
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        for _ in 0..8 {
            assert!(ping(&mut stream).await, "it stands for several looks");
            sleep(LOOK / 2).await;
        }
        if is_revoked {
            assert!(world.issuer.revoke(world.token.as_bytes()).await.unwrap());
        } else {
            world.issuer.set_enabled(&world.client_id, false, "cli:test").await.unwrap();
        }
        let pinging = async {
            while ping(&mut stream).await {
                sleep(LOOK / 4).await;
            }
        };
        timeout(PATIENCE, pinging).await.expect("the tunnel ends");
    }
}

/// As with any other answer: a caller would take it for keyholder's.
#[tokio::test]
async fn a_101_of_a_platform_says_nothing_about_its_origin() {
    let upstream = echoing_and_telling(&[
        ("set-cookie", "session=of-the-platform"),
        ("alt-svc", "h2=\"elsewhere:443\""),
        ("strict-transport-security", "max-age=1"),
        ("clear-site-data", "\"*\""),
        ("sec-websocket-accept", "x"),
    ])
    .await;
    let world = Setup::new(upstream.address).start().await;
    let (_stream, answer) = open(&world).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    for name in ["set-cookie", "alt-svc", "strict-transport-security", "clear-site-data"] {
        assert!(!answer.contains(name), "{answer}");
    }
    for kept in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: x"] {
        assert!(answer.contains(kept), "{answer}");
    }
}

#[tokio::test]
async fn an_offer_of_http2_is_answered_over_http1() {
    let upstream = echoing().await;
    let world = Setup::new(upstream.address).start().await;
    for protocol in ["h2c", "HTTP/2.0", "TLS/1.0", "websocket, h2c"] {
        let request = format!(
            "GET /api/v2/users HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: Upgrade, \
             HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
            world.token
        );
        let answer = world.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("plain"), "{protocol}: {answer}");
    }
    for seen in upstream.seen() {
        assert!(!seen.headers.contains_key("upgrade") && !seen.headers.contains_key("http2-settings"));
    }
}

#[tokio::test]
async fn an_upgrade_needs_the_same_right_as_any_call() {
    let upstream = echoing().await;
    let mut setup = Setup::new(upstream.address);
    setup.allow_all = false;
    let world = setup.start().await;
    let request = format!(
        "GET /api/v2/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
        world.token
    );
    assert!(world.raw(request.as_bytes()).await.starts_with("HTTP/1.1 403 "));
    assert!(upstream.seen().is_empty());
}

/// In a tunnel it is for both ends to say how long one of them may be silent.
#[tokio::test]
async fn a_tunnel_that_is_not_read_for_a_while_goes_on() {
    const MUCH: usize = 16 * 1024 * 1024;
    let upstream = Upstream::start(|mut request| {
        Box::pin(async move {
            tokio::spawn(async move {
                let mut io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                io.write_all(&vec![b'x'; MUCH]).await.unwrap();
            });
            reply(101, &[("connection", "upgrade"), ("upgrade", "websocket")], "")
        })
    })
    .await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.body_idle = Duration::from_millis(100);
    let world = setup.start().await;
    let mut stream = narrow(world.address).await;
    let request = format!(
        "GET /api/v2/socket HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
        world.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    sleep(Duration::from_millis(500)).await;
    let mut message = vec![0; MUCH];
    timeout(PATIENCE, stream.read_exact(&mut message)).await.expect("it goes on").unwrap();
}

/// Also while it sends: who takes nothing has left its tunnel.
#[tokio::test]
async fn a_tunnel_whose_caller_sends_and_never_reads_ends() {
    const MUCH: usize = 32 * 1024 * 1024;
    let upstream = Upstream::start(|mut request| {
        Box::pin(async move {
            tokio::spawn(async move {
                let io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let (mut from, mut to) = tokio::io::split(io);
                let (message, mut nowhere) = (vec![b'x'; MUCH], tokio::io::sink());
                // until the gateway closes it
                drop(tokio::join!(to.write_all(&message), tokio::io::copy(&mut from, &mut nowhere)));
            });
            reply(101, &[("connection", "upgrade"), ("upgrade", "websocket")], "")
        })
    })
    .await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.tunnel_idle = Duration::from_millis(300);
    let world = setup.start().await;
    let mut stream = narrow(world.address).await;
    let request = format!(
        "GET /api/v2/socket HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
        world.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    let pings = async {
        while stream.write_all(b"ping").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, pings).await.expect("the tunnel ends");
}
