//! A site behind proxies: whose address is told, by the PROXY protocol and by headers, with HAProxy among the proxies.

use std::net::{IpAddr, Ipv4Addr};

use kh_core::port::security::{AddressSource, AuthenticationEvent};
use kh_net::client_address::{ClientAddressing, ForwardingHeader, TrustedProxies};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::{
    program::{Program, free_ports},
    *,
};
use crate::{http2::Caller, tls::authority};

/// Keeps every event.
#[derive(Default)]
struct Journal(Mutex<Vec<AuthenticationEvent>>);

impl SecurityLog for Journal {
    fn record(&self, event: AuthenticationEvent) {
        self.0.lock().push(event);
    }

    fn wants_success(&self, _issuer: &str, _subject: &str, _address: Option<IpAddr>, _now: Now) -> bool {
        true
    }
}

impl Journal {
    /// Address, source and peer of the last event.
    fn last(&self) -> String {
        let events = self.0.lock();
        let event = events.last().expect("something was told");
        let client = event.client_address.unwrap();
        format!("{} {} {}", client.ip, client.source.as_str(), event.peer.unwrap())
    }
}

/// A loopback address that is not the proxy's.
const CALLER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PROXY: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn only_the_proxy() -> TrustedProxies {
    TrustedProxies::parse(&[PROXY.to_string()]).unwrap()
}

async fn behind(proxies: Proxies) -> (Upstream, Arc<Journal>, Site) {
    let (upstream, journal) = (echo().await, Arc::new(Journal::default()));
    let mut setup = Setup::new(upstream.address);
    setup.proxies = proxies;
    setup.security.log = Some(journal.clone());
    (upstream, journal, setup.start())
}

const REQUEST: &str = "GET /reports HTTP/1.1\r\nhost: x\r\nauthorization: Bearer reader\r\nconnection: close\r\n";

/// The status of the answer to these bytes, sent from an address; empty when there was none.
async fn status(from: Ipv4Addr, to: SocketAddr, bytes: &[u8]) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the gateway closes");
    // a connection that is not served may be reset
    drop(read);
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
}

fn api_was_told(upstream: &Upstream) -> String {
    let seen = upstream.seen();
    seen.last().unwrap().headers["x-forwarded-for"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_listed_proxys_header_says_whose_connection_it_is() {
    let proxies = Proxies { proxy_protocol: only_the_proxy(), ..Proxies::default() };
    let (upstream, journal, site) = behind(proxies).await;
    let request = format!("{REQUEST}x-forwarded-for: 198.51.100.1\r\n\r\n");
    let v2 = |command: u8, body: &[u8]| {
        let family = if body.is_empty() { 0 } else { 0x11 };
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family, 0, u8::try_from(body.len()).unwrap()][..], body].concat()
    };
    let tcp4 = [203, 0, 113, 10, 127, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb];
    for (header, expected) in [
        (b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n".to_vec(), "203.0.113.9 proxy_protocol"),
        (b"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n".to_vec(), "2001:db8::9 proxy_protocol"),
        (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 4711 443\r\n".to_vec(), "203.0.113.9 proxy_protocol"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1 peer"),
        (v2(0x21, &tcp4), "203.0.113.10 proxy_protocol"),
        (v2(0x20, &[]), "127.0.0.1 peer"),
    ] {
        let bytes = [&header[..], request.as_bytes()].concat();
        assert_eq!(status(PROXY, site.address, &bytes).await, "200", "{expected}");
        assert_eq!(journal.last(), format!("{expected} 127.0.0.1"));
        // what the caller writes into headers is not believed
        assert_eq!(api_was_told(&upstream), expected.split(' ').next().unwrap());
    }
}

#[tokio::test]
async fn a_header_of_a_stranger_and_none_of_a_listed_proxy_are_refused() {
    let proxies = Proxies { proxy_protocol: only_the_proxy(), ..Proxies::default() };
    let (upstream, journal, site) = behind(proxies).await;
    let request = format!("{REQUEST}\r\n");
    let v1 = format!("PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n{request}");
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x12\x67\x01\xbb"[..], request.as_bytes()]
        .concat();
    for (from, bytes, expected) in [
        (CALLER, v1.as_bytes(), "400"),
        (CALLER, &v2[..], "400"),
        (PROXY, request.as_bytes(), ""),
        (PROXY, format!("PROXY TCP4 203.0.113.9\r\n{request}").as_bytes(), ""),
        (PROXY, format!("PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n{v1}").as_bytes(), "400"),
        (PROXY, &[&v2[..12], &[0x22], &v2[13..]].concat(), ""),
    ] {
        assert_eq!(status(from, site.address, bytes).await, expected, "{from}: {}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(upstream.seen().len(), 0, "nothing was forwarded");
    assert_eq!(journal.0.lock().len(), 0);
    // a stranger's request without a header is a request like any other
    assert_eq!(status(CALLER, site.address, request.as_bytes()).await, "200");
    assert_eq!(journal.last(), "127.0.0.2 peer 127.0.0.2");
}

#[tokio::test]
async fn one_header_of_trusted_proxies_is_believed_and_nothing_of_anybody_else() {
    let addressing = ClientAddressing::new(only_the_proxy(), ForwardingHeader::XForwardedFor);
    let (upstream, journal, site) = behind(Proxies { addressing, ..Proxies::default() }).await;
    let request = |lines: &str| format!("{REQUEST}{lines}\r\n");
    for (from, lines, expected) in [
        (PROXY, "x-forwarded-for: 198.51.100.1, 203.0.113.9\r\n", "203.0.113.9 x_forwarded_for 127.0.0.1"),
        (PROXY, "forwarded: for=203.0.113.9\r\nx-real-ip: 203.0.113.9\r\n", "127.0.0.1 peer 127.0.0.1"),
        (CALLER, "x-forwarded-for: 203.0.113.9\r\n", "127.0.0.2 peer 127.0.0.2"),
        (CALLER, "", "127.0.0.2 peer 127.0.0.2"),
    ] {
        assert_eq!(status(from, site.address, request(lines).as_bytes()).await, "200");
        assert_eq!(journal.last(), expected);
        assert_eq!(api_was_told(&upstream), expected.split(' ').next().unwrap());
        let seen = upstream.seen();
        let headers = &seen.last().unwrap().headers;
        assert!(!headers.contains_key("forwarded") && !headers.contains_key("x-real-ip"), "{headers:?}");
    }
}

/// A proxy that forwards one connection, behind these bytes.
async fn forwarding(header: &'static [u8], to: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind((PROXY, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut caller, _) = listener.accept().await.unwrap();
        let mut site = tokio::net::TcpStream::connect(to).await.unwrap();
        site.write_all(header).await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut caller, &mut site).await);
    });
    address
}

#[tokio::test]
async fn the_header_comes_before_tls_and_holds_for_every_stream() {
    let (upstream, journal) = (echo().await, Arc::new(Journal::default()));
    let (root, config) = authority(false);
    let mut setup = Setup::new(upstream.address);
    setup.config.tls = Some(config);
    setup.proxies = Proxies { proxy_protocol: only_the_proxy(), ..Proxies::default() };
    setup.security.log = Some(journal.clone());
    let site = setup.start();
    let address = forwarding(b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n", site.address).await;
    let mut client = Caller::new(address, &root).client().await;
    for _ in 0..2 {
        let request = Request::builder().uri(format!("https://{}/reports", site.address));
        let request = request.header("authorization", "Bearer reader").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 200);
        assert_eq!(journal.last(), "203.0.113.9 proxy_protocol 127.0.0.1");
        assert_eq!(api_was_told(&upstream), "203.0.113.9");
    }
    let events = journal.0.lock();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.tls.is_some()));
}

#[tokio::test]
async fn haproxy_tells_whose_connection_it_is() {
    let proxies = Proxies { proxy_protocol: only_the_proxy(), ..Proxies::default() };
    let (by_protocol, heard_by_protocol, protocol_site) = behind(proxies).await;
    let addressing = ClientAddressing::new(only_the_proxy(), ForwardingHeader::XForwardedFor);
    let (_by_header, heard_by_header, header_site) = behind(Proxies { addressing, ..Proxies::default() }).await;
    let ports = free_ports(3);
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
         listen v1\n  bind 127.0.0.1:{}\n  server api {protocol} send-proxy\n\
         listen v2\n  bind 127.0.0.1:{}\n  option httpchk GET /health\n\
         \x20 server api {protocol} send-proxy-v2 proxy-v2-options crc32c check inter 100ms\n\
         listen headers\n  mode http\n  bind 127.0.0.1:{}\n  option forwardfor\n  server api {headers}\n",
        ports[0],
        ports[1],
        ports[2],
        protocol = protocol_site.address,
        headers = header_site.address,
    );
    let _haproxy = Program::haproxy(folder.path(), &config, &ports).await;
    let to = |at: usize| SocketAddr::from((PROXY, ports[at]));
    let request = format!("{REQUEST}x-forwarded-for: 198.51.100.1\r\n\r\n");
    for version in [0, 1] {
        assert_eq!(status(CALLER, to(version), request.as_bytes()).await, "200", "version {}", version + 1);
        let source = AddressSource::ProxyProtocol.as_str();
        assert_eq!(heard_by_protocol.last(), format!("127.0.0.2 {source} 127.0.0.1"));
    }
    assert_eq!(status(CALLER, to(2), request.as_bytes()).await, "200");
    assert_eq!(heard_by_header.last(), "127.0.0.2 x_forwarded_for 127.0.0.1");
    // its own health checks come with LOCAL
    let mut checked = false;
    for _ in 0..1_000 {
        checked = by_protocol.seen().iter().any(|seen| seen.target == "/health");
        if checked {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(checked, "a health check reached the API");
}
