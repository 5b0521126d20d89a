//! What the gateway logs at TRACE: enough to follow a call, and no secret in any spelling.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    stores::platform_token,
    support::Setup,
    upstream::{Upstream, reply, token},
};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The log of the whole test process: workers have threads of their own, so it is a global one.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("trace"))
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    })
}

#[tokio::test]
async fn logs_tell_the_story_and_no_secret() {
    let log = log();
    let upstream = Upstream::start(|request| {
        Box::pin(async {
            let (parts, _) = request.into_parts();
            let status = if token(&parts) == platform_token(1) { 401 } else { 200 };
            reply(status, &[("inin-correlation-id", "traced-7f3a")], "{}")
        })
    })
    .await;
    let mut setup = Setup::new(upstream.address);
    setup.allow_all = false;
    setup.allow = vec!["GET /api/v2/users/**"];
    let world = setup.start().await;
    let basic = BASE64_STANDARD.encode(format!("{}:{}", world.client_id, world.client_secret));
    for (media, authorization) in [
        ("application/x-www-form-urlencoded", format!("Basic {basic}")),
        ("text/plain", format!("Basic {basic}")),
        ("application/x-www-form-urlencoded", format!("Basic {basic}x")),
    ] {
        let request = Request::post("/oauth/token")
            .header("host", "h")
            .header("content-type", media)
            .header("authorization", authorization)
            .body(Full::new(Bytes::from_static(b"grant_type=client_credentials")))
            .unwrap();
        world.send(request).await;
    }
    assert_eq!(world.call("GET /api/v2/users?name=Ada%0AERROR%20forged").await.status, 200);
    assert_eq!(world.call("DELETE /api/v2/users/1").await.status, 403);
    world.raw(format!("GET /api/v2/users HTTP/1.1\r\n\r\nAuthorization: Bearer {}\r\n", world.token).as_bytes()).await;
    assert_eq!(world.call("DELETE /api/v2/tokens/me").await.status, 200);

    let text = String::from_utf8_lossy(&log.0.lock()).into_owned();
    for expected in
        ["traced-7f3a", "the platform refused a token", "a client revoked its own access token", &world.client_id]
    {
        assert!(text.contains(expected), "the log does not tell: {expected}");
    }
    let hex = |secret: &str| secret.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    for secret in
        [world.client_secret.as_str(), &world.token, &platform_token(1), &platform_token(2), "platform-secret"]
    {
        let encoded = BASE64_STANDARD.encode(secret);
        let spellings = [secret.to_owned(), encoded.trim_end_matches('=').to_owned(), hex(secret)];
        for spelling in spellings {
            assert!(!text.contains(&spelling), "the log has a secret");
        }
    }
    assert!(!text.contains(&basic));
    assert!(!text.lines().any(|line| line.starts_with("ERROR forged")));
}
