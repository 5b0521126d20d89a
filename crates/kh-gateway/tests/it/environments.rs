//! A client of one environment never reaches a platform with a credential of another.

use crate::{
    support::Setup,
    upstream::{Upstream, reply},
};

#[tokio::test]
async fn neither_login_nor_call_with_a_credential_of_another_environment() {
    for (client, credential, fits) in [
        (Some("staging"), Some("staging"), true),
        (Some("staging"), Some("production"), false),
        (Some("production"), Some("staging"), false),
        (Some("production"), None, false),
        // not bound yet
        (None, Some("production"), true),
    ] {
        let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "ok") })).await;
        let mut setup = Setup::new(upstream.address);
        setup.environments = (client, credential);
        let world = setup.start().await;

        let called = world.call("GET /api/v2/users").await;
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            world.client_id, world.client_secret
        );
        let mut request = world.request("POST /oauth/token", &form);
        request.headers_mut().remove("authorization");
        let media = "application/x-www-form-urlencoded".parse().unwrap();
        request.headers_mut().insert("content-type", media);
        let login = world.send(request).await;
        assert_eq!(
            (called.status, login.status),
            if fits { (200, 200) } else { (403, 403) },
            "{client:?} {credential:?}"
        );
        assert_eq!(upstream.seen().len(), usize::from(fits), "a refused call is not forwarded");
        if !fits {
            assert_eq!(called.json()["code"], "keyholder.environment.refused");
            assert_eq!(login.json()["error"], "unauthorized_client");
            assert_eq!(login.json()["access_token"], serde_json::Value::Null);
            assert_eq!(world.tokens.fetched(), 0, "no token was fetched for it");
        }
    }
}
