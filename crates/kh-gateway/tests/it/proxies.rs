//! Platforms behind a proxy that does not do its part.

use std::{net::SocketAddr, sync::Arc};

use kh_core::SecretString;
use kh_net::{Egress, ProxyRules, Settings, SystemRoots};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::Setup;

/// The user and password that are never told.
const AUTH: &str = "keyholder:proxy-password-1";

/// Answers every connection with `answer` once it has a request's head.
async fn fake(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut head).await.unwrap() > 0);
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with("CONNECT api.example.com:443 HTTP/1.1\r\n"), "{head}");
            assert!(head.to_lowercase().contains("proxy-authorization: basic "), "{head}");
            assert!(!head.to_lowercase().contains("\r\nauthorization:"), "{head}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_that_does_not_open_the_way_is_a_502_that_says_so() {
    let system = SystemRoots::load();
    // a port that nobody listens on
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let denied = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    let eager = "HTTP/1.1 200 OK\r\n\r\nbytes that no TLS server would send first";
    for (proxy, told) in [
        (fake(denied).await, "does not accept keyholder's user name and password"),
        (fake("HTTP/1.0 401 Unauthorized\r\n\r\n").await, "does not accept keyholder's user name and password"),
        (fake("HTTP/1.0 403 Filtered\r\n\r\n").await, "refused the connection to the platform with status 403"),
        (
            fake("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy").await,
            "refused the connection to the platform with status 503",
        ),
        (fake("SSH-2.0-OpenSSH\r\n").await, "did not answer as an HTTP proxy"),
        (fake(eager).await, "did not answer as an HTTP proxy"),
        (closed, "could not be reached: connection refused"),
    ] {
        let auth = SecretString::copied(AUTH);
        let rules = ProxyRules::new(&format!("http://{proxy}"), "", Some(&auth)).unwrap();
        let egress = Egress::new(Settings { proxy: rules, ..Settings::default() }, &system).unwrap();
        let mut setup = Setup::new(proxy);
        setup.api_base = "https://api.example.com".to_owned();
        setup.egress = Arc::new(egress);
        let world = setup.start().await;
        let got = world.call("GET /api/v2/users").await;
        let body = got.json();
        assert_eq!((got.status, body["code"].as_str()), (502, Some("keyholder.upstream.proxy")), "{body}");
        let message = body["message"].as_str().unwrap();
        assert!(message.contains(&format!("the proxy {proxy} {told}")), "{message}");
        assert!(!message.contains("password-1"), "{message}");
        assert_eq!(world.metric(r#"keyholder_gateway_upstream_errors_total{kind="connect"}"#), 1);
    }
}
