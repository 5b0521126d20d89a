//! `/{profile}/...`: what is handed over, and to whom.

use kh_admin::{Callers, SocketGuard};

use crate::rig::{Surface, start};

#[tokio::test]
async fn any_method_and_path_is_handed_over_without_the_guard() {
    let rig = start(Surface::Broker).await;
    let bearer = rig.bearer();
    let alias = format!("X-Aws-Parameters-Secrets-Token: {}\r\n", rig.token());
    for (line, headers, expected) in [
        ("GET /acme/api/v2/users?pageSize=5", rig.guard(), "GET acme /api/v2/users?pageSize=5 host,connection"),
        ("PATCH /acme/api/v2/users/1", bearer, "PATCH acme /api/v2/users/1 host,connection"),
        ("HEAD /acme/api/v2/tokens/me", alias, "HEAD acme /api/v2/tokens/me host,connection"),
        ("DELETE /team%2Facme.eu/a%2Fb/", rig.guard(), "DELETE team/acme.eu /a%2Fb/ host,connection"),
        ("GET /acme/v1/token/acme", rig.guard(), "GET acme /v1/token/acme host,connection"),
        ("OPTIONS /acme/", rig.guard(), "OPTIONS acme / host,connection"),
    ] {
        let reply = rig.send(line, &headers, "").await;
        assert_eq!((reply.status, reply.header("x-line")), (200, Some(expected)), "{line}");
    }
    let reply = rig.send("PUT /acme/api/v2/x", &rig.guard(), "body as it came").await;
    assert_eq!(reply.body, "body as it came");
    assert_eq!(rig.platform.fetches(), 0, "the forwarder gets its own token");
}

#[tokio::test]
async fn profiles_that_there_are_not() {
    let rig = start(Surface::Broker).await;
    for line in [
        "GET /unknown/api/v2/users",
        "GET /acme",
        "GET /acme?x",
        "GET /team/acme.eu/api",
        "GET /..%2Facme/api",
        "GET /%ff/api",
        "GET /v1/api/v2/users",
        "GET //acme/api",
    ] {
        let reply = rig.send(line, &rig.guard(), "").await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "keyholder.not_found"), "{line}");
    }
    assert_eq!(rig.forwarded(), 0);
}

#[tokio::test]
async fn on_the_socket_an_sdks_own_authorization_does_not_matter() {
    let rig = start(Surface::Socket(SocketGuard::User, Callers::own())).await;
    for headers in [String::new(), "Authorization: Bearer whatever\r\n".to_owned(), rig.guard()] {
        let reply = rig.send("GET /acme/api/v2/users", &headers, "").await;
        assert_eq!(reply.header("x-line"), Some("GET acme /api/v2/users host,connection"), "{headers}");
    }
}
