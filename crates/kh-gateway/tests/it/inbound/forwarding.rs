//! What reaches the API, and what comes back.

use hyper_util::rt::TokioIo;
use kh_net::client_address::{ClientAddressing, ForwardingHeader, TrustedProxies};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{http2::Caller, tls::authority};

fn value<'a>(headers: &'a http::HeaderMap, name: &str) -> &'a str {
    headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn a_request_goes_on_as_it_came_and_says_who_calls() {
    let (upstream, site) = site().await;
    let mut request = site.request("POST /reports?a=b&c=%20d", "Bearer writer", "the body");
    for (name, sent) in [
        ("cookie", "session=1"),
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("x-custom", "kept"),
        ("proxy-authorization", "Basic eA=="),
    ] {
        request.headers_mut().insert(name, sent.parse().unwrap());
    }
    let got = site.send(request).await;
    assert_eq!((got.status, &got.body[..]), (200, &b"the body"[..]));
    let cookies: Vec<_> = got.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"], "the API's cookies are its callers'");
    assert!(!got.headers.contains_key("alt-svc"), "nobody is led around the gateway");
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.target, "/reports?a=b&c=%20d");
    for (name, expected) in [
        ("host", upstream.address.to_string().as_str()),
        ("x-user", "bob"),
        ("x-client", "reports-job"),
        ("x-scopes", "reports:read reports:write"),
        ("x-tenant", ""),
        ("cookie", "session=1"),
        ("x-custom", "kept"),
        ("authorization", ""),
        ("proxy-authorization", ""),
        ("forwarded", ""),
        ("x-real-ip", ""),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", site.address.to_string().as_str()),
        ("via", "1.1 keyholder"),
    ] {
        assert_eq!(value(&seen.headers, name), expected, "{name}");
        assert!(seen.headers.get_all(name).iter().count() <= 1, "{name}");
    }
}

/// A widely copied tutorial believed what anybody wrote there.
#[tokio::test]
async fn nobody_writes_who_or_where_they_are() {
    let (upstream, site) = site().await;
    let spellings = ["X-User", "x_user", "X_USER", "X.User", "x~user", "X-Client", "X_Scopes", "X-Tenant", "x_tenant"];
    let addresses = ["X-Forwarded-For", "X_Forwarded_For", "X-Real-IP", "x_real_ip", "True-Client-IP", "Forwarded"];
    // what another proxy would have said
    let others = [
        "X-Forwarded-User",
        "X_Forwarded_User",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        "X-Forwarded-Preferred-Username",
        "X-Forwarded-Access-Token",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Forwarded-Client-Cert",
        "X.Forwarded_Client-Cert",
        "Client-Cert",
        "client_cert",
        "Client-Cert-Chain",
    ];
    for name in spellings.iter().chain(&addresses).chain(&others) {
        for call in ["GET /any", "GET /health"] {
            let head = format!("{call} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\n{name}: forged\r\n");
            for more in ["", "Connection: close, X-User, X-Client\r\n"] {
                let close = if more.is_empty() { "Connection: close\r\n" } else { more };
                let answer = site.raw(&format!("{head}{name}: forged again\r\n{close}\r\n")).await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
                let seen = upstream.seen().pop().unwrap();
                let forged = seen.headers.iter().find(|(_, value)| value.as_bytes().starts_with(b"forged"));
                assert_eq!(forged, None, "{name} on {call}");
                let user = if call == "GET /any" { "carol" } else { "" };
                assert_eq!(value(&seen.headers, "x-user"), user, "{name} on {call}");
            }
        }
    }
}

/// A server may merge the fields behind a body into those before it.
#[tokio::test]
async fn fields_behind_a_body_are_left_out() {
    let trailers: Arc<Mutex<Vec<bool>>> = Arc::default();
    let heard = Arc::clone(&trailers);
    let upstream = Upstream::start(move |request| {
        let heard = Arc::clone(&heard);
        Box::pin(async move {
            use http_body_util::BodyExt;
            let body = request.into_body().collect().await.unwrap();
            heard.lock().push(body.trailers().is_some());
            reply(200, &[], body.to_bytes())
        })
    })
    .await;
    let site = Setup::new(upstream.address).start();
    let answer = site
        .raw(
            "POST /any HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\nTransfer-Encoding: chunked\r\n\
             Trailer: X-User\r\nConnection: close\r\n\r\n4\r\nbody\r\n0\r\nX-User: root\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("body"), "{answer}");
    assert_eq!(*trailers.lock(), [false]);
}

#[tokio::test]
async fn host_and_token_are_passed_on_where_that_is_wanted() {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    (setup.authorization, setup.host) = (Authorization::Pass, SentHost::Caller);
    setup.upstream.push_str("/base/");
    let site = setup.start();
    let request = |target: &str, host: &str| {
        let request = Request::builder().uri(target).header("host", host).header("authorization", "Bearer reader");
        request.body(Full::default()).unwrap()
    };
    assert_eq!(site.send(request("/reports/7?x", "api.example")).await.status, 200);
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.target, "/base/reports/7?x");
    assert_eq!(value(&seen.headers, "host"), "api.example");
    assert_eq!(value(&seen.headers, "authorization"), "Bearer reader");
    assert_eq!(site.send(request("http://api.example/reports", "api.example")).await.status, 200);
    assert_eq!(upstream.seen()[1].target, "/base/reports");
    let other = site.send(request("http://elsewhere.example/reports", "api.example")).await;
    assert_eq!((other.status, other.json()["code"].as_str()), (400, Some("keyholder.request.ambiguous")));
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_get_with_a_chunked_body_keeps_it() {
    let (upstream, site) = site().await;
    let answer = site
        .raw(
            "GET /any HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("body"), "{answer}");
    assert_eq!(value(&upstream.seen()[0].headers, "transfer-encoding"), "chunked");
    assert_eq!(site.call("GET /any", "nothing").await.status, 200);
    assert_eq!(value(&upstream.seen()[1].headers, "transfer-encoding"), "");
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let (_upstream, site) = site().await;
    let body: String = (0..300_000).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect();
    let got = site.send(site.request("POST /any", "Bearer nothing", &body)).await;
    assert_eq!((got.status, got.body.len(), got.body == body.as_bytes()), (200, body.len(), true));
}

#[tokio::test]
async fn http2_and_tls() {
    let upstream = echo().await;
    let (root, config) = authority(false);
    let mut setup = Setup::new(upstream.address);
    setup.config.tls = Some(config);
    setup.host = SentHost::Caller;
    let site = setup.start();
    let mut client = Caller::new(site.address, &root).client().await;
    let url = |path: &str| format!("https://{}{path}", site.address);
    let request = |path: &str, token: &str| {
        let request = Request::builder().uri(url(path)).header("authorization", token).header("x_user", "forged");
        request.body(Full::new(Bytes::from_static(b""))).unwrap()
    };
    let got = crate::support::read(client.send_request(request("/reports", "Bearer reader")).await.unwrap()).await;
    assert_eq!(got.status, 200);
    let seen = upstream.seen().remove(0);
    for (name, expected) in [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", site.address.to_string().as_str()),
        ("host", site.address.to_string().as_str()),
        ("x-user", "alice"),
        ("x_user", ""),
        ("via", "2.0 keyholder"),
    ] {
        assert_eq!(value(&seen.headers, name), expected, "{name}");
    }
    let got = crate::support::read(client.send_request(request("/reports", "Basic x")).await.unwrap()).await;
    assert_eq!((got.status, got.header("www-authenticate")), (401, r#"Bearer realm="api""#));
    assert_eq!(upstream.seen().len(), 1);
}

/// Browsers send each cookie in a field of its own.
#[tokio::test]
async fn cookies_that_http2_splits_are_one_field_for_the_api() {
    let upstream = echo().await;
    let (root, config) = authority(false);
    let mut setup = Setup::new(upstream.address);
    setup.config.tls = Some(config);
    let site = setup.start();
    let mut client = Caller::new(site.address, &root).client().await;
    // also more of them than a request may have fields
    for count in [1, 2, 3, 150] {
        let mut request = Request::builder().uri(format!("https://{}/health", site.address));
        for index in 0..count {
            request = request.header("cookie", format!("c{index}=v"));
        }
        let answer = client.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "{count}");
        let seen = upstream.seen().pop().unwrap();
        let cookies: Vec<_> = seen.headers.get_all("cookie").iter().collect();
        let expected: Vec<String> = (0..count).map(|index| format!("c{index}=v")).collect();
        assert_eq!(cookies, [expected.join("; ").as_str()]);
    }
}

/// A site that believes this header of this proxy, and whose API is asked for the caller's host.
fn believing(upstream: &Upstream, header: ForwardingHeader, proxy: &str) -> Setup {
    let addressing = ClientAddressing::new(TrustedProxies::parse(&[proxy]).unwrap(), header);
    let mut setup = Setup::new(upstream.address);
    setup.proxies = Proxies { addressing, ..Proxies::default() };
    setup.host = SentHost::Caller;
    setup
}

/// Routes of every host.
fn everywhere() -> RouteTable {
    RouteTable::new(vec![RouteRule::new("GET /health", Requirement::Public).unwrap()]).unwrap()
}

fn told(upstream: &Upstream) -> String {
    let seen = upstream.seen();
    let headers = &seen.last().unwrap().headers;
    assert!(!headers.contains_key("forwarded") && !headers.contains_key("x-real-ip"), "{headers:?}");
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
        assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
    }
    let [proto, host, address] =
        ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-for"].map(|name| value(headers, name));
    format!("{proto} {host} {address}")
}

/// Behind a proxy that ends TLS the caller's scheme is another than ours, and that proxy alone may say so. The host is the
/// one that the route was found for.
#[tokio::test]
async fn the_api_is_told_the_address_that_trusted_proxies_tell() {
    use ForwardingHeader::{Forwarded, XForwardedFor, XRealIp};
    let all = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: api.example\r\n";
    let forwarded = "Forwarded: for=198.51.100.1;proto=http;host=x, for=203.0.113.9;proto=https;host=api.example\r\n";
    for (header, proxy, lines, expected) in [
        (XForwardedFor, "127.0.0.1", all, "https 10.0.0.7 203.0.113.9"),
        (XForwardedFor, "127.0.0.1", "X-Forwarded-For: 203.0.113.9\r\n", "http 10.0.0.7 203.0.113.9"),
        (XForwardedFor, "127.0.0.1", "X-Forwarded-Proto: https\r\n", "https 10.0.0.7 127.0.0.1"),
        (XForwardedFor, "127.0.0.1", "X-Forwarded-Host: api.example:8443\r\n", "http 10.0.0.7 127.0.0.1"),
        (XForwardedFor, "127.0.0.1", forwarded, "http 10.0.0.7 127.0.0.1"),
        // one of two was written by somebody else
        (
            XForwardedFor,
            "127.0.0.1",
            "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a, b\r\n",
            "http 10.0.0.7 127.0.0.1",
        ),
        (XForwardedFor, "127.0.0.9", all, "http 10.0.0.7 127.0.0.1"),
        (XRealIp, "127.0.0.1", "X-Real-IP: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n", "https 10.0.0.7 203.0.113.9"),
        (XRealIp, "127.0.0.9", all, "http 10.0.0.7 127.0.0.1"),
        (Forwarded, "127.0.0.1", forwarded, "https 10.0.0.7 203.0.113.9"),
        (Forwarded, "127.0.0.1", all, "http 10.0.0.7 127.0.0.1"),
        (Forwarded, "127.0.0.9", forwarded, "http 10.0.0.7 127.0.0.1"),
    ] {
        let upstream = echo().await;
        let site = Setup { routes: everywhere(), ..believing(&upstream, header, proxy) }.start();
        let answer =
            site.raw(&format!("GET /health HTTP/1.1\r\nHost: 10.0.0.7\r\nConnection: close\r\n{lines}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(told(&upstream), expected, "{header:?} {proxy} {lines}");
    }
}

#[tokio::test]
async fn over_http2_too_trusted_proxies_tell_the_callers_address() {
    for (proxy, is_believed) in [("127.0.0.1", true), ("127.0.0.9", false)] {
        let upstream = echo().await;
        let (root, config) = authority(false);
        let mut setup = believing(&upstream, ForwardingHeader::XForwardedFor, proxy);
        (setup.routes, setup.config.tls) = (everywhere(), Some(config));
        let site = setup.start();
        let mut client = Caller::new(site.address, &root).client().await;
        let request = Request::builder().uri(format!("https://{}/health", site.address));
        let request = request.header("x-forwarded-proto", "http").header("x-forwarded-host", "api.example");
        let request = request.header("x-forwarded-for", "203.0.113.9").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 200);
        let (scheme, address) = if is_believed { ("http", "203.0.113.9") } else { ("https", "127.0.0.1") };
        assert_eq!(told(&upstream), format!("{scheme} {} {address}", site.address), "{proxy}");
    }
}

#[tokio::test]
async fn an_upgrade_is_a_tunnel_for_those_who_may() {
    let upstream = Upstream::start(|mut request| {
        Box::pin(async move {
            tokio::spawn(async move {
                let mut io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = io.read(&mut buffer).await {
                    io.write_all(&buffer[..count]).await.unwrap();
                }
            });
            reply(101, &[("connection", "upgrade"), ("upgrade", "websocket")], "")
        })
    })
    .await;
    let site = Setup::new(upstream.address).start();
    let head = |token: &str| {
        format!(
            "GET /socket HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\n\r\n"
        )
    };
    for (token, status) in [("nothing", 403), ("expired", 401)] {
        let answer = site.raw(&head(token)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert!(upstream.seen().is_empty());
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(head("reader").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello");
    assert_eq!(value(&upstream.seen()[0].headers, "x-user"), "alice");
}

#[tokio::test]
async fn a_body_that_its_caller_breaks_off_is_no_failure_of_the_api() {
    let upstream = Upstream::start(|request| {
        Box::pin(async {
            use http_body_util::BodyExt;
            drop(request.into_body().collect().await);
            reply(200, &[], "")
        })
    })
    .await;
    let site = Setup::new(upstream.address).start();
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let head = "POST /any HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nothing\r\nContent-Length: 100\r\n\r\n";
    stream.write_all(format!("{head}ten bytes.").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it is answered").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("keyholder.request.malformed"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(site.metric(r#"keyholder_inbound_refusals_total{site="api",reason="body_incomplete"}"#), 1);
    assert_eq!(site.metric(r#"keyholder_gateway_upstream_errors_total{kind="protocol"}"#), 0);
}

/// What is told outside names no address inside.
#[tokio::test]
async fn an_api_that_does_not_answer_is_a_problem_without_its_address() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let (broken, _heads, _tasks) = crate::upstream::raw(vec![b"nonsense\r\n\r\n"]).await;
    for (upstream, kind) in [(closed, "connect"), (broken, "protocol")] {
        let site = Setup::new(upstream).start();
        let got = site.call("GET /any", "nothing").await;
        let body = got.json();
        assert_eq!((got.status, body["code"].as_str()), (502, Some("keyholder.inbound.upstream_failed")), "{kind}");
        assert!(!body.to_string().contains(&upstream.port().to_string()), "{body}");
        assert_eq!(site.metric(r#"keyholder_inbound_refusals_total{site="api",reason="upstream_failed"}"#), 1);
        assert_eq!(site.metric(&format!(r#"keyholder_gateway_upstream_errors_total{{kind="{kind}"}}"#)), 1);
    }
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut setup = Setup::new(silent.local_addr().unwrap());
    setup.config.limits.response_header = Duration::from_millis(50);
    let got = setup.start().call("GET /any", "nothing").await;
    assert_eq!((got.status, got.json()["code"].as_str()), (504, Some("keyholder.inbound.upstream_failed")));
}
