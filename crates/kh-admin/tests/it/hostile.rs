//! Requests that no local program sends. Each is refused, and nothing is fetched for any of them.

use crate::rig::{Surface, start};

#[tokio::test]
async fn headers_of_browsers_and_proxies_are_refused_even_with_the_token() {
    let rig = start(Surface::Broker).await;
    for header in [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: localhost",
        "X-Forwarded-Proto: https",
        "Forwarded: for=127.0.0.1",
        "Via: 1.1 proxy",
        "X-Real-IP: 127.0.0.1",
        "CF-Connecting-IP: 127.0.0.1",
        "True-Client-IP: 127.0.0.1",
        "Proxy-Connection: keep-alive",
        "Origin: http://localhost",
        "Origin: null",
        "Referer: http://127.0.0.1/",
        "Cookie: a=b",
        "Sec-Fetch-Site: same-origin",
        "Sec-Fetch-Mode: cors",
        "Sec-Ch-Ua: x",
        "Sec-WebSocket-Key: x",
        "Access-Control-Request-Headers: x-keyholder-token",
        "X-HTTP-Method-Override: POST",
        "X-Original-URL: /v1/token/acme",
        "X-Rewrite-URL: /v1/token/acme",
    ] {
        for path in ["/v1/token/acme", "/v1/header/acme", "/healthz"] {
            let headers = format!("{header}\r\n{}", rig.guard());
            let reply = rig.send(&format!("GET {path}"), &headers, "").await;
            assert_eq!(reply.status, 400, "{header} {path}");
            assert!(reply.code().starts_with("keyholder.request."), "{header}");
        }
    }
    assert_eq!(rig.platform.fetches(), 0);
}

#[tokio::test]
async fn foreign_hosts_and_foreign_targets() {
    let rig = start(Surface::Broker).await;
    let guard = rig.guard();
    let request = |line: &str, hosts: &str| format!("{line} HTTP/1.1\r\n{hosts}Connection: close\r\n{guard}\r\n");
    for (line, hosts) in [
        ("GET /v1/token/acme", ""),
        ("GET /v1/token/acme", "Host: \r\n"),
        ("GET /v1/token/acme", "Host: evil.example\r\n"),
        ("GET /v1/token/acme", "Host: localhost.evil.example\r\n"),
        ("GET /v1/token/acme", "Host: 127.0.0.1.evil.example:80\r\n"),
        ("GET /v1/token/acme", "Host: 10.0.0.1\r\n"),
        ("GET /v1/token/acme", "Host: 0.0.0.0\r\n"),
        ("GET /v1/token/acme", "Host: localhost\r\nHost: evil.example\r\n"),
        ("GET /v1/token/acme", "Host: user@localhost\r\n"),
        ("GET http://127.0.0.1/v1/token/acme", "Host: 127.0.0.1\r\n"),
        ("GET http://evil.example/v1/token/acme", "Host: localhost\r\n"),
        ("GET https://localhost/v1/token/acme", "Host: localhost\r\n"),
    ] {
        let reply = rig.raw(request(line, hosts).as_bytes()).await.unwrap();
        assert_eq!(reply.status, 400, "{line} {hosts:?}");
        assert!(!reply.body.contains("token-"));
    }
    assert_eq!(rig.platform.fetches(), 0);
}

#[tokio::test]
async fn methods_and_upgrades() {
    let rig = start(Surface::Broker).await;
    for method in ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let reply = rig.send(&format!("{method} /v1/token/acme"), &rig.guard(), "").await;
        assert_eq!(reply.status, 405, "{method}");
        assert!(method == "HEAD" || reply.code() == "keyholder.method.not_allowed", "{method}");
        assert_eq!(reply.header("allow"), Some("GET, POST"));
    }
    let reply = rig.send("CONNECT evil.example:443", &rig.guard(), "").await;
    assert_eq!(reply.status, 405);
    let upgrade = format!("Upgrade: h2c\r\n{}", rig.guard());
    let reply = rig.send("GET /v1/token/acme", &upgrade, "").await;
    assert_eq!((reply.status, reply.code().as_str()), (501, "keyholder.upgrade.refused"));
    assert_eq!(rig.platform.fetches(), 0);
}

#[tokio::test]
async fn without_the_right_guard_token_nothing_is_told() {
    let rig = start(Surface::Broker).await;
    let token = rig.token();
    let wrong = format!("{}x", &token[..token.len() - 1]);
    for headers in [
        String::new(),
        "X-Keyholder-Token: \r\n".to_owned(),
        format!("X-Keyholder-Token: {wrong}\r\n"),
        format!("X-Keyholder-Token: {}\r\n", token.to_lowercase()),
        format!("X-Aws-Parameters-Secrets-Token: {wrong}\r\n"),
        format!("{}{}", rig.guard(), rig.guard()),
        format!("{}X-Aws-Parameters-Secrets-Token: {wrong}\r\n", rig.guard()),
        rig.bearer(),
        format!("X-Vault-Token: {token}\r\n"),
    ] {
        for path in [
            "GET /v1/token/acme",
            "GET /v1/token/unknown",
            "GET /v1/header/acme",
            "POST /v1/token/acme/invalidate",
            "GET /x",
        ] {
            let reply = rig.send(path, &headers, "").await;
            assert_eq!((reply.status, reply.code().as_str()), (403, "keyholder.guard.refused"), "{path} {headers}");
        }
    }
    assert_eq!(rig.platform.fetches(), 0);
}

#[tokio::test]
async fn bytes_that_are_not_a_request() {
    let rig = start(Surface::Broker).await;
    let guard = rig.guard();
    let large = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Many: 1\r\n".repeat(100));
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET /v1/token/acme HTTP/1.1\r\nHost : localhost\r\n\r\n".to_vec(),
        b"GET /v1/token/acme HTTP/1.1\r\nHost: local\0host\r\n\r\n".to_vec(),
        format!("POST /v1/token/acme/invalidate HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n{guard}\r\n")
            .into_bytes(),
        large.into_bytes(),
        many.into_bytes(),
    ] {
        let reply = rig.raw(&bytes).await;
        let refused = reply.as_ref().is_none_or(|reply| (400..500).contains(&reply.status));
        assert!(refused, "{reply:?}");
    }
    assert_eq!(rig.platform.fetches(), 0);
    assert_eq!(rig.get("/v1/token/acme").await.status, 200, "and the listener still works");
}
