//! Web sockets and other upgrades.

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    support::Setup,
    upstream::{Upstream, reply},
};

async fn echoing() -> Upstream {
    Upstream::start(|mut request| {
        Box::pin(async move {
            let Some(protocol) = request.headers().get("upgrade").cloned() else {
                return reply(200, &[], "plain");
            };
            tokio::spawn(async move {
                let mut io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = io.read(&mut buffer).await {
                    io.write_all(&buffer[..count]).await.unwrap();
                }
            });
            reply(101, &[("connection", "upgrade"), ("upgrade", protocol.to_str().unwrap())], "")
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

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel() {
    let upstream = echoing().await;
    let world = Setup::new(upstream.address).start().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = format!(
        "GET /api/v2/notifications/socket HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: keep-alive, \
         Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n",
        world.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut stream).await.to_lowercase();
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
