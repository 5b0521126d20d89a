//! Requests that no local program sends, on TCP and on the socket, to the broker's own paths and to the proxy. Each is
//! refused, and nothing is fetched or forwarded for any of them.

use kh_admin::{Callers, SocketGuard};

use crate::rig::{Rig, Surface, start};

/// The listener on TCP and on the socket.
async fn both() -> [Rig; 2] {
    [start(Surface::Broker).await, start(Surface::Socket(SocketGuard::User, Callers::own())).await]
}

#[tokio::test]
async fn headers_of_browsers_and_proxies_are_refused_even_with_the_token() {
    for rig in both().await {
        refuses_headers(&rig).await;
    }
}

async fn refuses_headers(rig: &Rig) {
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
        for path in ["/v1/token/acme", "/v1/header/acme", "/healthz", "/acme/api/v2/users"] {
            let headers = format!("{header}\r\n{}", rig.guard());
            let reply = rig.send(&format!("GET {path}"), &headers, "").await;
            assert_eq!(reply.status, 400, "{header} {path}");
            assert!(reply.code().starts_with("keyholder.request."), "{header}");
        }
    }
    rig.assert_untouched();
}

#[tokio::test]
async fn foreign_hosts_and_foreign_targets() {
    for rig in both().await {
        refuses_targets(&rig).await;
    }
}

async fn refuses_targets(rig: &Rig) {
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
        ("GET /acme/api/v2/users", ""),
        ("GET /acme/api/v2/users", "Host: api.mypurecloud.de\r\n"),
        ("GET /acme/api/v2/users", "Host: rebind.attacker.example\r\n"),
        ("POST /acme/api/v2/users", "Host: 169.254.169.254\r\n"),
        ("GET http://api.mypurecloud.de/acme/api/v2/users", "Host: localhost\r\n"),
        ("GET http://169.254.169.254/latest/meta-data/", "Host: localhost\r\n"),
        ("OPTIONS *", "Host: localhost\r\n"),
    ] {
        let reply = rig.raw(request(line, hosts).as_bytes()).await.unwrap();
        let expected = if line == "OPTIONS *" { 405 } else { 400 };
        assert_eq!(reply.status, expected, "{line} {hosts:?}");
        assert!(!reply.body.contains("token-"));
    }
    rig.assert_untouched();
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
    let upgrade = format!("Upgrade: websocket\r\n{}", rig.guard());
    for path in ["/v1/token/acme", "/acme/api/v2/users"] {
        let reply = rig.send(&format!("GET {path}"), &upgrade, "").await;
        assert_eq!((reply.status, reply.code().as_str()), (501, "keyholder.upgrade.refused"));
    }
    for method in ["TRACE", "CONNECT"] {
        assert_eq!(rig.send(&format!("{method} /acme/api/v2/users"), &rig.guard(), "").await.status, 405);
    }
    rig.assert_untouched();
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
            "GET /v1/x",
        ] {
            let reply = rig.send(path, &headers, "").await;
            assert_eq!((reply.status, reply.code().as_str()), (403, "keyholder.guard.refused"), "{path} {headers}");
        }
    }
    rig.assert_untouched();
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
    rig.assert_untouched();
    assert_eq!(rig.get("/v1/token/acme").await.status, 200, "and the listener still works");
}

#[tokio::test]
async fn the_proxy_wants_the_guard_too() {
    let rig = start(Surface::Broker).await;
    for headers in [
        String::new(),
        "Authorization: Bearer x\r\n".to_owned(),
        format!("Authorization: Basic {}\r\n", rig.token()),
        format!("{}{}", rig.bearer(), rig.guard()),
        format!("{}{}", rig.bearer(), rig.bearer()),
        "X-Keyholder-Token: khg_wrong\r\n".to_owned(),
        format!("X-Keyholder-Token: khg_wrong\r\n{}", rig.bearer()),
    ] {
        for line in ["GET /acme/api/v2/users", "DELETE /acme/api/v2/users/1", "GET /unknown/api", "POST /acme/"] {
            let reply = rig.send(line, &headers, "").await;
            assert_eq!((reply.status, reply.code().as_str()), (403, "keyholder.guard.refused"), "{line} {headers}");
        }
    }
    rig.assert_untouched();
}

#[tokio::test]
async fn a_process_of_another_user_gets_nothing_from_the_socket() {
    // our own user is the stranger here, so that the test needs no second one
    let rig = start(Surface::Socket(SocketGuard::User, Callers::only(&[u32::MAX - 1]))).await;
    for line in ["GET /v1/token/acme", "GET /healthz", "POST /acme/api/v2/users", "GET /acme/api/v2/users"] {
        let reply = rig.send(line, &rig.guard(), "").await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "keyholder.guard.refused"), "{line}");
    }
    rig.assert_untouched();
}

#[tokio::test]
async fn a_wrong_token_is_refused_on_the_socket_and_none_where_it_is_wanted() {
    let user = start(Surface::Socket(SocketGuard::User, Callers::own())).await;
    let both = start(Surface::Socket(SocketGuard::UserAndToken, Callers::own())).await;
    for (rig, headers) in [
        (&user, "X-Keyholder-Token: khg_wrong\r\n".to_owned()),
        (&user, "X-Keyholder-Token: \r\n".to_owned()),
        (&user, format!("{}{}", user.guard(), user.guard())),
        (&both, String::new()),
        (&both, "X-Keyholder-Token: khg_wrong\r\n".to_owned()),
    ] {
        for line in ["GET /v1/token/acme", "GET /acme/api/v2/users"] {
            assert_eq!(rig.send(line, &headers, "").await.code(), "keyholder.guard.refused", "{line} {headers}");
        }
    }
    user.assert_untouched();
    both.assert_untouched();
    assert_eq!(user.send("GET /v1/token/acme", "", "").await.status, 200);
    assert_eq!(both.get("/v1/token/acme").await.status, 200);
}
